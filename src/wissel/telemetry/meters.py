"""Counters and histograms that cost a request well under a microsecond each.

OpenTelemetry's SDK takes about ten times as long to record a number as this,
which was a quarter of a whole decision, so the sums are kept here and only read
through its names: by Prometheus's page and by what is pushed over OTLP.
All of it belongs to one thread, the event loop's.

The number of series is bounded: beyond `SERIES` the rest of an instrument is
counted together, under the attribute that OpenTelemetry uses for it.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from itertools import accumulate
from typing import Final

from prometheus_client.core import Metric
from prometheus_client.registry import Collector

SERIES: Final = 2000
"""Distinct sets of attributes that an instrument tells apart."""

Value = str | int | bool
Attributes = Mapping[str, Value]
Observations = Iterable[tuple[Attributes, float]]
Key = tuple[tuple[str, Value], ...]
"""Attributes, as they tell series apart."""

_NONE: Final[dict[str, Value]] = {}
_OVERFLOW: Final[Key] = (("otel.metric.overflow", True),)
_UNITS: Final = {"s": "_seconds", "USD": "_USD", "{token}": ""}


class Counter:
    """A sum; with `is_monotonic` it never goes down."""

    def __init__(self, name: str, description: str, unit: str, *, is_monotonic: bool) -> None:
        self.name: Final = name
        self.description: Final = description
        self.unit: Final = unit
        self.is_monotonic: Final = is_monotonic
        self.series: dict[Key, float] = {}

    def add(self, amount: float, attributes: Attributes = _NONE) -> None:
        key = tuple(attributes.items())
        series = self.series
        if key not in series and len(series) >= SERIES:
            key = _OVERFLOW
        series[key] = series.get(key, 0) + amount


class HistogramMeter:
    """Counts by bucket; a value on a border belongs to the bucket that ends there."""

    def __init__(self, name: str, description: str, unit: str, borders: tuple[float, ...]) -> None:
        self.name: Final = name
        self.description: Final = description
        self.unit: Final = unit
        self.borders: Final = borders
        self.series: dict[Key, list[float]] = {}
        """The counts of the buckets, the last one open to infinity, and at the end the sum."""

    def record(self, value: float, attributes: Attributes = _NONE) -> None:
        key = tuple(attributes.items())
        found = self.series.get(key)
        if found is None:
            if len(self.series) >= SERIES:
                key = _OVERFLOW
            found = self.series.setdefault(key, [0.0] * (len(self.borders) + 2))
        found[bisect_left(self.borders, value)] += 1
        found[-1] += value


class Observed:
    """Numbers that somebody else keeps, asked for whenever they are shown; asking must be cheap and not wait."""

    def __init__(
        self, name: str, description: str, unit: str, read: Callable[[], Observations], *, is_monotonic: bool
    ) -> None:
        self.name: Final = name
        self.description: Final = description
        self.unit: Final = unit
        self.is_monotonic: Final = is_monotonic
        self._read = read

    @property
    def series(self) -> dict[Key, float]:
        return {tuple(attributes.items()): float(value) for attributes, value in self._read()}


Instrument = Counter | HistogramMeter | Observed


class Meter(Collector):
    """Makes instruments, and shows them all."""

    def __init__(self) -> None:
        self.instruments: list[Instrument] = []

    def counter(self, name: str, description: str, *, unit: str = "") -> Counter:
        return self._kept(Counter(name, description, unit, is_monotonic=True))

    def up_down_counter(self, name: str, description: str) -> Counter:
        return self._kept(Counter(name, description, "", is_monotonic=False))

    def histogram(self, name: str, description: str, *, unit: str, borders: tuple[float, ...]) -> HistogramMeter:
        made = HistogramMeter(name, description, unit, borders)
        self.instruments.append(made)
        return made

    def observed(
        self,
        name: str,
        description: str,
        read: Callable[[], Observations],
        *,
        unit: str = "",
        is_monotonic: bool = False,
    ) -> None:
        """A gauge, or with `is_monotonic` a counter, that `read` is asked for."""
        self.instruments.append(Observed(name, description, unit, read, is_monotonic=is_monotonic))

    def _kept(self, made: Counter) -> Counter:
        self.instruments.append(made)
        return made

    def collect(self) -> Iterable[Metric]:
        """What a Prometheus registry asks for."""
        for each in self.instruments:
            name = each.name.replace(".", "_") + _UNITS.get(each.unit, "")
            match each:
                case Counter() | Observed():
                    metric = Metric(name, each.description, "counter" if each.is_monotonic else "gauge")
                    for key, total in each.series.items():
                        metric.add_sample(f"{name}_total" if each.is_monotonic else name, _labels(key), total)
                case HistogramMeter():
                    metric = Metric(name, each.description, "histogram")
                    for key, found in each.series.items():
                        _add_histogram(metric, name, _labels(key), each.borders, found)
            yield metric


def _add_histogram(
    metric: Metric, name: str, labels: dict[str, str], borders: tuple[float, ...], found: list[float]
) -> None:
    *counts, total = found
    for border, below in zip((*map(str, map(float, borders)), "+Inf"), accumulate(counts), strict=True):
        metric.add_sample(f"{name}_bucket", {**labels, "le": border}, below)
    metric.add_sample(f"{name}_count", labels, sum(counts))
    metric.add_sample(f"{name}_sum", labels, total)


def _labels(key: Key) -> dict[str, str]:
    return {
        name.replace(".", "_"): str(value).lower() if isinstance(value, bool) else str(value) for name, value in key
    }
