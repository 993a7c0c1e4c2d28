"""What goes on when a part is killed: Redis under load behind a real Envoy, and the replica that controls a rollout."""

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic, perf_counter
from typing import Any

import aiohttp
import pytest
import yaml

from real import needs_envoy, needs_redis
from redis_server import RedisServer
from sampling import IS_WHOLE
from wissel.core.rollouts.rollout import Rollout
from wissel.demo.parts import free_port
from wissel.demo.stage import Stage, running_stage
from wissel.runtime.child import running
from wissel.store.audit import Audit
from wissel.store.base import Record, Scope
from wissel.store.connection import RedisConnection
from wissel.store.counters import Counters
from wissel.store.keys import Keys
from wissel.store.records import Records

pytestmark = [pytest.mark.slow, needs_redis]

SECONDS_AWAY = 10.0 if IS_WHOLE else 3.0

MODELS = [{"name": name, "cluster": name} for name in ("old", "new")]


async def ask(stage: Stage, session: aiohttp.ClientSession) -> int:
    body = {"model": "ab", "messages": [{"role": "user", "content": "hi"}]}
    async with session.post(f"{stage.envoy.url}/v1/chat/completions", json=body) as response:
        await response.read()
        return response.status


@needs_envoy
@pytest.mark.timeout(120)
async def test_with_redis_killed_under_load_requests_flow_and_every_one_is_counted_once(
    mortal: RedisServer, tmp_path: Path
):
    document: dict[str, Any] = {
        "redis": mortal.url,
        "models": MODELS,
        "splits": [{"name": "ab", "key": ["request"], "variants": [
            {"model": "old", "weight": 70}, {"model": "new", "weight": 30},
        ]}],
    }  # fmt: skip
    statuses: list[int] = []
    slowest = 0.0

    async with running_stage(document, tmp_path) as stage, aiohttp.ClientSession() as session:

        async def load(seconds: float) -> None:
            nonlocal slowest
            ends = monotonic() + seconds
            while monotonic() < ends:
                began = perf_counter()
                statuses.extend(await asyncio.gather(*(ask(stage, session) for _ in range(3))))
                slowest = max(slowest, perf_counter() - began)
                await asyncio.sleep(0.02)

        await load(1.0)
        mortal.kill()
        away_from = len(statuses)
        await load(SECONDS_AWAY)
        while_away = len(statuses) - away_from
        mortal.start()
        await load(1.0)
        served = {name: upstream.served for name, upstream in stage.upstreams.items()}
        connection, keys = RedisConnection(mortal.url), Keys(stage.config.namespace)
        counted = await settled(Counters(connection, keys), await scope_of(connection), sum(served.values()))
        await connection.close()

    assert set(statuses) == {200}
    assert while_away > 50
    assert slowest < 2.0
    assert counted == served
    assert sum(counted.values()) == len(statuses)


async def scope_of(connection: RedisConnection) -> Scope:
    """The only one that anything was counted in: `wissel:{NS/ab}:REVISION:ATTEMPT:STEP:pieces`."""
    async with asyncio.timeout(15):
        while not (found := await connection.run("KEYS", "wissel:*/ab}:*:pieces")):  # noqa: ASYNC110  # it flushes when it can
            await asyncio.sleep(0.1)
    (name,) = found
    revision, attempt, step, _ = name.rpartition("}:")[2].split(":")
    return Scope("ab", revision, int(attempt), int(step))


async def settled(counters: Counters, scope: Scope, expected: int) -> dict[str, int]:
    """What the arms were counted for, once all is there and three more flushes have added nothing."""

    async def counted() -> dict[str, int]:
        return {name: arm.served for name, arm in (await counters.read(scope, closed=False)).arms.items()}

    async with asyncio.timeout(20):
        while sum((await counted()).values()) < expected:  # noqa: ASYNC110  # it flushes when it can
            await asyncio.sleep(0.1)
    await asyncio.sleep(3.0)
    return await counted()


# The replica that controls.

STEPS = [
    {"set_weight": 10}, {"pause": {}},
    {"set_weight": 20}, {"pause": {"duration": "3s"}},
    {"set_weight": 50}, {"pause": {}},
]  # fmt: skip


@asynccontextmanager
async def replica(home: Path, redis: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """A whole `wissel serve`, ready, and the URL of its admin."""
    listen = {"ext_proc": f"127.0.0.1:{free_port()}", "admin": f"127.0.0.1:{free_port()}"}
    rollout = {"name": "chat", "stable": "old", "canary": "new", "steps": STEPS}
    path = written(home, {"redis": redis, "listen": listen, "models": MODELS, "rollouts": [rollout]})
    command = [sys.executable, "-m", "wissel", "serve", "--config", str(path), "--data", str(home)]
    admin = f"http://{listen['admin']}"
    async with (
        aiohttp.ClientSession() as session,
        running(command, log=home / "log", ready=lambda: is_ready(session, f"{admin}/readyz")) as one,
    ):
        yield one, admin


def written(home: Path, document: Any) -> Path:
    home.mkdir()
    path = home / "wissel.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


async def is_ready(session: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with session.get(url) as response:
            return response.status == 200
    except aiohttp.ClientError:
        return False


async def until(ready: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(30):
        while not await ready():  # noqa: ASYNC110  # nobody announces it
            await asyncio.sleep(0.02)


async def test_a_replica_killed_in_the_middle_of_a_step_is_followed_by_another_from_the_same_state(
    mortal: RedisServer, tmp_path: Path
):
    connection, keys = RedisConnection(mortal.url), Keys("default")
    records = Records(connection, keys)

    async def rollout() -> Rollout | None:
        found = await records.get("chat")
        return found.rollout if isinstance(found, Record) else None

    async def is_at(weight: int) -> bool:
        found = await rollout()
        return found is not None and found.weight == weight

    async with replica(tmp_path / "a", mortal.url) as (first, admin):
        await until(lambda: is_at(10))
        # It has the lease, and will have it as long as it lives.
        async with replica(tmp_path / "b", mortal.url) as (second, _), aiohttp.ClientSession(admin) as session:
            await session.post("/v1/rollouts/chat/promote", json={"by": "ada"})
            await until(lambda: is_at(20))
            before = await rollout()
            first.kill()
            await first.wait()
            await until(lambda: is_at(50))
            still_serves = second.returncode is None
    after = await rollout()
    told = [(entry.kind, entry.detail["weight"]) for entry in reversed(await Audit(connection, keys).latest(10))]
    await connection.close()

    assert before is not None
    assert after is not None
    assert (before.step, after.step, before.attempt, after.attempt) == (3, 5, 1, 1)
    assert still_serves
    assert told == [
        ("started", 0), ("weight_set", 10), ("paused", 10), ("step_promoted", 10),
        ("weight_set", 20), ("weight_set", 50), ("paused", 50),
    ]  # fmt: skip
