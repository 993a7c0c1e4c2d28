from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest

from wissel.telemetry.meters import SERIES, Meter


def page(meter: Meter) -> str:
    registry = CollectorRegistry()
    registry.register(meter)
    return generate_latest(registry).decode()


def test_a_counter_sums_by_its_attributes():
    meter = Meter()
    served = meter.counter("wissel.served", "what was served")
    served.add(1, {"route": "code"})
    served.add(2, {"route": "code"})

    assert 'wissel_served_total{route="code"} 3.0' in page(meter)


def test_an_up_down_counter_is_a_gauge():
    meter = Meter()
    streams = meter.up_down_counter("wissel.streams", "open")
    streams.add(1)
    streams.add(-1)

    assert "# TYPE wissel_streams gauge\nwissel_streams 0.0" in page(meter)


def test_a_value_on_a_border_belongs_to_the_bucket_that_ends_there():
    meter = Meter()
    meter.histogram("t", "time", unit="s", borders=(1.0, 2.0)).record(1.0)

    assert 't_seconds_bucket{le="1.0"} 1.0' in page(meter)


@given(st.lists(st.floats(0, 10), max_size=50))
def test_the_last_bucket_counts_everything(values):
    meter = Meter()
    histogram = meter.histogram("t", "time", unit="s", borders=(1.0, 5.0))
    for value in values:
        histogram.record(value)
    lines = dict(line.rsplit(" ", 1) for line in page(meter).splitlines() if not line.startswith("#"))

    assert float(lines.get('t_seconds_bucket{le="+Inf"}', 0)) == len(values) == float(lines.get("t_seconds_count", 0))


def test_series_beyond_the_bound_are_counted_together():
    meter = Meter()
    counter = meter.counter("c", "count")
    for number in range(SERIES + 7):
        counter.add(1, {"caller": str(number)})

    assert len(counter.series) == SERIES + 1
    assert 'c_total{otel_metric_overflow="true"} 7.0' in page(meter)


def test_what_callers_write_cannot_break_the_page():
    meter = Meter()
    meter.counter("c", "count").add(1, {"name": 'a"b\n\\c'})

    assert 'c_total{name="a\\"b\\n\\\\c"} 1.0' in page(meter)
