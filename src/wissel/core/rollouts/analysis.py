"""Evidence becomes a verdict.

`look` is called at every interval with the cumulative evidence of the step,
and returns what to remember and what to think:

    fail           a guard, a limit or a comparison says the canary is bad
    no_data        it cannot be measured: that is no verdict, and moves nothing
    inconclusive   measured, and not to be trusted: a human should look
    waiting        not enough requests yet
    pass           nothing speaks against the canary

The first of these that any metric gives is the verdict, except that a
sample-ratio mismatch makes everything but a guard inconclusive.
"""

import math
from dataclasses import dataclass, field, replace
from typing import Literal

from wissel.core.rollouts.comparison import Comparing, ComparisonMemory, compare, value_of
from wissel.core.rollouts.evidence import Arm, Evidence, Missing, Sample
from wissel.core.rollouts.histogram import Histogram
from wissel.core.rollouts.measures import ERROR, MEASURES
from wissel.core.rollouts.metrics import AnalysisSpec, Comparison, FixedLimit, Guard, Metric
from wissel.core.rollouts.sequential import SAMPLE_RATIO_EVIDENCE, ln_sample_ratio

Judgement = Literal["fail", "no_data", "inconclusive", "waiting", "pass"]

Lull = Literal["none", "under_way", "quiet"]
"""Whether the sums stand still, and if so whether new requests are on their way into them."""

_BY_GRAVITY: tuple[Judgement, ...] = ("fail", "no_data", "inconclusive", "waiting", "pass")

QUIET_SECONDS = 5.0
"""Without a request for so long there is nothing to measure; counters may be two or three seconds on their way."""

_UNASKED = Missing("nobody asked the query")

_LATEST = 4
"""A guard also looks at the latest so many times its `min_requests`."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One metric at one look, as people see it."""

    metric: str
    """Its label: the name with its limit."""
    judgement: Judgement
    canary: float | None = None
    stable: float | None = None
    change: tuple[float | None, float | None] = (None, None)
    """The interval of the canary's difference from stable; None for an end that nothing is known of."""
    is_relative: bool = False
    """Whether the change is a share of stable's value."""
    p_value: float | None = None
    """Always-valid."""
    is_proven: bool = False
    """Whether the canary is shown to be no worse by the margin."""
    design_effect: float = 1.0
    dry_run: bool = False
    note: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one look came to."""

    judgement: Judgement
    reason: str
    readings: tuple[Reading, ...] = ()
    by_guard: bool = False
    is_proven: bool = False
    """Whether every comparison is: what `proof: non_inferior` asks for."""
    ln_sample_ratio: float = 0.0
    """ln of the evidence against the share of keys that was set; an alarm from ln 1000."""
    mixed: int = 0


@dataclass(frozen=True, slots=True)
class Total:
    """A cumulative reading of one measure in one arm."""

    count: float = 0
    total: float = 0.0
    durations: Histogram = field(default_factory=Histogram)

    def __sub__(self, earlier: "Total") -> "Total":
        return Total(self.count - earlier.count, self.total - earlier.total, self.durations - earlier.durations)


@dataclass(frozen=True, slots=True)
class Blocks:
    """What a fixed limit remembers of its step."""

    since: Total = field(default_factory=Total)
    """Where the block under way began."""
    value: float | None = None
    """Of the last block."""
    measured: int = 0
    """Blocks of this step; of a guard, requests."""
    failures: int = 0
    """Blocks that failed, in all steps."""


@dataclass(frozen=True, slots=True)
class Analysis:
    """What a rollout's analysis remembers from look to look."""

    metrics: tuple[Blocks | ComparisonMemory, ...] = ()
    """As the spec lists them."""
    step: int = -1
    """The step whose evidence was seen last."""
    canary_served: int = 0
    stable_served: int = 0
    canary_begun: int = 0
    """When both arms' sums grew last; so is the next."""
    stable_begun: int = 0
    ln_sample_ratio: float = 0.0
    """Its peak in this step."""
    silent: int = 0
    """Looks in a row to which no request was new, in one arm at least."""
    errors: int = 0
    """Looks in a row that could not measure."""
    inconclusive: int = 0


