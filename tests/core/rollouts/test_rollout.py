import json
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from rollout_factories import a_spec, an_analysis, an_arm, begun, evidence
from sampling import IS_WHOLE
from wissel.core.rollouts.analysis import Verdict
from wissel.core.rollouts.arms import canary_share, variants
from wissel.core.rollouts.evidence import Evidence, Missing
from wissel.core.rollouts.metrics import AnalysisSpec, Comparison, Guard
from wissel.core.rollouts.record import dump, load
from wissel.core.rollouts.rollout import (
    LONGEST_TICK,
    Move,
    Refused,
    Rollout,
    abort,
    advance,
    awaits_confirmation,
    begin,
    is_look_due,
    pause,
    promote,
    restore,
    resume,
    retry,
    undo,
)
from wissel.core.rollouts.spec import AnalysisStep, Pause, RolloutSpec, SetWeight, Step
from wissel.core.split import KeySource, Split, TargetingKey, assign

SPEC = a_spec()
WAITING = a_spec(steps=(SetWeight(10), Pause(None), SetWeight(50)))
BAD = evidence(an_arm(1000, 100))


def played(spec: RolloutSpec, *ticks: tuple[float, Evidence | Missing | None], rollout: Rollout | None = None) -> Move:
    """The last of several ticks at so many seconds."""
    move = Move(rollout or begun(spec))
    for now, seen in ticks:
        move = advance(move.rollout, spec, seen, now)
    return move


def moved(answer: Move | Refused) -> Rollout:
    assert isinstance(answer, Move)
    return answer.rollout


