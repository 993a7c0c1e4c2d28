"""One arm's numbers as sparse vectors, which merge by addition.

Everything that is counted is a vector by name, from index to number: a count
has the index 0, a sample one for each sub-bucket, a histogram one for each
bucket. So adding up, storing and folding need to know nothing of what a number
means, in Python and in Redis alike.

    served, failed      [0]
    WHAT.n, WHAT.t      [sub-bucket]   observations and their sum
    WHAT.q              [0]            sum of their squares
    WHAT.h              [bucket]       durations only
"""

from collections.abc import Iterable, Mapping
from typing import Final

from wissel.core.evidence import SUB_BUCKETS, Arm, Observed, Sample
from wissel.core.histogram import Histogram, bucket_of

Vector = dict[int, float]

Sums = dict[str, Vector]
"""Vectors by name."""

DURATIONS: Final[frozenset[Observed]] = frozenset({"latency", "ttft"})

_OBSERVED: Final[tuple[Observed, ...]] = (
    "error",
    "refusal",
    "feedback",
    "latency",
    "ttft",
    "tokens_out",
    "cost_usd",
)
_NAMES: Final = {what: (f"{what}.n", f"{what}.t", f"{what}.q", f"{what}.h") for what in _OBSERVED}


def serve(sums: Sums, *, failed: bool) -> None:
    """Count one request that was served."""
    _add(sums, "served", 0, 1)
    if failed:
        _add(sums, "failed", 0, 1)


def observe(sums: Sums, bucket: int, observed: Mapping[Observed, float]) -> None:
    """Count what was observed of one request whose key lies in sub-bucket `bucket`; durations in seconds."""
    for what, seen in observed.items():
        counts, totals, squares, histogram = _NAMES[what]
        value = seen
        if what in DURATIONS:
            value = bucket_of(seen)
            _add(sums, histogram, value, 1)
        _add(sums, counts, bucket, 1)
        if value:
            _add(sums, totals, bucket, value)
            _add(sums, squares, 0, value * value)


def merge(sums: Sums, other: Mapping[str, Mapping[int, float]]) -> None:
    """Add `other` to `sums`."""
    for name, vector in other.items():
        mine = sums.setdefault(name, {})
        for index, number in vector.items():
            mine[index] = mine.get(index, 0) + number


def arm_of(sums: Mapping[str, Vector], keys: int) -> Arm:
    """The sums as the analysis reads them."""
    return Arm(
        served=int(_count(sums, "served")),
        failed=int(_count(sums, "failed")),
        keys=keys,
        samples={what: _sample(sums, what) for what in _OBSERVED if _NAMES[what][0] in sums},
        durations={what: _histogram(sums, what) for what in _OBSERVED if _NAMES[what][3] in sums},
    )


def text_of(vector: Mapping[int, float]) -> str:
    """`3:17 5:0.25`; every digit is kept."""
    return " ".join([f"{index}:{number!r}" for index, number in vector.items()])


def vector_of(text: str) -> Vector:
    """Raises ValueError for what is no vector."""
    return {int(index): _number(number) for index, _, number in _pairs(text)}


def _pairs(text: str) -> Iterable[tuple[str, str, str]]:
    return [pair.partition(":") for pair in text.split()]


def _number(text: str) -> float:
    return int(text) if text.isdecimal() else float(text)


def _add(sums: Sums, name: str, index: int, number: float) -> None:
    vector = sums.get(name)
    if vector is None:
        sums[name] = {index: 0 + number}  # a bool becomes a number
    else:
        vector[index] = vector.get(index, 0) + number


def _count(sums: Mapping[str, Vector], name: str) -> float:
    return sums.get(name, {}).get(0, 0)


def _sample(sums: Mapping[str, Vector], what: Observed) -> Sample:
    counts, totals, squares, _ = _NAMES[what]
    return Sample(_dense(sums.get(counts, {})), _dense(sums.get(totals, {})), _count(sums, squares))


def _dense(vector: Vector) -> tuple[float, ...]:
    return tuple([vector.get(bucket, 0) for bucket in range(SUB_BUCKETS)])


def _histogram(sums: Mapping[str, Vector], what: Observed) -> Histogram:
    return Histogram({index: int(count) for index, count in sums[_NAMES[what][3]].items()})
