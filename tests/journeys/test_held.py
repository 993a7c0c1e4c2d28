"""A model that begins and then says nothing, or an error first, is followed by the next, through a real Envoy.

The callers are the official clients, and see one clean answer.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import Any

import aiohttp
import anthropic
import openai
import pytest
import pytest_asyncio
import yaml
from aiohttp import web
from aiohttp.test_utils import TestServer

from real import needs_envoy
from wissel.apis.simulated import Answer
from wissel.apis.table import APIS, PATHS
from wissel.config import load
from wissel.demo.parts import EnvoyProcess, free_port, running_envoy
from wissel.envoy import plan
from wissel.serving.app import running_app

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module"), needs_envoy]

FIRST_TOKEN = 0.4
SPOKEN = ("chat", "messages", "responses")
ERRORS = {
    "chat": b'data: {"error": {"message": "a is overloaded", "code": 503}}\n\n',
    "messages": b'event: error\ndata: {"type": "error", "error": {"type": "overloaded_error", "message": "a"}}\n\n',
    "responses": b'event: error\ndata: {"type": "error", "code": "server_error", "message": "a"}\n\n',
}
SILENT_EVENTS = {"chat": 1, "messages": 1, "responses": 2}
"""How many events of a stream come before its first word."""


@dataclass
class Server:
    """One model's server, which speaks three APIs and fails in the way that its script says."""

    name: str
    fails: str = ""
    seen: list[str] = field(default_factory=list[str])

    async def answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        asked = json.loads(body)
        self.seen.append(asked["model"])
        api = PATHS[request.path]
        question = "simulate: refusal" if self.fails == "refusal" else "hello"
        answer = Answer(self.name, 1, asked, question, 1)
        return await (self._stream if asked.get("stream") else self._whole)(request, api.name, answer)

    async def _whole(self, request: web.Request, api: str, answer: Answer) -> web.StreamResponse:
        body = json.dumps(APIS[api].simulation.whole(answer)).encode()
        response = web.StreamResponse(headers={"content-type": "application/json"})
        if self.fails == "error":
            body = b'{"type": "error", "error": {"type": "api_error", "message": "a fails"}}'
        await response.prepare(request)
        if self.fails == "silent":
            await asyncio.sleep(5)
        await response.write(body)
        return response

    async def _stream(self, request: web.Request, api: str, answer: Answer) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        simulated = APIS[api].simulation.events
        assert simulated is not None
        for at, event in enumerate(simulated(answer)):
            if self.fails == "refusal" and b"content_block" in event:
                continue  # Anthropic's refusals may come after words, and this one shall not
            if self.fails in {"silent", "error", "reset", "ended"} and at == SILENT_EVENTS[api]:
                return await self._fail(request, response, api)
            await response.write(event)
        return response

    async def _fail(self, request: web.Request, response: web.StreamResponse, api: str) -> web.StreamResponse:
        match self.fails:
            case "silent":
                await asyncio.sleep(5)
            case "reset":
                await asyncio.sleep(0.01)
                assert request.transport is not None
                request.transport.abort()
            case "error":
                await response.write(ERRORS[api])
            case _:
                pass
        return response


@dataclass
class Stage:
    envoy: EnvoyProcess
    servers: dict[str, Server]

    def fail(self, **ways: str) -> None:
        for name, server in self.servers.items():
            server.fails = ways.get(name, "")
            server.seen.clear()

    @property
    def asked(self) -> list[str]:
        return [name for name, server in self.servers.items() for _ in server.seen]

    async def say(self, api: str, *, stream: bool, model: str = "first") -> str:
        """What the official client of the API makes of the answer."""
        asked: Any = {"model": model, "messages": [{"role": "user", "content": "hello"}]}
        claude: Any = anthropic.AsyncAnthropic(api_key="any", base_url=self.envoy.url, max_retries=0)
        client: Any = openai.AsyncOpenAI(api_key="any", base_url=f"{self.envoy.url}/v1", max_retries=0)
        async with claude, client:
            match api, stream:
                case "messages", False:
                    message = await claude.messages.create(**asked, max_tokens=9)
                    return "".join(block.text for block in message.content if block.type == "text")
                case "messages", True:
                    async with claude.messages.stream(**asked, max_tokens=9) as events:
                        return await events.get_final_text()
                case "responses", False:
                    return (await client.responses.create(model=model, input="hello")).output_text
                case "responses", True:
                    async with client.responses.stream(model=model, input="hello") as events:
                        return (await events.get_final_response()).output_text
                case _, False:
                    return (await client.chat.completions.create(**asked)).choices[0].message.content or ""
                case _:
                    async with client.chat.completions.stream(**asked) as chunks:
                        return (await chunks.get_final_completion()).choices[0].message.content or ""


