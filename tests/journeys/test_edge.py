"""Habits of HTTP clients and of what stands before Envoy, through a real one: served, or refused with a reason."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
import yaml

from real import needs_envoy
from wissel.config import load
from wissel.demo.parts import EnvoyProcess, free_port, running_envoy
from wissel.demo.upstream import Upstream, running_upstream
from wissel.envoy import plan
from wissel.serving.app import running_app

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module"), needs_envoy]

BODY = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hello"}]})
PAGE = "https://app.example"


def document(cluster: str) -> dict[str, Any]:
    return {
        "listen": {"ext_proc": f"127.0.0.1:{free_port()}", "admin": f"127.0.0.1:{free_port()}"},
        "models": [{"name": "m", "cluster": "up"}],
        "envoy": {
            "listen": f"127.0.0.1:{free_port()}",
            "admin": f"127.0.0.1:{free_port()}",
            "cors": {"origins": [PAGE]},
            "clusters": [{"name": "up", "address": cluster}],
        },
    }


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def envoy(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EnvoyProcess]:
    home = tmp_path_factory.mktemp("edge")
    path = home / "wissel.yaml"
    async with running_upstream(Upstream("up")) as upstream:
        path.write_text(yaml.safe_dump(document(upstream.address)))
        async with running_app(path, data=home, grace=0.5), running_envoy(plan(load(path)), home) as running:
            yield running


async def said(envoy: EnvoyProcess, request: str) -> tuple[int, dict[str, str], str]:
    """What Envoy answers to these very bytes: status, headers and body."""
    host, _, port = envoy.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(request.replace("\n", "\r\n").encode())
    async with asyncio.timeout(20):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        first, *lines = head.strip().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        size = int(headers.get("content-length", "0")) if not request.startswith("HEAD") else 0
        body = (await reader.readexactly(size)).decode()
    writer.close()
    return int(first.split()[1]), headers, body


def call(*headers: str, version: str = "1.1", method: str = "POST", path: str = "/v1/chat/completions") -> str:
    lines = [f"{method} {path} HTTP/{version}", "content-type: application/json", *headers]
    return "\n".join([*lines, f"content-length: {len(BODY)}", "", BODY])


@pytest.mark.parametrize(
    "request_",
    [
        call("host: llm", "connection: upgrade", "upgrade: TLS/1.2"),
        call("host: llm", "connection: upgrade, http2-settings", "upgrade: h2c", "http2-settings: AAMAAABk"),
        call("host: llm", "connection: close", version="1.0"),
        call("connection: close", version="1.0"),
    ],
    ids=["java offers TLS", "a client offers HTTP/2", "nginx speaks HTTP/1.0", "HTTP/1.0 without a host"],
)
async def test_what_clients_offer_and_proxies_speak_is_served(envoy: EnvoyProcess, request_: str):
    status, headers, _ = await said(envoy, request_)

    assert (status, headers.get("x-wissel-model")) == (200, "m")


async def test_a_websocket_on_a_call_is_told_to_go_on_over_http(envoy: EnvoyProcess):
    asked = "GET /v1/responses HTTP/1.1\nhost: llm\nconnection: upgrade\nupgrade: websocket\nsec-websocket-key: a\n\n"
    status, _, body = await said(envoy, asked)

    assert (status, json.loads(body)["error"]["code"]) == (426, "upgrade_not_supported")


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/m"])
async def test_health_checks_may_ask_for_the_head_of_the_models(envoy: EnvoyProcess, path: str):
    status, _, _ = await said(envoy, f"HEAD {path} HTTP/1.1\nhost: llm\nconnection: close\n\n")

    assert status == 200


def preflight(origin: str) -> str:
    wants = f"origin: {origin}\naccess-control-request-method: POST\naccess-control-request-headers: authorization"
    return f"OPTIONS /v1/chat/completions HTTP/1.1\nhost: llm\n{wants}\n\n"


async def test_a_web_page_that_is_listed_may_call(envoy: EnvoyProcess):
    status, headers, _ = await said(envoy, preflight(PAGE))

    assert (status, headers["access-control-allow-origin"]) == (200, PAGE)


async def test_another_web_page_is_told_what_is_missing(envoy: EnvoyProcess):
    status, headers, body = await said(envoy, preflight("https://evil.example"))
    told = json.loads(body)["error"]

    assert (status, told["code"], "access-control-allow-origin" in headers) == (403, "origin_not_allowed", False)


async def test_a_body_that_does_not_end_is_refused_in_time(envoy: EnvoyProcess, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("wissel.extproc.session.BODY_SECONDS", 0.3)
    asked = "POST /v1/chat/completions HTTP/1.1\nhost: llm\ncontent-type: application/json\ncontent-length: 99\n\n{"
    status, _, body = await said(envoy, asked)

    assert (status, json.loads(body)["error"]["code"]) == (408, "request_timeout")