def look(analysis: Analysis, spec: AnalysisSpec, evidence: Evidence | Missing) -> tuple[Analysis, Verdict]:
    """One look at the evidence of the step, which must be cumulative since the step set its weight."""
    analysis = _prepared(analysis, spec)
    if isinstance(evidence, Missing):
        return _unmeasured(analysis, evidence.reason)
    if evidence.step != analysis.step:
        analysis = _entering(analysis, evidence.step)
    canary, stable = evidence.canary, evidence.stable
    if canary.served < analysis.canary_served or stable.served < analysis.stable_served:
        return _unmeasured(analysis, "the counters went backwards")
    is_silent = canary.served == analysis.canary_served or stable.served == analysis.stable_served
    silent = analysis.silent + 1 if is_silent else 0
    begun = (analysis.canary_begun, analysis.stable_begun) if is_silent else (canary.begun, stable.begun)
    lull: Lull = "none"
    if silent * spec.interval >= QUIET_SECONDS:
        lull = "under_way" if canary.begun > begun[0] and stable.begun > begun[1] else "quiet"

    measured = [
        _measure(metric, memory, spec, evidence) for metric, memory in zip(spec.metrics, analysis.metrics, strict=True)
    ]
    readings = tuple(reading for _, reading in measured)
    ratio = max(analysis.ln_sample_ratio, ln_sample_ratio(canary.keys, stable.keys, evidence.share))
    judgement, reason, by_guard = _judge(spec, readings, ratio, lull)
    verdict = Verdict(
        judgement,
        reason,
        readings,
        by_guard=by_guard,
        is_proven=all(
            reading.is_proven
            for metric, reading in zip(spec.metrics, readings, strict=True)
            if isinstance(metric, Comparison) and not metric.dry_run
        ),
        ln_sample_ratio=ratio,
        mixed=evidence.mixed,
    )
    return (
        Analysis(
            metrics=tuple(memory for memory, _ in measured),
            step=analysis.step,
            canary_served=canary.served,
            stable_served=stable.served,
            ln_sample_ratio=ratio,
            canary_begun=begun[0],
            stable_begun=begun[1],
            silent=silent,
            errors=analysis.errors + 1 if judgement == "no_data" else 0,
            inconclusive=analysis.inconclusive + (judgement == "inconclusive"),
        ),
        verdict,
    )


def unlooked(spec: AnalysisSpec) -> Verdict:
    """What people see between a new weight and the first look at it."""
    note = "the first look at this weight is still to come"
    readings = tuple(Reading(each.label, "waiting", dry_run=each.dry_run, note=note) for each in spec.metrics)
    return Verdict("waiting", note, readings)


def _prepared(analysis: Analysis, spec: AnalysisSpec) -> Analysis:
    if analysis.metrics:
        return analysis
    return replace(analysis, metrics=tuple(_blank(metric) for metric in spec.metrics))


def _blank(metric: Metric) -> Blocks | ComparisonMemory:
    return ComparisonMemory() if isinstance(metric, Comparison) else Blocks()


def _entering(analysis: Analysis, step: int) -> Analysis:
    carried = tuple(
        memory.entering() if isinstance(memory, ComparisonMemory) else Blocks(failures=memory.failures)
        for memory in analysis.metrics
    )
    return Analysis(carried, step)


def _unmeasured(analysis: Analysis, reason: str) -> tuple[Analysis, Verdict]:
    return replace(analysis, errors=analysis.errors + 1), Verdict("no_data", reason)


