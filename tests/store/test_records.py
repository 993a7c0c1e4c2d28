import asyncio
import time
from dataclasses import replace

import pytest

from redis_server import RedisServer
from wissel.core.rollouts.rollout import Event, Rollout
from wissel.errors import StoreError
from wissel.store.audit import Audit, entry_of
from wissel.store.base import Absent, Conflict, Fenced, NotRead, Record
from wissel.store.connection import RedisConnection
from wissel.store.keys import Keys
from wissel.store.lease import Lease
from wissel.store.records import Follower, Records

pytestmark = pytest.mark.slow

CHAT = Rollout("chat", "r1", attempt=1, at=1_700_000_000.125, weight=10)
STARTED = Event("started", "begins", "wissel", step=0, weight=10)


@pytest.fixture
def records(redis: RedisConnection, keys: Keys) -> Records:
    return Records(redis, keys)


async def test_a_record_is_read_back_as_it_was(records: Records):
    await records.put(CHAT, version=0)

    assert await records.get("chat") == Record(CHAT, 1)


async def test_a_change_from_another_version_is_a_conflict_and_changes_nothing(records: Records):
    await records.put(CHAT, version=0)
    outcome = await records.put(replace(CHAT, weight=50), version=0)

    assert (outcome, await records.get("chat")) == (Conflict(), Record(CHAT, 1))


async def test_of_many_changes_from_one_version_one_is_made(records: Records):
    await records.put(CHAT, version=0)

    outcomes = await asyncio.gather(*(records.put(replace(CHAT, weight=n), version=1) for n in range(10)))
    assert sum(isinstance(outcome, Record) for outcome in outcomes) == 1


async def test_a_change_that_is_refused_is_not_in_the_trail(records: Records, redis: RedisConnection, keys: Keys):
    await records.put(CHAT, version=0, entries=[entry_of(CHAT, STARTED)])
    await records.put(CHAT, version=0, entries=[entry_of(CHAT, STARTED)])

    assert len(await Audit(redis, keys).latest(10)) == 1


async def test_without_any_record_there_never_was_one(records: Records):
    assert await records.get("chat") == Absent()


async def test_beside_other_records_a_missing_one_was_never_begun(records: Records):
    await records.put(CHAT, version=0)

    assert await records.get("code") == Absent()


async def test_a_record_that_was_evicted_leaves_its_version_from_which_another_may_be_made(
    records: Records, redis: RedisConnection, keys: Keys
):
    await records.put(CHAT, version=0)
    await redis.run("DEL", keys.record("chat"))

    assert await records.get("chat") == Absent(1)
    assert await records.put(CHAT, version=1) == Record(CHAT, 2)


@pytest.mark.parametrize("text", ["{", "[]", '{"layout": 99}'])
async def test_a_record_that_cannot_be_read_is_told(records: Records, redis: RedisConnection, keys: Keys, text: str):
    await records.put(CHAT, version=0)
    await redis.run("SET", keys.record("chat"), text)

    with pytest.raises(StoreError):
        await records.get("chat")


async def test_redis_away_is_told(mortal: RedisServer, keys: Keys):
    connection = RedisConnection(mortal.url)
    mortal.kill()

    with pytest.raises(StoreError):
        await Records(connection, keys).get("chat")
    await connection.close()


async def test_one_holds_the_lease(redis: RedisConnection, keys: Keys):
    tokens = await asyncio.gather(*(Lease(redis, keys, holder).take() for holder in "abcde"))

    assert sorted(tokens, key=bool) == [None, None, None, None, 1]


async def test_a_lease_is_renewed_under_the_same_token(redis: RedisConnection, keys: Keys):
    lease = Lease(redis, keys, "a")

    assert (await lease.take(), await lease.take()) == (1, 1)


async def test_a_lease_that_ran_out_is_another_s_under_the_next_token(redis: RedisConnection, keys: Keys):
    frozen = Lease(redis, keys, "a", seconds=0.05)
    await frozen.take()
    await asyncio.sleep(0.1)

    assert (await Lease(redis, keys, "b").take(), await frozen.take()) == (2, None)