def healthy(rollout: Rollout, looks: int = 1) -> Evidence:
    """Of whatever step it is in."""
    share = rollout.weight / 100
    canary, total = 1000 * looks, round(1000 * looks / share)
    stable = an_arm(total - canary, (total - canary) // 50)
    arms = (an_arm(canary, canary // 50), stable)
    return evidence(*arms, revision=rollout.revision, attempt=rollout.attempt, step=rollout.window, share=share)


def kinds(move: Move) -> list[str]:
    return [event.kind for event in move.events]


def test_what_happens_is_told_by_its_kind():
    waiting = played(WAITING, (0.0, None), rollout=begin(WAITING, 0.0).rollout)
    promoted = promote(waiting.rollout, WAITING, 1.0, by="ada", full=True)
    superseded = advance(begun(SPEC), a_spec(revision="r2"), None, 5.0)

    assert kinds(begin(SPEC, 0.0)) == ["started"]
    assert kinds(begin(SPEC, 0.0, lost=True)) == ["paused"]
    assert kinds(waiting) == ["weight_set", "paused"]
    assert isinstance(promoted, Move)
    assert (kinds(promoted)[-1], promoted.rollout.reason) == ("promoted", "promoted in full by ada")
    assert [(each.kind, each.weight) for each in superseded.events] == [("superseded", 0), ("started", 0)]


def test_a_rollout_without_analysis_or_that_is_over_is_not_looked_at():
    over = moved(abort(begun(SPEC), 1.0, by="ada"))

    assert is_look_due(begun(SPEC), SPEC, 1e6)
    assert not is_look_due(begun(SPEC), a_spec(analysis=None), 1e6)
    assert not is_look_due(replace(over, weight=10), SPEC, 1e6)


def test_at_another_weight_the_time_to_the_next_look_begins_anew():
    risen = played(SPEC, (30.0, healthy(begun(SPEC))), (61.0, None))

    assert (risen.rollout.weight, risen.rollout.since_look) == (50, 0.0)


def test_what_stops_it_is_told_with_its_verdict():
    spec = a_spec(on_failure="pause")
    move = played(spec, (30.0, BAD))

    assert kinds(move)[-1] == "paused"
    assert move.verdict is not None
    assert move.events[-1].verdict == move.verdict


def test_it_starts_at_its_first_weight():
    assert (begun(SPEC).weight, begun(SPEC).phase, begun(SPEC).window) == (10, "progressing", 0)


def test_time_alone_raises_nothing():
    rollout = played(SPEC, *[(now, None) for now in range(0, 600, 30)]).rollout

    assert (rollout.weight, rollout.step) == (10, 2)


def test_evidence_alone_does_not_shorten_a_pause():
    assert played(SPEC, (30, evidence())).rollout.weight == 10


def test_time_and_evidence_raise_the_weight():
    move = played(SPEC, (30, evidence()), (60, None))

    assert (move.rollout.weight, [event.kind for event in move.events]) == (50, ["weight_set"])


def test_the_look_that_lets_it_rise_goes_into_the_audit_trail():
    (event,) = played(SPEC, (30, None), (60, evidence())).events

    assert event.verdict is not None
    assert event.verdict.judgement == "pass"


def test_the_evidence_of_a_lower_weight_does_not_raise_the_next():
    at_50 = played(SPEC, (30, evidence()), (60, None)).rollout

    assert played(SPEC, (90, None), (120, healthy(begun(SPEC), 3)), rollout=at_50).rollout.phase == "progressing"


def test_one_look_raises_one_weight():
    move = played(a_spec(steps=(SetWeight(10), SetWeight(30), SetWeight(50))), (30, evidence()))

    assert [(event.kind, event.weight) for event in move.events] == [("weight_set", 30)]


def test_a_good_canary_is_promoted():
    at_50 = played(SPEC, (30, evidence()), (60, None)).rollout
    move = advance(at_50, SPEC, healthy(at_50), 90)

    assert (move.rollout.weight, move.rollout.phase, move.events[-1].kind) == (100, "healthy", "promoted")


def test_a_bad_canary_is_taken_back():
    move = played(SPEC, (30, BAD))

    assert (move.rollout.weight, move.rollout.phase, move.events[-1].kind) == (0, "degraded", "rolled_back")
    assert move.events[-1].verdict == move.verdict


@pytest.mark.parametrize("verb", [pause, None])
def test_a_bad_canary_is_taken_back_while_paused(verb: object):
    spec = a_spec(steps=(SetWeight(10), Pause(None)))
    rollout = begun(spec) if verb is None else moved(pause(begun(spec), 1, by="ada"))

    assert advance(rollout, spec, BAD, 30).rollout.weight == 0


def test_on_failure_pause_calls_a_human_instead():
    move = played(a_spec(on_failure="pause"), (30, BAD))

    assert (move.rollout.weight, move.rollout.paused) == (10, "failure")


def test_a_guard_takes_back_even_then():
    spec = a_spec(on_failure="pause", analysis=an_analysis(Guard("error_rate", 0.05)))

    assert played(spec, (30, BAD)).rollout.weight == 0


def test_what_is_inconclusive_waits_for_a_human():
    mismatch = evidence(an_arm(1500, 30))
    rollout = played(SPEC, (30, mismatch), (60, mismatch), (90, None)).rollout

    assert (rollout.weight, rollout.phase, rollout.paused) == (10, "paused", "inconclusive")


def test_inconclusive_looks_may_be_put_up_with():
    spec = a_spec(analysis=an_analysis(inconclusive_limit=1))
    mismatch = evidence(an_arm(1500, 30))

    assert played(spec, (30, mismatch)).rollout.phase == "progressing"
    assert played(spec, (30, mismatch), (60, mismatch)).rollout.phase == "paused"


AWAY = [(30.0 * i, Missing("redis is away")) for i in range(1, 6)]


@pytest.mark.parametrize(
    ("on_no_data", "weight", "phase"),
    [("hold", 10, "progressing"), ("rollback", 0, "degraded"), ("continue", 50, "progressing")],
)
def test_what_cannot_be_measured_is_held_until_the_operators_rule_applies(on_no_data: str, weight: int, phase: str):
    spec = a_spec(analysis=an_analysis(on_no_data=on_no_data))

    assert played(spec, *AWAY[:-1]).rollout.weight == 10
    assert (played(spec, *AWAY).rollout.weight, played(spec, *AWAY).rollout.phase) == (weight, phase)


def test_each_weight_is_waited_at_anew_before_it_is_gone_on_from_without_data():
    spec = a_spec(analysis=an_analysis(on_no_data="continue"))
    later = [(150 + 30.0 * i, Missing("redis is away")) for i in range(1, 6)]

    assert played(spec, *AWAY, *later[:-1]).rollout.weight == 50
    assert played(spec, *AWAY, *later).rollout.phase == "healthy"


def test_that_it_cannot_measure_is_told_once():
    kinds = [[event.kind for event in played(SPEC, *AWAY[:n]).events] for n in (4, 5)]
    later = played(SPEC, *AWAY, (180, Missing("redis is away"))).events

    assert (kinds, later) == ([[], ["cannot_measure"]], ())


def test_evidence_of_another_attempt_is_not_taken_for_its_own():
    move = played(SPEC, (30, replace(BAD, attempt=2)))

    assert (move.rollout.weight, move.rollout.reason) == (10, "cannot measure: the evidence is of another step")


def test_a_pause_without_duration_waits_for_a_human():
    waiting = played(WAITING, (30, evidence())).rollout

    assert (waiting.phase, waiting.paused) == ("paused", "step")
    assert moved(promote(waiting, WAITING, 40, by="ada")).weight == 50


def test_promote_raises_without_evidence_and_says_who():
    answer = promote(begun(SPEC), SPEC, 5, by="ada")

    assert isinstance(answer, Move)
    assert [(e.kind, e.by, e.weight) for e in answer.events] == [
        ("step_promoted", "ada", 10),
        ("weight_set", "ada", 50),
    ]


def test_promote_in_full_goes_to_the_end():
    rollout = moved(promote(begun(SPEC), SPEC, 5, by="ada", full=True))

    assert (rollout.weight, rollout.phase, rollout.step) == (100, "healthy", 3)


def test_an_analysis_step_waits_for_its_proof():
    margin = Comparison("error_rate", allowed=0.02)
    spec = a_spec(
        steps=(SetWeight(10), AnalysisStep(proof=True), SetWeight(50)), analysis=an_analysis(margin, proof=True)
    )
    few = played(spec, (30, evidence(an_arm(200, 4), an_arm(1800, 36)))).rollout
    many = played(spec, (30, evidence(an_arm(4000, 80), an_arm(36_000, 720)))).rollout

    assert (few.is_cleared, few.weight, many.weight) == (True, 10, 50)


def test_an_analysis_step_takes_its_time():
    spec = a_spec(steps=(SetWeight(10), AnalysisStep(duration=100), SetWeight(50)))
    ready = played(spec, (50, evidence()), (99, None))

    assert (ready.rollout.weight, played(spec, (101, None), rollout=ready.rollout).rollout.weight) == (10, 50)


def test_a_clock_that_jumps_ahead_skips_no_pause():
    spec = a_spec(steps=(SetWeight(10), Pause(600), SetWeight(50)))
    rollout = played(spec, (30, evidence()), (1e9, None)).rollout

    assert (rollout.weight, rollout.elapsed) == (10, 30 + LONGEST_TICK)


def test_a_clock_that_jumps_back_extends_no_pause():
    rollout = played(SPEC, (30, evidence()), (-1e6, None)).rollout

    assert played(SPEC, (-1e6 + 30, None), rollout=rollout).rollout.weight == 50


def test_a_humans_pause_stops_the_steps_clock():
    paused = moved(pause(played(SPEC, (30, evidence())).rollout, 31, by="ada"))
    resumed = moved(resume(played(SPEC, (60, None), (90, None), rollout=paused).rollout, 91, by="ada"))

    assert (resumed.phase, resumed.elapsed) == ("progressing", 31)


def test_a_changed_spec_starts_over():
    at_50 = played(SPEC, (30, evidence()), (60, None)).rollout
    move = advance(at_50, a_spec(revision="r2"), None, 61)

    assert (move.rollout.weight, move.rollout.attempt, move.rollout.revision) == (0, 2, "r2")
    assert [event.kind for event in move.events] == ["superseded", "started"]


def test_abort_is_idempotent():
    once = abort(begun(SPEC), 5, by="ada")
    twice = abort(once.rollout, 6, by="bob")

    assert (once.rollout.weight, twice) == (0, Move(once.rollout))


def test_abort_takes_a_promotion_back_too():
    promoted = moved(promote(begun(SPEC), SPEC, 5, by="ada", full=True))

    assert abort(promoted, 6, by="ada").rollout.phase == "degraded"


def test_nothing_moves_an_aborted_rollout_but_retry():
    aborted = abort(begun(SPEC), 5, by="ada").rollout

    assert played(SPEC, (30, evidence()), (90, None), rollout=aborted).rollout.weight == 0
    assert isinstance(promote(aborted, SPEC, 6, by="ada", full=True), Refused)
    assert isinstance(resume(aborted, 6, by="ada"), Refused)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda: pause(moved(abort(begun(SPEC), 5, by="ada")), 6, by="ada"), "it is degraded already"),
        (lambda: pause(moved(pause(begun(SPEC), 5, by="ada")), 6, by="ada"), "it is paused already"),
        (lambda: resume(begun(SPEC), 5, by="ada"), "it is progressing, not paused"),
        (lambda: retry(begun(SPEC), SPEC, 5, by="ada"), "it is progressing: only an aborted rollout can be retried"),
        (lambda: undo(begun(SPEC), 5, by="ada"), "it is progressing: there is no promotion to undo"),
        (lambda: resume(played(WAITING, (30, evidence())).rollout, 40, by="ada"), "the step waits to be promoted"),
    ],
)
def test_what_cannot_be_done_says_why(answer: Callable[[], Move | Refused], said: str):
    assert answer() == Refused(said)


