import asyncio

import pytest

from wissel.store.base import Scope, Tallied
from wissel.store.connection import RedisConnection
from wissel.store.counters import _FOLD, ABSENT, FORGOTTEN_AFTER, Counters
from wissel.store.keys import COUNTERS_TTL, Keys
from wissel.store.sums import Vectors

pytestmark = pytest.mark.slow

SCOPE = Scope("chat", "r1", attempt=1, step=2)


@pytest.fixture
def counters(redis: RedisConnection, keys: Keys) -> Counters:
    return Counters(redis, keys, gone_after=0.0)


def served(count: int, *, cost: float = 0.0) -> Vectors:
    each = {"served": {0: count}, "cost_usd.t": {3: cost}, "cost_usd.n": {3: count}}
    return {f"{kind}/canary/{name}": vector for kind in "ck" for name, vector in each.items()}


async def write(counters: Counters, source: str, count: int, *, since: int = ABSENT, upto: int = 1) -> int:
    return await counters.write(SCOPE, source, served(count), since=since, upto=upto)


async def count(counters: Counters, *, closed: bool = True) -> int:
    return (await counters.read(SCOPE, closed=closed)).arm("canary").served


async def test_a_scope_that_nobody_counted_in_is_empty(counters: Counters):
    assert await counters.read(SCOPE) == Tallied()


async def test_the_sum_is_over_all_sources(counters: Counters):
    await write(counters, "a.1.0", 10)
    await write(counters, "b.1.0", 5)
    await write(counters, "a.1.0", 2, since=1, upto=2)

    assert await count(counters) == 17


async def test_a_write_that_is_repeated_changes_nothing(counters: Counters):
    answers = [await write(counters, "a.1.0", 10, upto=3) for _ in range(2)]

    assert (answers, await count(counters)) == ([3, 3], 10)


async def test_a_write_that_comes_late_changes_nothing(counters: Counters):
    await write(counters, "a.1.0", 10, upto=2)
    answer = await write(counters, "a.1.0", 7, upto=1)

    assert (answer, await count(counters)) == (2, 10)


async def test_a_piece_is_not_taken_where_redis_lacks_the_one_before(counters: Counters):
    answer = await write(counters, "a.1.0", 10, since=4, upto=5)

    assert (answer, await count(counters)) == (ABSENT, 0)


async def test_a_sign_of_life_finds_out_what_redis_has(counters: Counters):
    await write(counters, "a.1.0", 10, upto=3)
    answers = [await counters.write(SCOPE, "a.1.0", {}, since=since, upto=since) for since in (3, 4)]

    assert answers == [3, 3]


async def test_what_is_not_closed_is_known_and_no_evidence(counters: Counters):
    pieces: Vectors = {"k/canary/served": {0: 4}, "c/canary/served": {0: 1}}
    await counters.write(SCOPE, "a.1.0", pieces, since=ABSENT, upto=1, still_open=OPEN)

    assert (await count(counters), await count(counters, closed=False)) == (1, 4)


KNOWN: Vectors = {f"k/canary/{name}": {0: n} for name, n in {"begun": 9, "gone": 2, "served": 4, "failed": 3}.items()}
OPEN: Vectors = {"canary/served": {0: 3}, "canary/failed": {0: 3}}


async def test_what_began_and_failed_is_read_without_waiting_for_a_window(counters: Counters):
    pieces = {**KNOWN, "c/canary/served": {0: 1}}
    await counters.write(SCOPE, "a.1.0", pieces, since=ABSENT, upto=1, still_open=OPEN)
    before = (await counters.read(SCOPE)).arm("canary")
    await counters.fold(SCOPE)
    after = (await counters.read(SCOPE)).arm("canary")

    assert (before.served, before.begun, before.failing) == (1, 7, 3)
    assert (after.served, after.begun, after.failing) == (4, 7, 3)


async def test_a_fold_changes_no_sum(counters: Counters):
    await write(counters, "a.1.0", 10)
    await write(counters, "b.1.0", 5)

    folded = await counters.fold(SCOPE)
    assert (folded, await count(counters), await count(counters, closed=False)) == (2, 15, 15)


async def test_a_source_is_folded_once(counters: Counters):
    await counters.write(SCOPE, "a.1.0", served(10), since=ABSENT, upto=1, still_open=OPEN)
    folded = await asyncio.gather(*(counters.fold(SCOPE) for _ in range(5)))

    assert (sum(folded), await count(counters)) == (1, 13)


