"""Several replicas on one real Redis: what they serve while a rollout moves, and what they count."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter

import pytest
import pytest_asyncio

from factories import model
from rollout_factories import a_spec, an_analysis
from wissel.core.access import ANONYMOUS, Principal
from wissel.core.decision import Routed
from wissel.core.feedback import Feedback
from wissel.core.lesson import Lesson, Taught
from wissel.core.outcome import Outcome, Usage
from wissel.core.rollouts.analysis import Analysis, look, unlooked
from wissel.core.rollouts.evidence import SUB_BUCKETS, Evidence
from wissel.core.rollouts.measures import MEASURES, OBSERVATIONS
from wissel.core.rollouts.metrics import Comparison, Guard
from wissel.core.rollouts.rollout import Rollout
from wissel.core.rollouts.spec import Delivery, Pause, SetWeight
from wissel.core.snapshot import Snapshot
from wissel.core.split import KeySource, Split, TargetingKey, Variant, assign, dealt
from wissel.core.tier import Learning
from wissel.rollouts.replica import DEFAULT_INTERVALS, Fleet, Intervals, running_fleet
from wissel.store.base import Absent, Answered, Scope, Served
from wissel.store.recorder import Recorder

SPEC = a_spec(
    steps=(SetWeight(1), Pause(), SetWeight(10), Pause(), SetWeight(50), Pause()),
    analysis=an_analysis(Guard("error_rate", 0.25), interval=0.1),
)
DELIVERY = Delivery(SPEC)
STABLE = Split(
    SPEC.name,
    (KeySource("request"),),
    (Variant("canary", "new", 0), Variant("stable", "old", 100)),
    default="stable",
    revision=SPEC.revision,
    step=-1,
)
COMPILED = Snapshot(
    revision="c1", models={}, splits={SPEC.name: STABLE}, routes={}, entrypoints=frozenset(), aliases={}, fallback=""
)
KEYS = [TargetingKey(KeySource("request"), f"key-{number}") for number in range(10_000)]


@dataclass
class Replica:
    """A fleet's part as the app holds it: its snapshot moves when the fleet says so."""

    fleet: Fleet
    snapshot: Snapshot = COMPILED

    def move(self) -> None:
        self.snapshot = self.fleet.apply(COMPILED)

    @property
    def split(self) -> Split:
        return self.snapshot.splits[SPEC.name]

    @property
    def weight(self) -> int:
        return next(each.weight for each in self.split.variants if each.name == "canary")

    def arms(self) -> list[str]:
        found = [assign(self.split, key, able=("old", "new")) for key in KEYS]
        return [each.variant.name for each in found if each is not None]

    def serve(self, requests: int, *, errors: int = 0, arm: str = "canary", tag: str = "r") -> None:
        """Requests of the step that this replica serves."""
        scope = Scope(SPEC.name, SPEC.revision, self.split.attempt, self.split.step)
        for number in range(requests):
            ticket = self.fleet.recorder.began(scope, arm, f"{tag}-{number}")
            self.fleet.recorder.remember(f"{tag}-{number}", Answered(ticket.served))
            ticket.observed.update(error=float(number < errors), latency=0.1)
            ticket.ended()


QUICK = Intervals(tick=0.05, poll=0.05, flush=0.1)


@asynccontextmanager
async def replicas(url: str, count: int, data: Path, intervals: Intervals = QUICK) -> AsyncIterator[list[Replica]]:
    """Each with a folder in `data` of its own."""
    async with AsyncExitStack() as stack:
        found: list[Replica] = []
        for number in range(count):
            moves: list[Callable[[], None]] = []
            running = running_fleet(
                url, "test", lambda moves=moves: moves[0](), data=data / str(number), intervals=intervals
            )
            fleet = await stack.enter_async_context(running)
            replica = Replica(fleet)
            moves.append(replica.move)
            fleet.use((DELIVERY,))
            replica.move()
            found.append(replica)
        yield found


@pytest_asyncio.fixture
async def three(server, tmp_path) -> AsyncIterator[list[Replica]]:
    async with replicas(server.url, 3, tmp_path) as found:
        yield found


async def until_all(found: list[Replica], weight: int) -> None:
    async with asyncio.timeout(10):
        while any(each.weight != weight for each in found):  # noqa: ASYNC110  # each follows by itself
            await asyncio.sleep(0.01)


