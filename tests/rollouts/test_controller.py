"""The loop on a real Redis, with a clock of the test's own and requests that are counted as a replica counts them."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web

from rollout_factories import a_spec, an_analysis
from wissel.core.rollouts.metrics import Comparison, FixedLimit, Guard
from wissel.core.rollouts.rollout import Refused, Rollout
from wissel.core.rollouts.spec import Delivery, Pause, SetWeight
from wissel.errors import StoreError
from wissel.rollouts.controller import Controller, UnknownRolloutError, Verb
from wissel.store.audit import Audit
from wissel.store.base import Record, Scope
from wissel.store.connection import RedisConnection
from wissel.store.counters import Counters
from wissel.store.feedback import FeedbackStore
from wissel.store.keys import Keys
from wissel.store.lease import Lease
from wissel.store.memory import ReplicaMemory
from wissel.store.recorder import Recorder
from wissel.store.records import Records

SPEC = a_spec(
    steps=(SetWeight(10), Pause(10.0), SetWeight(50), Pause(10.0)),
    analysis=an_analysis(Guard("error_rate", 0.25), Comparison("error_rate", allowed=0.02), interval=5.0),
)
LEASE_SECONDS = 0.3


@dataclass
class World:
    """One Redis, any number of controllers, and time that passes when the test says so."""

    connection: RedisConnection
    session: aiohttp.ClientSession
    now: float = 1_700_000_000.0
    keys: Keys = field(default_factory=lambda: Keys("test"))
    recorder: Recorder = field(init=False)
    memories: dict[str, ReplicaMemory] = field(default_factory=dict[str, ReplicaMemory])
    """By controller: what each replica knew last."""
    served: int = 0

    def __post_init__(self) -> None:
        counters = Counters(self.connection, self.keys)
        self.recorder = Recorder(counters, FeedbackStore(self.connection, self.keys), "r.1", clock=lambda: self.now)

    @property
    def records(self) -> Records:
        return Records(self.connection, self.keys)

    def controller(self, name: str, *deliveries: Delivery) -> Controller:
        controller = Controller(
            self.records,
            Counters(self.connection, self.keys),
            Audit(self.connection, self.keys),
            Lease(self.connection, self.keys, name, seconds=LEASE_SECONDS),
            self.memories.setdefault(name, ReplicaMemory()),
            self.session,
            now=lambda: self.now,
        )
        controller.use(deliveries or (Delivery(SPEC),))
        return controller

    async def rollout(self, name: str = SPEC.name) -> Rollout:
        record = await self.records.get(name)
        assert isinstance(record, Record)
        return record.rollout

    async def told(self, controller: Controller) -> list[str]:
        """What the audit trail says, oldest first: `weight_set 10`."""
        entries = await controller.history(SPEC.name)
        return [f"{entry.kind} {entry.detail['weight']}" for entry in reversed(entries)]

    async def serve(self, arm: str, requests: int, *, errors: int = 0) -> None:
        """Requests of the step under way, each by a key of its own, and a second for their window to close."""
        rollout = await self.rollout()
        scope = Scope(rollout.name, rollout.revision, rollout.attempt, rollout.window)
        for number in range(requests):
            self.served += 1
            ticket = self.recorder.began(scope, arm, f"key-{self.served}")
            ticket.observed.update(error=float(number < errors), latency=0.1)
            ticket.ended()
        self.now += 1.0
        await self.recorder.flush()

    async def serve_both(self, *, errors: int = 0) -> None:
        """200 canary requests and stable's part of the same traffic."""
        weight = (await self.rollout()).weight
        await self.serve("canary", 200, errors=errors)
        await self.serve("stable", 200 * (100 - weight) // weight, errors=0)

    async def begin(self, *deliveries: Delivery) -> Controller:
        """A controller whose rollout has its first weight."""
        controller = self.controller("a", *deliveries)
        await controller.tick()
        await controller.tick()
        return controller

    async def play(self, controller: Controller, seconds: int) -> None:
        for _ in range(seconds):
            self.now += 1.0
            await controller.tick()


@pytest_asyncio.fixture
async def world(redis: RedisConnection) -> AsyncIterator[World]:
    async with aiohttp.ClientSession() as session:
        yield World(redis, session)


async def to_the_end(world: World, controller: Controller) -> None:
    """Healthy traffic until nothing is left to do."""
    for _ in range(10):
        if (await world.rollout()).is_over:
            return
        await world.serve_both()
        await world.play(controller, 12)


async def test_a_healthy_canary_takes_every_step_and_is_promoted(world: World):
    controller = await world.begin()
    await to_the_end(world, controller)

    assert await world.told(controller) == ["started 0", "weight_set 10", "weight_set 50", "promoted 100"]


async def test_a_bad_canary_is_rolled_back_and_the_trail_says_why(world: World):
    controller = await world.begin()
    await world.serve_both(errors=100)
    await world.play(controller, 6)
    latest = (await controller.history(SPEC.name))[0]

    assert (await world.rollout()).phase == "degraded"
    assert (latest.kind, latest.by, latest.detail["verdict"]["judgement"]) == ("rolled_back", "wissel", "fail")
    assert "error_rate" in latest.reason


async def test_a_canary_that_fails_is_rolled_back_while_a_long_answer_is_still_flowing(world: World):
    controller = await world.begin()
    rollout = await world.rollout()
    world.recorder.began(Scope(rollout.name, rollout.revision, rollout.attempt, rollout.window), "stable", "slow")
    await world.serve("canary", 60, errors=20)
    await world.play(controller, 6)

    assert (await world.rollout()).phase == "degraded"


async def test_of_two_controllers_only_one_acts(world: World):
    first, second = world.controller("a"), world.controller("b")
    for _ in range(3):
        world.now += 1.0
        await asyncio.gather(first.tick(), second.tick())

    assert await world.told(first) == ["started 0", "weight_set 10"]


async def test_another_controller_goes_on_from_the_same_state(world: World):
    first, second = await world.begin(), world.controller("b")
    await world.serve_both()
    await world.play(first, 6)
    before = await world.rollout()
    await asyncio.sleep(LEASE_SECONDS + 0.1)
    await second.tick()
    after = await world.rollout()

    assert (after.attempt, after.step, after.weight) == (before.attempt, before.step, before.weight)
    assert before.elapsed <= after.elapsed <= before.elapsed + 6
    assert after.analysis.canary_served == before.analysis.canary_served == 200


async def test_a_controller_that_gives_the_lease_back_is_followed_at_once(world: World):
    first, second = await world.begin(), world.controller("b")
    await first.close()
    world.now += 6.0
    await second.tick()

    assert (await world.rollout()).at == world.now


@pytest.mark.slow
async def test_controllers_that_are_killed_anywhere_run_no_step_twice(world: World):
    """Each is cancelled after another number of turns of the event loop, so in another place."""
    await world.begin()
    for turns in range(60):
        await world.connection.run("DEL", world.keys.lease)
        if turns % 5 == 0 and not (await world.rollout()).is_over:
            await world.serve_both()
        world.now += 2.0
        dying = asyncio.create_task(world.controller(f"c-{turns}").tick())
        for _ in range(turns):
            await asyncio.sleep(0)
        dying.cancel()
        await asyncio.wait([dying])
    last = world.controller("last")
    await world.connection.run("DEL", world.keys.lease)
    await to_the_end(world, last)

    assert await world.told(last) == ["started 0", "weight_set 10", "weight_set 50", "promoted 100"]


CHILD = """
import asyncio, sys, time
import aiohttp
from test_controller import World
from wissel.store.connection import RedisConnection

async def main():
    async with aiohttp.ClientSession() as session:
        world = World(RedisConnection(sys.argv[1]), session)
        controller = world.controller(sys.argv[2])
        while True:
            world.now = 20 * time.time()
            await controller.tick()

asyncio.run(main())
"""
"""A controller that does nothing but tick, in twenty times the time."""


class Killed:
    """Controllers in processes of their own, of which each gets the lease, ticks for a while, and is killed."""

    def __init__(self, world: World, url: str) -> None:
        self._world = world
        self._url = url
        self.count = 0

    async def one_more(self, seconds: float) -> None:
        self.count += 1
        name = f"child-{self.count}"
        path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", CHILD, self._url, name, env={**os.environ, "PYTHONPATH": path}
        )
        try:
            async with asyncio.timeout(30):
                while await self._world.connection.run("GET", self._world.keys.lease) != name:  # noqa: ASYNC110  # nobody announces it
                    await asyncio.sleep(0.005)
            await asyncio.sleep(seconds)
        finally:
            child.kill()
            await child.wait()


