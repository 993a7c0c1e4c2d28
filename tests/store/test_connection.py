import asyncio
import time

import pytest

from redis_server import RedisServer
from wissel.errors import StoreError
from wissel.store.connection import RedisConnection, Script


def test_a_url_that_is_none_is_told():
    with pytest.raises(StoreError, match="redis"):
        RedisConnection("http://localhost")


async def test_a_refused_connection_is_told_without_the_password():
    connection = RedisConnection("redis://:hunter2@127.0.0.1:1/0")

    with pytest.raises(StoreError, match="PING") as raised:
        await connection.run("PING")
    assert "hunter2" not in str(raised.value)


@pytest.mark.slow
async def test_many_calls_at_once_share_the_connections(redis: RedisConnection):
    answers = await asyncio.gather(*(redis.run("INCR", "calls") for _ in range(1000)))

    assert sorted(answers) == list(range(1, 1001))


@pytest.mark.slow
async def test_redis_refusing_a_command_is_told(redis: RedisConnection):
    await redis.run("SET", "text", "x")

    with pytest.raises(StoreError, match="WRONGTYPE"):
        await redis.run("HGETALL", "text")


@pytest.mark.slow
async def test_a_call_ends_at_its_deadline(mortal: RedisServer):
    connection = RedisConnection(mortal.url, deadline=0.2)
    mortal.freeze(seconds=5)
    began = time.monotonic()

    with pytest.raises(StoreError, match="not answered in time"):
        await connection.run("SET", "a", "b")
    await connection.close()
    assert time.monotonic() - began < 2


@pytest.mark.slow
async def test_an_answer_that_comes_too_late_is_not_taken_for_the_next_one(mortal: RedisServer):
    connection = RedisConnection(mortal.url, deadline=0.2)
    mortal.freeze(seconds=0.5)
    with pytest.raises(StoreError):
        await connection.run("INCR", "late")
    time.sleep(0.5)  # noqa: ASYNC251  # nothing else runs here

    answer = await connection.run("ECHO", "mine")
    await connection.close()
    assert answer == "mine"


@pytest.mark.slow
async def test_a_script_runs_also_after_redis_forgot_it(redis: RedisConnection):
    script = Script("return ARGV[1]")
    await redis.call(script, [], ["before"])
    await redis.run("SCRIPT FLUSH")

    assert await redis.call(script, [], ["after"]) == "after"
