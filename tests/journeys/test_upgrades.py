"""Websockets through a real Envoy: under the access rules, where a passthrough lists them, and nowhere else."""

from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
import yaml
from aiohttp import web
from aiohttp.test_utils import TestServer
from yarl import URL

from real import needs_envoy
from wissel.config import load
from wissel.demo.parts import EnvoyProcess, free_port, running_envoy
from wissel.envoy import plan
from wissel.serving.app import running_app

pytestmark = [pytest.mark.slow, needs_envoy]

SECRET = "wsl-test-caller"
KEY = {"authorization": f"Bearer {SECRET}"}


async def talk(request: web.Request) -> web.WebSocketResponse:
    """Says which credential it was shown, then everything that it hears."""
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    await socket.send_str(request.headers.get("authorization", "none"))
    async for message in socket:
        if message.type is aiohttp.WSMsgType.TEXT:
            await socket.send_str(message.data.upper())
    return socket


def document(cluster: str) -> dict[str, Any]:
    return {
        "listen": {"ext_proc": f"127.0.0.1:{free_port()}", "admin": f"127.0.0.1:{free_port()}"},
        "models": [{"name": "m", "cluster": "up"}],
        "passthrough": [
            {"path_prefix": "/v1/realtime", "cluster": "up", "upgrade": True},
            {"path_prefix": "/v1/files", "cluster": "up"},
        ],
        "access": {
            "keys": [{"id": "caller", "sha256": sha256(SECRET.encode()).hexdigest(), "groups": ["staff"]}],
            "rules": [
                {"id": "staff", "effect": "permit", "groups": ["staff"]},
                {"id": "closed", "effect": "forbid", "paths": ["/v1/realtime/closed"]},
            ],
        },
        "envoy": {
            "listen": f"127.0.0.1:{free_port()}",
            "admin": f"127.0.0.1:{free_port()}",
            "clusters": [{"name": "up", "address": cluster}],
        },
    }


@pytest_asyncio.fixture
async def envoy(tmp_path: Path) -> AsyncIterator[EnvoyProcess]:
    app = web.Application()
    app.router.add_get("/{path:.*}", talk)
    async with TestServer(app, host="127.0.0.1") as upstream:
        path = tmp_path / "wissel.yaml"
        path.write_text(yaml.safe_dump(document(f"127.0.0.1:{upstream.port}")))
        async with running_app(path, data=tmp_path, grace=0.5), running_envoy(plan(load(path)), tmp_path) as running:
            yield running


@pytest_asyncio.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def test_a_websocket_lives_where_a_passthrough_lists_it(envoy: EnvoyProcess, client: aiohttp.ClientSession):
    async with client.ws_connect(f"{envoy.url}/v1/realtime", headers=KEY) as socket:
        shown = await socket.receive_str()
        await socket.send_str("both ways")
        echoed = await socket.receive_str()

    # The caller's credential was meant for wissel, and stays there.
    assert (shown, echoed) == ("none", "BOTH WAYS")


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/v1/realtime", {}, 401),
        ("/v1/realtime/closed", KEY, 403),
        ("/v1/files", KEY, 426),
        ("/v1/chat/completions", KEY, 426),
        ("/v1/realtime%2f..%2ffiles", KEY, 426),
    ],
)
async def test_no_websocket_walks_around_the_rules(
    envoy: EnvoyProcess, client: aiohttp.ClientSession, path: str, headers: dict[str, str], status: int
):
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        await client.ws_connect(URL(f"{envoy.url}{path}", encoded=True), headers=headers)

    assert caught.value.status == status