@pytest.mark.slow
async def test_controller_processes_killed_in_the_middle_of_a_step_run_none_twice(world: World, server):
    killed = Killed(world, server.url)
    under_way: list[int] = []
    await world.begin()
    await world.connection.run("DEL", world.keys.lease)
    for weight in (10, 50):
        # Without traffic it stays where it is; with it the next look raises it, and that is when they are killed.
        await killed.one_more(0.1)
        under_way.append((await world.rollout()).weight)
        for late in range(1, 20):
            if (await world.rollout()).weight != weight:
                break
            await world.serve_both()
            await killed.one_more(0.05 * late)
    last = await world.rollout()
    told = [line for line in await world.told(world.controller("b")) if not line.startswith("cannot_measure")]

    assert under_way == [10, 50]
    assert killed.count >= 4
    assert (last.attempt, last.phase) == (1, "healthy")
    assert told == ["started 0", "weight_set 10", "weight_set 50", "promoted 100"]


async def test_a_controller_that_was_frozen_changes_nothing_once_another_took_over(world: World):
    first, second = await world.begin(), world.controller("b")
    delivery = Delivery(SPEC)
    stale = await first._lease.take()
    assert stale is not None
    await asyncio.sleep(LEASE_SECONDS + 0.1)
    world.now += 6.0
    await second.tick()
    before = await world.records.get(SPEC.name)
    world.now += 6.0
    await first._tick(delivery, stale)

    assert await world.records.get(SPEC.name) == before