async def record_of(replica: Replica) -> Rollout:
    """As soon as there is one."""
    async with asyncio.timeout(10):
        while isinstance(found := await replica.fleet.controller._records.get(SPEC.name), Absent):  # noqa: ASYNC110  # as above
            await asyncio.sleep(0.01)
    return found.rollout


@pytest.mark.slow
async def test_replicas_agree_on_the_arm_of_every_key_and_no_key_goes_back_while_the_weight_grows(three):
    before: set[int] = set()
    sizes: list[int] = []
    for weight in (1, 10, 50, 100):
        await until_all(three, weight)
        arms = [each.arms() for each in three]
        canary = {number for number, arm in enumerate(arms[0]) if arm == "canary"}

        assert arms[0] == arms[1] == arms[2]
        assert before <= canary
        before = canary
        sizes.append(len(canary))
        if weight < 100:
            await three[weight % 3].fleet.controller.act(SPEC.name, "promote", by="ada")

    assert sizes == pytest.approx([100, 1000, 5000, 10_000], rel=0.2)


@pytest.mark.slow
async def test_an_abort_reaches_every_replica_within_two_seconds(server, tmp_path):
    async with replicas(server.url, 3, tmp_path, DEFAULT_INTERVALS) as three:
        await until_all(three, 1)
        began = perf_counter()
        await three[0].fleet.controller.act(SPEC.name, "abort", by="ada")
        await until_all(three, 0)
        took = perf_counter() - began

    assert took < 2.0


@pytest.mark.slow
async def test_what_three_replicas_saw_rolls_the_canary_back_everywhere(three):
    """No replica alone has the requests that the guard needs."""
    await until_all(three, 1)
    for number, each in enumerate(three):
        each.serve(30, errors=15, tag=f"r{number}")
        each.serve(30, arm="stable", tag=f"s{number}")
    await until_all(three, 0)
    standing = await three[2].fleet.controller.standing(SPEC.name)

    assert standing.rollout is not None
    assert standing.rollout.phase == "degraded"
    assert "guard" in standing.rollout.reason


@pytest.mark.slow
async def test_a_replica_whose_controller_is_gone_is_followed_by_another(server, tmp_path):
    async with replicas(server.url, 2, tmp_path) as found:
        async with replicas(server.url, 1, tmp_path / "first") as (first,):
            await until_all([first, *found], 1)
        await found[0].fleet.controller.act(SPEC.name, "promote", by="ada")
        await until_all(found, 10)
        found[0].serve(100, errors=50)
        found[0].serve(100, arm="stable", tag="s")
        await until_all(found, 0)


async def test_before_its_record_is_read_a_rollout_serves_stable_only(server, tmp_path):
    async with replicas(server.url, 1, tmp_path) as (replica,):
        weights = [replica.weight]
        await until_all([replica], 1)

    assert weights == [0]


async def test_a_new_replica_begins_where_the_rollout_stands(server, tmp_path):
    async with replicas(server.url, 1, tmp_path) as (first,):
        await until_all([first], 1)
        async with replicas(server.url, 1, tmp_path / "second") as (second,):
            weight = second.weight

    assert weight == 1


@pytest.mark.slow
async def test_with_redis_away_the_last_weight_is_served(mortal, tmp_path):
    async with replicas(mortal.url, 2, tmp_path) as found:
        await until_all(found, 1)
        mortal.kill()
        await asyncio.sleep(0.5)
        weights = [each.weight for each in found]
        mortal.start()
        await found[0].fleet.controller.act(SPEC.name, "abort", by="ada")
        await until_all(found, 0)

    assert weights == [1, 1]


@pytest.mark.slow
async def test_a_redis_that_comes_back_empty_leaves_stable_and_a_human_goes_on(server, tmp_path):
    async with replicas(server.url, 2, tmp_path) as found:
        await until_all(found, 1)
        server.empty()
        await until_all(found, 0)
        lost = await record_of(found[1])
        await found[1].fleet.controller.act(SPEC.name, "resume", by="ada")
        await until_all(found, 1)

    assert (lost.phase, lost.paused, lost.attempt) == ("paused", "lost", 2)


