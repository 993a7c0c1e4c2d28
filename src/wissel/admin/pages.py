"""The metrics pages of several workers become one, as if a single process had counted.

Counters and histograms are summed by series. What a worker had counted when
it ended stays in the sum: a total that falls looks to Prometheus like a
restart, and would be counted a second time. A gauge is summed only where a sum
means something; the others are told apart by worker.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from prometheus_client import generate_latest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import CollectorRegistry

SUMMED_GAUGES: Final = frozenset({"wissel_streams"})
"""What is open in all workers is the sum of what is open in each."""

_CUMULATIVE: Final = frozenset({"counter", "histogram", "summary"})


@dataclass(frozen=True, slots=True)
class _Family:
    name: str
    kind: str
    help: str


@dataclass(frozen=True, slots=True)
class _Series:
    name: str
    labels: tuple[tuple[str, str], ...]


_Values = dict[_Family, dict[_Series, float]]


class Pages:
    """The latest page of each worker, and what those that ended had counted."""

    def __init__(self) -> None:
        self._latest: dict[int, list[Metric]] = {}
        self._ended: _Values = {}

    def read(self, worker: int, page: str) -> None:
        """The page that a worker shows now."""
        self._latest[worker] = list(text_string_to_metric_families(page))

    def ended(self, worker: int) -> None:
        """The process is gone; the next one under this number counts from zero."""
        for family in self._latest.pop(worker, []):
            if family.type in _CUMULATIVE:
                _add(self._ended, family, worker)

    def exposition(self, own: Iterable[Metric] = ()) -> bytes:
        """One page for all, with the families in `own` as they are."""
        total: _Values = {family: dict(series) for family, series in self._ended.items()}
        for worker, families in sorted(self._latest.items()):
            for family in families:
                _add(total, family, worker)
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Collected([*_families(total), *own]))
        return generate_latest(registry)


class _Collected:
    """A collector of prometheus_client's, for what is already collected."""

    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def _add(total: _Values, family: Metric, worker: int) -> None:
    is_summed = family.type in _CUMULATIVE or family.name in SUMMED_GAUGES
    values = total.setdefault(_Family(family.name, family.type, family.documentation), {})
    for sample in family.samples:
        labels = sample.labels if is_summed else {**sample.labels, "worker": str(worker)}
        series = _Series(sample.name, tuple(labels.items()))
        values[series] = values.get(series, 0.0) + sample.value


def _families(values: _Values) -> Iterator[Metric]:
    for family, series in values.items():
        metric = Metric(family.name, family.help, family.kind)
        for each, value in series.items():
            metric.add_sample(each.name, dict(each.labels), value)
        yield metric
