import pytest

from wissel.admin.pages import Pages


def page(count: int, streams: int = 0, build: int = 0) -> str:
    return f"""\
# HELP wissel_decisions_total decided requests
# TYPE wissel_decisions_total counter
wissel_decisions_total{{model="a"}} {count}
# HELP wissel_wait_seconds waited
# TYPE wissel_wait_seconds histogram
wissel_wait_seconds_bucket{{le="1.0"}} {count}
wissel_wait_seconds_bucket{{le="+Inf"}} {count}
wissel_wait_seconds_count {count}
wissel_wait_seconds_sum {count / 2}
# HELP wissel_streams open
# TYPE wissel_streams gauge
wissel_streams {streams}
# HELP wissel_age_seconds since something
# TYPE wissel_age_seconds gauge
wissel_age_seconds {build}
"""


def lines(pages: Pages) -> set[str]:
    return {line for line in pages.exposition().decode().splitlines() if not line.startswith("#")}


@pytest.fixture
def pages() -> Pages:
    both = Pages()
    both.read(0, page(3, streams=2, build=7))
    both.read(1, page(5, streams=1, build=9))
    return both


def test_counters_and_histograms_are_summed_by_series(pages: Pages):
    assert {
        'wissel_decisions_total{model="a"} 8.0',
        'wissel_wait_seconds_bucket{le="1.0"} 8.0',
        "wissel_wait_seconds_count 8.0",
        "wissel_wait_seconds_sum 4.0",
    } <= lines(pages)


def test_series_that_only_one_worker_has_are_kept_apart(pages: Pages):
    pages.read(1, page(5).replace('model="a"', 'model="b"'))

    assert {'wissel_decisions_total{model="a"} 3.0', 'wissel_decisions_total{model="b"} 5.0'} <= lines(pages)


def test_a_gauge_is_summed_only_where_that_means_something(pages: Pages):
    shown = {line for line in lines(pages) if line.startswith(("wissel_streams", "wissel_age"))}

    assert shown == {
        "wissel_streams 3.0",
        'wissel_age_seconds{worker="0"} 7.0',
        'wissel_age_seconds{worker="1"} 9.0',
    }


def test_what_a_worker_had_counted_outlives_it_and_what_it_held_does_not(pages: Pages):
    pages.ended(1)
    without = lines(pages)
    pages.read(1, page(1))

    assert {'wissel_decisions_total{model="a"} 8.0', "wissel_streams 2.0"} <= without
    assert 'wissel_decisions_total{model="a"} 9.0' in lines(pages)


def test_help_and_types_stay(pages: Pages):
    told = pages.exposition().decode()

    assert "# HELP wissel_decisions_total decided requests\n# TYPE wissel_decisions_total counter" in told
    assert "# TYPE wissel_wait_seconds histogram" in told
