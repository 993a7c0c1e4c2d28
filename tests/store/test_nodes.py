"""Sentinels and clusters, real ones: what is asked reaches who can answer, also while that changes."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from redis_fleet import Alone, Clustered, Watched
from wissel.core.limits import Charge, Drawn
from wissel.errors import StoreError
from wissel.store.base import Scope
from wissel.store.connection import RedisConnection, Script
from wissel.store.counters import ABSENT, Counters
from wissel.store.feedback import FeedbackStore
from wissel.store.keys import Keys
from wissel.store.limits import Limiter
from wissel.store.recorder import Recorder

pytestmark = pytest.mark.slow

ADD = Script("return redis.call('INCR', KEYS[1])")
TWO = Script("redis.call('INCR', KEYS[2]); return redis.call('INCR', KEYS[1])")


@pytest.fixture(scope="module")
def clustered(redis_binary: str) -> Iterator[Clustered]:
    with Clustered(redis_binary) as fleet:
        yield fleet


@pytest.fixture(scope="module")
def alone(redis_binary: str) -> Iterator[Alone]:
    with Alone(redis_binary) as fleet:
        yield fleet


@pytest.fixture(scope="module")
def watched(redis_binary: str) -> Iterator[Watched]:
    with Watched(redis_binary) as fleet:
        yield fleet


@pytest_asyncio.fixture
async def cluster(clustered: Clustered) -> AsyncIterator[RedisConnection]:
    for node in clustered.nodes:
        node.ask("FLUSHALL")
    connection = RedisConnection(clustered.url)
    yield connection
    await connection.close()


async def test_limits_records_and_counters_lie_with_several_nodes_and_all_are_reached(
    clustered: Clustered, cluster: RedisConnection
):
    keys = Keys("test")
    counters = Counters(cluster, keys)
    scopes = [Scope(f"chat-{number}", "r1") for number in range(6)]
    for scope in scopes:
        await counters.write(scope, "a.1", {"c/canary/served": {0: 3}}, since=ABSENT, upto=1)
    limiter = Limiter(cluster, keys, "r")
    drawn = await limiter.draw((Charge("l", "requests", "principal", "ada", 5, 60_000_000, 1),), otherwise="forbid")
    owners = {clustered.owner(keys.scope(scope).counts).port for scope in scopes}

    assert isinstance(drawn, Drawn)
    assert [(await counters.read(scope)).arm("canary").served for scope in scopes] == [3] * 6
    assert len(owners) >= 2


async def test_many_commands_at_once_are_answered_in_their_order(cluster: RedisConnection):
    await cluster.run_all([("SET", f"k{number}", number) for number in range(50)])

    assert await cluster.run_all([("GET", f"k{number}") for number in range(50)]) == [str(n) for n in range(50)]


async def test_a_slot_that_moves_under_load_costs_no_call_and_counts_none_twice(
    clustered: Clustered, cluster: RedisConnection
):
    names = [f"{{moved}}:{number}" for number in range(20)]
    await cluster.run_all([("SET", name, 0) for name in names])
    is_moving, added = True, dict.fromkeys(names, 0)

    async def load(at: int) -> None:
        while is_moving:
            name, other = names[at % 20], names[(at + 7) % 20]
            await cluster.call(TWO, [name, other], [])
            added[name] += 1
            added[other] += 1
            await cluster.run_all([("GET", name), ("GET", other)], atomic=True)
            at += 1

    loads = [asyncio.create_task(load(at)) for at in range(8)]
    for _ in clustered.move_slot("{moved}:0"):
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)
    is_moving = False
    await asyncio.gather(*loads)
    found = await cluster.run_all([("GET", name) for name in names])

    assert [int(value) for value in found] == list(added.values())


async def test_a_node_that_comes_back_is_asked_again(clustered: Clustered, cluster: RedisConnection):
    node = clustered.owner("{lost}")
    await cluster.call(ADD, ["{lost}"], [])
    node.kill()
    with pytest.raises(StoreError, match=r"away|clusterdown"):
        await cluster.call(ADD, ["{lost}"], [])
    node.start()
    clustered.until_whole()

    assert await cluster.call(ADD, ["{lost}"], []) == 2


@pytest.mark.parametrize("kind", ["alone", "clustered"])
async def test_scripts_run_also_after_every_server_forgot_them(
    kind: str, redis_binary: str, request: pytest.FixtureRequest
):
    fleet: Alone | Clustered = request.getfixturevalue(kind)
    connection = RedisConnection(fleet.url)
    for number in range(3):
        for node in fleet.nodes:
            node.ask("SCRIPT", "FLUSH")
        found = await connection.call_all(ADD, [([f"{{forgotten {name}}}"], []) for name in "abcdef"])

        assert found == [number + 1] * 6
    await connection.close()


async def test_counters_are_exact_after_a_failover_under_load(watched: Watched):
    """What the old primary still took after the new one was chosen is lost with it, and sent again."""
    connection = RedisConnection(watched.url, deadline=0.5)
    keys, scope = Keys("test"), Scope("chat", "r1")
    recorder = Recorder(Counters(connection, keys), FeedbackStore(connection, keys), "a.1", flush_interval=0.02)
    served, is_on = 0, True

    async def known() -> int:
        with contextlib.suppress(StoreError):
            return (await Counters(connection, keys).read(scope)).arm("canary").served
        return 0

    async def load() -> None:
        nonlocal served
        while is_on:
            ticket = recorder.began(scope, "canary", f"key-{served}")
            ticket.ended()
            served += 1
            await asyncio.sleep(0.002)

    tasks = [asyncio.create_task(each) for each in (load(), recorder.run())]
    await asyncio.sleep(0.3)
    await asyncio.to_thread(watched.failover)
    before = served
    # Until all of it has reached the new primary, while more comes.
    async with asyncio.timeout(20):
        while await known() < before:  # noqa: ASYNC110  # nobody announces it
            await asyncio.sleep(0.1)
    is_on = False
    await tasks[0]
    tasks[1].cancel()
    await asyncio.wait(tasks)
    await recorder.close(within=10.0)
    found = (await Counters(connection, keys).read(scope)).arm("canary")
    await connection.close()

    assert (found.served, found.keys) == (served, served)


async def test_a_primary_that_is_killed_is_followed_by_the_one_that_the_sentinels_choose(watched: Watched):
    connection = RedisConnection(watched.url, deadline=0.5)
    await connection.call(ADD, ["a"], [])
    (lost,) = watched.primaries()
    lost.kill()
    async with asyncio.timeout(20):
        while True:
            try:
                await connection.call(ADD, ["b"], [])
                break
            except StoreError:
                await asyncio.sleep(0.1)
    await connection.close()
    lost.start()

    assert watched.primaries() != [lost]


async def test_an_address_that_leads_elsewhere_is_looked_up_anew_and_the_caller_notices_nothing(redis_binary: str):
    """As a Service of Kubernetes does it: open sockets stay with the old primary, which is a replica now."""
    with Alone(redis_binary) as old, Alone(redis_binary) as new:
        target = [old.nodes[0].port]

        async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            there = await asyncio.open_connection("127.0.0.1", target[0])
            await asyncio.gather(_pump(reader, there[1]), _pump(there[0], writer))

        server = await asyncio.start_server(relay, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        connection = RedisConnection(f"redis://127.0.0.1:{port}")
        before = await connection.call(ADD, ["a"], [])
        old.nodes[0].ask("REPLICAOF", "127.0.0.1", new.nodes[0].port)
        target[0] = new.nodes[0].port
        after = await connection.call(ADD, ["b"], []), await connection.run("INCR", "b")
        await connection.close()
        server.close()

    assert (before, after) == (1, (1, 2))


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
    writer.close()
