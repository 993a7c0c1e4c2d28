"""Is the canary worse than stable? One comparison's memory from look to look.

A metric is compared by a ladder of tests, each a rung that, once rejected,
shows the difference to lie above or below its height. The first rung is the
verdict, the second the proof of `non_inferior`, and the others are there to be
read: the interval is the span of heights that no rung has ruled out, so what
people see and what the rollout does cannot disagree.

Durations are compared by how many exceed an edge that was fixed before they
were counted: stable's quantile over traffic that the test leaves out (the step
before, or the first requests of the first step).
"""

import math
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Literal

from wissel.core.rollouts.evidence import NOTHING, Arm, Sample, design_effect
from wissel.core.rollouts.histogram import GAMMA, Histogram, bucket_of, buckets_in, seconds_of
from wissel.core.rollouts.measures import MEASURES, Measure
from wissel.core.rollouts.metrics import AnalysisSpec, Comparison
from wissel.core.rollouts.sequential import (
    MEAN_REQUESTS,
    Block,
    Claim,
    EProcess,
    Hypothesis,
    MeanContrast,
    Stratum,
)

PROOF_ALPHA = 0.05
"""Chance that a canary worse by the margin is ever proven no worse; every metric must be, so it is not split."""

EDGE_REQUESTS = 1000
"""Stable requests from which the first step's edge is taken; later steps have the step before."""

FEWEST_KEYS = 20
"""Keys in each arm below which a few callers, not the models, would be compared."""

FEWEST_IN_STRATUM = 50
"""Observations in each arm below which a step's means are left out."""

_LADDER = (0.005, 0.01, 0.02, 0.05, 0.1)
_RELATIVE_LADDER = (0.05, 0.1, 0.2, 0.5)
_BUCKET_LADDER = (-18, -12, -8, -5, -3, -1, 0, 1, 3, 5, 8, 12, 18)


@dataclass(frozen=True, slots=True)
class Rung:
    """One test, and what its rejection shows of the change from stable to canary."""

    hypothesis: Hypothesis
    side: Literal["above", "below"]
    height: float
    """The change: a difference, or for relative ones a share of stable's value."""
    swapped: bool = False
    """Whether the test is put with the arms exchanged."""
    shift: int = 0
    """Of durations: how many buckets the canary's edge lies above stable's."""
    seconds: float = 0.0
    """Of durations: how far above in time, where the margin is given so."""

    def canary_edge(self, edge: int) -> int:
        return bucket_of(seconds_of(edge) + self.seconds) if self.seconds else max(0, edge + self.shift)


def _rate_rung(claim: Claim, metric: Comparison, margin: float, *, swapped: bool = False) -> Rung:
    height = margin if metric.direction == "increase" else -margin
    above = (claim == "worse") == (metric.direction == "increase")
    if swapped:
        # What was shown of stable against canary, turned round.
        height = 1 / (1 + height) - 1 if metric.relative else -height
        above = not above
    hypothesis = Hypothesis(claim, metric.direction, margin, metric.relative)
    return Rung(hypothesis, "above" if above else "below", height, swapped)


def _duration_rung(shift: int, side: Literal["above", "below"], seconds: float = 0.0) -> Rung:
    return Rung(Hypothesis(), side, GAMMA**shift - 1, side == "below", shift, seconds)


@lru_cache(maxsize=256)
def ladder(metric: Comparison, *, proof: bool, display: bool) -> tuple[Rung, ...]:
    """The rungs of a metric that is a rate or a quantile: the verdict, the proof, then those for the interval.

    Those that nobody asked for are left out.
    """
    if MEASURES[metric.measure].is_rate:
        rungs = [_rate_rung("worse", metric, metric.allowed), _rate_rung("no_worse", metric, metric.allowed)]
        margins = _RELATIVE_LADDER if metric.relative else _LADDER
        heights: list[tuple[Claim, float]] = [
            ("worse", 0.0),
            *(("worse", m) for m in margins),
            *(("no_worse", m) for m in margins),
        ]
        extra = [_rate_rung(claim, metric, m, swapped=swapped) for claim, m in heights for swapped in (False, True)]
    else:
        sign = 1 if metric.direction == "increase" else -1
        shift = buckets_in(1 + sign * metric.allowed) if metric.relative else 0
        seconds = 0.0 if metric.relative else sign * metric.allowed
        sides: tuple[Literal["above", "below"], ...] = ("above", "below")
        worse, no_worse = sides if metric.direction == "increase" else sides[::-1]
        rungs = [_duration_rung(shift, worse, seconds), _duration_rung(shift, no_worse, seconds)]
        extra = [_duration_rung(shift, side) for shift in _BUCKET_LADDER for side in sides]
    return (*rungs, *extra) if display else tuple(rungs[: 1 + proof])