@pytest.mark.slow
async def test_a_promoted_rollout_stays_while_redis_comes_back_empty(server, tmp_path):
    seen: set[int] = set()
    async with replicas(server.url, 2, tmp_path) as found:
        await until_all(found, 1)
        await found[0].fleet.controller.act(SPEC.name, "promote_full", by="ada")
        await until_all(found, 100)
        server.empty()
        for _ in range(50):
            seen |= {each.weight for each in found}
            await asyncio.sleep(0.01)

    assert seen == {100}


@pytest.mark.slow
async def test_replicas_that_were_all_restarted_still_know_what_an_empty_redis_lost(server, tmp_path):
    async with replicas(server.url, 2, tmp_path) as found:
        await until_all(found, 1)
    server.empty()
    async with replicas(server.url, 2, tmp_path) as found:
        lost = await record_of(found[0])
        weights = {each.weight for each in found}
        await found[1].fleet.controller.act(SPEC.name, "resume", by="ada")
        await until_all(found, 1)

    assert (lost.phase, lost.paused, lost.attempt, weights) == ("paused", "lost", 2, {0})


@pytest.mark.slow
async def test_a_promotion_stays_though_redis_and_every_replica_were_started_anew(server, tmp_path):
    async with replicas(server.url, 1, tmp_path) as found:
        await until_all(found, 1)
        await found[0].fleet.controller.act(SPEC.name, "promote_full", by="ada")
        await until_all(found, 100)
    server.empty()
    async with replicas(server.url, 1, tmp_path) as found:
        weights = {found[0].weight}
        kept = await record_of(found[0])
        weights.add(found[0].weight)

    assert (weights, kept.phase) == ({100}, "healthy")


@pytest.mark.slow
async def test_with_every_disk_gone_as_well_a_rollout_begins_as_a_new_one(server, tmp_path):
    async with replicas(server.url, 1, tmp_path / "before") as found:
        await until_all(found, 1)
    server.empty()
    async with replicas(server.url, 1, tmp_path / "after") as found:
        await until_all(found, 1)
        begun = await record_of(found[0])

    assert (begun.phase, begun.attempt) == ("paused", 1)


@pytest.mark.slow
async def test_requests_that_another_arm_serves_than_they_were_assigned_to_are_left_out_and_counted(server, tmp_path):
    async with replicas(server.url, 1, tmp_path) as (replica,):
        await until_all([replica], 1)
        replica.fleet.use((DELIVERY,), models={"old": model("old"), "new": model("new")})
        on_stable = next(key for key in KEYS if dealt(replica.split, key).name == "stable")
        for number, (variant, reason, answered) in enumerate(
            (
                ("canary", "targeting_match", "new"),
                ("stable", "targeting_match", "old"),
                ("stable", "split", "new-2026-01-01"),
                ("stable", "split", "old-2026-01-01"),
            )
        ):
            decision = Routed(
                model("old" if variant == "stable" else "new"), SPEC.name, variant, reason, ANONYMOUS, "c1",
                split=replica.split, key=on_stable,
            )  # fmt: skip
            ended = replica.fleet.began(decision, f"r-{number}")
            if ended is not None:
                ended(Outcome(200, 0.1, "chat", "via_upstream", response_model=answered))
        await replica.fleet.recorder.flush()
        answers = [await replica.fleet.score(Feedback(f"r-{number}", 1.0)) for number in range(4)]
        await replica.fleet.recorder.flush()
        standing = await replica.fleet.controller.standing(SPEC.name)

    assert (standing.mixed, answers) == (2, ["accepted"] * 4)
    assert {name: (arm.served, arm.sample("feedback").count) for name, arm in standing.arms.items()} == {
        "stable": (1, 1)
    }


async def test_feedback_is_counted_once_for_the_arm_that_served(server, tmp_path):
    async with replicas(server.url, 2, tmp_path) as found:
        await until_all(found, 1)
        found[0].serve(1)
        await found[0].fleet.recorder.flush()
        answers = [await each.fleet.score(Feedback("r-0", 0.5)) for each in found]
        unknown = await found[1].fleet.score(Feedback("r-1", 0.5))
        await found[0].fleet.recorder.flush()
        standing = await found[1].fleet.controller.standing(SPEC.name)

    assert (answers, unknown) == (["accepted", "already_given"], "request_not_found")
    assert (standing.arms["canary"].sample("feedback").count, standing.arms["canary"].sample("feedback").total) == (
        1,
        0.5,
    )


