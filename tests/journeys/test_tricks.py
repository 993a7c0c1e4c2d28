"""Ways around a budget, each tried through a real Envoy: what a caller is charged is at least what it took.

The upstream counts for itself, with no code of wissel's: a word is a token, and so is a run of marks. It counts what
it has read when it has read it, and what it writes as it writes, seen or not.
"""

import asyncio
import base64
import gzip
import io
import json
import re
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
import yaml
from aiohttp import web

from real import needs_envoy, needs_redis
from wissel.config import load
from wissel.demo.parts import free_port, running_envoy
from wissel.envoy import plan
from wissel.serving.app import running_app
from wissel.store.connection import RedisConnection
from wissel.store.embedded import joined_redis
from wissel.store.keys import Keys

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module"), needs_envoy, needs_redis]

USD = 1_000_000_000
DAY_US = 86_400_000_000
NANO_A_TOKEN = 1000
IMAGE_TOKENS = 1_105
WORDS = "so many words are told to a model that it must read all of them before it says a thing " * 100

Body = dict[str, Any]


def words_of(value: Any) -> int:
    """Tokens of all that a body says, with pictures at their price."""
    if isinstance(value, str) and not value.startswith("data:image/"):
        return len(re.findall(r"\w+|[^\w\s]+", value))
    if isinstance(value, list):
        return sum(map(words_of, value))
    if isinstance(value, dict):
        if "image_url" in value:
            return IMAGE_TOKENS
        if "file_data" in value:
            return words_of(base64.b64decode(value["file_data"]).decode())
        return sum(words_of(each) for name, each in value.items() if name not in {"type", "role", "model"})
    return 0


