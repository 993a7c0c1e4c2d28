"""A model that keeps failing is left alone for a while, through a real Envoy, and callers notice nothing."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from time import time
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
import yaml
from aiohttp import web
from aiohttp.test_utils import TestServer

from real import needs_envoy, until
from wissel.config import load
from wissel.demo.parts import EnvoyProcess, free_port, running_envoy
from wissel.envoy import plan
from wissel.serving.app import App, running_app

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module"), needs_envoy]

COOLDOWN = 1.0


class Server:
    """One model's server."""

    def __init__(self) -> None:
        self.asked = 0
        self.status = 200
        self.headers: dict[str, str] = {}

    async def answer(self, request: web.Request) -> web.Response:
        await request.read()
        self.asked += 1
        return web.json_response({"choices": []}, status=self.status, headers=self.headers)


class Stage:
    def __init__(self, app: App, envoy: EnvoyProcess, first: Server, second: Server) -> None:
        self.app, self.envoy, self.first, self.second = app, envoy, first, second

    async def ask(self, model: str) -> tuple[int, str, str]:
        body = {"model": model, "messages": [{"role": "user", "content": "hello"}]}
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{self.envoy.url}/v1/chat/completions", json=body) as response,
        ):
            told = response.headers
            return response.status, told.get("x-wissel-model", ""), told.get("x-wissel-attempts", "")

    @property
    def resting(self) -> Any:
        return self.app.readiness().detail.get("resting")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    home: Path = tmp_path_factory.mktemp("cooling")
    servers, running = (Server(), Server()), list[TestServer]()
    for server in servers:
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", server.answer)
        running.append(TestServer(application))
        await running[-1].start_server()
    document = {
        "listen": {"ext_proc": f"127.0.0.1:{free_port()}", "admin": f"127.0.0.1:{free_port()}"},
        "models": [
            {"name": "first", "cluster": "a", "fallbacks": ["second"]},
            {"name": "second", "cluster": "b"},
            {"name": "alone", "cluster": "a"},
            {"name": "busy", "cluster": "a"},
        ],
        "health": {"failures": 3, "window": "30s", "cooldown": f"{COOLDOWN:g}s"},
        "envoy": {
            "listen": f"127.0.0.1:{free_port()}",
            "admin": f"127.0.0.1:{free_port()}",
            "clusters": [
                {"name": name, "address": f"127.0.0.1:{each.port}"} for name, each in zip("ab", running, strict=True)
            ],
        },
    }
    path = home / "wissel.yaml"
    path.write_text(yaml.safe_dump(document))
    async with running_app(path, data=home, grace=0.0) as app, running_envoy(plan(load(path)), home) as envoy:
        yield Stage(app, envoy, *servers)
    for each in running:
        await each.close()


async def test_a_model_that_keeps_failing_is_asked_no_more_until_its_cooldown_is_over(stage: Stage):
    stage.first.status, stage.first.asked = 500, 0
    failing = [await stage.ask("first") for _ in range(3)]
    await until(lambda: stage.resting)
    resting = [await stage.ask("first") for _ in range(3)]

    assert failing == [(200, "second", "2")] * 3
    assert [told[:2] for told in resting] == [(200, "second")] * 3
    assert stage.first.asked == 3
    assert stage.resting["first"]["why"] == "failing"

    stage.first.status = 200
    await asyncio.sleep(COOLDOWN)
    assert await stage.ask("first") == (200, "first", "1")
    await until(lambda: stage.resting is None)
    assert await stage.ask("first") == (200, "first", "1")


async def test_a_model_without_fallbacks_is_asked_whatever_it_does(stage: Stage):
    stage.first.status, stage.first.asked = 500, 0
    answers = [await stage.ask("alone") for _ in range(6)]

    assert [status for status, *_ in answers] == [500] * 6
    assert stage.first.asked == 6


async def test_a_server_that_says_when_to_come_back_is_left_alone_until_then(stage: Stage):
    """Where others may serve: this one is alone, and is asked all the same."""
    stage.first.status, stage.first.headers = 429, {"retry-after": "60"}
    began = time()
    first = await stage.ask("busy")
    await until(lambda: "busy" in stage.resting)

    assert [first[0], (await stage.ask("busy"))[0]] == [429, 429]
    assert stage.resting["busy"]["why"] == "busy"
    assert 60 <= stage.resting["busy"]["until"] - began < 90
