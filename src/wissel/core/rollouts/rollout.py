"""A rollout moves traffic to its canary step by step, or takes it back.

`advance` is called at every tick with what time it is and, when a look is due,
with the evidence; the verbs are what people do to it. Each returns the next
state and what happened, and none knows where the state is kept. Laws that hold
whatever happens in whatever order:

- the weight rises from one step to the next only after a look at this step's
  evidence found nothing against the canary, or because a human said so (or the
  operator did beforehand, with `on_no_data: continue`);
- an aborted rollout has weight 0 until it is retried or its spec changes;
- what cannot be measured, and what is inconclusive, raises nothing;
- time counts as it is seen to pass, tick by tick: a clock that jumps, and a
  controller that was dead, neither skip a pause nor extend it beyond measure.
"""

from dataclasses import dataclass, field, replace
from typing import Literal, assert_never

from wissel.core.rollouts.analysis import Analysis, Verdict, look
from wissel.core.rollouts.evidence import Evidence, Missing
from wissel.core.rollouts.metrics import AnalysisSpec
from wissel.core.rollouts.spec import FULL_WEIGHT, AnalysisStep, Pause, RolloutSpec, SetWeight, Step

Phase = Literal["progressing", "paused", "healthy", "degraded"]
"""Argo Rollouts' words."""

PausedBy = Literal["", "step", "human", "inconclusive", "failure", "lost"]
"""Why the rollout stands still: a step without duration, a human's `pause`, a verdict, or a record that vanished."""

EventKind = Literal[
    "started",
    "superseded",
    "weight_set",
    "paused",
    "resumed",
    "step_promoted",
    "cannot_measure",
    "promoted",
    "restored",
    "rolled_back",
    "aborted",
    "retried",
    "undone",
]

LONGEST_TICK = 60.0
"""Seconds that one tick may add, however late it comes."""

WISSEL = "wissel"
"""Who did it, where no human did."""


@dataclass(frozen=True, slots=True)
class Rollout:
    """Where a rollout stands. This is the record that outlives every controller."""

    name: str
    revision: str
    attempt: int
    """Grows with every start, also of another revision, so that no two share counters."""
    at: float
    """When it was advanced last, in seconds since the epoch."""
    step: int = 0
    """The step under way; as many as there are when none is left."""
    window: int = -1
    """The step that set the weight, by which evidence is counted; -1 before the first."""
    weight: int = 0
    elapsed: float = 0.0
    """Seconds in this step, without those that it stood still."""
    since_look: float = 0.0
    paused: PausedBy = ""
    is_promoted: bool = False
    is_aborted: bool = False
    is_cleared: bool = False
    """Whether the latest look at this weight lets it rise."""
    is_proven: bool = False
    is_overridden: bool = False
    """Whether a human lets it rise without."""
    reason: str = ""
    """Why it is where it is, for people."""
    verdict: Verdict | None = None
    """Of the latest look at this weight; once it is over, at the last one."""
    analysis: Analysis = field(default_factory=Analysis)

    @property
    def is_over(self) -> bool:
        return self.is_promoted or self.is_aborted

    @property
    def phase(self) -> Phase:
        if self.is_aborted:
            return "degraded"
        if self.is_promoted:
            return "healthy"
        return "paused" if self.paused else "progressing"


@dataclass(frozen=True, slots=True)
class Event:
    """One line of the audit trail."""

    kind: EventKind
    reason: str
    by: str
    step: int
    weight: int
    """After it."""
    verdict: Verdict | None = None
    """The look that led to it."""


@dataclass(frozen=True, slots=True)
class Move:
    """The next state, and how it came about; without events nothing but time has passed."""

    rollout: Rollout
    events: tuple[Event, ...] = ()
    verdict: Verdict | None = None
    """Of the look, if there was one."""


@dataclass(frozen=True, slots=True)
class Progress:
    """What one replica knows of a rollout."""

    spec: RolloutSpec
    rollout: Rollout | None
    """None where requests are served as if it had not begun."""

    @property
    def verdict(self) -> Verdict | None:
        return self.rollout.verdict if self.rollout else None