@dataclass(frozen=True, slots=True)
class Walk:
    """A rung's test so far."""

    process: EProcess
    seen: Block = field(default_factory=Block)
    """Of this step's cumulative sums, how much is in the process."""

    def to(self, reached: Block) -> "Walk":
        """The test after what came since; a block without one of the arms waits to grow."""
        block = reached - self.seen
        if block.canary <= 0 or block.stable <= 0:
            return self
        return Walk(self.process.after(block), reached)


@dataclass(frozen=True, slots=True)
class ComparisonMemory:
    """What one comparison remembers between looks, and across steps."""

    walks: tuple[Walk, ...] = ()
    """As `ladder` orders them; none for a mean."""
    strata: tuple[Stratum, ...] = ()
    """Of a mean: the steps that are over."""
    canary: Sample = NOTHING
    """Of the steps that are over."""
    stable: Sample = NOTHING
    canary_now: Sample = NOTHING
    """Of this step."""
    stable_now: Sample = NOTHING
    has_repeats: bool = False
    """Whether any key has ever been counted twice."""
    edge: int | None = None
    """Of durations: the bucket above which stable's requests count as slow."""
    next_edge: int | None = None
    """The edge of the next step, as this step's traffic has it."""
    spent: float = 0
    """Of durations: this step's canary requests that came before the edge was fixed, and are not tested."""

    def seeing(self, canary: Arm, stable: Arm, measure: Measure) -> "ComparisonMemory":
        """The same, with what this step has come to."""
        edge, next_edge, spent = self.edge, self.next_edge, self.spent
        if measure.quantile is not None:
            slowness = stable.histogram(measure.observed)
            next_edge = slowness.quantile(measure.quantile) if slowness.total >= EDGE_REQUESTS else edge
            if edge is None:
                edge, spent = next_edge, canary.histogram(measure.observed).total
        return ComparisonMemory(
            walks=self.walks,
            strata=self.strata,
            canary=self.canary,
            stable=self.stable,
            canary_now=canary.sample(measure.observed),
            stable_now=stable.sample(measure.observed),
            has_repeats=self.has_repeats or canary.has_repeats or stable.has_repeats,
            edge=edge,
            next_edge=next_edge,
            spent=spent,
        )

    def entering(self) -> "ComparisonMemory":
        """The same, when the next step has set its weight: evidence stays, cumulative sums begin anew."""
        finished = stratum(self.canary_now, self.stable_now)
        return ComparisonMemory(
            walks=tuple(Walk(walk.process) for walk in self.walks),
            strata=(*self.strata, finished) if finished else self.strata,
            canary=self.canary + self.canary_now,
            stable=self.stable + self.stable_now,
            has_repeats=self.has_repeats,
            edge=self.next_edge,
        )


@dataclass(frozen=True, slots=True)
class Comparing:
    """One comparison at one look."""

    memory: ComparisonMemory
    canary: float | None
    """The metric's value in this step."""
    stable: float | None
    change: tuple[float | None, float | None]
    """The interval of the change; None for an end that nothing is known of."""
    is_relative: bool
    """Whether the change is a share of stable's value."""
    is_worse: bool
    is_proven: bool
    p_value: float | None
    waiting: str
    """What it lacks for a verdict, in words; empty if nothing."""
    unmeasurable: str
    """Why it cannot be measured at all, in words; empty if it can."""
    design_effect: float


def compare(memory: ComparisonMemory, metric: Comparison, canary: Arm, stable: Arm, spec: AnalysisSpec) -> Comparing:
    """One more look at cumulative sums of the step."""
    measure = MEASURES[metric.measure]
    before, memory = memory, memory.seeing(canary, stable, measure)
    unmeasurable = ""
    if memory.has_repeats and canary.requests >= spec.min_requests and min(canary.keys, stable.keys) < FEWEST_KEYS:
        unmeasurable = f"only {min(canary.keys, stable.keys)} keys in an arm, fewer than {FEWEST_KEYS}"
    effect = 1.0
    if memory.has_repeats:
        effect = design_effect(memory.canary + memory.canary_now, memory.stable + memory.stable_now)
    look = _Look(memory, metric, measure, canary, stable, spec, effect, unmeasurable)
    if measure.quantile is None and not measure.is_rate:
        return _compare_means(look)
    return _compare_rates(look, is_new_edge=memory.edge is not None and before.edge is None)