async def test_a_lease_let_go_is_free_at_once(redis: RedisConnection, keys: Keys):
    first = Lease(redis, keys, "a")
    await first.take()
    await first.release()

    assert await Lease(redis, keys, "b").take() == 2


async def test_nobody_lets_go_of_another_s_lease(redis: RedisConnection, keys: Keys):
    await Lease(redis, keys, "a").take()
    await Lease(redis, keys, "b").release()

    assert await Lease(redis, keys, "b").take() is None


async def test_a_controller_that_was_frozen_changes_nothing_when_it_wakes(
    records: Records, redis: RedisConnection, keys: Keys
):
    frozen = await Lease(redis, keys, "a", seconds=0.05).take()
    await asyncio.sleep(0.1)
    token = await Lease(redis, keys, "b").take()
    await records.put(CHAT, version=0, token=token)
    outcome = await records.put(replace(CHAT, weight=50), version=1, token=frozen)

    assert (outcome, await records.get("chat")) == (Fenced(), Record(CHAT, 1))


async def test_a_token_of_before_redis_came_back_empty_is_refused(
    server: RedisServer, records: Records, redis: RedisConnection, keys: Keys
):
    token = await Lease(redis, keys, "a").take()
    server.empty()

    assert await records.put(CHAT, version=0, token=token) == Fenced()


async def test_before_the_first_answer_nothing_is_known(records: Records):
    assert Follower(records).state("chat") == NotRead()


async def test_a_change_is_seen_within_two_seconds(records: Records):
    follower = Follower(records)
    changes = follower.changes()
    first = await anext(changes)
    began = time.monotonic()
    await records.put(CHAT, version=0)
    second = await anext(changes)
    took = time.monotonic() - began
    await changes.aclose()

    assert (first, second, follower.state("chat"), took < 2) == (frozenset(), {"chat"}, Record(CHAT, 1), True)


async def test_redis_coming_back_empty_is_seen(server: RedisServer, records: Records):
    follower = Follower(records)
    await records.put(CHAT, version=0)
    await follower.refresh()
    server.empty()

    assert (await follower.refresh(), follower.state("chat")) == ({"chat"}, Absent())


async def test_without_a_change_there_is_none_to_see(records: Records):
    follower = Follower(records)
    await records.put(CHAT, version=0)
    await follower.refresh()

    assert await follower.refresh() is None


async def test_what_was_read_is_kept_while_redis_is_away(mortal: RedisServer, keys: Keys):
    connection = RedisConnection(mortal.url)
    records = Records(connection, keys)
    follower = Follower(records)
    await records.put(CHAT, version=0)
    await follower.refresh()
    mortal.kill()

    with pytest.raises(StoreError):
        await follower.refresh()
    await connection.close()
    assert follower.state("chat") == Record(CHAT, 1)


async def test_changes_go_on_once_redis_is_back(mortal: RedisServer, keys: Keys):
    connection = RedisConnection(mortal.url)
    records = Records(connection, keys)
    follower = Follower(records, interval=0.05)
    await records.put(CHAT, version=0)
    changes = follower.changes()
    await anext(changes)
    mortal.kill()
    waiting = asyncio.create_task(anext(changes))
    await asyncio.sleep(0.3)
    mortal.start()
    await records.put(replace(CHAT, weight=0, is_aborted=True), version=1)
    async with asyncio.timeout(5):
        changed = await waiting
    await changes.aclose()
    await connection.close()

    assert changed == {"chat"}


async def test_one_record_that_cannot_be_read_keeps_no_other_from_its_rollback(
    records: Records, redis: RedisConnection, keys: Keys
):
    follower = Follower(records)
    await records.put(CHAT, version=0)
    await records.put(replace(CHAT, name="code"), version=0)
    await redis.run("SET", keys.record("chat"), "{")

    assert (await follower.refresh(), follower.state("chat")) == ({"code"}, NotRead())