async def test_feedback_sent_at_once_is_accepted_by_the_replica_that_served_and_by_another(server, tmp_path):
    async with replicas(server.url, 2, tmp_path) as found:
        await until_all(found, 1)
        found[0].serve(2)
        here = await found[0].fleet.score(Feedback("r-0", 1.0))
        there, _ = await asyncio.gather(found[1].fleet.score(Feedback("r-1", 1.0)), found[0].fleet.recorder.flush())

    assert (here, there) == ("accepted", "accepted")


async def test_one_callers_scores_are_a_share_of_all_and_those_of_the_operator_are_not_bounded(server, tmp_path):
    async with running_fleet(server.url, "test", lambda: None, data=tmp_path) as fleet:
        for number in range(8):
            fleet.recorder.callers.met(f"team-{number}")
        served = Served(Scope(PLAIN.name, PLAIN.revision), "canary", 0, is_counted=True)
        for number in range(200):
            fleet.recorder.told(served, {"feedback": 0.0}, "flood")
            if number % 5 == 0:
                fleet.recorder.told(served, {"feedback": 1.0}, f"team-{number % 8}")
                fleet.recorder.told(served, {"feedback": 1.0}, None)
        await fleet.recorder.flush()
        scores = (await fleet.counters.read(served.scope)).arm("canary").sample("feedback")

    assert scores.total == 80
    assert scores.count - scores.total < 20


GOOD = Outcome(
    200, 0.1, "chat", "via_upstream", complete=True, ttft=0.05, usage=Usage(10, 100), cost_usd=0.001,
    finish_reasons=("stop",),
)  # fmt: skip
BAD = (
    replace(GOOD, duration=2.0, ttft=1.0, usage=Usage(10, 900), cost_usd=0.009),
    replace(GOOD, status=500, duration=2.0, ttft=1.0, usage=Usage(10, 900), cost_usd=0.009),
    replace(GOOD, finish_reasons=("refusal",), duration=2.0, ttft=1.0, usage=Usage(10, 900), cost_usd=0.009),
    replace(GOOD, status=401, fault="operator", duration=2.0, ttft=1.0, usage=Usage(10, 900), cost_usd=0.009),
)
"""Together they are worse in everything that stands in an outcome."""

PLAIN = Split("ab", (KeySource("request"),), (Variant("canary", "new", 50), Variant("stable", "old", 50)), "canary")


def dealt_to(variant: str, key: TargetingKey) -> Routed:
    return Routed(model("any"), PLAIN.name, variant, "split", ANONYMOUS, "c1", split=PLAIN, key=key)


def said_of(variant: str) -> dict[str, float]:
    """What is said of a request after its end, the worst of the canary and the best of stable."""
    later = [row for row in OBSERVATIONS if row.read is None]
    return {row.name: float((row.worse == "increase") == (variant == "canary")) for row in later}


async def test_every_metric_goes_from_an_outcome_through_redis_to_a_verdict(server, tmp_path):
    spec = an_analysis(*(Comparison(name, measure.of.worse) for name, measure in MEASURES.items()))
    scope, analysis, now = Scope(PLAIN.name, PLAIN.revision), Analysis(), 1000.0
    verdict = unlooked(spec)
    async with running_fleet(server.url, "test", lambda: None, data=tmp_path) as fleet:
        recorder = fleet.recorder = Recorder(fleet.counters, fleet.feedback, "test.1", clock=lambda: now)
        # The first half of stable's requests gives the edges that durations are compared by.
        for half in range(2):
            for number in range(1500):
                # A mean needs some variance.
                stable = GOOD if number % 200 else BAD[0]
                for variant, outcome in (("canary", BAD[number % len(BAD)]), ("stable", stable)):
                    key = TargetingKey(KeySource("request"), f"{half}-{variant}-{number}")
                    ended = fleet.began(dealt_to(variant, key), key.value)
                    assert ended is not None
                    ended(outcome)
                    recorder.told(Served(scope, variant, number % SUB_BUCKETS, is_counted=True), said_of(variant))
            now += 2.0
            await recorder.flush()
            tallied = await fleet.counters.read(scope)
            seen = Evidence("", 0, 0, tallied.arm("canary"), tallied.arm("stable"), 0.5)
            analysis, verdict = look(analysis, spec, seen)

    judged = {each.metric.partition(" ")[0]: each.judgement for each in verdict.readings}
    assert judged == dict.fromkeys(MEASURES, "fail")


