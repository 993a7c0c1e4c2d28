"""Limits over several replicas on one real Redis: the definition is `core.limits`, and nothing else happens."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import perf_counter

import pytest
import pytest_asyncio

import wissel.store.limits
from redis_server import RedisServer
from wissel.core.limits import (
    Charge,
    Drawn,
    Exceeded,
    MeterReading,
    Unchecked,
    Used,
    draw,
    settle,
    settlement,
)
from wissel.errors import StoreError
from wissel.store.connection import RedisConnection
from wissel.store.keys import Keys
from wissel.store.limits import DEADLINE, SCRIPT, Limiter, spelled

pytestmark = pytest.mark.slow

MINUTE = 60_000_000
REQUESTS = Charge("per-key", "requests", "principal", "ada", 100, MINUTE, 1)
PLACES = Charge("places", "concurrent", "principal", "ada", 2, 0, 1)


def tokens(cost: int, amount: int = 1000) -> Charge:
    return Charge("tokens", "tokens", "principal", "ada", amount, MINUTE, cost)


def usd(cost: int) -> Charge:
    return Charge("budget", "usd", "group", "eng", 10_000, 86_400_000_000, cost)


@pytest_asyncio.fixture
async def replicas(server: RedisServer) -> AsyncIterator[list[Limiter]]:
    connections = [RedisConnection(server.url, deadline=DEADLINE) for _ in range(3)]
    limiters = [Limiter(each, Keys("test"), f"replica-{at}") for at, each in enumerate(connections)]
    yield limiters
    for limiter, connection in zip(limiters, connections, strict=True):
        await limiter.close()
        await connection.close()


async def test_three_replicas_give_out_exactly_what_the_definition_allows(replicas, redis):
    given_out, refused, left = [], [], iter(range(1000))

    async def client(at: int) -> None:
        for number in left:
            found = await replicas[(at + number) % 3].draw((REQUESTS,), otherwise="forbid")
            (given_out if isinstance(found, Drawn) else refused).append(found)
            # 1,000 requests of 32 clients take a second.
            await asyncio.sleep(0.032)

    await asyncio.gather(*(client(at) for at in range(32)))
    seconds, micros = (int(part) for part in await redis.run("TIME"))
    lasted = seconds * 1_000_000 + micros - min(drawn.at_us for drawn in given_out)
    times = sorted(drawn.at_us for drawn in given_out)

    assert len(given_out) + len(refused) == 1000
    assert all(isinstance(each, Exceeded) for each in refused)
    assert all(at >= times[0] + (number - 99) * 600_000 for number, at in enumerate(times))
    # Whoever comes in the last moments before the next unit is there gets none.
    assert len(given_out) in {100 + lasted // 600_000, 100 + (lasted - 100_000) // 600_000}


async def test_the_script_is_the_definition(redis, keys):
    """Random draws and settlements of all kinds; both are told the same time, the server's."""
    dice, meters, open_ones = random.Random(7), {}, []
    for number in range(400):
        charges = tuple(
            dice.sample(
                [
                    Charge("r", "requests", "principal", "ada", 40, 2_000_000, 1),
                    Charge("t", "tokens", "principal", "ada", 997, 1_000_000, dice.randrange(400)),
                    Charge("u", "usd", "group", "eng", 5_000, 1_000_000, dice.randrange(900)),
                    Charge("c", "concurrent", "group", "eng", 6, 0, 1),
                ],
                dice.randint(1, 4),
            )
        )
        if open_ones and dice.random() < 0.4:
            drawn = open_ones.pop(dice.randrange(len(open_ones)))
            used = dice.choice([None, Used(dice.randrange(600), dice.randrange(1500))])
            names = [*(keys.meter(each.key) for each in drawn.charges), keys.settled(drawn.id)]
            owed = [settlement(each, used) for each in drawn.charges]
            settling = spelled("settle", drawn.id, str(drawn.at_us), drawn.charges, owed)
            now = (await redis.call(SCRIPT, names, [settling]))[0]
            settle(meters, drawn, used, now_us=now)
            continue
        names = [*(keys.meter(each.key) for each in charges), keys.replicas]
        drawing = spelled("draw", str(number), "-", charges, [each.cost for each in charges])
        now, _, *told = await redis.call(SCRIPT, names, [drawing])
        readings = tuple(MeterReading(*told[at : at + 3]) for at in range(0, len(told), 3))
        found = draw(meters, charges, id=str(number), now_us=now)
        if isinstance(found, Drawn):
            open_ones.append(found)

        assert found == (
            Exceeded(charges, readings) if any(each.retry_us for each in readings) else Drawn(charges, str(number), now)
        )


