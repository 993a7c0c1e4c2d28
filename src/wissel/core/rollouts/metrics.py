"""What a rollout is judged by, as the operator wrote it.

A guard is a hard limit that acts at once; a limit is a fixed one, measured
block by block; a comparison asks whether the canary is worse than stable, and
may be looked at whenever one likes.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Final, Literal

from wissel.core.rollouts.sequential import Direction

OnNoData = Literal["hold", "rollback", "continue"]


GUARD_REQUESTS = 50
LIMIT_REQUESTS = 100
"""Canary requests that a guard needs, and that a block of a fixed limit has, unless said otherwise."""


@dataclass(frozen=True, slots=True)
class Guard:
    """A limit that no canary may pass; it acts alone, at once, and despite a sample-ratio alarm.

    It looks at everything since the weight was set, and at the latest
    `4 × min_requests`: a canary that breaks late is not saved by its past.
    """

    measure: str
    max: float
    min_requests: int = GUARD_REQUESTS
    dry_run: bool = False
    above_stable: bool = False
    """Whether stable's own value is put up with: what ails both arms speaks against neither."""

    @property
    def label(self) -> str:
        return f"{self.measure} max {self.max:g} guard"


@dataclass(frozen=True, slots=True)
class FixedLimit:
    """A fixed limit, measured anew over every block of `min_requests`."""

    measure: str
    max: float | None = None
    min: float | None = None
    failure_limit: int = 0
    """How many blocks may fail before the metric does."""
    min_requests: int = LIMIT_REQUESTS
    dry_run: bool = False

    @property
    def label(self) -> str:
        ends = [f"{word} {end:g}" for word, end in (("min", self.min), ("max", self.max)) if end is not None]
        return f"{self.measure} {' '.join(ends)}"

    def allows(self, value: float) -> bool:
        return (self.max is None or value <= self.max) and (self.min is None or value >= self.min)


@dataclass(frozen=True, slots=True)
class Comparison:
    """A bound on how much worse than stable the canary may be."""

    measure: str
    direction: Direction = "increase"
    allowed: float = 0.0
    relative: bool = False
    """Whether `allowed` is a share of stable's own value, or in the metric's unit."""
    dry_run: bool = False

    @property
    def label(self) -> str:
        size = f"{self.allowed:.6g}" if not self.relative else f"{100 * self.allowed:.4g}%"
        return f"{self.measure} allowed_{self.direction} {size}"


Metric = Guard | FixedLimit | Comparison

BUILT_IN: Final[tuple[Metric, ...]] = (
    Comparison("refused_rate"),
    Guard("operator_fault_rate", max=0.05, min_requests=10, above_stable=True),
)
"""What every analysis also judges by, unless the operator wrote a metric of that name."""


@dataclass(frozen=True)
class AnalysisSpec:
    """How a rollout is judged."""

    metrics: tuple[Metric, ...]
    interval: float = 30.0
    """Seconds between looks."""
    min_requests: int = 100
    """Canary requests before a comparison says anything, in every step anew before it lets the rollout go on."""
    alpha: float = 0.01
    """Chance that a rollout as good as stable is ever judged worse, over all comparisons together."""
    inconclusive_limit: int = 0
    """Inconclusive looks that are put up with before a human is called."""
    consecutive_error_limit: int = 4
    """Looks in a row that may fail to measure before `on_no_data` applies."""
    on_no_data: OnNoData = "hold"
    proof: bool = False
    """Whether any step asks for proof that the canary is no worse."""
    display: bool = True
    """Whether to work out what only people read, values and intervals; no verdict needs them."""

    @cached_property
    def comparison_alpha(self) -> float:
        """The part of `alpha` that each comparison gets; a dry run takes none, as it does nothing."""
        acting = sum(isinstance(metric, Comparison) and not metric.dry_run for metric in self.metrics)
        return self.alpha / max(1, acting)