def test_what_is_over_is_not_promoted_again_and_says_why():
    promoted = moved(promote(begun(SPEC), SPEC, 5, by="ada", full=True))
    aborted = moved(abort(begun(SPEC), 5, by="ada", reason="no"))

    assert promote(promoted, SPEC, 6, by="ada") == Refused("it is promoted already")
    assert promote(aborted, SPEC, 6, by="ada") == Refused("it is aborted: retry it first")


def test_a_retry_remembers_nothing_and_counts_anew():
    failed = played(SPEC, (30, BAD)).rollout
    again = moved(retry(failed, SPEC, 60, by="ada"))

    assert again == replace(begin(SPEC, 60, attempt=2).rollout)


def test_undo_takes_a_promotion_back_and_nothing_else():
    promoted = moved(promote(begun(SPEC), SPEC, 5, by="ada", full=True))

    assert moved(undo(promoted, 6, by="ada")).weight == 0
    assert isinstance(undo(begun(SPEC), 6, by="ada"), Refused)


def test_a_lost_record_serves_stable_until_resumed():
    lost = begin(SPEC, 0, lost=True).rollout
    held = played(SPEC, (30, None), (90, None), rollout=lost).rollout

    assert (held.weight, held.paused) == (0, "lost")
    assert lost.reason == "the rollout's record is gone: serving stable only until it is resumed"
    assert advance(moved(resume(held, 91, by="ada")), SPEC, None, 92).rollout.weight == 10