async def test_people_and_a_ticking_controller_never_undo_each_other(world: World):
    controller, person = await world.begin(), world.controller("b")
    accepted = 0

    async def people() -> None:
        nonlocal accepted
        verbs: tuple[Verb, ...] = ("pause", "resume") * 10
        for verb in verbs:
            accepted += not isinstance(await person.act(SPEC.name, verb, by="ada"), Refused)

    async def ticks() -> None:
        for _ in range(60):
            world.now += 6.0
            await controller.tick()

    await asyncio.gather(people(), ticks())
    told = [line for line in await world.told(controller) if line != "cannot_measure 10"]

    assert accepted == 20
    assert told == ["started 0", "weight_set 10"] + ["paused 10", "resumed 10"] * 10


async def test_who_aborts_is_in_the_trail_and_the_next_tick_changes_nothing(world: World):
    controller = await world.begin()
    await world.controller("b").act(SPEC.name, "abort", by="ada")
    await world.play(controller, 10)
    latest = (await controller.history(SPEC.name))[0]

    assert (latest.kind, latest.by, (await world.rollout()).weight) == ("aborted", "ada", 0)


async def test_an_aborted_rollout_can_be_retried_and_counts_anew(world: World):
    controller = await world.begin()
    await world.serve_both(errors=100)
    await world.play(controller, 6)
    await controller.act(SPEC.name, "retry", by="ada")
    await controller.tick()
    standing = await controller.standing(SPEC.name)

    assert ((await world.rollout()).attempt, standing.arms) == (2, {})