@dataclass
class Teller:
    """A server of models that keeps its own books."""

    took: Counter[str] = field(default_factory=Counter)
    """Tokens, by caller."""
    asked: Counter[str] = field(default_factory=Counter)
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    """Something was sent, or is being worked on."""

    def application(self) -> web.Application:
        application = web.Application(client_max_size=1 << 26)
        application.router.add_post("/{path:.*}", self.serve)
        return application

    async def serve(self, request: web.Request) -> web.StreamResponse:
        body, who = await request.json(), request.headers["x-who"]
        self.asked[who] += 1
        scene = getattr(self, request.headers["x-scene"])
        read = words_of({name: body[name] for name in SHOWN & body.keys()})
        self.took[who] += read
        return await scene(request, body, who, read)

    # Scenes.

    async def answers(self, _: web.Request, body: Body, who: str, read: int, **more: Any) -> web.StreamResponse:
        wrote = int(body.get("words", 40)) * body.get("n", 1)
        self.took[who] += wrote
        usage = {"prompt_tokens": read, "completion_tokens": wrote, "total_tokens": read + wrote}
        choices = [{"index": 0, "message": {"content": "word " * wrote}, "finish_reason": "stop"}]
        return web.json_response({"model": "m", "choices": choices, "usage": usage, **more})

    async def tells_nothing(self, *told: Any) -> web.StreamResponse:
        return await self.answers(*told, usage=None)

    async def tells_zeros(self, *told: Any) -> web.StreamResponse:
        return await self.answers(*told, usage={"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0})

    async def packs(self, *told: Any) -> web.StreamResponse:
        response = await self.answers(*told)
        assert isinstance(response, web.Response)
        assert isinstance(response.body, bytes)
        headers = {"content-type": "application/json", "content-encoding": "gzip"}
        return web.Response(body=gzip.compress(response.body), headers=headers)

    async def thinks_unseen(self, _: web.Request, body: Body, who: str, read: int) -> web.StreamResponse:
        """What it thought stands beside the completion, and shows in the total alone."""
        self.took[who] += 3000 + 5
        usage = {"prompt_tokens": read, "completion_tokens": 5, "total_tokens": read + 3005}
        return web.json_response({"model": "m", "choices": [{"message": {"content": "yes"}}], "usage": usage})

    async def works(self, _: web.Request, body: Body, who: str, read: int) -> web.StreamResponse:
        """Until whoever asked is gone."""
        self.took[who] += min(900, body.get("max_completion_tokens", 900)) * body.get("n", 1)
        self.begun.set()
        await asyncio.sleep(60)
        return web.Response()

    async def is_slow_at_the_end(self, request: web.Request, body: Body, who: str, read: int) -> web.StreamResponse:
        """Everything is there but the last byte."""
        answer = await self.answers(request, body, who, read)
        assert isinstance(answer, web.Response)
        assert isinstance(answer.body, bytes)
        headers = {"content-type": "application/json", "content-length": str(len(answer.body))}
        response = web.StreamResponse(headers=headers)
        await response.prepare(request)
        await response.write(answer.body[:-1])
        self.begun.set()
        await asyncio.sleep(60)
        return response

    async def draws(self, request: web.Request, body: Body, who: str, read: int) -> web.StreamResponse:
        """A picture of 2 MiB in an event, and how much it was in the same one."""
        self.took[who] += 4200
        usage = {"input_tokens": read, "output_tokens": 4200, "total_tokens": read + 4200}
        picture = {"type": "image_generation_call", "result": "A" * (2 << 20)}
        done = {"object": "response", "status": "completed", "model": "m", "output": [picture], "usage": usage}
        return await self._stream(request, [{"type": "response.completed", "response": done}])

    async def streams(self, request: web.Request, body: Body, who: str, read: int) -> web.StreamResponse:
        wrote = int(body.get("words", 40))
        self.took[who] += wrote
        usage = {"prompt_tokens": read, "completion_tokens": wrote, "total_tokens": read + wrote}
        asked = body.get("stream_options", {}).get("include_usage")
        ending = {"model": "m", "choices": None, "usage": usage}
        return await self._stream(request, [*_spoken(wrote), *([ending] if asked else [])])

    async def streams_without_usage(self, request: web.Request, body: Body, who: str, read: int) -> web.StreamResponse:
        self.took[who] += int(body["words"])
        return await self._stream(request, _spoken(int(body["words"])))

    async def dawdles(self, request: web.Request, body: Body, who: str, read: int) -> web.StreamResponse:
        """Says all that it has to say, and only later what that was."""
        self.took[who] += int(body["words"])
        return await self._stream(request, _spoken(int(body["words"])), then=60)

    async def dies(self, request: web.Request, body: Body, who: str, read: int) -> web.StreamResponse:
        self.took[who] += int(body["words"])
        error = {"error": {"type": "server_error", "message": "out of memory"}}
        return await self._stream(request, [*_spoken(int(body["words"]))[:-1], error])

    async def _stream(self, request: web.Request, events: list[Body], *, then: float = 0) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        with suppress(ConnectionResetError):
            for each in events:
                await response.write(f"data: {json.dumps(each)}\n\n".encode())
            self.begun.set()
            await asyncio.sleep(then)
            await response.write(b"data: [DONE]\n\n")
        return response


SHOWN = {"messages", "tools", "prompt", "input", "response_format"}


def _spoken(words: int) -> list[Body]:
    """In chunks of a hundred."""
    pieces = ["word " * min(100, words - at) for at in range(0, words, 100)]
    told = [{"model": "m", "choices": [{"index": 0, "delta": {"content": piece}}]} for piece in pieces]
    return [*told, {"model": "m", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}]


@dataclass
class Scene:
    url: str
    teller: Teller
    redis: RedisConnection
    keys: Keys

    async def ask(self, who: str, scene: str, asked: Body, *, path: str = "/v1/chat/completions") -> int:
        """The status, once the answer is over."""
        headers = {"authorization": f"Bearer {who}", "x-who": who, "x-scene": scene, "content-type": "application/json"}
        data = io.BytesIO(json.dumps({"model": "m", **asked}).encode())
        async with aiohttp.ClientSession() as session, session.post(self.url + path, data=data, headers=headers) as on:
            await on.read()
            return on.status

    async def ask_and_leave(self, who: str, scene: str, asked: Body, *, pause: float = 0.1, **more: Any) -> None:
        self.teller.begun.clear()
        asking = asyncio.create_task(self.ask(who, scene, asked, **more))
        await self.teller.begun.wait()
        await asyncio.sleep(pause)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)

    async def charged(self, who: str) -> int:
        """Tokens, once nothing is on its way: places and money are settled in one."""
        places = self.keys.meter(("places", "concurrent", "1000/0", "m"))
        for _ in range(200):
            if not await self.redis.run("ZCARD", places):
                break
            await asyncio.sleep(0.05)
        stored = await self.redis.run("GET", self.keys.meter(("purse", "usd", f"{1000 * USD}/{DAY_US}", who)))
        return int(stored.split()[0]) // NANO_A_TOKEN if stored else 0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    home, teller = tmp_path_factory.mktemp("tricks"), Teller()
    async with AsyncExitStack() as stack:
        runner = web.AppRunner(teller.application(), access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        document = {
            "listen": {"ext_proc": f"127.0.0.1:{free_port()}", "admin": f"127.0.0.1:{free_port()}"},
            "redis": "embedded",
            "models": [
                {"name": "m", "cluster": "m", "apis": ["chat", "completions", "responses"],
                 "accepts": ["text", "image", "file"], "price": {"input": 1, "output": 1}},
            ],
            "access": {
                "keys": [{"id": name, "sha256": sha256(name.encode()).hexdigest()} for name in [*TRICKS, *OTHERS]],
                "rules": [{"id": "all", "effect": "permit"}],
                "limits": [
                    {"id": "purse", "per": "principal", "usd": "1000/d"},
                    {"id": "places", "per": "model", "concurrent": 1000},
                ],
            },
            "envoy": {
                "listen": f"127.0.0.1:{free_port()}",
                "admin": f"127.0.0.1:{free_port()}",
                "clusters": [{"name": "m", "address": f"127.0.0.1:{runner.addresses[0][1]}"}],
            },
        }  # fmt: skip
        path = home / "wissel.yaml"
        path.write_text(yaml.safe_dump(document))
        config = load(path)
        await stack.enter_async_context(running_app(path, data=home / "redis", grace=0.0))
        envoy = await stack.enter_async_context(running_envoy(plan(config), home, concurrency=1))
        url = await stack.enter_async_context(joined_redis(home / "redis"))
        redis = RedisConnection(url)
        stack.push_async_callback(redis.close)
        yield Scene(envoy.url, teller, redis, Keys(config.namespace))


def said(content: Any = "hi", **more: Any) -> Body:
    return {"messages": [{"role": "user", "content": content}], **more}


PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "QUJD" * 20_000}}
FILE = {"type": "file", "file": {"filename": "f", "file_data": base64.b64encode(WORDS.encode() * 4).decode()}}
CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": json.dumps({"words": [WORDS] * 3})}}
TOOL = {"type": "function", "function": {"name": "f", "description": WORDS, "parameters": {"enum": WORDS.split()}}}

