"""A place among concurrent requests is held by what goes past unread, for as long as it lasts: through a real Envoy."""

import asyncio
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
import yaml
from aiohttp import web
from aiohttp.test_utils import TestServer

from real import needs_envoy
from wissel.config import load
from wissel.demo.parts import EnvoyProcess, free_port, running_envoy
from wissel.envoy import plan
from wissel.serving.app import running_app

pytestmark = [pytest.mark.slow, needs_envoy]

KEY = {"authorization": "Bearer wsl-test-caller"}
SETTLED = 0.3
"""Seconds after which what is over has given its place back."""


async def serve(request: web.Request) -> web.StreamResponse:
    """A socket, an upload's length, or an answer that goes on until the caller leaves."""
    if request.headers.get("upgrade"):
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_str(await socket.receive_str())
        await socket.receive()
        return socket
    if request.method == "POST":
        return web.Response(text=str(len(await request.read())))
    answer = web.StreamResponse()
    await answer.prepare(request)
    for _ in range(200 if request.path.endswith("slow") else 1):
        await answer.write(b"more\n")
        await asyncio.sleep(0.02)
    return answer


@pytest_asyncio.fixture
async def envoy(tmp_path: Path) -> AsyncIterator[EnvoyProcess]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", serve)
    async with TestServer(app, host="127.0.0.1") as upstream:
        document = {
            "listen": {"ext_proc": f"127.0.0.1:{free_port()}", "admin": f"127.0.0.1:{free_port()}"},
            "models": [{"name": "m", "cluster": "up"}],
            "passthrough": [{"path_prefix": "/v1/files", "cluster": "up", "upgrade": True, "names_models": False}],
            "access": {
                "keys": [{"id": "caller", "sha256": sha256(b"wsl-test-caller").hexdigest()}],
                "rules": [{"id": "all", "effect": "permit"}],
                "limits": [{"id": "one", "per": "principal", "concurrent": 1}],
            },
            "envoy": {
                "listen": f"127.0.0.1:{free_port()}",
                "admin": f"127.0.0.1:{free_port()}",
                "clusters": [{"name": "up", "address": f"127.0.0.1:{upstream.port}"}],
            },
        }
        path = tmp_path / "wissel.yaml"
        path.write_text(yaml.safe_dump(document))
        async with running_app(path, data=tmp_path, grace=0.5), running_envoy(plan(load(path)), tmp_path) as running:
            yield running


@pytest_asyncio.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(headers=KEY) as session:
        yield session


async def status(client: aiohttp.ClientSession, url: str) -> int:
    async with client.get(f"{url}/v1/files/short") as response:
        await response.read()
        return response.status


async def test_a_slow_answer_holds_its_place(envoy: EnvoyProcess, client: aiohttp.ClientSession):
    async with client.get(f"{envoy.url}/v1/files/slow") as answer:
        await answer.content.readline()
        await asyncio.sleep(SETTLED)
        meanwhile = await status(client, envoy.url)
        answer.close()
    await asyncio.sleep(SETTLED)

    assert (meanwhile, await status(client, envoy.url)) == (429, 200)


async def test_an_upload_holds_its_place(envoy: EnvoyProcess, client: aiohttp.ClientSession):
    may_end = asyncio.Event()

    async def pieces() -> AsyncIterator[bytes]:
        yield b"x" * 100_000
        await may_end.wait()
        yield b"x"

    upload = asyncio.ensure_future(client.post(f"{envoy.url}/v1/files", data=pieces()))
    await asyncio.sleep(SETTLED)
    meanwhile = await status(client, envoy.url)
    may_end.set()
    async with await upload as response:
        received = await response.text()
    await asyncio.sleep(SETTLED)

    assert (meanwhile, received, await status(client, envoy.url)) == (429, "100001", 200)


async def test_a_websocket_holds_its_place(envoy: EnvoyProcess, client: aiohttp.ClientSession):
    async with client.ws_connect(f"{envoy.url}/v1/files/socket") as socket:
        await socket.send_str("hello")
        await socket.receive_str()
        await asyncio.sleep(SETTLED)
        meanwhile = await status(client, envoy.url)
    await asyncio.sleep(SETTLED)

    assert (meanwhile, await status(client, envoy.url)) == (429, 200)
