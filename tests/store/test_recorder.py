import asyncio
import contextlib
import itertools
import sys
import time
from collections.abc import AsyncIterator, Callable

import pytest

from real import until
from redis_server import RedisServer
from wissel.errors import StoreError
from wissel.store.base import Answered, Scope
from wissel.store.connection import RedisConnection
from wissel.store.counters import FORGOTTEN_AFTER, Counters
from wissel.store.feedback import FeedbackStore
from wissel.store.keys import Keys
from wissel.store.recorder import FOLD_INTERVAL, IDLE_AFTER, KEPT_SECONDS, SIGN_OF_LIFE, Recorder

pytestmark = pytest.mark.slow

SCOPE = Scope("chat", "r1", attempt=1, step=2)

_boots = itertools.count()


def recorder(
    connection: RedisConnection,
    replica: str = "a",
    *,
    gone_after: float = 60.0,
    clock: Callable[[], float] = time.perf_counter,
) -> Recorder:
    keys = Keys("test")
    counters = Counters(connection, keys, gone_after=gone_after)
    boot = f"{replica}.{next(_boots)}"
    return Recorder(counters, FeedbackStore(connection, keys), boot, flush_interval=0.1, clock=clock)


def serve(by: Recorder, requests: int = 1, *, arm: str = "canary", error: int = 0) -> None:
    for number in range(requests):
        ticket = by.began(SCOPE, arm, f"key-{number}")
        ticket.observed.update(error=error, latency=0.1, tokens_out=7)
        ticket.ended()


async def known(connection: RedisConnection) -> int:
    tallied = await Counters(connection, Keys("test")).read(SCOPE, closed=False)
    return sum(arm.served for arm in tallied.arms.values())