async def test_every_key_lies_in_one_slot_and_ends_by_itself(replicas, redis):
    await replicas[0].draw((REQUESTS, tokens(10), usd(10), PLACES), otherwise="forbid")
    names = await redis.run("KEYS", "*")
    lives = [await redis.run("PTTL", name) for name in names]

    assert len(names) == 5
    assert {name.partition("}")[0] for name in names} == {"wissel:{test/limits"}
    assert all(0 < life <= 86_401_000 for life in lives)


async def test_all_or_nothing_holds_over_replicas(replicas):
    await replicas[0].draw((tokens(1000),), otherwise="forbid")
    refused = await replicas[1].draw((REQUESTS, tokens(1)), otherwise="forbid")
    first = await replicas[2].draw(
        (Charge("per-key", "requests", "principal", "ada", 100, MINUTE, 100),), otherwise="forbid"
    )

    assert isinstance(refused, Exceeded)
    assert refused.worst[0].kind == "tokens"
    assert isinstance(first, Drawn)


async def test_tokens_settle_to_the_true_usage(replicas):
    drawn = await replicas[0].draw((tokens(900),), otherwise="forbid")
    too_much = await replicas[1].draw((tokens(800),), otherwise="forbid")
    replicas[0].settle(drawn, Used(100, 0))
    await replicas[0].flush()
    replicas[1]._hot.clear()

    assert isinstance(too_much, Exceeded)
    assert isinstance(await replicas[1].draw((tokens(800),), otherwise="forbid"), Drawn)


async def test_a_settlement_counts_once_however_often_it_is_sent(replicas):
    drawn = await replicas[0].draw((tokens(10),), otherwise="forbid")
    for limiter in replicas:
        limiter.settle(drawn, Used(500, 0))
        await limiter.flush()

    assert isinstance(await replicas[0].draw((tokens(490),), otherwise="forbid"), Drawn)


async def test_a_request_that_never_went_on_gives_everything_back(replicas):
    charges = (REQUESTS, tokens(1000), usd(10_000), PLACES)
    for limiter in [*replicas, *replicas]:
        drawn = await limiter.draw(charges, otherwise="forbid")
        assert isinstance(drawn, Drawn)
        limiter.settle(drawn, None)
        await limiter.flush()


async def test_what_a_crashed_replica_had_estimated_stands(replicas):
    await replicas[0].draw((tokens(600),), otherwise="forbid")
    fits = await replicas[1].draw((tokens(400),), otherwise="forbid")

    assert isinstance(fits, Drawn)
    assert isinstance(await replicas[1].draw((tokens(1),), otherwise="forbid"), Exceeded)


async def test_a_place_is_free_again_when_its_request_is_over(replicas):
    first, _, third = [await limiter.draw((PLACES,), otherwise="forbid") for limiter in replicas]
    replicas[0].settle(first, Used(1, 1))
    await replicas[0].flush()

    assert isinstance(third, Exceeded)
    assert isinstance(await replicas[2].draw((PLACES,), otherwise="forbid"), Drawn)


async def test_a_caller_that_hammers_does_not_reach_redis(replicas, redis):
    spent = Charge("per-key", "requests", "principal", "ada", 1, MINUTE, 1)
    for _ in range(2):
        await replicas[0].draw((spent,), otherwise="forbid")
    before = await calls(redis)
    answers = [await replicas[0].draw((spent, tokens(1)), otherwise="forbid") for _ in range(50)]

    assert all(isinstance(each, Exceeded) and each.worst[1].retry_us > MINUTE / 2 for each in answers)
    assert await calls(redis) == before


async def test_a_smaller_charge_than_the_refused_one_is_asked_about(replicas):
    await replicas[0].draw((tokens(900),), otherwise="forbid")
    refused = await replicas[0].draw((tokens(200),), otherwise="forbid")

    assert isinstance(refused, Exceeded)
    assert isinstance(await replicas[0].draw((tokens(50),), otherwise="forbid"), Drawn)


async def calls(redis: RedisConnection) -> int:
    page = await redis.run("INFO", "commandstats")
    return int(page["cmdstat_evalsha"]["calls"])