def _judge(spec: AnalysisSpec, readings: tuple[Reading, ...], ratio: float, lull: Lull) -> tuple[Judgement, str, bool]:
    """(judgement, reason, whether a guard gave it)."""
    acting = [(metric, reading) for metric, reading in zip(spec.metrics, readings, strict=True) if not metric.dry_run]
    for metric, reading in acting:
        if isinstance(metric, Guard) and reading.judgement == "fail":
            return "fail", _because(reading), True
    if ratio >= math.log(SAMPLE_RATIO_EVIDENCE):
        return "inconclusive", "sample ratio mismatch: the arms do not have the shares of keys that were set", False
    worst = min((reading for _, reading in acting), key=lambda r: _BY_GRAVITY.index(r.judgement), default=None)
    if worst and worst.judgement == "fail":
        return "fail", _because(worst), False
    if lull == "quiet":
        return "no_data", "no requests in both arms since the last look", False
    if lull == "under_way":
        return "waiting", "the latest requests are still under way", False
    if worst and worst.judgement != "pass":
        return worst.judgement, _because(worst), False
    return "pass", "nothing speaks against the canary", False


def _because(reading: Reading) -> str:
    return f"{reading.metric}: {reading.note}"


def _measure(
    metric: Metric, memory: Blocks | ComparisonMemory, spec: AnalysisSpec, evidence: Evidence
) -> tuple[Blocks | ComparisonMemory, Reading]:
    match metric, memory:
        case Comparison(), ComparisonMemory():
            return _compared(metric, memory, spec, evidence)
        case Guard(), Blocks():
            return _guarded(metric, memory, evidence)
        case FixedLimit(), Blocks() if metric.measure in MEASURES:
            return _limited(metric, memory, evidence)
        case FixedLimit(), Blocks():
            return _queried(metric, memory, evidence.queries.get(metric.measure, _UNASKED))
        case _:
            raise TypeError(f"{metric!r} cannot go on from {memory!r}")


def _compared(
    metric: Comparison, memory: ComparisonMemory, spec: AnalysisSpec, evidence: Evidence
) -> tuple[ComparisonMemory, Reading]:
    found = compare(memory, metric, evidence.canary, evidence.stable, spec)
    judgement, note = _opinion(found)
    return found.memory, Reading(
        metric.label,
        judgement,
        found.canary,
        found.stable,
        found.change,
        found.is_relative,
        found.p_value,
        found.is_proven,
        found.design_effect,
        metric.dry_run,
        note,
    )


def _opinion(found: Comparing) -> tuple[Judgement, str]:
    if found.is_worse:
        return "fail", f"canary {_number(found.canary)} against {_number(found.stable)}, worse than is allowed"
    if found.unmeasurable:
        return "no_data", found.unmeasurable
    if found.waiting:
        return "waiting", f"needs {found.waiting}"
    return "pass", "no_worse is proven" if found.is_proven else "not shown to be worse"


def _number(value: float | None) -> str:
    return "nothing" if value is None else f"{value:.4g}"


def _total(measure_name: str, arm: Arm, *, every: bool = False) -> Total:
    """Of one measure; with `every`, of all requests, not only those that count as evidence."""
    measure = MEASURES[measure_name]
    if every and measure.of is ERROR:
        return Total(arm.served, arm.failed)
    sample = arm.sample(measure.observed)
    durations = Histogram() if measure.quantile is None else arm.histogram(measure.observed)
    return Total(sample.count, sample.total, durations)


def _value(measure_name: str, total: Total) -> float | None:
    return value_of(MEASURES[measure_name], Sample((total.count,), (total.total,)), total.durations)


