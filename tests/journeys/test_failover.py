"""A model that fails is followed by the next, through a real Envoy: each is sent what is its own, and nothing else."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from io import BytesIO
from typing import Any

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
from wissel.serving.app import App, running_app

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module"), needs_envoy]

KEY = "wsl-test-caller"
CHAT = "/v1/chat/completions"


def lowered(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


@dataclass
class Seen:
    path: str
    headers: dict[str, str]
    body: Any
    length: int


@dataclass
class Server:
    """One model's server: it fails in the way that its script says, and else says who answered."""

    name: str
    fails: str = ""
    """A status, `reset`, `silent`, or nothing."""
    seen: list[Seen] = field(default_factory=list[Seen])

    async def answer(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        self.seen.append(Seen(request.path_qs, lowered(request.headers), json.loads(raw), len(raw)))
        if self.fails.isdecimal():
            return web.json_response({"error": {"message": f"{self.name} fails"}}, status=int(self.fails))
        if self.fails == "reset":
            assert request.transport is not None
            request.transport.abort()
        if self.fails == "silent":
            await asyncio.sleep(5)
        if self.seen[-1].body.get("stream"):
            response = web.StreamResponse(headers={"content-type": "text/event-stream"})
            await response.prepare(request)
            for word in (self.name, "said", "so"):
                await response.write(b'data: {"choices":[{"delta":{"content":"%s"}}]}\n\n' % word.encode())
            await response.write(b"data: [DONE]\n\n")
            return response
        return web.json_response({"served_by": self.name, "model": self.seen[-1].body["model"], "choices": []})


def document(addresses: dict[str, str]) -> dict[str, Any]:
    def model(name: str, cluster: str, *fallbacks: str, **more: Any) -> dict[str, Any]:
        secret = {"credential": {"env": f"{cluster.upper()}_KEY", **more.pop("shown", {})}}
        return {"name": name, "cluster": cluster, "upstream_model": f"{name}-upstream-name",
                **secret, **({"fallbacks": list(fallbacks)} if fallbacks else {}), **more}  # fmt: skip

    return {
        "listen": {"ext_proc": f"127.0.0.1:{free_port()}", "admin": f"127.0.0.1:{free_port()}"},
        "models": [
            model("first", "a", "second", "third", timeouts={"first_token": "500ms"}, shown={"header": "x-a-key"}),
            model("patient", "a", "second", "third"),
            model("second", "b"),
            model("third", "c", shown={"header": "api-key"}),
            model("away", "gone", "second"),
            model("alone", "a"),
            model("claude", "a", "other-claude", apis=["messages"]),
            model("other-claude", "b", apis=["messages"]),
            {**model("own", "a", "own-too", "second"), "credential": "forward"},
            {**model("own-too", "b", "second"), "credential": "forward"},
            model("closed", "a", "locked", "second"),
            model("locked", "b"),
        ],
        "access": {
            "keys": [{"id": "caller", "sha256": sha256(KEY.encode()).hexdigest(), "groups": ["staff"]}],
            "rules": [
                {"id": "staff", "effect": "permit", "groups": ["staff"]},
                {"id": "not-that", "effect": "forbid", "models": ["locked"]},
            ],
        },
        "failover": {"accept_models": True, "statuses": [429, 418]},
        "health": {"failures": 64, "window": "1s"},
        "envoy": {
            "listen": f"127.0.0.1:{free_port()}",
            "admin": f"127.0.0.1:{free_port()}",
            "clusters": [
                {"name": "a", "address": addresses["a"]},
                {"name": "b", "address": addresses["b"], "path": "/below/v1"},
                {"name": "c", "address": addresses["c"]},
                {"name": "gone", "address": f"127.0.0.1:{free_port()}"},
            ],
        },
    }


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)


@dataclass
class Stage:
    envoy: EnvoyProcess
    app: App
    servers: dict[str, Server]

    async def send(
        self, body: object, *, path: str = CHAT, fails: dict[str, str] | None = None, **headers: str
    ) -> Answer:
        for name, server in self.servers.items():
            server.fails = (fails or {}).get(name, "")
            server.seen.clear()
        sent = {"authorization": f"Bearer {KEY}", **{name.replace("_", "-"): value for name, value in headers.items()}}
        async with (
            aiohttp.ClientSession() as session,
            session.post(self.envoy.url + path, data=BytesIO(json.dumps(body).encode()), headers=sent) as response,
        ):
            return Answer(response.status, lowered(response.headers), await response.text())

    @property
    def asked(self) -> list[str]:
        return [name for name, server in self.servers.items() for _ in server.seen]


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["BUFFERED", "FULL_DUPLEX_STREAMED"])
async def stage(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    home = tmp_path_factory.mktemp("failover")
    servers = {name: Server(name) for name in "abc"}
    running: list[TestServer] = []
    for server in servers.values():
        application = web.Application(client_max_size=1 << 26)
        application.router.add_route("*", "/{path:.*}", server.answer)
        running.append(TestServer(application))
        await running[-1].start_server()
    with pytest.MonkeyPatch.context() as patch:
        for name in ("A", "B", "C", "GONE"):
            patch.setenv(f"{name}_KEY", f"secret-of-{name.lower()}")
        addresses = {name: f"127.0.0.1:{each.port}" for name, each in zip(servers, running, strict=True)}
        path = home / "wissel.yaml"
        path.write_text(yaml.safe_dump(document(addresses)))
        mode = request.param
        bootstrap = replace(plan(load(path)), request_body_mode=mode)
        if mode == "FULL_DUPLEX_STREAMED":
            bootstrap = replace(bootstrap, response_body_mode="STREAMED")
        async with running_app(path, data=home, grace=0.0) as app, running_envoy(bootstrap, home) as envoy:
            yield Stage(envoy, app, servers)
    for each in running:
        await each.close()


def ask(model: str, **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "hello"}], **more}


