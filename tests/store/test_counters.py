import asyncio

import pytest

from wissel.store.base import Scope, Tallied
from wissel.store.connection import RedisConnection
from wissel.store.counters import _FOLD, Counters
from wissel.store.keys import COUNTERS_TTL, Keys

pytestmark = pytest.mark.slow

SCOPE = Scope("chat", "r1", attempt=1, step=2)


@pytest.fixture
def counters(redis: RedisConnection, keys: Keys) -> Counters:
    return Counters(redis, keys, gone_after=0.0)


def served(count: int, *, cost: float = 0.0) -> dict[str, str]:
    return {
        "c/canary/served": f"0:{count}",
        "k/canary/served": f"0:{count}",
        "k/canary/cost_usd.t": f"3:{cost!r}",
        "c/canary/cost_usd.t": f"3:{cost!r}",
        "c/canary/cost_usd.n": f"3:{count}",
        "k/canary/cost_usd.n": f"3:{count}",
    }


async def write(counters: Counters, source: str, sequence: int, count: int, *, confirmed: int | None = None) -> str:
    return await counters.write(SCOPE, source, sequence, served(count), confirmed=confirmed)


async def count(counters: Counters, *, closed: bool = True) -> int:
    return (await counters.read(SCOPE, closed=closed)).arm("canary").served


async def test_a_scope_that_nobody_counted_in_is_empty(counters: Counters):
    assert await counters.read(SCOPE) == Tallied()


async def test_the_sum_is_over_all_sources(counters: Counters):
    await write(counters, "a.1.0", 1, 10)
    await write(counters, "b.1.0", 1, 5)

    assert await count(counters) == 15


async def test_a_write_that_is_repeated_changes_nothing(counters: Counters):
    await write(counters, "a.1.0", 1, 10)
    await write(counters, "a.1.0", 1, 10)

    assert await count(counters) == 10


async def test_a_write_that_comes_late_decreases_nothing(counters: Counters):
    await write(counters, "a.1.0", 2, 10)
    await write(counters, "a.1.0", 1, 7)

    assert await count(counters) == 10


async def test_a_part_is_not_taken_where_redis_lost_what_it_builds_on(counters: Counters):
    answer = await write(counters, "a.1.0", 5, 10, confirmed=4)

    assert (answer, await count(counters)) == ("behind", 0)


async def test_a_sign_of_life_finds_out_that_redis_lost_what_it_had(counters: Counters):
    answer = await counters.write(SCOPE, "a.1.0", 4, {}, confirmed=4)

    assert answer == "behind"


async def test_everything_is_taken_whatever_redis_has(counters: Counters):
    await write(counters, "a.1.0", 5, 10, confirmed=None)

    assert await count(counters) == 10


async def test_what_is_not_closed_is_known_and_no_evidence(counters: Counters):
    await counters.write(SCOPE, "a.1.0", 1, {"k/canary/served": "0:4", "c/canary/served": "0:1"}, confirmed=None)

    assert (await count(counters), await count(counters, closed=False)) == (1, 4)


async def test_what_began_and_failed_is_read_without_waiting_for_a_window(counters: Counters):
    known = {"k/canary/begun": "0:9", "k/canary/gone": "0:2", "k/canary/served": "0:4", "k/canary/failed": "0:3"}
    await counters.write(SCOPE, "a.1.0", 1, {**known, "c/canary/served": "0:1"}, confirmed=None)
    before = (await counters.read(SCOPE)).arm("canary")
    await counters.fold(SCOPE)
    after = (await counters.read(SCOPE)).arm("canary")

    assert (before.served, before.begun, before.failing) == (1, 7, 3)
    assert (after.served, after.begun, after.failing) == (4, 7, 3)


async def test_a_fold_changes_no_sum(counters: Counters):
    await write(counters, "a.1.0", 1, 10)
    await write(counters, "b.1.0", 1, 5)

    folded = await counters.fold(SCOPE)
    assert (folded, await count(counters), await count(counters, closed=False)) == (2, 15, 15)


async def test_a_source_is_folded_once(counters: Counters):
    await write(counters, "a.1.0", 1, 10)
    folded = await asyncio.gather(*(counters.fold(SCOPE) for _ in range(5)))

    assert (sum(folded), await count(counters)) == (1, 10)


async def test_of_two_who_fold_the_same_source_only_one_does(counters: Counters, redis: RedisConnection, keys: Keys):
    await write(counters, "a.1.0", 1, 10)
    names = keys.scope(SCOPE)
    folding = [names.sources, names.total, names.source("a.1.0")]

    folded = [await redis.call(_FOLD, folding, ["a.1.0", 0, COUNTERS_TTL]) for _ in range(2)]
    assert (folded, await count(counters)) == ([1, 0], 10)


