"""Origins over several replicas on one real Redis."""

import asyncio
from dataclasses import replace
from time import perf_counter, time

import pytest

from redis_server import RedisServer
from wissel.core.affinity import MadeId, Origin, Unreachable
from wissel.store.affinity import DEADLINE, MOST_FIELD, Origins, running_affinity
from wissel.store.connection import RedisConnection
from wissel.store.keys import Keys
from wissel.telemetry.counting import Telemetry

pytestmark = pytest.mark.slow

MADE = MadeId("responses", "resp_Ab1")


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine that is busy with other tests an answer may take longer than a request may wait for it."""
    monkeypatch.setattr("wissel.store.affinity.DEADLINE", 20.0)


def origin(**fields) -> Origin:
    return replace(Origin("m", "c", "code", "0" * 64, "thread", 5.0, float(int(time()) + 3600)), **fields)


def replica(redis: RedisConnection | None, keys: Keys, telemetry: Telemetry | None = None, **fields) -> Origins:
    return Origins(redis, keys, telemetry or Telemetry(), **fields)


async def test_one_replica_finds_what_another_made(redis, keys):
    one, other = replica(redis, keys), replica(redis, keys)
    one.keep(MADE, made := origin())
    await one.flush()

    assert await other.find(MADE) == made
    assert other.recall(MADE) == made


async def test_an_id_in_other_letters_or_of_another_api_is_another(redis, keys):
    one, other = replica(redis, keys), replica(redis, keys)
    one.keep(MADE, origin())
    await one.flush()

    assert [await other.find(MadeId(*each)) for each in [("responses", "resp_ab1"), ("chat", "resp_Ab1")]] == [None] * 2


async def test_what_is_on_its_way_from_another_replica_is_found(redis, keys):
    one, other = replica(redis, keys), replica(redis, keys)
    finding = asyncio.create_task(other.find(MADE))
    await asyncio.sleep(0.005)
    one.keep(MADE, made := origin())
    await one.flush()

    assert await finding == made


async def test_it_is_forgotten_in_time_here_and_in_redis(redis, keys):
    made = origin(until=time() + 100)
    one = replica(redis, keys)
    one.keep(MADE, made)
    await one.flush()
    later = replica(redis, keys, wall=lambda: made.until)
    later.keep(MADE, made)

    assert 90 <= await redis.run("TTL", keys.origin(MADE)) <= 100
    assert later.recall(MADE) is None


async def test_what_is_too_long_for_redis_is_known_here_alone(redis, keys):
    one = replica(redis, keys)
    one.keep(MADE, origin(thread="x" * (MOST_FIELD + 1)))
    await one.flush()

    assert one.recall(MADE) is not None
    assert await redis.run("KEYS", "*") == []


@pytest.mark.parametrize("made", ["resp/1", "x" * 513, ""])
async def test_what_is_no_id_is_asked_of_nobody(mortal, keys, made):
    mortal.kill()
    connection = RedisConnection(mortal.url)
    found = await replica(connection, keys).find(MadeId("responses", made))
    await connection.close()

    assert found is None


async def test_a_record_that_is_no_origin_is_none(redis, keys):
    await redis.run("SET", keys.origin(MADE), '["from", "the", "future"]')

    assert await replica(redis, keys).find(MADE) is None


async def test_without_a_redis_a_process_knows_what_it_made_itself(keys):
    one = replica(None, keys)
    one.keep(MADE, made := origin())

    assert (one.recall(MADE), await one.find(MadeId("chat", "other"))) == (made, None)


async def test_with_redis_away_only_what_is_known_here_is_found(mortal, keys):
    async with running_affinity(mortal.url, keys, Telemetry()) as one:
        one.keep(MADE, made := origin())
        await one.flush()
        mortal.kill()
        unknown = await one.find(MadeId("responses", "resp_other"))

        assert (one.recall(MADE), unknown) == (made, Unreachable())


async def test_nobody_waits_longer_than_the_deadline(mortal, keys, monkeypatch):
    monkeypatch.setattr("wissel.store.affinity.DEADLINE", DEADLINE)
    async with running_affinity(mortal.url, keys, Telemetry()) as one:
        await one.find(MADE)
        mortal.freeze(seconds=2.0)
        began = perf_counter()
        found = await one.find(MADE)

        assert (found, perf_counter() - began < DEADLINE + 0.2) == (Unreachable(), True)


async def test_what_was_made_while_redis_was_away_is_told_later(mortal: RedisServer, keys):
    connection = RedisConnection(mortal.url)
    one, other = replica(connection, keys), replica(connection, keys)
    mortal.kill()
    one.keep(MADE, made := origin())
    failed = await one.flush()
    mortal.start()
    told = await one.flush()

    assert (failed, told, await other.find(MADE)) == (False, True, made)
    await connection.close()


async def test_what_came_of_asking_is_counted(redis, keys):
    telemetry = Telemetry()
    one = replica(redis, keys, telemetry)
    one.keep(MADE, origin())
    one.recall(MADE)
    await one.find(MadeId("responses", "resp_other"))
    page = telemetry.exposition().decode()

    assert 'wissel_affinity_lookups_total{result="here"} 1.0' in page
    assert 'wissel_affinity_lookups_total{result="unknown"} 1.0' in page
    assert 'wissel_affinity_lookups_total{result="unavailable"} 0.0' in page


# Lists.

CHAT = [MadeId("chat", f"chatcmpl-{at}") for at in range(4)]


@pytest.mark.parametrize("shared", [True, False])
async def test_a_caller_is_listed_its_own_of_one_kind(redis, keys, shared):
    one = replica(redis if shared else None, keys)
    mine = origin()
    for made in CHAT[:2]:
        one.keep(made, mine)
    one.keep(CHAT[2], origin(owner="1" * 64))
    one.keep(MADE, mine)
    await one.flush()

    assert await one.made_for("chat", mine.owner) == dict.fromkeys(CHAT[:2], mine)


async def test_what_is_deleted_is_listed_by_no_replica(redis, keys):
    one, other = replica(redis, keys), replica(redis, keys)
    mine = origin()
    for made in CHAT[:2]:
        one.keep(made, mine)
    await one.flush()
    other.drop(CHAT[0], mine.owner)
    await other.flush()

    assert (await one.made_for("chat", mine.owner)).keys() == {CHAT[1]}
    assert await other.find(CHAT[0]) is None


async def test_a_list_holds_the_latest_and_no_more(redis, keys, monkeypatch):
    monkeypatch.setattr("wissel.store.affinity.MOST_LISTED", 2)
    one = replica(redis, keys)
    for at, made in enumerate(CHAT):
        one.keep(made, origin(at=float(at)))
    await one.flush()

    assert list(await one.made_for("chat", "0" * 64)) == [CHAT[3], CHAT[2]]
    assert await redis.run("ZCARD", keys.answers("chat", "0" * 64)) == 2


async def test_a_list_is_not_made_up_while_redis_is_away(mortal, keys):
    async with running_affinity(mortal.url, keys, Telemetry()) as one:
        mortal.kill()

        assert await one.made_for("chat", "0" * 64) == Unreachable()