def document(addresses: dict[str, str]) -> dict[str, Any]:
    def model(name: str, cluster: str, **more: Any) -> dict[str, Any]:
        return {"name": name, "cluster": cluster, "apis": ["chat", "messages", "responses"], **more}

    patience = {"first_token": f"{round(FIRST_TOKEN * 1000)}ms"}
    return {
        "listen": {"ext_proc": f"127.0.0.1:{free_port()}", "admin": f"127.0.0.1:{free_port()}"},
        "models": [
            model("first", "a", fallbacks=["second"], timeouts=patience),
            model("second", "b"),
            model("alone", "a"),
        ],
        "failover": {"first_token": "held", "on_refusal": True},
        "health": {"failures": 64, "window": "1s"},
        "envoy": {
            "listen": f"127.0.0.1:{free_port()}",
            "admin": f"127.0.0.1:{free_port()}",
            "clusters": [{"name": name, "address": address} for name, address in addresses.items()],
        },
    }


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["BUFFERED", "FULL_DUPLEX_STREAMED"])
async def stage(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    home = tmp_path_factory.mktemp("held")
    servers = {name: Server(name) for name in "ab"}
    running: list[TestServer] = []
    for server in servers.values():
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", server.answer)
        running.append(TestServer(application))
        await running[-1].start_server()
    addresses = {name: each.make_url("").authority for name, each in zip(servers, running, strict=True)}
    path = home / "wissel.yaml"
    path.write_text(yaml.safe_dump(document(addresses)))
    bootstrap = replace(plan(load(path)), request_body_mode=request.param)
    if request.param != "BUFFERED":
        bootstrap = replace(bootstrap, response_body_mode="STREAMED")
    async with running_app(path, data=home, grace=0.0), running_envoy(bootstrap, home) as envoy:
        yield Stage(envoy, servers)
    for each in running:
        await each.close()


@pytest.mark.parametrize("api", SPOKEN)
@pytest.mark.parametrize("failure", ["silent", "error", "reset", "ended", "refusal"])
async def test_a_stream_that_fails_before_its_first_word_is_followed_by_the_next(stage: Stage, api: str, failure: str):
    stage.fail(a=failure)
    text = await stage.say(api, stream=True)

    assert ("on b." in text, stage.asked) == (True, ["a", "b"])


@pytest.mark.parametrize("api", SPOKEN)
@pytest.mark.parametrize("failure", ["silent", "error", "refusal"])
async def test_a_whole_answer_that_fails_is_followed_by_the_next(stage: Stage, api: str, failure: str):
    stage.fail(a=failure)
    text = await stage.say(api, stream=False)

    assert ("on b." in text, stage.asked) == (True, ["a", "b"])


@pytest.mark.parametrize("api", SPOKEN)
@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_that_says_something_comes_from_the_first(stage: Stage, api: str, stream: bool):
    stage.fail()
    text = await stage.say(api, stream=stream)

    assert ("on a." in text, stage.asked) == (True, ["a"])


@pytest.mark.parametrize("failure", ["silent", "error"])
async def test_the_next_answers_within_a_tenth_of_a_second_of_the_time_for_the_first_token(stage: Stage, failure: str):
    took: list[float] = []
    for _ in range(3):
        stage.fail(a=failure)
        began = perf_counter()
        await stage.say("chat", stream=True)
        took.append(perf_counter() - began)
    stage.fail()
    began = perf_counter()
    await stage.say("chat", stream=True)
    unfailed = perf_counter() - began

    assert min(took) - unfailed < FIRST_TOKEN * (failure == "silent") + 0.1


async def test_the_last_models_own_answer_reaches_the_caller_byte_for_byte(stage: Stage):
    stage.fail(a="error", b="error")
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{stage.envoy.url}/v1/chat/completions", json={"model": "first", "stream": True, "messages": [
            {"role": "user", "content": "hello"}]}) as response,
    ):  # fmt: skip
        text = await response.read()

    assert (response.status, text.endswith(ERRORS["chat"]), stage.asked) == (200, True, ["a", "b"])


async def test_a_model_without_fallbacks_is_not_held(stage: Stage):
    stage.fail(a="error")
    with pytest.raises(openai.APIError):
        await stage.say("chat", stream=True, model="alone")

    assert stage.asked == ["a"]