async def test_a_source_that_nobody_knows_is_not_folded(counters: Counters, redis: RedisConnection, keys: Keys):
    names = keys.scope(SCOPE)

    assert await redis.call(_FOLD, [names.sources, names.total, names.source("x")], ["x", 0, COUNTERS_TTL]) == 0


async def test_what_a_dead_source_knew_is_evidence_once_it_is_folded(counters: Counters):
    await counters.write(SCOPE, "a.1.0", 1, {"k/canary/served": "0:4", "c/canary/served": "0:1"}, confirmed=None)
    await counters.fold(SCOPE)

    assert await count(counters) == 4


async def test_a_source_that_was_folded_and_returns_is_not_counted_twice(counters: Counters):
    await write(counters, "a.1.0", 1, 10)
    await counters.fold(SCOPE)
    await write(counters, "a.1.0", 2, 12, confirmed=1)

    assert (await count(counters), await count(counters, closed=False)) == (12, 12)


async def test_a_source_may_be_folded_and_return_again_and_again(counters: Counters):
    await write(counters, "b.1.0", 1, 1)
    for sequence in range(1, 6):
        await write(counters, "a.1.0", sequence, 10 * sequence, confirmed=sequence - 1 or None)
        await counters.fold(SCOPE)

    assert await count(counters) == 51


async def test_a_folded_source_may_expire(counters: Counters, redis: RedisConnection, keys: Keys):
    await write(counters, "a.1.0", 1, 10)
    await counters.fold(SCOPE)
    await redis.run("DEL", keys.scope(SCOPE).source("a.1.0"))

    assert await count(counters) == 10


async def test_a_source_that_returns_after_that_must_go_on_as_another(
    counters: Counters, redis: RedisConnection, keys: Keys
):
    await write(counters, "a.1.0", 1, 10)
    await counters.fold(SCOPE)
    await redis.run("DEL", keys.scope(SCOPE).source("a.1.0"))

    answer = await write(counters, "a.1.0", 2, 12, confirmed=1)
    assert (answer, await count(counters)) == ("forgotten", 10)


async def test_a_source_that_is_heard_of_is_not_folded(redis: RedisConnection, keys: Keys):
    counters = Counters(redis, keys, gone_after=60.0)
    await write(counters, "a.1.0", 1, 10)

    assert await counters.fold(SCOPE) == 0


async def test_fractions_are_added_to_the_last_digit(counters: Counters):
    costs = [0.1, 0.2, 1e-9, 12345.678901234567]
    for number, cost in enumerate(costs):
        await counters.write(SCOPE, f"{number}.1.0", 1, served(1, cost=cost), confirmed=None)
    await counters.fold(SCOPE)

    assert (await counters.read(SCOPE)).arm("canary").sample("cost_usd").total == pytest.approx(sum(costs), rel=1e-15)


async def test_large_counts_are_added_exactly(counters: Counters):
    await write(counters, "a.1.0", 1, 2**52)
    await write(counters, "b.1.0", 1, 1)
    await counters.fold(SCOPE)

    assert await count(counters) == 2**52 + 1


async def test_a_key_is_counted_once_whoever_met_it(counters: Counters):
    await counters.meet(SCOPE, [("canary", b"ada"), ("stable", b"bob")])
    await counters.meet(SCOPE, [("canary", b"ada"), ("canary", b"\xff\x00")])

    tallied = await counters.read(SCOPE)
    assert (tallied.arm("canary").keys, tallied.arm("stable").keys) == (2, 1)


async def test_steps_are_counted_apart(counters: Counters):
    await write(counters, "a.1.0", 1, 10)

    assert await counters.read(Scope("chat", "r1", attempt=1, step=3)) == Tallied()


async def test_reading_while_sources_are_folded_sees_the_same_sum(counters: Counters):
    for number in range(20):
        await write(counters, f"{number}.1.0", 1, 1)

    async def look() -> set[int]:
        return {await count(counters) for _ in range(20)}

    one, _, other = await asyncio.gather(look(), counters.fold(SCOPE), look())
    assert one | other == {20}


async def test_counters_expire(counters: Counters, redis: RedisConnection, keys: Keys):
    await write(counters, "a.1.0", 1, 10)
    await counters.meet(SCOPE, [("canary", b"ada")])
    await counters.fold(SCOPE)
    names = keys.scope(SCOPE)

    lives = [
        await redis.run("TTL", name)
        for name in (names.sources, names.total, names.keys, names.met, names.source("a.1.0"))
    ]
    assert all(COUNTERS_TTL - 60 < left <= COUNTERS_TTL for left in lives)


async def test_all_keys_of_a_scope_lie_in_one_slot(keys: Keys):
    names = keys.scope(Scope("a}b{c", "r:1"))

    tags = {
        name.split("{")[1].split("}")[0]
        for name in (names.sources, names.total, names.keys, names.met, names.source("x"))
    }
    assert tags == {"test/a%7Db%7Bc"}
