"""What the arms of a rollout did, as sums.

Evidence is cumulative since the step set its weight, and everything in it
merges by addition: over replicas, over windows, over steps. It speaks of
requests that were dealt out by their key (reason `split`), served by the arm
they were assigned to, and started in a window that is closed: all its outcomes
are known, on every replica. A window never closes earlier because its requests
ended well or badly, or the sums would lean to whatever ends sooner.

The unit is the targeting key. A key's requests fare alike, so they are counted
over 64 sub-buckets of the key's hash, whose spread shows how much they do
(`design_effect`); and of one key at most `COUNTED_PER_KEY` a window are counted,
in every arm alike, so that no single busy key is the arm.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import mmh3

from wissel.core.rollouts.histogram import Histogram
from wissel.core.rollouts.measures import ERROR, Observed

SUB_BUCKETS = 64

COUNTED_PER_KEY = 3
"""Requests of one key that a replica counts as evidence in one window; the others count only as `served`."""

_SEED = 0x77697373
"""Apart from the hash that assigns: a sub-bucket must hold keys of every arm."""


def sub_bucket(key: str) -> int:
    """In which of the sub-buckets a targeting key's observations are summed."""
    return mmh3.hash(key.encode("utf-8", "surrogatepass"), _SEED, signed=False) % SUB_BUCKETS


@dataclass(frozen=True)
class Sample:
    """Observations of one thing in one arm, summed per sub-bucket.

    Durations are summed as the indexes of their histogram buckets: near enough
    to their logarithm, and integers that never go down.
    """

    counts: tuple[float, ...] = ()
    totals: tuple[float, ...] = ()
    squares: float = 0.0
    """Of the single observations, over all sub-buckets."""

    def __add__(self, other: "Sample") -> "Sample":
        if not self.counts or not other.counts:
            return self if self.counts else other
        return Sample(
            tuple(a + b for a, b in zip(self.counts, other.counts, strict=True)),
            tuple(a + b for a, b in zip(self.totals, other.totals, strict=True)),
            self.squares + other.squares,
        )

    @cached_property
    def count(self) -> float:
        return sum(self.counts)

    @cached_property
    def total(self) -> float:
        return sum(self.totals)

    @property
    def mean(self) -> float:
        return self.total / self.count

    @property
    def variance_of_mean(self) -> float:
        """As if every observation stood alone; needs two of them."""
        count = self.count
        return max(0.0, self.squares - self.total**2 / count) / (count - 1) / count

    @property
    def variance_of_mean_by_keys(self) -> float:
        """As the sub-buckets show it, each a cluster that may stick together (ratio estimator, Cochran 1977, §2.11)."""
        mean, count = self.mean, self.count
        clusters = sum(1 for n in self.counts if n)
        spread = sum((t - mean * n) ** 2 for n, t in zip(self.counts, self.totals, strict=True))
        return spread * clusters / (clusters - 1) / count**2 if clusters > 1 else 0.0


NOTHING = Sample()


@dataclass(frozen=True, slots=True)
class Arm:
    """One arm's requests since the step set its weight."""

    served: int = 0
    """All of them."""
    failed: int = 0
    """Errors among all of them."""
    keys: int = 0
    """Distinct targeting keys, each once however many replicas met it."""
    samples: Mapping[Observed, Sample] = field(default_factory=dict[Observed, Sample])
    durations: Mapping[Observed, Histogram] = field(default_factory=dict[Observed, Histogram])
    """Of those that have any; the same requests as in `samples`."""
    begun: int = 0
    """All that were dealt to it by their key, those under way and in windows that are open included."""
    failing: int = 0
    """Errors among those, as far as they are known."""

    def sample(self, observed: Observed) -> Sample:
        return self.samples.get(observed, NOTHING)

    def histogram(self, observed: Observed) -> Histogram:
        return self.durations.get(observed, Histogram())

    @property
    def requests(self) -> float:
        """Those that are counted as evidence."""
        return self.sample(ERROR.name).count

    @property
    def has_repeats(self) -> bool:
        """Whether any key was counted more than once."""
        return self.requests > self.keys


@dataclass(frozen=True, slots=True)
class Missing:
    """There should have been evidence, and it could not be had."""

    reason: str


@dataclass(frozen=True, slots=True)
class Evidence:
    """Both arms over the same closed windows of one step."""

    revision: str
    attempt: int
    step: int
    """The step that set the weight: `Rollout.window`."""
    canary: Arm
    stable: Arm
    """What the canary is compared with: the stable arm, or its baseline."""
    share: float
    """The part of both arms' keys that should be the canary's, in (0, 1)."""
    queries: Mapping[str, float | Missing] = field(default_factory=dict[str, float | Missing])
    """Values of Prometheus queries by metric name, all of them finite."""
    mixed: int = 0
    """Requests left out because another arm served them than the one they were assigned to."""


def design_effect(canary: Sample, stable: Sample) -> float:
    """How many times fewer independent observations there are than requests.

    The variance of the difference as the sub-buckets show it, over what it
    would be if every request stood alone; at least 1.
    """
    alone = together = 0.0
    for sample in (canary, stable):
        if sample.count > 1:
            alone += sample.variance_of_mean
            together += sample.variance_of_mean_by_keys
    return max(1.0, together / alone) if alone else 1.0