Trick = Callable[[Scene, str], Awaitable[Any]]

TRICKS: dict[str, Trick] = {
    "an-answer-over-8-MiB": lambda it, who: it.ask(who, "answers", said(words=2_000_000)),
    "an-answer-over-8-MiB-without-usage": lambda it, who: it.ask(who, "tells_nothing", said(words=2_000_000)),
    "a-packed-answer": lambda it, who: it.ask(who, "packs", said(words=300_000)),
    "an-event-over-1-MiB": lambda it, who: it.ask(who, "draws", {"input": WORDS, "stream": True}, path="/v1/responses"),
    "words-in-tools": lambda it, who: it.ask_and_leave(who, "works", said(tools=[TOOL] * 3)),
    "words-in-calls": lambda it, who: it.ask_and_leave(
        who, "works", {"messages": [{"role": "assistant", "tool_calls": [CALL] * 3}]}
    ),
    "words-in-a-schema": lambda it, who: it.ask_and_leave(
        who, "works", said(response_format={"type": "json_schema", "json_schema": {"enum": [WORDS] * 3}})
    ),
    "pictures": lambda it, who: it.ask_and_leave(who, "works", said([PICTURE] * 8)),
    "files": lambda it, who: it.ask_and_leave(who, "works", said([FILE])),
    "nested-prompts": lambda it, who: it.ask_and_leave(who, "works", {"prompt": [[WORDS]]}, path="/v1/completions"),
    "short-words": lambda it, who: it.ask_and_leave(who, "works", said("a b c d " * 5000)),
    "a-long-text": lambda it, who: it.ask_and_leave(who, "works", said("a b c d " * 200_000)),
    "thoughts-unseen": lambda it, who: it.ask(who, "thinks_unseen", said()),
    "leaving-while-it-works": lambda it, who: it.ask_and_leave(who, "works", said(WORDS)),
    "leaving-while-eight-are-made": lambda it, who: it.ask_and_leave(who, "works", said(n=8)),
    "two-limits": lambda it, who: it.ask_and_leave(who, "works", said(max_tokens=1, max_completion_tokens=800)),
    "leaving-at-finish-reason": lambda it, who: it.ask_and_leave(who, "dawdles", said(words=7000, stream=True)),
    "leaving-early-at-finish-reason": lambda it, who: it.ask_and_leave(who, "dawdles", said(words=30, stream=True)),
    "leaving-before-the-last-byte": lambda it, who: it.ask_and_leave(
        who, "is_slow_at_the_end", said(words=2_000_000), pause=2
    ),
    "asking-for-no-usage": lambda it, who: it.ask(
        who, "streams", said(words=7000, stream=True, stream_options={"include_usage": False})
    ),
    "a-server-that-tells-no-usage": lambda it, who: it.ask(
        who, "streams_without_usage", said(words=7000, stream=True, max_tokens=10)
    ),
    "a-usage-of-zeros": lambda it, who: it.ask(who, "tells_zeros", said(WORDS, words=900)),
    "a-stream-that-fails-late": lambda it, who: it.ask(who, "dies", said(WORDS, words=7000, stream=True)),
    "stream-1": lambda it, who: it.ask(who, "streams_without_usage", said(words=7000, stream=1)),
    "stream-true-in-quotes": lambda it, who: it.ask(who, "streams_without_usage", said(words=7000, stream="true")),
}
OTHERS = ("crowd", "fair")