@dataclass(frozen=True, slots=True)
class Refused:
    """A verb that makes no sense now."""

    reason: str


def begin(spec: RolloutSpec, now: float, *, attempt: int = 1, lost: bool = False) -> Move:
    """The first state. A `lost` record starts at stable only, and stays there until a human resumes it."""
    rollout = Rollout(spec.name, spec.revision, attempt, now)
    if lost:
        reason = "the rollout's record is gone: serving stable only until it is resumed"
        rollout = replace(rollout, paused="lost", reason=reason)
        return Move(rollout, (_event(rollout, "paused"),))
    rollout = replace(rollout, reason="started")
    return Move(rollout, (_event(rollout, "started"),))


def restore(known: Rollout, now: float) -> Move:
    """What was over before its record was lost stays over: what everybody is served does not hang on a database."""
    state = "promoted" if known.is_promoted else "aborted"
    rollout = replace(known, at=now, reason=f"the rollout's record was gone: it stays {state}, as it was known to be")
    return Move(rollout, (_event(rollout, "restored"),))


def is_look_due(rollout: Rollout, spec: RolloutSpec, now: float) -> bool:
    """Whether `advance` wants evidence at `now`."""
    if spec.analysis is None or rollout.is_over or rollout.revision != spec.revision:
        return False
    return 0 < rollout.weight < FULL_WEIGHT and rollout.since_look + _passed(rollout, now) >= spec.analysis.interval


def advance(
    rollout: Rollout, spec: RolloutSpec, evidence: Evidence | Missing | None, now: float, *, confirmed: bool = True
) -> Move:
    """One tick. `evidence` is None when no look is due; `confirmed` is what the promotion webhook said."""
    if rollout.revision != spec.revision:
        begun = begin(spec, now, attempt=rollout.attempt + 1)
        superseded = Event("superseded", f"{rollout.revision} by {spec.revision}", WISSEL, rollout.step, 0)
        return Move(begun.rollout, (superseded, *begun.events))
    rollout = _tick(rollout, now)
    if rollout.is_over:
        return Move(rollout)
    verdict = None
    events: tuple[Event, ...] = ()
    if evidence is not None and spec.analysis is not None and 0 < rollout.weight < FULL_WEIGHT:
        analysis, verdict = look(rollout.analysis, spec.analysis, _of_this_window(rollout, evidence))
        rollout = replace(rollout, analysis=analysis, verdict=verdict, since_look=0.0)
        rollout, events = _obey(rollout, spec, spec.analysis, verdict)
    if not rollout.is_over and not rollout.paused:
        rollout, moved = _proceed(rollout, spec, confirmed=confirmed, verdict=verdict)
        events += moved
    return Move(rollout, events, verdict)


def awaits_confirmation(rollout: Rollout, spec: RolloutSpec) -> bool:
    """Whether the promotion webhook should be asked before the next tick."""
    is_last = rollout.step == len(spec.steps) and not rollout.is_over and not rollout.paused
    return spec.confirm_promotion and is_last and _may_rise(rollout, spec)


def promote(rollout: Rollout, spec: RolloutSpec, now: float, *, by: str, full: bool = False) -> Move | Refused:
    """Leave this step now, whatever the evidence; with `full` go to 100 % at once."""
    if rollout.is_over:
        return Refused("it is promoted already" if rollout.is_promoted else "it is aborted: retry it first")
    rollout = replace(_tick(rollout, now), paused="", is_overridden=True)
    if full:
        return _promoted(replace(rollout, step=len(spec.steps)), by, f"promoted in full by {by}", None)
    if rollout.step < len(spec.steps) and not isinstance(spec.steps[rollout.step], SetWeight):
        rollout = replace(rollout, step=rollout.step + 1, elapsed=0.0)
    told = _event(rollout, "step_promoted", by=by, reason=f"promoted by {by}")
    rollout, events = _proceed(rollout, spec, confirmed=True, verdict=None, by=by)
    return Move(rollout, (told, *events))