@pytest.mark.parametrize(("otherwise", "answer"), [("local", Drawn), ("permit", type(None)), ("forbid", Unchecked)])
async def test_with_redis_frozen_no_request_waits_longer_than_its_deadline(mortal, otherwise, answer):
    connection = RedisConnection(mortal.url, deadline=DEADLINE)
    limiter = Limiter(connection, Keys("test"), "r")
    await limiter.draw((REQUESTS,), otherwise=otherwise)
    mortal.freeze(seconds=1.5)

    async def timed() -> tuple[float, object]:
        began = perf_counter()
        found = await limiter.draw((REQUESTS,), otherwise=otherwise)
        return perf_counter() - began, found

    waits = await asyncio.gather(*(timed() for _ in range(20)))
    after, _ = await timed()
    await limiter.close()
    await connection.close()

    assert all(isinstance(found, answer) for _, found in waits)
    # Beside the deadline there is only what twenty tasks cost on a busy machine.
    assert max(seconds for seconds, _ in waits) < DEADLINE + 0.05
    assert after < DEADLINE / 2


async def test_without_redis_each_replica_gives_out_its_part(mortal):
    connections = [RedisConnection(mortal.url, deadline=DEADLINE) for _ in range(3)]
    limiters = [Limiter(each, Keys("test"), f"r{at}") for at, each in enumerate(connections)]
    for _ in range(2):
        for limiter in limiters:
            limiter._census_at = 0
            await limiter.draw((tokens(1),), otherwise="local")
    mortal.kill()
    drawn = [await limiters[at % 3].draw((REQUESTS,), otherwise="local") for at in range(300)]
    for limiter, connection in zip(limiters, connections, strict=True):
        await limiter.close()
        await connection.close()

    assert sum(isinstance(each, Drawn) for each in drawn) == 99


async def test_settlements_wait_for_redis_to_come_back(mortal):
    connection = RedisConnection(mortal.url, deadline=1)
    limiter = Limiter(connection, Keys("test"), "r", retry=0.05)
    drawn = await limiter.draw((tokens(100),), otherwise="local")
    mortal.kill()
    limiter.settle(drawn, Used(2000, 0))  # a server that is killed may also forget its last second
    assert not await limiter.flush()
    mortal.start()
    assert await limiter.flush()
    found = await limiter.draw((tokens(100),), otherwise="local")
    await connection.close()

    assert isinstance(found, Exceeded)
    assert not limiter.is_lost


async def test_a_replica_without_redis_counts_by_itself():
    limiter = Limiter(None, Keys("test"), "r")
    found = [await limiter.draw((REQUESTS,), otherwise="local") for _ in range(150)]
    drawn = [each for each in found if isinstance(each, Drawn)]
    limiter.settle(drawn[0], None)

    assert len(drawn) == 100
    # What was refused later was asked all the same, and counts.
    assert isinstance(await limiter.draw((REQUESTS,), otherwise="local"), Exceeded)


async def test_meters_of_this_process_are_forgotten_once_they_are_full(monkeypatch):
    monkeypatch.setattr(wissel.store.limits, "MOST_METERS", 10)
    now = 1e9
    limiter = Limiter(None, Keys("test"), "r", wall=lambda: now)
    for at in range(200):
        now += 1
        await limiter.draw((Charge("l", "requests", "header", str(at), 1, 5_000_000, 1),), otherwise="local")

    assert len(limiter._meters) <= 12


@asynccontextmanager
async def full(redis: RedisConnection) -> AsyncIterator[None]:
    """No room, and nothing that could be evicted for it."""
    await redis.run("CONFIG", "SET", "maxmemory", 1)
    try:
        yield
    finally:
        await redis.run("CONFIG", "SET", "maxmemory", 0)


EVERYTHING = (PLACES, REQUESTS, tokens(10), usd(10))


@pytest.mark.parametrize("charges", [EVERYTHING, EVERYTHING[::-1], (REQUESTS,), (PLACES,)])
async def test_a_full_redis_draws_nothing(replicas, redis, charges):
    await replicas[0].draw(charges, otherwise="forbid")
    names = sorted(await redis.run("KEYS", "*limits*"))
    places = [await redis.run("ZCARD", name) for name in names if "concurrent" in name]
    async with full(redis):
        found = [await replicas[at % 3].draw(charges, otherwise="forbid") for at in range(9)]
    again = [await redis.run("ZCARD", name) for name in names if "concurrent" in name]

    assert found == [Unchecked()] * 9
    assert (sorted(await redis.run("KEYS", "*limits*")), again) == (names, places)


async def test_what_a_full_redis_refuses_for_a_limit_is_refused_for_that(replicas, redis):
    for limiter in replicas[:2]:
        await limiter.draw((PLACES,), otherwise="forbid")
    async with full(redis):
        found = await replicas[2].draw((PLACES, REQUESTS), otherwise="permit")

    assert isinstance(found, Exceeded)