async def test_of_many_replicas_one_looks_for_the_gone(counters: Counters):
    for name in "abc":
        await write(counters, name, 1)
    folded = [await counters.fold(SCOPE, every=30.0) for _ in range(3)]

    assert folded == [3, 0, 0]


async def test_a_source_that_nobody_knows_is_not_folded(counters: Counters, redis: RedisConnection, keys: Keys):
    names = keys.scope(SCOPE)

    assert await redis.call(_FOLD, [names.sources, names.counts, names.open], ["x", 0, FORGOTTEN_AFTER]) == 0


async def test_a_source_that_was_folded_and_returns_is_not_counted_twice(counters: Counters):
    await counters.write(SCOPE, "a.1.0", KNOWN, since=ABSENT, upto=1, still_open=OPEN)
    await counters.fold(SCOPE)
    closing: Vectors = {"c/canary/served": {0: 3}, "c/canary/failed": {0: 3}}
    await counters.write(SCOPE, "a.1.0", closing, since=1, upto=2)
    arm = (await counters.read(SCOPE)).arm("canary")

    assert (arm.served, arm.failed) == (3, 3)


async def test_a_source_may_be_folded_and_return_again_and_again(counters: Counters):
    await write(counters, "b.1.0", 1)
    for number in range(1, 6):
        await counters.write(SCOPE, "a.1.0", served(10), since=number - 1 or ABSENT, upto=number, still_open=OPEN)
        await counters.fold(SCOPE)

    assert (await count(counters), await count(counters, closed=False)) == (54, 54)


async def test_the_entry_of_a_source_that_was_folded_goes_after_a_day(
    counters: Counters, redis: RedisConnection, keys: Keys
):
    await write(counters, "a.1.0", 10)
    await redis.run("HSET", keys.scope(SCOPE).sources, "a.1.0", "1 5.0 folded")
    await counters.fold(SCOPE)

    assert (await redis.run("HGETALL", keys.scope(SCOPE).sources), await count(counters)) == ({}, 10)


async def test_a_source_that_is_heard_of_is_not_folded(redis: RedisConnection, keys: Keys):
    counters = Counters(redis, keys, gone_after=60.0)
    await write(counters, "a.1.0", 10)

    assert await counters.fold(SCOPE) == 0


async def test_fractions_are_added_to_the_last_digit(counters: Counters):
    costs = [0.1, 0.2, 1e-9, 12345.678901234567]
    for number, cost in enumerate(costs):
        await counters.write(SCOPE, f"{number}.1.0", served(1, cost=cost), since=ABSENT, upto=1)

    assert (await counters.read(SCOPE)).arm("canary").sample("cost_usd").total == pytest.approx(sum(costs), rel=1e-15)


async def test_large_counts_are_added_exactly(counters: Counters):
    await write(counters, "a.1.0", 2**53)
    await write(counters, "b.1.0", 1)

    assert await count(counters) == 2**53 + 1


async def test_a_key_is_counted_once_whoever_met_it(counters: Counters):
    await counters.meet(SCOPE, [("canary", b"ada"), ("stable", b"bob")])
    await counters.meet(SCOPE, [("canary", b"ada"), ("canary", b"\xff\x00")])

    tallied = await counters.read(SCOPE)
    assert (tallied.arm("canary").keys, tallied.arm("stable").keys) == (2, 1)


async def test_steps_are_counted_apart(counters: Counters):
    await write(counters, "a.1.0", 10)

    assert await counters.read(Scope("chat", "r1", attempt=1, step=3)) == Tallied()


async def test_counters_expire(counters: Counters, redis: RedisConnection, keys: Keys):
    await write(counters, "a.1.0", 10)
    await counters.write(SCOPE, "b.1.0", KNOWN, since=ABSENT, upto=1, still_open=OPEN)
    await counters.meet(SCOPE, [("canary", b"ada")])
    names = keys.scope(SCOPE)

    lives = [await redis.run("TTL", name) for name in (names.sources, names.counts, names.keys, names.met, names.open)]
    assert all(COUNTERS_TTL - 60 < left <= COUNTERS_TTL for left in lives)


async def test_all_keys_of_a_scope_lie_in_one_slot(keys: Keys):
    names = keys.scope(Scope("a}b{c", "r:1"))

    tags = {
        name.split("{")[1].split("}")[0]
        for name in (names.sources, names.counts, names.keys, names.met, names.open, names.folding)
    }
    assert tags == {"test/a%7Db%7Bc"}