def test_the_promotion_waits_to_be_confirmed():
    spec = a_spec(steps=(SetWeight(10),), confirm_promotion=True)
    refused = advance(begun(spec), spec, evidence(), 30, confirmed=False)

    assert (refused.rollout.weight, awaits_confirmation(refused.rollout, spec)) == (10, True)
    assert advance(refused.rollout, spec, None, 31).rollout.weight == 100


def test_a_look_is_due_at_every_interval_while_traffic_is_split():
    rollout = begun(SPEC)
    looked = advance(rollout, SPEC, evidence(), 30).rollout

    assert [is_look_due(rollout, SPEC, now) for now in (29, 30)] == [False, True]
    assert [is_look_due(looked, SPEC, now) for now in (59, 60)] == [False, True]
    assert not is_look_due(abort(rollout, 30, by="ada").rollout, SPEC, 60)


@pytest.mark.parametrize(("weight", "expected"), [(10, (10, 10, 80)), (50, (50, 50, 0)), (80, (80, 20, 0))])
def test_a_baseline_has_the_canarys_size_while_there_is_room(weight: int, expected: tuple[int, ...]):
    rollout = replace(begun(SPEC), weight=weight)

    assert tuple(variant.weight for variant in variants(rollout, a_spec(baseline=True))) == expected


def test_the_compared_share_is_that_of_both_arms():
    assert canary_share(begun(SPEC), SPEC) == pytest.approx(0.1)
    assert canary_share(begun(SPEC), a_spec(baseline=True)) == pytest.approx(0.5)


