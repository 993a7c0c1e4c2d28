"""Durations as counts in logarithmic buckets.

A bucket's upper edge is γ times the one below it, so any quantile is known to
2 % whatever its size, and two histograms merge by adding their counts: the
sum over replicas is the histogram that one replica would have seen. (DDSketch,
arXiv 1908.10693, without its collapsing: a day holds under 500 buckets.)
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

ACCURACY = 0.02
"""Relative error of a quantile at most."""

GAMMA = (1 + ACCURACY) / (1 - ACCURACY)

FLOOR = 0.001
"""Seconds; what is shorter falls into bucket 0, so that indexes and their sums never go below zero."""

_LN_GAMMA = math.log(GAMMA)


def bucket_of(seconds: float) -> int:
    """The bucket i that covers (FLOOR·γ^(i−1), FLOOR·γ^i]."""
    return max(0, math.ceil(math.log(seconds / FLOOR) / _LN_GAMMA)) if seconds > FLOOR else 0


def seconds_of(bucket: int) -> float:
    """The value that is within 2 % of everything in the bucket."""
    return FLOOR * GAMMA**bucket * 2 / (1 + GAMMA) if bucket else FLOOR


def buckets_in(ratio: float) -> int:
    """How many buckets up (or down, below 1) a value may move to have changed by at least `ratio`."""
    steps = math.log(ratio) / _LN_GAMMA
    return math.ceil(steps) if steps > 0 else math.floor(steps)


@dataclass(frozen=True, slots=True)
class Histogram:
    """Counts by bucket; buckets without any are left out."""

    counts: Mapping[int, int] = field(default_factory=dict[int, int])

    @classmethod
    def of(cls, durations: Iterable[float]) -> "Histogram":
        """Of durations in seconds."""
        counts: dict[int, int] = {}
        for seconds in durations:
            index = bucket_of(seconds)
            counts[index] = counts.get(index, 0) + 1
        return cls(counts)

    def __add__(self, other: "Histogram") -> "Histogram":
        counts = dict(self.counts)
        for index, count in other.counts.items():
            counts[index] = counts.get(index, 0) + count
        return Histogram(counts)

    def __sub__(self, earlier: "Histogram") -> "Histogram":
        """What came since `earlier`, an older reading of the same counters."""
        grown = ((index, count - earlier.counts.get(index, 0)) for index, count in self.counts.items())
        return Histogram({index: count for index, count in grown if count})

    @property
    def total(self) -> int:
        return sum(self.counts.values())

    def above(self, bucket: int) -> int:
        """How many fell into buckets higher than `bucket`."""
        return sum([count for index, count in self.counts.items() if index > bucket])

    def quantile(self, q: float) -> int | None:
        """The bucket that holds the q-quantile; None if there is nothing."""
        above = (1 - q) * self.total
        for index in sorted(self.counts, reverse=True):
            above -= self.counts[index]
            if above < 0:
                return index
        return min(self.counts, default=None)