@pytest.mark.parametrize("charges", [EVERYTHING, EVERYTHING[::-1], (tokens(10),), (PLACES,)])
async def test_a_full_redis_takes_every_settlement_once(replicas, redis, charges):
    drawn = await replicas[0].draw(charges, otherwise="forbid")
    async with full(redis):
        for limiter in replicas:
            limiter.settle(drawn, Used(500, 5))
            assert await limiter.flush()
    rooms = [await limiter.draw((tokens(500), PLACES), otherwise="forbid") for limiter in replicas]

    is_counted = any(charge.kind == "tokens" for charge in charges)
    assert [isinstance(each, Drawn) for each in rooms] == [True, not is_counted, False]


async def test_places_drawn_and_settled_while_redis_is_full_now_and_then_never_leak(replicas, redis):
    places = Charge("places", "concurrent", "principal", "ada", 4, 0, 1)
    refused = 0
    for at in range(60):
        limiter = replicas[at % 3]
        drawn = await limiter.draw((places, REQUESTS), otherwise="local")
        refused += isinstance(drawn, Exceeded)
        await redis.run("CONFIG", "SET", "maxmemory", at // 3 % 2)
        if isinstance(drawn, Drawn):
            limiter.settle(drawn, Used(1, 1))
        await limiter.flush()
    await redis.run("CONFIG", "SET", "maxmemory", 0)

    assert refused == 0


async def test_a_settlement_that_will_always_be_refused_keeps_no_other_waiting(replicas, redis, keys):
    broken = await replicas[0].draw((tokens(10),), otherwise="forbid")
    place = await replicas[0].draw((PLACES,), otherwise="forbid")
    name = keys.meter(broken.charges[0].key)
    await redis.run("DEL", name)
    await redis.run("SADD", name, "what is not ours")
    for drawn in (broken, place):
        replicas[0].settle(drawn, Used(20, 0))

    assert await replicas[0].flush()
    assert await redis.run("ZCARD", keys.meter(PLACES.key)) == 0


async def test_one_draw_that_redis_refuses_takes_no_other_with_it(replicas, redis, keys):
    broken = tokens(10)
    await redis.run("SADD", keys.meter(broken.key), "what is not ours")
    draws = [replicas[0].draw(charges, otherwise="forbid") for charges in ((REQUESTS,), (broken,), (PLACES,))]
    found = await asyncio.gather(*draws)

    assert [type(each) for each in found] == [Drawn, Unchecked, Drawn]


async def test_no_draw_fails_where_redis_forgets_its_scripts(redis, keys, monkeypatch):
    # It is not about how quick that is, on a machine that is busy with other tests.
    monkeypatch.setattr(wissel.store.limits, "DEADLINE", 20.0)
    limiter = Limiter(redis, keys, "r")
    charge = Charge("per-key", "requests", "principal", "ada", 1000, MINUTE, 1)
    for at in range(30):
        await redis.run("SCRIPT FLUSH")
        found = await asyncio.gather(*(limiter.draw((charge,), otherwise="forbid") for _ in range(3)))

        assert [type(each) for each in found] == [Drawn] * 3, at
    await limiter.close()


async def test_a_settlement_that_a_failing_redis_lost_is_made_again_and_no_other_twice(mortal: RedisServer, keys: Keys):
    connection = RedisConnection(mortal.url, deadline=1)
    limiter = Limiter(connection, keys, "r", retry=0.05)
    lost, kept = [await limiter.draw((PLACES, tokens(10)), otherwise="forbid") for _ in range(2)]
    for drawn in (lost, kept):
        limiter.settle(drawn, Used(110, 0))
    await limiter.flush()
    # As a replica that takes over without the last write has it.
    await connection.run("ZADD", keys.meter(PLACES.key), 10**18, lost.id)
    await connection.run("DEL", keys.settled(lost.id), keys.meter(lost.charges[1].key))
    settling = asyncio.create_task(limiter.run())
    mortal.kill()
    await limiter.draw((REQUESTS,), otherwise="local")
    mortal.start()
    async with asyncio.timeout(10):
        while await _held(connection, keys):  # noqa: ASYNC110  # Redis announces nothing
            await asyncio.sleep(0.02)
    settling.cancel()
    stored = await connection.run("GET", keys.meter(lost.charges[1].key))
    await connection.close()

    assert int(stored.split()[0]) == 100 * MINUTE


async def _held(connection: RedisConnection, keys: Keys) -> int:
    try:
        return await connection.run("ZCARD", keys.meter(PLACES.key))
    except StoreError:
        return -1