@pytest.mark.parametrize("baseline", [True, False])
def test_no_key_ever_leaves_the_canary_while_it_grows(baseline: bool):
    spec = a_spec(baseline=baseline)
    keys = [TargetingKey(KeySource("principal"), str(i)) for i in range(200)]
    on_canary: set[str] = set()
    for weight in (1, 10, 50, 80, 100):
        arms = variants(replace(begun(spec), weight=weight), spec)
        split = Split("chat", (), arms, "stable")
        served = {key.value: assign(split, key, able={"old", "new"}) for key in keys}
        now = {value for value, found in served.items() if found and found.variant.name == "canary"}
        assert on_canary <= now
        on_canary = now
    assert len(on_canary) == 200


waits = st.sampled_from(
    [Pause(60), Pause(0), Pause(None), AnalysisStep(), AnalysisStep(duration=45), AnalysisStep(proof=True)]
)


@st.composite
def plans(draw: st.DrawFn) -> tuple[Step, ...]:
    """Weights that rise, and whatever may stand before and between them."""
    weights = sorted(draw(st.sets(st.sampled_from([1, 10, 30, 50, 99, 100]), min_size=1, max_size=3)))
    steps: list[Step] = draw(st.lists(waits, max_size=1))
    for weight in weights:
        steps += [SetWeight(weight), *draw(st.lists(waits, max_size=2))]
    return tuple(steps)


