"""Which models rest, over several replicas on one real Redis."""

from time import time

import pytest

from real import until
from wissel.core.cooling import Rest
from wissel.core.snapshot import Health
from wissel.store.connection import RedisConnection
from wissel.store.cooling import SharedCooling, running_cooling
from wissel.store.keys import Keys

pytestmark = pytest.mark.slow

HEALTH = Health(failures=2, window=30.0, cooldown=20.0)


def fail(replica: SharedCooling, model: str, *, now: float, times: int = 2) -> None:
    for _ in range(times):
        replica.cooling.attempted(model, "failed", now, HEALTH)


async def test_what_one_replica_met_the_others_know(redis: RedisConnection, keys: Keys):
    now = time()
    one, other = SharedCooling(redis, keys), SharedCooling(redis, keys)
    fail(one, "a", now=now)
    await one.exchange(redis)
    await other.exchange(redis)

    assert other.cooling.resting(now) == {"a": "failing"}
    assert dict(other.cooling.rests) == {"a": Rest("failing", now + HEALTH.cooldown)}


async def test_what_serves_again_is_not_told_to_those_who_come_later(redis: RedisConnection, keys: Keys):
    began = time()
    one, later = SharedCooling(redis, keys), SharedCooling(redis, keys)
    fail(one, "a", now=began)
    await one.exchange(redis)
    one.cooling.attempted("a", "served", began + HEALTH.cooldown, HEALTH)
    await one.exchange(redis)
    await later.exchange(redis)

    assert dict(later.cooling.rests) == {}


async def test_what_was_found_while_redis_was_away_is_told_afterwards(redis: RedisConnection, keys: Keys, server):
    now = time()
    one, other = SharedCooling(redis, keys), SharedCooling(redis, keys)
    fail(one, "a", now=now)
    away = RedisConnection("redis://127.0.0.1:1")
    with pytest.raises(Exception, match=r"127\.0\.0\.1:1"):
        await one.exchange(away)
    await away.close()
    await one.exchange(redis)
    await other.exchange(redis)

    assert other.cooling.resting(now) == {"a": "failing"}


async def test_what_another_version_wrote_is_passed_over(redis: RedisConnection, keys: Keys):
    await redis.run("HSET", keys.resting, "a", "?", "b", f'["asleep", {time() + 60}]', "c", f'["busy", {time() + 60}]')
    replica = SharedCooling(redis, keys)
    await replica.exchange(redis)

    assert replica.cooling.resting(time()) == {"c": "busy"}


async def test_replicas_that_run_know_within_a_second(redis: RedisConnection, keys: Keys, server):
    async with running_cooling(server.url, keys) as one, running_cooling(server.url, keys) as other:
        for _ in range(2):
            one.attempted("a", "failed", time(), HEALTH)
        await until(lambda: other.resting(time()))

        assert other.resting(time()) == {"a": "failing"}


async def test_without_a_redis_a_process_knows_its_own(keys: Keys):
    async with running_cooling(None, keys) as cooling:
        for _ in range(2):
            cooling.attempted("a", "failed", 0.0, HEALTH)

        assert cooling.resting(0.0) == {"a": "failing"}