@dataclass(frozen=True, slots=True)
class _Look:
    memory: ComparisonMemory
    metric: Comparison
    measure: Measure
    canary: Arm
    stable: Arm
    spec: AnalysisSpec
    effect: float
    unmeasurable: str

    @property
    def alpha(self) -> float:
        return self.spec.comparison_alpha

    def comparing(
        self,
        memory: ComparisonMemory,
        *,
        waiting: str,
        change: tuple[float | None, float | None] = (None, None),
        is_worse: bool = False,
        is_proven: bool = False,
        p_value: float | None = None,
    ) -> Comparing:
        return Comparing(
            memory,
            self._value(self.canary),
            self._value(self.stable),
            change,
            self.metric.relative or self.measure.quantile is not None,
            is_worse,
            is_proven,
            p_value,
            waiting,
            self.unmeasurable,
            self.effect,
        )

    def _value(self, arm: Arm) -> float | None:
        if not self.spec.display:
            return None
        return value_of(self.measure, arm.sample(self.measure.observed), arm.histogram(self.measure.observed))


def _compare_rates(look: _Look, *, is_new_edge: bool) -> Comparing:
    memory = look.memory
    rungs = ladder(look.metric, proof=look.spec.proof, display=look.spec.display)
    walks = memory.walks or tuple(Walk(EProcess(rung.hypothesis)) for rung in rungs)
    if look.measure.quantile is not None and memory.edge is None:
        return look.comparing(memory, waiting="stable's own traffic to set the edge")
    if is_new_edge:
        # The requests that set the edge are not held against it.
        walks = tuple(
            Walk(walk.process, _reached(look, rung, memory.edge)) for walk, rung in zip(walks, rungs, strict=True)
        )
    walks = tuple(walk.to(_reached(look, rung, memory.edge)) for walk, rung in zip(walks, rungs, strict=True))
    counted = memory.canary_now.count - memory.spent
    ever = counted + memory.canary.count
    if ever >= look.spec.min_requests and not look.unmeasurable:
        walks = tuple(Walk(walk.process.judged(look.effect), walk.seen) for walk in walks)
    verdict = walks[0].process
    ruled_out = [rung for rung, walk in zip(rungs, walks, strict=True) if walk.process.rejects(look.alpha)]
    low = max((rung.height for rung in ruled_out if rung.side == "above"), default=None)
    high = min((rung.height for rung in ruled_out if rung.side == "below"), default=None)
    return look.comparing(
        replace(memory, walks=walks),
        waiting=f"{look.spec.min_requests - counted:g} more requests" if counted < look.spec.min_requests else "",
        change=(low, high),
        is_worse=verdict.rejects(look.alpha),
        is_proven=len(walks) > 1 and walks[1].process.rejects(PROOF_ALPHA),
        p_value=verdict.p_value,
    )


def _reached(look: _Look, rung: Rung, edge: int | None) -> Block:
    observed = look.measure.observed
    if edge is None:
        canary, stable = look.memory.canary_now, look.memory.stable_now
        block = Block(canary.count, canary.total, stable.count, stable.total)
    else:
        canary, stable = look.canary.histogram(observed), look.stable.histogram(observed)
        block = Block(canary.total, canary.above(rung.canary_edge(edge)), stable.total, stable.above(edge))
    return block.swapped if rung.swapped else block


def _compare_means(look: _Look) -> Comparing:
    memory, metric = look.memory, look.metric
    now = stratum(memory.canary_now, memory.stable_now)
    strata = (*memory.strata, now) if now else memory.strata
    contrast = MeanContrast(strata, metric.direction, look.effect)
    counted = memory.canary_now.count
    lacking = max(MEAN_REQUESTS - contrast.canary, look.spec.min_requests - counted)
    waiting = f"{math.ceil(lacking)} more requests" if lacking > 0 else ""
    if not strata or contrast.canary < MEAN_REQUESTS or look.unmeasurable:
        return look.comparing(memory, waiting=waiting)
    return look.comparing(
        memory,
        waiting=waiting,
        change=contrast.interval(look.alpha, relative=metric.relative) if look.spec.display else (None, None),
        is_worse=contrast.worse_by_more_than(metric.allowed, look.alpha, relative=metric.relative),
        is_proven=contrast.worse_by_less_than(metric.allowed, PROOF_ALPHA, relative=metric.relative),
    )


def stratum(canary: Sample, stable: Sample) -> Stratum | None:
    """The means of one step; None if an arm has too few observations for a variance."""
    if min(canary.count, stable.count) < FEWEST_IN_STRATUM:
        return None
    return Stratum(
        canary.count,
        canary.mean,
        canary.variance_of_mean,
        stable.count,
        stable.mean,
        stable.variance_of_mean,
    )


def value_of(measure: Measure, sample: Sample, durations: Histogram) -> float | None:
    """What people call the metric's value; None if nothing was observed."""
    if measure.quantile is not None:
        index = durations.quantile(measure.quantile)
        return None if index is None else seconds_of(index)
    return sample.mean if sample.count else None