async def until_known(connection: RedisConnection, requests: int) -> None:
    async with asyncio.timeout(10):
        while await known(connection) < requests:  # noqa: ASYNC110  # Redis announces nothing
            await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def running(recorder: Recorder) -> AsyncIterator[None]:
    task = asyncio.create_task(recorder.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_two_replicas_add_up(redis: RedisConnection):
    one, two = recorder(redis, "a"), recorder(redis, "b")
    serve(one, 10)
    serve(two, 5, error=1)
    await one.close()
    await two.close()

    arm = (await Counters(redis, Keys("test")).read(SCOPE)).arm("canary")
    assert (arm.served, arm.failed, arm.keys, arm.sample("tokens_out").total) == (15, 5, 10, 105)


async def test_a_replica_that_starts_again_overwrites_nothing(redis: RedisConnection):
    for _ in range(3):
        replica = recorder(redis, "a")
        serve(replica, 10)
        await replica.close()

    assert await known(redis) == 30


async def test_mixed_requests_are_told_before_and_after_a_fold(redis: RedisConnection, keys: Keys):
    replica = recorder(redis)
    replica.began(SCOPE, "canary", "ada").mixed()
    await replica.flush()
    counters = Counters(redis, keys, gone_after=0.0)
    before = await counters.read(SCOPE)
    await counters.fold(SCOPE)

    assert (before.mixed, (await counters.read(SCOPE)).mixed, before.arm("canary").served) == (1, 1, 0)


async def test_flushing_again_counts_nothing_again(redis: RedisConnection):
    replica = recorder(redis)
    serve(replica, 10)
    for _ in range(3):
        await replica.flush()

    assert await known(redis) == 10


async def test_outcomes_are_in_redis_after_one_flush_though_their_window_is_open(redis: RedisConnection):
    replica = recorder(redis)
    replica.began(SCOPE, "stable", "slow")
    serve(replica, 10)
    await replica.flush()

    assert await known(redis) == 10


async def test_a_replica_that_was_folded_while_it_was_cut_off_is_not_counted_twice(redis: RedisConnection):
    replica = recorder(redis)
    serve(replica, 10)
    await replica.flush()
    await Counters(redis, Keys("test"), gone_after=0.0).fold(SCOPE)
    serve(replica, 5)
    await replica.flush()

    assert await known(redis) == 15


async def test_a_replica_that_redis_may_have_forgotten_begins_anew(redis: RedisConnection, keys: Keys):
    now = [1000.0]
    replica = recorder(redis, clock=lambda: now[0])
    serve(replica, 10)
    await replica.flush()
    await Counters(redis, keys, gone_after=0.0).fold(SCOPE)
    for name in await redis.run("HKEYS", keys.scope(SCOPE).sources):
        await redis.run("HDEL", keys.scope(SCOPE).sources, name)
        await redis.run("HDEL", keys.scope(SCOPE).open, name)
    await redis.run("HSET", keys.scope(SCOPE).sources, "somebody.else", "1 0")
    now[0] += FORGOTTEN_AFTER
    await replica.flush()
    serve(replica, 5)
    await replica.flush()

    assert await known(redis) == 15


async def test_replicas_that_are_gone_are_folded_by_one_that_is_not(redis: RedisConnection, keys: Keys):
    gone, now = recorder(redis, "a"), [1000.0]
    serve(gone, 10)
    await gone.close()
    replica = recorder(redis, "b", gone_after=0.0, clock=lambda: now[0])
    serve(replica, 5)
    now[0] += FOLD_INTERVAL
    await replica.flush()

    states = await redis.run("HVALS", keys.scope(SCOPE).sources)
    assert (any(state.endswith(" folded") for state in states), await known(redis)) == (True, 15)


async def test_a_scope_that_was_let_go_and_comes_back_loses_nothing(redis: RedisConnection, keys: Keys):
    now = [1000.0]
    replica = recorder(redis, clock=lambda: now[0])
    serve(replica, 10)
    await replica.flush()
    now[0] += IDLE_AFTER + 1
    await replica.flush()
    serve(replica, 5)
    await replica.flush()

    assert (len(await redis.run("HKEYS", keys.scope(SCOPE).sources)), await known(redis)) == (2, 15)


async def test_a_scope_with_a_request_under_way_is_not_let_go(redis: RedisConnection):
    now = [1000.0]
    replica = recorder(redis, clock=lambda: now[0])
    ticket = replica.began(SCOPE, "canary", "ada")
    now[0] += IDLE_AFTER + 1
    await replica.flush()
    ticket.ended()
    await replica.flush()

    assert await known(redis) == 1


async def test_redis_coming_back_empty_gets_everything_again(server: RedisServer, redis: RedisConnection):
    now = [1000.0]
    replica = recorder(redis, clock=lambda: now[0])
    serve(replica, 10)
    await replica.close()
    server.empty()
    now[0] += SIGN_OF_LIFE
    await replica.flush()

    tallied = await Counters(redis, Keys("test")).read(SCOPE)
    assert (tallied.arm("canary").served, tallied.arm("canary").keys) == (10, 10)


async def test_a_redis_that_comes_back_without_its_last_second_gets_that_again(redis: RedisConnection, keys: Keys):
    replica = recorder(redis)
    serve(replica, 10)
    await replica.flush()
    names = keys.scope(SCOPE)
    kept = [names.sources, names.counts, names.open]
    before = [await redis.run("HGETALL", name) for name in kept]
    for _ in range(3):
        serve(replica, 5)
        await replica.flush()
    for name, fields in zip(kept, before, strict=True):
        await redis.run("DEL", name)
        if fields:
            await redis.run("HSET", name, *(word for pair in fields.items() for word in pair))
    serve(replica, 1)
    await replica.flush()

    assert await known(redis) == 26


async def test_a_redis_that_comes_back_as_it_was_long_ago_gets_what_is_still_kept(redis: RedisConnection, keys: Keys):
    now = [1000.0]
    replica = recorder(redis, clock=lambda: now[0])
    serve(replica, 10)
    await replica.flush()
    names = keys.scope(SCOPE)
    before = {name: await redis.run("HGETALL", name) for name in (names.sources, names.counts, names.open)}
    serve(replica, 5)
    await replica.flush()
    now[0] += KEPT_SECONDS + 1
    serve(replica, 3)
    await replica.flush()
    for name, fields in before.items():
        await redis.run("DEL", name)
        await redis.run("HSET", name, *(word for pair in fields.items() for word in pair))
    for _ in range(2):
        serve(replica, 1)
        await replica.flush()

    # What was lost had not been closed by then, and closes in a piece that is kept.
    assert await known(redis) == 10 + 5 + 3 + 2


async def test_half_of_a_scope_that_was_evicted_is_counted_anew(redis: RedisConnection, keys: Keys):
    for name in (keys.scope(SCOPE).sources, keys.scope(SCOPE).counts):
        replica = recorder(redis)
        serve(replica, 10)
        await replica.flush()
        await redis.run("DEL", name)
        serve(replica, 1)
        await replica.flush()

        assert await known(redis) == 11
        await redis.run("FLUSHALL")


async def test_redis_killed_under_load_costs_nothing_and_counts_nothing_twice(mortal: RedisServer):
    connection = RedisConnection(mortal.url)
    replicas = [recorder(connection, "a"), recorder(connection, "b")]
    sent = 0

    async def load(seconds: float) -> None:
        nonlocal sent
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            for replica in replicas:
                serve(replica, 3, arm="canary" if sent % 2 else "stable")
                sent += 3
            await asyncio.sleep(0.005)

    async with running(replicas[0]), running(replicas[1]):
        for _ in range(3):
            await load(0.3)
            mortal.kill()
            await load(0.4)
            mortal.start()
        await load(0.3)
    for replica in replicas:
        await replica.close(within=10.0)

    evidence = await Counters(connection, Keys("test")).read(SCOPE)
    so_far = await known(connection)
    await connection.close()
    assert (so_far, sum(arm.served for arm in evidence.arms.values())) == (sent, sent)


async def test_redis_that_answers_too_late_counts_nothing_twice(mortal: RedisServer):
    connection = RedisConnection(mortal.url, deadline=0.2)
    replica = recorder(connection)
    serve(replica, 10)
    await replica.flush()
    mortal.freeze(seconds=0.6)
    serve(replica, 10)
    with pytest.raises(StoreError, match="not answered in time"):
        await replica.flush()
    await asyncio.sleep(0.6)
    serve(replica, 10)
    await replica.flush()

    found = await known(connection)
    await connection.close()
    assert found == 30


async def test_recording_goes_on_while_redis_is_away(mortal: RedisServer):
    mortal.kill()
    connection = RedisConnection(mortal.url)
    replica = recorder(connection)
    async with running(replica):
        serve(replica, 10)
        await asyncio.sleep(0.5)
        serve(replica, 10)
        mortal.start()
        await until_known(connection, 20)
    await connection.close()


async def test_the_last_flush_gives_up_in_time(mortal: RedisServer):
    connection = RedisConnection(mortal.url)
    replica = recorder(connection)
    serve(replica, 10)
    mortal.freeze(seconds=20)
    began = time.monotonic()
    await replica.close(within=0.3)
    took = time.monotonic() - began
    await connection.close()

    assert took < 1.5


CHILD = """
import asyncio, sys
from wissel.store.base import Scope
from wissel.store.connection import RedisConnection
from wissel.store.counters import FORGOTTEN_AFTER, Counters
from wissel.store.feedback import FeedbackStore
from wissel.store.keys import Keys
from wissel.store.recorder import Recorder

async def main():
    connection, keys = RedisConnection(sys.argv[1]), Keys("test")
    recorder = Recorder(Counters(connection, keys), FeedbackStore(connection, keys), "child.1", flush_interval=0.2)
    flusher = asyncio.create_task(recorder.run())
    served = 0
    while True:
        ticket = recorder.began(Scope("chat", "r1", 1, 2), "canary", f"key-{served}")
        ticket.observed["latency"] = 0.1
        ticket.ended()
        served += 1
        print(served, flush=True)
        await asyncio.sleep(0.01)

asyncio.run(main())
"""


async def test_a_replica_killed_with_sigkill_loses_at_most_what_came_since_its_last_flush(
    server: RedisServer, redis: RedisConnection
):
    command = [sys.executable, "-c", CHILD, server.url]
    child = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert child.stdout
    served = [int(await child.stdout.readline()) for _ in range(120)]
    child.kill()
    served += [int(line) for line in (await child.stdout.read()).split()]
    await child.wait()
    await Counters(redis, Keys("test"), gone_after=0.0).fold(SCOPE)

    evidence = (await Counters(redis, Keys("test")).read(SCOPE)).arm("canary").served
    # A request every 10 ms at most: a flush interval of 200 ms is 20 of them, and the flush itself takes some more.
    assert served[-1] - 40 <= evidence <= served[-1]


async def test_two_scores_for_one_request_are_one(redis: RedisConnection, keys: Keys):
    replica, feedback = recorder(redis), FeedbackStore(redis, keys)
    ticket = replica.began(SCOPE, "canary", "ada")
    replica.remember("wr-1", Answered(ticket.served))
    ticket.ended()
    await replica.flush()

    for _ in range(2):
        accepted = await feedback.accept("wr-1", 0.5)
        if isinstance(accepted, Answered) and accepted.served:
            replica.told(accepted.served, {"feedback": 0.5})
    await replica.close()
    sample = (await Counters(redis, keys).read(SCOPE)).arm("canary").sample("feedback")
    assert (sample.count, sample.total) == (1, 0.5)


async def test_a_score_for_a_request_that_is_no_evidence_is_none_either(redis: RedisConnection, keys: Keys):
    replica = recorder(redis)
    tickets = [replica.began(SCOPE, "canary", "ada") for _ in range(4)]
    for ticket in tickets:
        replica.told(ticket.served, {"feedback": 1.0})
        ticket.ended()
    await replica.close()

    arm = (await Counters(redis, keys).read(SCOPE)).arm("canary")
    assert arm.sample("feedback").count == arm.requests == 3


async def test_requests_are_remembered_once_redis_is_back(mortal: RedisServer, keys: Keys):
    connection = RedisConnection(mortal.url)
    replica = recorder(connection)
    mortal.kill()
    ticket = replica.began(SCOPE, "canary", "ada")
    replica.remember("wr-1", Answered(ticket.served))
    ticket.dropped()
    with pytest.raises(StoreError):
        await replica.flush()
    mortal.start()
    await replica.flush()

    accepted = await FeedbackStore(connection, keys).accept("wr-1", 1.0)
    await connection.close()
    assert accepted == Answered(ticket.served)


async def test_the_flusher_survives_what_nobody_thought_of(redis: RedisConnection, monkeypatch: pytest.MonkeyPatch):
    replica = recorder(redis)
    failures = 0

    async def broken(*_: object, **__: object) -> None:
        nonlocal failures
        failures += 1
        raise RuntimeError("a bug")

    monkeypatch.setattr(Counters, "write", broken)
    async with running(replica):
        serve(replica, 10)
        await until(lambda: failures)
        monkeypatch.undo()
        await until_known(redis, 10)


async def test_the_lag_is_the_time_since_redis_took_everything(redis: RedisConnection):
    now = 0.0
    counting = recorder(redis, clock=lambda: now)
    now = 5.0
    before = counting.lag
    await counting.flush()

    assert (before, counting.lag) == (5.0, 0.0)