async def test_between_two_looks_every_replica_shows_the_latest(world: World):
    first, second = await world.begin(), world.controller("b")
    await world.serve_both()
    await world.play(first, 6)
    judged = (await world.rollout()).verdict
    shown = []
    for seconds in range(4):
        # A request in one arm alone, as between two flushes: a look would call it no data.
        await world.serve("canary", seconds)
        shown += [(await each.standing(SPEC.name)).verdict for each in (first, second)]

    assert judged is not None
    assert judged.judgement == "pass"
    assert shown == [judged] * 8


async def test_before_the_first_look_at_a_weight_every_metric_is_shown_to_wait(world: World):
    controller = await world.begin()
    verdict = (await controller.standing(SPEC.name)).verdict

    assert verdict is not None
    assert [(each.metric, each.judgement) for each in verdict.readings] == [
        ("error_rate max 0.25 guard", "waiting"),
        ("error_rate allowed_increase 0.02", "waiting"),
    ]


async def test_what_took_a_canary_back_stays_to_be_read(world: World):
    controller = await world.begin()
    await world.serve_both(errors=100)
    await world.play(controller, 20)
    verdict = (await controller.standing(SPEC.name)).verdict

    assert verdict is not None
    assert verdict.judgement == "fail"


async def test_a_verb_that_makes_no_sense_is_refused_and_changes_nothing(world: World):
    controller = await world.begin()
    before = await world.records.get(SPEC.name)
    answer = await controller.act(SPEC.name, "undo", by="ada")

    assert isinstance(answer, Refused)
    assert await world.records.get(SPEC.name) == before


async def test_an_unknown_rollout_is_told(world: World):
    with pytest.raises(UnknownRolloutError):
        await world.controller("a").act("chat-v9", "abort", by="ada")


async def test_a_changed_spec_starts_over(world: World):
    await world.begin()
    changed = world.controller("a", Delivery(replace(SPEC, revision="r2")))
    await changed.tick()

    assert await world.told(changed) == ["started 0", "weight_set 10", "superseded 0", "started 0"]


async def test_a_record_that_is_lost_under_way_leaves_stable_and_waits_for_a_human(world: World, server):
    controller = await world.begin()
    await world.play(controller, 6)
    server.empty()
    await world.play(controller, 20)
    lost = await world.rollout()
    resumed = await controller.act(SPEC.name, "resume", by="ada")

    assert (lost.phase, lost.paused, lost.weight, lost.attempt) == ("paused", "lost", 0, 2)
    assert isinstance(resumed, Rollout)


async def test_a_replica_that_never_controlled_knows_a_lost_record_too(world: World, server):
    await world.begin()
    second = world.controller("b")
    world.memories["b"].saw(await world.rollout())
    server.empty()
    await second.tick()

    assert (await world.rollout()).paused == "lost"


@pytest.mark.parametrize(("verb", "phase", "weight"), [("promote_full", "healthy", 100), ("abort", "degraded", 0)])
async def test_what_is_over_outlives_its_record_and_the_trail_says_so(
    world: World, server, verb: Verb, phase: str, weight: int
):
    controller = await world.begin()
    await controller.act(SPEC.name, verb, by="ada")
    await controller.tick()
    server.empty()
    await controller.tick()

    assert ((await world.rollout()).phase, (await world.rollout()).weight) == (phase, weight)
    assert await world.told(controller) == [f"restored {weight}"]


async def test_a_record_that_redis_evicted_is_lost_though_nobody_remembers_it(world: World):
    await world.begin()
    version = int(await world.connection.run("HGET", world.keys.versions, SPEC.name))
    await world.connection.run("DEL", world.keys.record(SPEC.name))
    await world.connection.run("DEL", world.keys.lease)
    await world.controller("newcomer").tick()
    lost = await world.rollout()

    # Higher than any attempt that may have counted before.
    assert (lost.paused, lost.weight, lost.attempt) == ("lost", 0, version + 1)