@pytest.mark.parametrize("name", TRICKS)
async def test_a_trick_costs_at_least_what_it_took(scene, name):
    await TRICKS[name](scene, name)
    charged, took = await scene.charged(name), scene.teller.took[name]

    assert charged >= took
    assert took > 0 or not scene.teller.asked[name]


async def test_who_plays_no_trick_pays_what_it_took_to_the_token(scene):
    await scene.ask("fair", "answers", said(WORDS, words=700, tools=[TOOL]))
    await scene.ask("fair", "streams", said(WORDS, words=700, stream=True))

    assert await scene.charged("fair") == scene.teller.took["fair"]


async def test_sixty_at_once_without_a_limit_are_bounded_by_what_is_reserved(scene):
    tokens = scene.keys.meter(("purse", "usd", f"{1000 * USD}/{DAY_US}", "crowd"))
    left = 10_000
    day = int((await scene.redis.run("TIME"))[0]) * 1_000_000 // DAY_US
    await scene.redis.run("SET", tokens, f"{1000 * USD - left * NANO_A_TOKEN} {day}")
    statuses = await asyncio.gather(*(scene.ask("crowd", "answers", said(words=1000)) for _ in range(60)))

    assert Counter(statuses) == {200: left // 1024, 429: 60 - left // 1024}
    assert scene.teller.took["crowd"] <= left