def _guarded(guard: Guard, memory: Blocks, evidence: Evidence) -> tuple[Blocks, Reading]:
    total = _total(guard.measure, evidence.canary, every=True)
    stable = _value(guard.measure, _total(guard.measure, evidence.stable, every=True))
    most = _limit(guard, stable, total.count)
    value = _value(guard.measure, total)
    latest = total - memory.since
    worst, is_above = value, value is not None and value > most
    if latest.count >= _LATEST * guard.min_requests:
        recent = _value(guard.measure, latest)
        worst = max((v for v in (value, recent) if v is not None), default=None)
        is_above = is_above or (recent is not None and recent > _limit(guard, stable, latest.count))
        memory = replace(memory, since=total, value=recent)
    memory = replace(memory, measured=int(total.count))
    if (failing := _failing_already(guard, evidence.canary)) > most:
        memory = replace(memory, failures=memory.failures + 1)
        note = f"canary {failing:.4g} of all that began, above {most:.4g}"
        return memory, Reading(guard.label, "fail", value, stable, dry_run=guard.dry_run, note=note)
    if total.count < guard.min_requests or worst is None:
        note = f"needs {guard.min_requests - total.count:g} more requests"
        return memory, Reading(guard.label, "waiting", value, stable, dry_run=guard.dry_run, note=note)
    if is_above:
        memory = replace(memory, failures=memory.failures + 1)
    if memory.failures:
        note = f"canary {worst:.4g}, above {most:.4g}"
        return memory, Reading(guard.label, "fail", value, stable, dry_run=guard.dry_run, note=note)
    return memory, Reading(guard.label, "pass", value, stable, dry_run=guard.dry_run, note="within its limit")


def _limit(guard: Guard, stable: float | None, count: float) -> float:
    """What a share of so many requests may be. What ails both arms comes in runs, and a few requests show more of it.

    Four standard deviations: a guard looks at every block of requests, and is to be wrong in none.
    """
    if not guard.above_stable or not stable or not count:
        return guard.max
    return guard.max + stable + 4 * math.sqrt(stable * (1 - min(stable, 1.0)) / count)


def _failing_already(guard: Guard, canary: Arm) -> float:
    """The part of the canary's requests that failed by now, were all that are under way to end well.

    Windows wait for their slowest answer. This waits for none, and cannot lean to what ends sooner either: it counts
    what began. So a canary that fails is taken back while a long answer is still flowing.
    """
    is_enough = MEASURES[guard.measure].of is ERROR and canary.begun >= guard.min_requests
    return canary.failing / canary.begun if is_enough else 0.0


def _limited(limit: FixedLimit, memory: Blocks, evidence: Evidence) -> tuple[Blocks, Reading]:
    total = _total(limit.measure, evidence.canary)
    stable = _value(limit.measure, _total(limit.measure, evidence.stable))
    block = total - memory.since
    if block.count >= limit.min_requests and (value := _value(limit.measure, block)) is not None:
        memory = _after_block(limit, memory, value, total)
    note = f"needs {limit.min_requests - block.count:g} more requests"
    return memory, _limit_reading(limit, memory, stable, note)


def _queried(limit: FixedLimit, memory: Blocks, value: float | Missing) -> tuple[Blocks, Reading]:
    if isinstance(value, Missing):
        return memory, Reading(limit.label, "no_data", memory.value, dry_run=limit.dry_run, note=value.reason)
    memory = _after_block(limit, memory, value, memory.since)
    return memory, _limit_reading(limit, memory, None, "")


def _after_block(limit: FixedLimit, memory: Blocks, value: float, since: Total) -> Blocks:
    failures = memory.failures + (not limit.allows(value))
    return Blocks(since, value, memory.measured + 1, failures)


def _limit_reading(limit: FixedLimit, memory: Blocks, stable: float | None, lacking: str) -> Reading:
    judgement: Judgement
    if not memory.measured:
        judgement, note = "waiting", lacking
    elif memory.failures > limit.failure_limit:
        judgement = "fail"
        note = f"canary {_number(memory.value)}, {memory.failures} of {memory.measured} blocks beyond the limit"
    else:
        judgement, note = "pass", f"{memory.failures} of {memory.measured} blocks beyond the limit"
    return Reading(limit.label, judgement, memory.value, stable, dry_run=limit.dry_run, note=note)