def pause(rollout: Rollout, now: float, *, by: str) -> Move | Refused:
    """Stand still; what speaks against the canary still takes it back."""
    if rollout.is_over or rollout.paused == "human":
        return Refused(f"it is {rollout.phase} already")
    rollout = replace(_tick(rollout, now), paused="human", reason=f"paused by {by}")
    return Move(rollout, (_event(rollout, "paused", by=by),))


def resume(rollout: Rollout, now: float, *, by: str) -> Move | Refused:
    """Go on from where it stands, and judge anew what was inconclusive."""
    if rollout.paused in {"", "step"}:
        return Refused("the step waits to be promoted" if rollout.paused else f"it is {rollout.phase}, not paused")
    analysis = replace(rollout.analysis, inconclusive=0)
    rollout = replace(_tick(rollout, now), paused="", analysis=analysis, reason=f"resumed by {by}")
    return Move(rollout, (_event(rollout, "resumed", by=by),))


def abort(rollout: Rollout, now: float, *, by: str, reason: str = "") -> Move:
    """All traffic back to stable; also after a promotion. To abort twice is to abort once."""
    if rollout.is_aborted:
        return Move(rollout)
    return _taken_back(_tick(rollout, now), "aborted", by, reason or f"aborted by {by}", None)


def retry(rollout: Rollout, spec: RolloutSpec, now: float, *, by: str) -> Move | Refused:
    """Start an aborted rollout over, with nothing remembered against it."""
    if not rollout.is_aborted:
        return Refused(f"it is {rollout.phase}: only an aborted rollout can be retried")
    begun = begin(spec, now, attempt=rollout.attempt + 1).rollout
    return Move(begun, (_event(begun, "retried", by=by, reason=f"retried by {by}"),))


def undo(rollout: Rollout, now: float, *, by: str) -> Move | Refused:
    """Take a finished promotion back."""
    if not rollout.is_promoted:
        return Refused(f"it is {rollout.phase}: there is no promotion to undo")
    return _taken_back(_tick(rollout, now), "undone", by, f"promotion undone by {by}", None)


def _passed(rollout: Rollout, now: float) -> float:
    return min(max(0.0, now - rollout.at), LONGEST_TICK)


def _tick(rollout: Rollout, now: float) -> Rollout:
    passed = _passed(rollout, now)
    elapsed = rollout.elapsed if rollout.paused else rollout.elapsed + passed
    return replace(rollout, at=now, elapsed=elapsed, since_look=rollout.since_look + passed)


def _of_this_window(rollout: Rollout, evidence: Evidence | Missing) -> Evidence | Missing:
    if isinstance(evidence, Missing):
        return evidence
    if (evidence.revision, evidence.attempt, evidence.step) != (rollout.revision, rollout.attempt, rollout.window):
        return Missing("the evidence is of another step")
    return evidence


def _obey(
    rollout: Rollout, spec: RolloutSpec, analysis: AnalysisSpec, verdict: Verdict
) -> tuple[Rollout, tuple[Event, ...]]:
    """What a verdict does to a rollout, moving forward excepted."""
    is_clear = verdict.judgement == "pass"
    rollout = replace(rollout, is_cleared=is_clear, is_proven=is_clear and verdict.is_proven, reason=verdict.reason)
    match verdict.judgement:
        case "pass" | "waiting":
            return rollout, ()
        case "fail":
            if verdict.by_guard or spec.on_failure == "rollback":
                move = _taken_back(rollout, "rolled_back", WISSEL, verdict.reason, verdict)
                return move.rollout, move.events
            return _stopped(rollout, "failure", verdict)
        case "inconclusive":
            if rollout.analysis.inconclusive > analysis.inconclusive_limit:
                return _stopped(rollout, "inconclusive", verdict)
            return rollout, ()
        case "no_data":
            return _without_data(rollout, analysis, verdict)
        case _:
            assert_never(verdict.judgement)


def _stopped(rollout: Rollout, why: PausedBy, verdict: Verdict) -> tuple[Rollout, tuple[Event, ...]]:
    if rollout.paused and rollout.paused != "step":
        return rollout, ()
    rollout = replace(rollout, paused=why)
    return rollout, (_event(rollout, "paused", verdict=verdict),)


