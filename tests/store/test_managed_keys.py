"""Managed keys on a real Redis."""

import asyncio
from hashlib import sha256

import pytest

from wissel.core.access import Principal
from wissel.store.audit import Audit
from wissel.store.connection import RedisConnection
from wissel.store.managed_keys import ManagedKeys

pytestmark = pytest.mark.slow

TEAM = Principal("team-a", frozenset({"eng"}))


@pytest.fixture
def managed(redis, keys) -> ManagedKeys:
    return ManagedKeys(redis, keys)


def digest(secret: str) -> str:
    return sha256(secret.encode()).hexdigest()


async def test_a_key_is_kept_without_its_secret(managed, redis):
    record, secret = await managed.create(TEAM, by="ada", now=10.0, expires=99.0, metadata={"owner": "bob"})
    everything = str(await redis.run("KEYS", "*"))
    everything += str(await redis.run("HGETALL", "wissel:{test}:api-keys"))
    everything += str(await redis.run("XRANGE", "wissel:{test}:audit", "-", "+"))

    assert secret.startswith(f"wsl-{record.key.id}-")
    assert record.key.sha256 == digest(secret)
    assert await managed.all() == [record]
    assert secret.rpartition("-")[2] not in everything


async def test_a_rotation_makes_a_new_secret_and_keeps_the_old_one_for_a_while(managed):
    record, old = await managed.create(TEAM, by="ada", now=10.0)
    rotated, new = await managed.rotate(record.key.id, by="ada", now=20.0, grace=5.0)

    assert old != new
    assert rotated.key.hashes(24.9) == (digest(new), digest(old))
    assert rotated.key.hashes(25.0) == (digest(new),)
    assert await managed.get(record.key.id) == rotated


async def test_a_revoked_key_is_gone(managed):
    record, _ = await managed.create(TEAM, by="ada", now=10.0)

    assert await managed.revoke(record.key.id, by="ada", reason="leaked")
    assert await managed.all() == []
    assert not await managed.revoke(record.key.id, by="ada", reason="again")
    assert await managed.rotate(record.key.id, by="ada", now=1.0, grace=1.0) is None


async def test_every_change_is_in_the_audit_trail(managed, redis, keys):
    record, _ = await managed.create(TEAM, by="ada", now=10.0)
    await managed.rotate(record.key.id, by="bob", now=20.0, grace=5.0)
    await managed.revoke(record.key.id, by="eve", reason="leaked")
    told = [(each.kind, each.by, each.reason) for each in await Audit(redis, keys).latest(10)]

    assert told == [
        ("revoked", "eve", "leaked"),
        ("rotated", "bob", "the old secret is taken for 5 seconds more"),
        ("created", "ada", "for team-a"),
    ]


async def test_a_change_reaches_who_follows(managed):
    seen: list[set[str]] = []
    following = asyncio.create_task(managed.follow(lambda found: seen.append(set(found)), poll=0.01))
    record, _ = await managed.create(TEAM, by="ada", now=10.0)
    await reached(seen, {record.key.id})
    await managed.revoke(record.key.id, by="ada", reason="")
    await reached(seen, set())
    following.cancel()


async def test_who_follows_survives_a_lost_redis_and_sees_an_empty_one(mortal, keys):
    connection = RedisConnection(mortal.url)
    managed = ManagedKeys(connection, keys)
    record, _ = await managed.create(TEAM, by="ada", now=10.0)
    seen: list[set[str]] = []
    following = asyncio.create_task(managed.follow(lambda found: seen.append(set(found)), poll=0.01))
    await reached(seen, {record.key.id})
    mortal.kill()
    await asyncio.sleep(0.1)
    mortal.start()
    mortal.empty()
    await reached(seen, set())
    following.cancel()
    await connection.close()


async def reached(seen: list[set[str]], state: set[str]) -> None:
    for _ in range(500):
        if seen and seen[-1] == state:
            return
        await asyncio.sleep(0.01)
    pytest.fail(f"{state} was not seen, only {seen}")