@pytest.mark.parametrize(
    ("callers", "principals", "held"),
    [
        (["s1", "s2", "s3", "s4"], [ANONYMOUS] * 4, 2),
        (["s1", "s1", "s1", "s1"], [ANONYMOUS] * 4, 0),
        (["s1", "s2", "s3", "s4"], [Principal("team")] * 4, 0),
        (["s1", "s1", "s2", "s2"], [Principal(name) for name in "abcd"], 2),
    ],
)
async def test_what_nobody_explains_is_the_operators_fault_from_three_callers_on(
    server, tmp_path, callers: list[str], principals: list[Principal], held: float
):
    lost = replace(GOOD, status=404, fault="unexplained")
    async with running_fleet(server.url, "test", lambda: None, data=tmp_path) as fleet:
        for caller, principal in zip(callers, principals, strict=True):
            key = TargetingKey(KeySource("header", "x-session-id"), caller)
            ended = fleet.began(replace(dealt_to("canary", key), principal=principal), secrets.token_hex(4))
            assert ended is not None
            ended(lost)
        await fleet.recorder.flush()
        tallied = await fleet.counters.read(Scope(PLAIN.name, PLAIN.revision), closed=False)

    assert tallied.arm("canary").sample("operator_fault").total == held
    assert tallied.arm("canary").sample("refused").total == sum(min(3, callers.count(each)) for each in set(callers))


async def test_what_a_fallback_answers_is_a_failure_of_the_arm_and_nobodys_success(server, tmp_path):
    scope = Scope(PLAIN.name, PLAIN.revision)
    async with running_fleet(server.url, "test", lambda: None, data=tmp_path) as fleet:
        for number, attempts in enumerate((1, 2, 3)):
            key = TargetingKey(KeySource("header", "x-session-id"), f"s-{number}")
            ended = fleet.began(dealt_to("canary", key), f"r-{number}")
            assert ended is not None
            ended(replace(GOOD, attempts=attempts))
        await fleet.recorder.flush()
        await fleet.score(Feedback("r-1", 1.0))
        await fleet.recorder.flush()
        tallied = await fleet.counters.read(scope, closed=False)
    canary = tallied.arm("canary")

    assert (canary.sample("error").count, canary.sample("error").total, tallied.mixed) == (3, 2, 2)
    assert (canary.sample("latency").count, canary.sample("feedback").count) == (1, 0)


@pytest.mark.parametrize(
    ("fails", "hung_up", "errors", "mixed"), [(True, False, 1, 1), (True, True, 0, 0), (False, False, 0, 1)]
)
async def test_to_an_arm_that_rests_because_it_fails_each_request_has_failed(
    server, tmp_path, fails, hung_up, errors, mixed
):
    """So one that is dead is taken back as soon as if it were asked; one whose server is busy has shown nothing."""
    key = TargetingKey(KeySource("header", "x-session-id"), "s")
    rested = replace(dealt_to("canary", key), rested="canary", rests_as_failing=fails)
    async with running_fleet(server.url, "test", lambda: None, data=tmp_path) as fleet:
        ended = fleet.began(rested, "r")
        assert ended is not None
        ended(replace(GOOD, hung_up=hung_up))
        await fleet.recorder.flush()
        tallied = await fleet.counters.read(Scope(PLAIN.name, PLAIN.revision), closed=False)

    assert (tallied.arm("canary").sample("error").total, tallied.mixed) == (errors, mixed)


async def test_what_a_tier_learned_last_is_kept_when_a_replica_ends(server, tmp_path):
    async with replicas(server.url, 1, tmp_path) as (replica,):
        replica.fleet.use((DELIVERY,), learning={"thrifty": Learning(0.1)})
        lesson = Lesson("thrifty", ("large", "small"), "weak", 0.25)
        replica.fleet.lessons.add(Taught("r-1", lesson, ok=True, model="small"))

    async with replicas(server.url, 1, tmp_path) as (next_one,):
        assert [each.request_id for each in await next_one.fleet.lessons.read("thrifty")] == ["r-1"]