@pytest.mark.parametrize("failure", ["500", "503", "429", "529", "418", "reset", "silent"])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_model_that_fails_is_followed_by_the_next(stage: Stage, failure: str, stream: bool):
    answer = await stage.send(ask("first", stream=stream), fails={"a": failure})

    assert (answer.status, answer.headers["x-wissel-model"], answer.headers["x-wissel-attempts"], stage.asked) == (
        200, "second", "2", ["a", "b"],
    )  # fmt: skip
    assert ("b" if stream else '"served_by": "b"') in answer.text


async def test_one_that_refuses_the_connection_is_followed_too(stage: Stage):
    answer = await stage.send(ask("away"))

    assert (answer.status, answer.headers["x-wissel-model"], stage.asked) == (200, "second", ["b"])


async def test_each_gets_its_own_name_credential_and_path_and_nothing_of_the_one_before(stage: Stage):
    await stage.send(ask("first", seed=7), fails={"a": "503", "b": "503"})
    found: list[object] = []
    for server in stage.servers.values():
        (seen,) = server.seen
        headers = seen.headers
        secrets = sorted(f"{name}: {value}" for name, value in headers.items() if "secret-of" in value or KEY in value)
        found.append((seen.path, seen.body["model"], seen.body["seed"], secrets, headers["x-wissel-model"]))
        assert headers.get("content-length", str(seen.length)) == str(seen.length)
        assert not [name for name in headers if name.startswith("x-envoy") or name == "x-wissel-rewritten"]

    assert found == [
        ("/v1/chat/completions", "first-upstream-name", 7, ["x-a-key: secret-of-a"], "first"),
        ("/below/v1/chat/completions", "second-upstream-name", 7, ["authorization: Bearer secret-of-b"], "second"),
        ("/v1/chat/completions", "third-upstream-name", 7, ["api-key: secret-of-c"], "third"),
    ]


async def test_the_last_of_a_chain_answers_whatever_it_says(stage: Stage):
    answer = await stage.send(ask("first"), fails={"a": "503", "b": "reset", "c": "429"})

    assert (answer.status, answer.json, answer.headers["x-wissel-attempts"], stage.asked) == (
        429, {"error": {"message": "c fails"}}, "3", ["a", "b", "c"],
    )  # fmt: skip


async def test_a_refusal_that_is_the_callers_own_is_no_failure(stage: Stage):
    answer = await stage.send(ask("first"), fails={"a": "400"})

    assert (answer.status, answer.headers["x-wissel-attempts"], stage.asked) == (400, "1", ["a"])


async def test_a_model_without_fallbacks_is_asked_once(stage: Stage):
    answer = await stage.send(ask("alone"), fails={"a": "503"})

    assert (answer.status, "x-wissel-attempts" in answer.headers, stage.asked) == (503, False, ["a"])


async def test_a_model_that_the_caller_may_not_use_is_passed_over(stage: Stage):
    answer = await stage.send(ask("closed"), fails={"a": "503"})

    assert (answer.headers["x-wissel-model"], stage.servers["b"].seen[0].body["model"]) == (
        "second", "second-upstream-name",
    )  # fmt: skip


async def test_what_anthropics_servers_want_is_said_to_each(stage: Stage):
    await stage.send(
        ask("claude", max_tokens=5), path="/v1/messages", fails={"a": "529"}, anthropic_version="2023-01-01"
    )
    shown: dict[str, object] = {}
    for name in "ab":
        headers = stage.servers[name].seen[0].headers
        shown[name] = (headers["x-api-key"], headers["anthropic-version"], "authorization" in headers)

    assert shown == {"a": ("secret-of-a", "2023-01-01", False), "b": ("secret-of-b", "2023-01-01", False)}


async def test_a_callers_own_credential_reaches_those_that_forward_it_and_no_others(stage: Stage):
    await stage.send(ask("own"), fails={"a": "503", "b": "503"})
    shown = [server.seen[0].headers.get("authorization") for server in list(stage.servers.values())[:2]]
    last = stage.servers["b"].seen[-1].headers["authorization"]

    assert (shown, last) == ([f"Bearer {KEY}", f"Bearer {KEY}"], "Bearer secret-of-b")


async def test_a_callers_own_order_is_kept_and_goes_no_further(stage: Stage):
    answer = await stage.send(ask("first", models=["locked", "third", "nobody"]), fails={"a": "503"})
    bodies = [server.seen[0].body.get("models", "none") for server in stage.servers.values() if server.seen]

    assert (answer.headers["x-wissel-model"], stage.asked, bodies) == ("third", ["a", "c"], ["none", "none"])


@pytest.mark.parametrize("size", [200_000, 5_000_000, 31 << 20])
async def test_large_bodies_are_sent_again_whole(stage: Stage, size: int):
    answer = await stage.send(ask("patient", padding="x" * size), fails={"a": "503", "b": "503"})
    sizes = [len(server.seen[0].body["padding"]) for server in stage.servers.values()]

    assert (answer.status, sizes) == (200, [size] * 3)
