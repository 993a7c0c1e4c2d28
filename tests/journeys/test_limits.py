"""Limits through a real Envoy and a real Redis: what a caller is told, and what it pays in the end."""

import asyncio
import io
import json
import math
from collections.abc import AsyncIterator
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from real import needs_envoy, needs_redis
from wissel.demo.stage import Stage, running_stage
from wissel.demo.upstream import Behaviour
from wissel.store.connection import RedisConnection
from wissel.store.embedded import joined_redis
from wissel.store.keys import Keys

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module"), needs_envoy, needs_redis]

DAY_US = 86_400_000_000
TOKENS = 1_000_000
NAMES = ("payer", "streamer", "leaver", "refused", "busy", "spender", "failing")

DOCUMENT: dict[str, Any] = {
    "redis": "embedded",
    "models": [
        {"name": "m", "cluster": "m", "price": {"input": 1000, "output": 1000}},
        {"name": "dear", "cluster": "m", "price": {"input": 1_000_000, "output": 1_000_000}},
    ],
    "access": {
        "keys": [{"id": name, "sha256": sha256(name.encode()).hexdigest()} for name in NAMES],
        "rules": [{"id": "all", "effect": "permit"}],
        "limits": [
            {"id": "per-key", "per": "principal", "requests": "20/d", "tokens": f"{TOKENS}/d", "concurrent": 2},
            {"id": "budget", "per": "principal", "usd": "50/d"},
        ],
    },
}


@dataclass
class Scene:
    stage: Stage
    redis: RedisConnection

    async def tokens(self, who: str) -> int:
        """What this caller has paid; a million a day melt by one in 86 milliseconds."""
        keys = Keys(self.stage.config.namespace)
        stored = await self.redis.run("GET", keys.meter(("per-key", "tokens", f"{TOKENS}/{DAY_US}", who)))
        return math.ceil(int(stored.split()[0]) / DAY_US) if stored else 0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(tmp_path_factory) -> AsyncIterator[Scene]:
    home = tmp_path_factory.mktemp("limits")
    async with running_stage(DOCUMENT, home) as stage, joined_redis(home / "redis") as url:
        connection = RedisConnection(url)
        yield Scene(stage, connection)
        await connection.close()


def body(model: str = "m", **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "hello " * 50}], **more}


async def ask(scene: Scene, who: str, asked: dict[str, Any]) -> tuple[int, Any, dict[str, str]]:
    headers = {"authorization": f"Bearer {who}"}
    url = f"{scene.stage.envoy.url}/v1/chat/completions"
    async with (
        aiohttp.ClientSession() as session,
        session.post(url, data=io.BytesIO(json.dumps(asked).encode()), headers=headers) as response,
    ):
        text = await response.read()
        answer = json.loads(text) if text.startswith(b"{") else text.decode()
        return response.status, answer, {name.lower(): value for name, value in response.headers.items()}


async def settled(scene: Scene, who: str, expected: int) -> int:
    for _ in range(100):
        if abs((found := await scene.tokens(who)) - expected) <= 2:
            return expected
        await asyncio.sleep(0.05)
    return found


async def test_an_answer_settles_to_what_the_model_counted(scene):
    _, answer, _ = await ask(scene, "payer", body(max_tokens=50_000))
    total = answer["usage"]["total_tokens"]

    assert await settled(scene, "payer", total) == total


async def test_a_stream_settles_to_what_the_model_counted(scene):
    asked = body(max_tokens=50_000, stream=True, stream_options={"include_usage": True})
    _, text, _ = await ask(scene, "streamer", asked)
    events = [json.loads(line.removeprefix("data: ")) for line in text.splitlines() if line.startswith("data: {")]
    total = next(event["usage"]["total_tokens"] for event in events if event.get("usage"))

    assert await settled(scene, "streamer", total) == total


async def test_hanging_up_before_the_count_arrives_buys_nothing(scene):
    scene.stage.upstreams["m"].behaviour = Behaviour(event_gap=0.2)
    url = f"{scene.stage.envoy.url}/v1/chat/completions"
    async with aiohttp.ClientSession() as session:
        data = io.BytesIO(json.dumps(body(stream=True)).encode())
        async with session.post(url, data=data, headers={"authorization": "Bearer leaver"}) as response:
            await response.content.readline()
    scene.stage.upstreams["m"].behaviour = Behaviour()
    # Three hundred bytes of prompt are 75 tokens by the estimate, and for the answer the default is reserved.
    await asyncio.sleep(0.5)

    assert await settled(scene, "leaver", 75 + 1024) == 75 + 1024


async def test_a_request_that_never_went_on_costs_no_tokens_and_counts_as_one(scene):
    parts = [{"type": "image_url", "image_url": {"url": "data:,"}}]
    statuses = [
        (await ask(scene, "refused", {"model": "m", "messages": [{"role": "user", "content": parts}]}))[0]
        for _ in range(22)
    ]

    assert statuses == [400] * 20 + [429] * 2
    assert await settled(scene, "refused", 0) == 0


async def test_a_limit_that_is_used_up_is_429_and_says_which_and_when(scene):
    answers = [await ask(scene, "busy", body()) for _ in range(22)]
    status, answer, headers = answers[-1]

    assert [each[0] for each in answers] == [200] * 20 + [429] * 2
    assert (status, answer["error"]["code"]) == (429, "rate_limit_exceeded")
    assert answer["error"]["message"].startswith('limit "per-key": 20 requests in one day for the principal "busy"')
    assert 4000 < int(headers["retry-after"]) <= 4320
    assert (headers["x-ratelimit-limit-requests"], headers["x-ratelimit-remaining-requests"]) == ("20", "0")


async def test_a_budget_is_used_up_by_what_answers_cost(scene):
    statuses = [(await ask(scene, "spender", body("dear")))[0] for _ in range(1)]
    for _ in range(100):
        statuses.append((await ask(scene, "spender", body("m")))[0])
        if statuses[-1] == 429:
            break
        await asyncio.sleep(0.1)
    _, answer, _ = await ask(scene, "spender", body("m"))

    assert statuses[0] == 200
    assert answer["error"]["code"] == "budget_exceeded"
    assert '50 USD in one day for the principal "spender"' in answer["error"]["message"]


async def test_a_failure_of_the_model_costs_no_tokens(scene):
    scene.stage.upstreams["m"].behaviour = Behaviour(error_rate=1.0)
    status, _, _ = await ask(scene, "failing", body(max_tokens=50_000))
    scene.stage.upstreams["m"].behaviour = Behaviour()

    assert status == 500
    assert await settled(scene, "failing", 0) == 0