def _without_data(rollout: Rollout, analysis: AnalysisSpec, verdict: Verdict) -> tuple[Rollout, tuple[Event, ...]]:
    errors = rollout.analysis.errors
    rollout = replace(rollout, reason=f"cannot measure: {verdict.reason}")
    if errors <= analysis.consecutive_error_limit:
        return rollout, ()
    match analysis.on_no_data:
        case "rollback":
            move = _taken_back(rollout, "rolled_back", WISSEL, rollout.reason, verdict)
            return move.rollout, move.events
        case "continue":
            rollout = replace(rollout, is_cleared=True)
        case "hold":
            pass
    is_news = errors == analysis.consecutive_error_limit + 1
    return rollout, (_event(rollout, "cannot_measure", verdict=verdict),) if is_news else ()


def _may_rise(rollout: Rollout, spec: RolloutSpec) -> bool:
    is_measured = spec.analysis is not None and 0 < rollout.weight < FULL_WEIGHT
    return not is_measured or rollout.is_cleared or rollout.is_overridden


def _proceed(
    rollout: Rollout, spec: RolloutSpec, *, confirmed: bool, verdict: Verdict | None, by: str = WISSEL
) -> tuple[Rollout, tuple[Event, ...]]:
    """Through every step that is done, to the first that is not."""
    events: list[Event] = []
    while rollout.step < len(spec.steps):
        step = spec.steps[rollout.step]
        if not _is_done(rollout, spec, step):
            if isinstance(step, Pause) and step.duration is None:
                rollout = replace(rollout, paused="step", reason="waits to be promoted")
                events.append(_event(rollout, "paused"))
            return rollout, tuple(events)
        if isinstance(step, SetWeight):
            rollout = _weighted(rollout, step.weight)
            events.append(_event(rollout, "weight_set", by=by, verdict=verdict))
        rollout = replace(rollout, step=rollout.step + 1, elapsed=0.0)
    if not _may_rise(rollout, spec):
        return rollout, tuple(events)
    if spec.confirm_promotion and not confirmed:
        return replace(rollout, reason="waits for confirm_promotion"), tuple(events)
    move = _promoted(rollout, by, "every step is done", verdict)
    return move.rollout, (*events, *move.events)


def _is_done(rollout: Rollout, spec: RolloutSpec, step: Step) -> bool:
    match step:
        case SetWeight(weight):
            return weight <= rollout.weight or _may_rise(rollout, spec)
        case Pause(duration):
            return duration is not None and rollout.elapsed >= duration
        case AnalysisStep(duration, proof):
            is_proven = not proof or rollout.is_proven or rollout.is_overridden
            return rollout.elapsed >= duration and _may_rise(rollout, spec) and is_proven


def _weighted(rollout: Rollout, weight: int) -> Rollout:
    """With another weight, about which nothing is known yet."""
    return replace(
        rollout,
        weight=weight,
        window=rollout.step,
        since_look=0.0,
        is_cleared=False,
        is_proven=False,
        is_overridden=False,
        verdict=None,
        # What could not be measured at the last weight says nothing of this one.
        analysis=replace(rollout.analysis, errors=0),
        reason=f"weight {weight}",
    )


def _promoted(rollout: Rollout, by: str, reason: str, verdict: Verdict | None) -> Move:
    rollout = replace(rollout, weight=FULL_WEIGHT, is_promoted=True, paused="", reason=reason)
    return Move(rollout, (_event(rollout, "promoted", by=by, verdict=verdict),), verdict)


def _taken_back(
    rollout: Rollout, kind: Literal["rolled_back", "aborted", "undone"], by: str, reason: str, verdict: Verdict | None
) -> Move:
    rollout = replace(rollout, weight=0, is_aborted=True, is_promoted=False, paused="", reason=reason)
    return Move(rollout, (_event(rollout, kind, by=by, verdict=verdict),), verdict)


def _event(
    rollout: Rollout, kind: EventKind, *, by: str = WISSEL, reason: str = "", verdict: Verdict | None = None
) -> Event:
    return Event(kind, reason or rollout.reason, by, rollout.step, rollout.weight, verdict)
