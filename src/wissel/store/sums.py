"""One arm's numbers: counted fast, kept as sparse vectors, which merge by addition.

`Counts` is where requests are counted. Outside of it everything is a vector by
name, from index to number: a count has the index 0, a sample one for each
sub-bucket, a histogram one for each bucket. So adding up, storing and folding
need not know what a number means, in Python and in Redis alike.

    served, failed      [0]
    begun, gone         [0]            requests that began, and those of them that said nothing
    WHAT.n, WHAT.t      [sub-bucket]   observations, and their sum
    WHAT.q              [0]            the sum of their squares
    WHAT.h              [bucket]       durations only
"""

from collections.abc import Iterable, Mapping, Sequence

from wissel.core.rollouts.evidence import SUB_BUCKETS, Arm, Sample
from wissel.core.rollouts.histogram import Histogram, bucket_of
from wissel.core.rollouts.measures import DURATIONS, OBSERVATIONS, Observed

Vector = dict[int, float]

Vectors = dict[str, Vector]
"""By name."""

Measured = Sequence[tuple[Observed, float]]
"""What was observed of one request, with durations as the indexes of their buckets."""


def measured(observed: Mapping[Observed, float]) -> Measured:
    """Durations are in seconds."""
    return [(what, bucket_of(seen) if what in DURATIONS else seen) for what, seen in observed.items()]


class Counts:
    """What one arm did, as it is counted."""

    __slots__ = ("begun", "failed", "gone", "samples", "served")

    def __init__(self) -> None:
        self.begun = 0
        self.gone = 0
        self.served = 0
        self.failed = 0
        self.samples: dict[Observed, _Sums] = {}

    def serve(self, *, failed: bool) -> None:
        """One request more."""
        self.served += 1
        self.failed += failed

    def observe(self, bucket: int, seen: Measured) -> None:
        """Of one request, whose key lies in sub-bucket `bucket`."""
        samples = self.samples
        for what, value in seen:
            sums = samples.get(what)
            if sums is None:
                sums = samples[what] = _Sums()
            sums.counts[bucket] += 1
            sums.totals[bucket] += value
            sums.squares += value * value
            if what in DURATIONS:
                index = int(value)
                sums.histogram[index] = sums.histogram.get(index, 0) + 1

    def add(self, other: "Counts") -> None:
        """All that `other` has counted."""
        self.served += other.served
        self.failed += other.failed
        for what, theirs in other.samples.items():
            self.samples.setdefault(what, _Sums()).add(theirs)

    def vectors(self) -> Vectors:
        """Those that hold anything."""
        found: Vectors = {
            "begun": {0: self.begun},
            "gone": {0: self.gone},
            "served": {0: self.served},
            "failed": {0: self.failed},
        }
        for what, sums in self.samples.items():
            found[f"{what}.n"] = _sparse(sums.counts)
            found[f"{what}.t"] = _sparse(sums.totals)
            found[f"{what}.q"] = {0: sums.squares}
            found[f"{what}.h"] = sums.histogram
        return {name: vector for name, vector in found.items() if any(vector.values())}


class _Sums:
    """Of one thing that requests are observed for."""

    __slots__ = ("counts", "histogram", "squares", "totals")

    def __init__(self) -> None:
        self.counts = [0] * SUB_BUCKETS
        self.totals: list[float] = [0] * SUB_BUCKETS
        self.squares: float = 0
        self.histogram: Vector = {}

    def add(self, other: "_Sums") -> None:
        self.counts = [mine + theirs for mine, theirs in zip(self.counts, other.counts, strict=True)]
        self.totals = [mine + theirs for mine, theirs in zip(self.totals, other.totals, strict=True)]
        self.squares += other.squares
        merge(self.histogram, other.histogram)


def merge(mine: Vector, theirs: Mapping[int, float]) -> None:
    """Add `theirs` to `mine`."""
    for index, number in theirs.items():
        mine[index] = mine.get(index, 0) + number


def arm_of(vectors: Mapping[str, Vector], keys: int, known: Mapping[str, Vector] | None = None) -> Arm:
    """The vectors as the analysis reads them; `known` are those of everything, whether or not its window is closed."""
    known = known or {}
    return Arm(
        begun=int(max(_scalar(known, "begun") - _scalar(known, "gone"), _scalar(known, "served"))),
        failing=int(_scalar(known, "failed")),
        served=int(_scalar(vectors, "served")),
        failed=int(_scalar(vectors, "failed")),
        keys=keys,
        samples={
            what: _sample(vectors, what) for what in (each.name for each in OBSERVATIONS) if f"{what}.n" in vectors
        },
        durations={what: _histogram(vectors[f"{what}.h"]) for what in DURATIONS if f"{what}.h" in vectors},
    )


def difference(now: Vectors, before: Vectors) -> Vectors:
    """What `now` has beyond `before`, by name; what has not changed is left out."""
    found: Vectors = {}
    for name, vector in now.items():
        old = before.get(name, {})
        if vector != old and (changed := {at: n - old.get(at, 0) for at, n in vector.items() if n != old.get(at, 0)}):
            found[name] = changed
    return found


def merged(parts: Iterable[Vectors]) -> Vectors:
    """The sum of all of them."""
    sums: Vectors = {}
    for vectors in parts:
        for name, vector in vectors.items():
            merge(sums.setdefault(name, {}), vector)
    return sums


def number_of(text: str) -> float:
    """As it was written, an integer as one. Raises ValueError for what is no number."""
    return int(text) if text.lstrip("-").isdecimal() else float(text)


def _sparse(numbers: Sequence[float]) -> Vector:
    return {index: number for index, number in enumerate(numbers) if number}


def _scalar(vectors: Mapping[str, Vector], name: str) -> float:
    return vectors.get(name, {}).get(0, 0)


def _sample(vectors: Mapping[str, Vector], what: Observed) -> Sample:
    counts, totals = vectors.get(f"{what}.n", {}), vectors.get(f"{what}.t", {})
    return Sample(_dense(counts), _dense(totals), _scalar(vectors, f"{what}.q"))


def _dense(vector: Vector) -> tuple[float, ...]:
    return tuple([vector.get(bucket, 0) for bucket in range(SUB_BUCKETS)])


def _histogram(vector: Vector) -> Histogram:
    return Histogram({index: int(count) for index, count in vector.items()})