async def test_another_revision_begins_as_new_whatever_was_known_of_the_last(world: World, server):
    await world.begin()
    server.empty()
    changed = world.controller("a", Delivery(replace(SPEC, revision="r2")))
    await changed.tick()

    assert await world.told(changed) == ["started 0"]


async def test_with_redis_away_nothing_moves_and_nothing_is_skipped(mortal):
    connection = RedisConnection(mortal.url, deadline=0.5)
    async with aiohttp.ClientSession() as session:
        world = World(connection, session)
        controller = await world.begin()
        await world.serve_both()
        before = await world.records.get(SPEC.name)
        mortal.kill()
        for _ in range(3):
            world.now += 6.0
            with pytest.raises(StoreError):
                await controller.tick()
        mortal.start()
        after = await world.records.get(SPEC.name)
        await controller.tick()
        moved = await world.rollout()
    await connection.close()

    assert after == before
    assert (moved.weight, moved.analysis.canary_served) == (50, 200)


async def test_what_goes_wrong_with_one_rollout_keeps_no_other_from_its_step(world: World):
    await world.connection.run("HSET", world.keys.versions, "broken", "1")
    await world.connection.run("SET", world.keys.record("broken"), "no JSON")
    broken = Delivery(replace(SPEC, name="broken"))
    await world.begin(broken, Delivery(SPEC))

    assert (await world.rollout()).phase == "progressing"


# Webhooks and Prometheus.


@pytest_asyncio.fixture
async def listening() -> AsyncIterator[Callable[[int], tuple[str, list[dict[str, object]]]]]:
    """Starts servers that answer POSTs with a status, and keep what they were told."""
    runners: list[web.AppRunner] = []

    async def start(status: int) -> tuple[str, list[dict[str, object]]]:
        told: list[dict[str, object]] = []

        async def hear(request: web.Request) -> web.Response:
            told.append(await request.json())
            return web.Response(status=status)

        app = web.Application()
        app.router.add_post("/", hear)
        runner = web.AppRunner(app)
        runners.append(runner)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{runner.addresses[0][1]}/", told

    yield start
    for runner in runners:
        await runner.cleanup()


async def test_a_webhook_is_told_of_every_move(world: World, listening):
    url, told = await listening(200)
    controller = await world.begin(Delivery(SPEC, events=(url,)))
    await controller.act(SPEC.name, "abort", by="ada")
    while len(told) < 3:  # noqa: ASYNC110  # told beside the tick; the test's timeout bounds it
        await asyncio.sleep(0.01)
    await controller.close()

    assert {each["event"]["type"]: each["event"]["by"] for each in told} == {
        "started": "wissel", "weight_set": "wissel", "aborted": "ada",
    }  # fmt: skip


@pytest.mark.parametrize(("status", "phase"), [(403, "progressing"), (200, "healthy")])
async def test_a_promotion_waits_until_the_webhook_agrees(world: World, listening, status: int, phase: str):
    url, told = await listening(status)
    spec = replace(SPEC, steps=(SetWeight(10),), confirm_promotion=True)
    controller = await world.begin(Delivery(spec, confirmations=(url,)))
    await world.serve_both()
    await world.play(controller, 12)

    assert ((await world.rollout()).phase, told[0]["event"]) == (phase, {"type": "confirm_promotion"})


async def test_a_prometheus_that_is_not_there_is_no_verdict(world: World):
    analysis = an_analysis(FixedLimit("queue", max=10), interval=5.0)
    delivery = Delivery(
        replace(SPEC, analysis=analysis), prometheus="http://127.0.0.1:1", queries={"queue": "avg(queue)"}
    )
    controller = await world.begin(delivery)
    await world.serve_both()
    await world.play(controller, 40)
    standing = await controller.standing(SPEC.name)

    assert ((await world.rollout()).weight, standing.verdict.judgement if standing.verdict else "") == (10, "no_data")