class AnyInterleaving(RuleBasedStateMachine):
    """Ticks, crashes, verbs, lost records, other specs and evidence in whatever order.

    It keeps its own books of what was seen and how much time passed, and holds every move to them.
    """

    @initialize(
        steps=plans(),
        on_no_data=st.sampled_from(["hold", "rollback", "continue"]),
        on_failure=st.sampled_from(["rollback", "pause"]),
        inconclusive_limit=st.sampled_from([0, 1]),
        baseline=st.booleans(),
        confirm=st.booleans(),
    )
    def start(
        self,
        steps: tuple[Step, ...],
        on_no_data: str,
        on_failure: str,
        inconclusive_limit: int,
        baseline: bool,
        confirm: bool,
    ) -> None:
        analysis = an_analysis(
            Comparison("error_rate", allowed=0.05),
            Guard("error_rate", 0.25),
            on_no_data=on_no_data,
            inconclusive_limit=inconclusive_limit,
            consecutive_error_limit=1,
            proof=True,
            display=False,
        )
        self.spec = a_spec(
            steps=steps, analysis=analysis, baseline=baseline, on_failure=on_failure, confirm_promotion=confirm
        )
        self.now = 0.0
        self.waited = 0.0
        """Seconds in the step under way, as it should count them."""
        self.rollout = begin(self.spec, self.now).rollout
        self.counts: dict[tuple[str, int, int], list[int]] = {}
        self.latest: Verdict | None = None
        """Of the latest look at this weight."""
        self.unseen = 0
        """Looks in a row that could not measure."""
        self.steps_run: set[tuple[int, int]] = set()

    @property
    def analysis(self) -> AnalysisSpec:
        assert self.spec.analysis is not None
        return self.spec.analysis

    def window(self) -> tuple[str, int, int]:
        return self.rollout.revision, self.rollout.attempt, self.rollout.window

    def may_rise(self) -> bool:
        """On evidence alone."""
        if not 0 < self.rollout.weight < 100 or (self.latest and self.latest.judgement == "pass"):
            return True
        is_blind = self.latest is not None and self.latest.judgement == "no_data"
        return is_blind and self.analysis.on_no_data == "continue" and self.unseen > 1

    def tick_to(self, seconds: float, seen: Evidence | Missing | None, *, confirmed: bool = True) -> Move:
        self.now += seconds
        if not self.rollout.paused:
            self.waited += min(max(0.0, seconds), LONGEST_TICK)
        move = advance(self.rollout, self.spec, seen, self.now, confirmed=confirmed)
        if move.verdict is not None:
            self.latest = move.verdict
            self.unseen = self.unseen + 1 if move.verdict.judgement == "no_data" else 0
        self.take(move, confirmed=confirmed)
        return move

    def take(self, move: Move, *, by_human: bool = False, confirmed: bool = True) -> None:
        before, after = self.rollout, move.rollout
        kinds = [event.kind for event in move.events]
        is_same_run = after.attempt == before.attempt
        overridden = by_human or before.is_overridden

        assert after.weight == before.weight or move.events
        assert not move.events or move.events[-1].weight == after.weight
        assert after.attempt == before.attempt + sum(kind in {"started", "retried"} for kind in kinds)
        if is_same_run and after.weight > before.weight:
            assert overridden or self.may_rise()
            # Nothing was seen of a weight yet that was set a moment ago.
            raised = [event.weight for event in move.events if event.kind in {"weight_set", "promoted"}]
            assert all(weight == 100 for weight in raised[:-1])
        if is_same_run:
            self.the_steps_were_done(before, after, by_human=by_human, overridden=overridden)
        if before.is_aborted and is_same_run:
            assert after == replace(before, at=after.at, elapsed=after.elapsed, since_look=after.since_look)
        if before.is_promoted and is_same_run:
            assert after.is_promoted or kinds in (["aborted"], ["undone"])
        if before.paused == "human" and after.paused != "human" and is_same_run:
            assert by_human or after.weight == 0
        if "promoted" in kinds and self.spec.confirm_promotion:
            assert by_human or confirmed
        if {"rolled_back", "aborted", "undone"} & set(kinds):
            assert (after.weight, after.phase) == (0, "degraded")
        for event in move.events:
            if event.kind == "weight_set":
                # Each step of a run sets its weight once, whoever dies in between.
                assert (after.attempt, event.step) not in self.steps_run
                self.steps_run.add((after.attempt, event.step))
        if (after.attempt, after.step) != (before.attempt, before.step):
            self.waited = 0.0
        if (after.attempt, after.window) != (before.attempt, before.window):
            self.latest, self.unseen = None, 0
        self.rollout = after

    def the_steps_were_done(self, before: Rollout, after: Rollout, *, by_human: bool, overridden: bool) -> None:
        waited = self.waited
        assert after.step >= before.step
        for number in range(before.step, after.step):
            match self.spec.steps[number]:
                case Pause(None):
                    assert by_human
                case Pause(duration) if duration is not None:
                    assert by_human or waited >= duration - 1e-6
                case AnalysisStep(duration, proof):
                    is_proven = not proof or (self.latest is not None and self.latest.is_proven)
                    assert by_human or (waited >= duration - 1e-6 and (overridden or (self.may_rise() and is_proven)))
                case _:
                    pass
            waited = 0.0

    @rule(seconds=st.floats(-1e5, 1e5), confirmed=st.booleans())
    def tick(self, seconds: float, confirmed: bool) -> None:
        self.tick_to(seconds, None, confirmed=confirmed)

    @rule(
        bad=st.sampled_from([0.0, 0.02, 0.02, 0.2, 0.6]),
        skewed=st.sampled_from([1, 1, 1, 1, 3]),
        requests=st.sampled_from([0, 40, 400, 4000]),
        confirmed=st.booleans(),
    )
    def see(self, bad: float, skewed: int, requests: int, confirmed: bool) -> None:
        if not 0 < self.rollout.weight < 100:
            return
        share = canary_share(self.rollout, self.spec)
        counted = self.counts.setdefault(self.window(), [0, 0, 0, 0])
        stable = round(requests * (1 - share) / share)
        for i, more in enumerate((requests * skewed, round(requests * skewed * bad), stable, stable // 50)):
            counted[i] += more
        revision, attempt, step = self.window()
        arms = (an_arm(counted[0], counted[1]), an_arm(counted[2], counted[3]))
        seen = evidence(*arms, revision=revision, attempt=attempt, step=step, share=share)
        was_over, had_failed = self.rollout.is_over, self.rollout.paused == "failure"
        verdict = self.tick_to(30, seen, confirmed=confirmed).verdict
        if was_over or verdict is None or verdict.judgement != "fail":
            return
        # Whatever it stands still for, what is found to be bad is taken back, or left to a human who asked for that.
        if verdict.by_guard or self.spec.on_failure == "rollback":
            assert self.rollout.phase == "degraded"
        else:
            assert self.rollout.phase == "paused" or had_failed

    @rule(stale=st.booleans())
    def see_nothing(self, stale: bool) -> None:
        seen = evidence(an_arm(1000, 500), revision="r0") if stale else Missing("redis is away")
        verdict = self.tick_to(30, seen).verdict
        assert verdict is None or verdict.judgement == "no_data"

    @rule()
    def crash(self) -> None:
        self.rollout = load(json.loads(json.dumps(dump(self.rollout))))

    @rule()
    def crash_before_saving(self) -> None:
        # Another controller makes the same move from the same record.
        twice = [advance(self.rollout, self.spec, None, self.now + 1) for _ in range(2)]
        assert twice[0] == twice[1]
        self.tick_to(1, None)

    @rule()
    def lose_the_record(self) -> None:
        """Redis came back empty, and a replica remembers where the rollout stood."""
        if self.rollout.is_over:
            move = restore(self.rollout, self.now)
            assert (move.rollout.phase, move.rollout.weight) == (self.rollout.phase, self.rollout.weight)
        else:
            move = begin(self.spec, self.now, attempt=self.rollout.attempt + 1, lost=True)
            assert (move.rollout.phase, move.rollout.weight) == ("paused", 0)
        self.rollout, self.waited, self.latest, self.unseen = move.rollout, 0.0, None, 0

    @rule(verb=st.sampled_from(["promote", "promote", "promote_full", "pause", "resume", "abort", "retry", "undo"]))
    def intervene(self, verb: str) -> None:
        answer: Move | Refused
        match verb:
            case "promote":
                answer = promote(self.rollout, self.spec, self.now, by="ada")
            case "promote_full":
                answer = promote(self.rollout, self.spec, self.now, by="ada", full=True)
            case "pause":
                answer = pause(self.rollout, self.now, by="ada")
            case "resume":
                answer = resume(self.rollout, self.now, by="ada")
            case "abort":
                answer = abort(self.rollout, self.now, by="ada")
            case "retry":
                answer = retry(self.rollout, self.spec, self.now, by="ada")
            case _:
                answer = undo(self.rollout, self.now, by="ada")
        if isinstance(answer, Move):
            self.take(answer, by_human=True)

    @rule(steps=plans())
    def change_the_spec(self, steps: tuple[Step, ...]) -> None:
        self.spec = replace(self.spec, revision=f"{self.spec.revision}'", steps=steps)
        self.tick_to(0, None)
        assert (self.rollout.weight, self.rollout.phase, self.rollout.step) == (0, "progressing", 0)

    @invariant()
    def the_state_is_legal(self) -> None:
        rollout = self.rollout
        weights = [variant.weight for variant in variants(rollout, self.spec)]
        assert sum(weights) == 100
        assert min(weights) >= 0
        assert not (rollout.is_aborted and rollout.is_promoted)
        assert rollout.phase != "degraded" or rollout.weight == 0
        assert rollout.phase != "healthy" or rollout.weight == 100
        assert not (rollout.is_over and rollout.paused)
        assert 0 <= rollout.step <= len(self.spec.steps)
        assert rollout.window < max(1, rollout.step)
        set_by_steps = {step.weight for step in self.spec.steps if isinstance(step, SetWeight)}
        assert rollout.weight in {0, *set_by_steps} or rollout.is_promoted
        assert rollout.is_over or rollout.verdict == self.latest


@pytest.mark.parametrize("state", ["promoted", "aborted"])
def test_what_was_over_is_restored_as_it_was_and_that_is_told(state: str):
    known = replace(begun(a_spec()), is_promoted=state == "promoted", reason="before")
    move = restore(known, 99.0)

    assert (move.rollout.at, move.rollout.is_promoted) == (99.0, known.is_promoted)
    assert move.rollout.reason == f"the rollout's record was gone: it stays {state}, as it was known to be"
    assert [(each.kind, each.reason) for each in move.events] == [("restored", move.rollout.reason)]


AnyInterleaving.TestCase.settings = settings(
    max_examples=1000 if IS_WHOLE else 100, stateful_step_count=50, deadline=None
)
test_any_interleaving_leads_to_no_illegal_state = pytest.mark.slow(AnyInterleaving.TestCase)
