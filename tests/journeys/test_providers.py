"""Servers with habits of their own, behind a real Envoy: what each gets, and what callers of each format are told."""

import hmac
import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from hashlib import sha256
from io import BytesIO
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
import yaml
from aiohttp import web
from aiohttp.test_utils import TestServer
from anthropic import AsyncAnthropic, NotFoundError
from multidict import CIMultiDict

from real import needs_envoy
from wissel.config import load
from wissel.demo.parts import EnvoyProcess, free_port, running_envoy
from wissel.envoy import plan
from wissel.serving.app import App, running_app

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module"), needs_envoy]

KEY = "wsl-test-caller"
CHAT, MESSAGES, COUNT = "/v1/chat/completions", "/v1/messages", "/v1/messages/count_tokens"
SPEAKS_MESSAGES = {"anthropic-version": "2023-06-01"}


@dataclass
class ScriptedServer:
    """Keeps what it was sent; refuses what its script does not know."""

    seen: list[tuple[str, CIMultiDict[str], Any]] = field(default_factory=list[Any])
    raw: bytes = b""
    """The body of the latest."""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        raw = self.raw = await request.read()
        is_json = raw.startswith(b"{")
        body = json.loads(raw) if is_json else {}
        self.seen.append((request.path_qs, CIMultiDict(request.headers), body))
        unlucky = {"unlucky": "/deployments/", "unsigned": "/openai/v1/"}.get(body.get("user", ""))
        if unlucky and unlucky in request.path:
            return web.json_response({"error": {"message": "overloaded"}}, status=503)
        if "stream_options" in body and body["model"] == "strict":
            wrong = {
                "type": "extra_forbidden",
                "loc": ["body", "stream_options"],
                "msg": "Extra inputs are not permitted",
            }
            return web.json_response({"detail": [wrong]}, status=422)
        if request.path.endswith("/count_tokens"):
            return web.json_response({"input_tokens": 42})
        if body.get("stream"):
            response = web.StreamResponse(headers={"content-type": "text/event-stream"})
            await response.prepare(request)
            await response.write(
                b'data: {"choices":[{"delta":{"content":"hi"},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
            )
            return response
        return web.json_response({"model": body.get("model"), "choices": []})


def document(address: str) -> dict[str, Any]:
    def model(name: str, cluster: str, **more: Any) -> dict[str, Any]:
        return {"name": name, "cluster": cluster, "credential": {"env": "PROVIDER_KEY"}, **more}

    return {
        "listen": {"ext_proc": f"127.0.0.1:{free_port()}", "admin": f"127.0.0.1:{free_port()}"},
        "models": [
            model("strict", "plain"),
            model("silent", "plain", stream_usage="never"),
            model("groq", "below"),
            model("vllm", "plain", apis=["chat", "messages"]),
            model("claude", "plain", apis=["messages"]),
            model("azure", "plain", credential={"env": "PROVIDER_KEY", "header": "api-key"}),
            model("gpt", "bare", provider="azure", upstream_model="gpt-4o", api_version="2024-10-21",
                  fallbacks=["flash"]),
            model("gpt-v1", "bare", provider="azure"),
            model("flash", "bare", provider="gemini", apis=["chat", "embeddings"]),
            model("nova", "bare", provider="bedrock"),
            {"name": "signed", "cluster": "aws", "provider": "bedrock", "fallbacks": ["flash"]},
            model("gpt-then-signed", "bare", provider="azure", upstream_model="gpt-4o", api_version="v",
                  fallbacks=["signed"]),
            model("open", "plain", forward_headers=["openai-organization"]),
            model("own", "plain", credential="forward"),
            model("picky", "bare", provider="bedrock", drop_params=["temperature", "seed"], defaults={"max_tokens": 9},
                  fallbacks=["lenient"]),
            model("lenient", "plain", drop_params=["top_p"], defaults={"user": "nobody"}),
            model("gone", "dead", apis=["chat", "messages"]),
            model("hidden", "plain"),
        ],
        "aliases": {"claude-sonnet-5": "claude", "claude-opus-9": "vllm", "meta-llama/Llama-3.1": "groq"},
        "passthrough": [
            {"path_prefix": "/v1/files", "cluster": "below", "credential": {"env": "PROVIDER_KEY"},
             "names_models": False},
            {"path_prefix": "/v1/uploads", "cluster": "plain", "names_models": False},
        ],
        "access": {
            "keys": [{"id": "caller", "sha256": sha256(KEY.encode()).hexdigest(), "groups": ["staff"]}],
            "rules": [
                {"id": "staff", "effect": "permit", "groups": ["staff"]},
                {"id": "nobody", "effect": "forbid", "models": ["hidden"]},
            ],
        },
        "envoy": {
            "listen": f"127.0.0.1:{free_port()}",
            "admin": f"127.0.0.1:{free_port()}",
            "clusters": [
                {"name": "plain", "address": address},
                {"name": "bare", "address": address},
                {"name": "aws", "address": address, "aws": {"region": "eu-central-1"}},
                {"name": "below", "addresses": [{"address": address, "weight": 3}, {"address": address}],
                 "path": "/openai/v1"},
                {"name": "dead", "address": f"127.0.0.1:{free_port()}"},
            ],
        },
    }  # fmt: skip


@dataclass
class Stage:
    envoy: EnvoyProcess
    app: App
    server: ScriptedServer

    async def send(
        self, path: str, body: object = None, *, method: str = "POST", key: str = KEY, **headers: str
    ) -> tuple[int, Any]:
        """Status and JSON answer, or its text."""
        sent = {"authorization": f"Bearer {key}", **{name.replace("_", "-"): value for name, value in headers.items()}}
        data = BytesIO(json.dumps(body).encode()) if body is not None else None
        self.server.seen.clear()
        async with (
            aiohttp.ClientSession() as session,
            session.request(method, self.envoy.url + path, data=data, headers=sent) as response,
        ):
            text = await response.text()
            return response.status, json.loads(text) if text.startswith("{") else text


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    home = tmp_path_factory.mktemp("providers")
    scripted = ScriptedServer()
    application = web.Application(client_max_size=64_000_000)
    application.router.add_route("*", "/{path:.*}", scripted.answer)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PROVIDER_KEY", "s3cret")
        patch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
        patch.setenv("AWS_SECRET_ACCESS_KEY", AWS_SECRET)
        patch.setenv("AWS_SESSION_TOKEN", "session")
        async with TestServer(application) as server:
            path = home / "wissel.yaml"
            path.write_text(yaml.safe_dump(document(f"127.0.0.1:{server.port}")))
            async with running_app(path, data=home, grace=0.0) as app, running_envoy(plan(load(path)), home) as envoy:
                yield Stage(envoy, app, scripted)


def ask(model: str, **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "hello"}], **more}


async def test_a_server_that_refuses_to_be_asked_for_usage_is_asked_once(stage: Stage):
    statuses = [(await stage.send(CHAT, ask("strict", stream=True)))[0] for _ in range(5)]

    assert statuses == [422, 200, 200, 200, 200]
    assert 'wissel_stream_usage_refusals_total{model="strict"} 1.0' in stage.app.telemetry.exposition().decode()


async def test_a_model_that_is_never_to_be_asked_is_never_asked(stage: Stage):
    await stage.send(CHAT, ask("silent", stream=True))
    ((_, _, body),) = stage.server.seen

    assert "stream_options" not in body


async def test_the_others_are_asked(stage: Stage):
    await stage.send(CHAT, ask("groq", stream=True))
    ((_, _, body),) = stage.server.seen

    assert body["stream_options"] == {"include_usage": True}


@pytest.mark.parametrize(
    ("path", "body", "asked"),
    [
        (CHAT, ask("groq"), "/openai/v1/chat/completions"),
        ("/V1//chat/completions/?api-version=1", ask("groq"), "/openai/v1/chat/completions?api-version=1"),
        ("/v1/files/F-1/content?a=B", None, "/openai/v1/files/F-1/content?a=B"),
        (CHAT, ask("open"), CHAT),
        (CHAT, ask("gpt"), "/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21"),
        (CHAT, ask("gpt-v1"), "/openai/v1/chat/completions"),
        (CHAT, ask("flash"), "/v1beta/openai/chat/completions"),
        ("/v1/embeddings", {"model": "flash", "input": "hi"}, "/v1beta/openai/embeddings"),
        (CHAT, ask("nova"), "/openai/v1/chat/completions"),
    ],
)
async def test_a_server_is_asked_below_its_own_path(stage: Stage, path: str, body: object, asked: str):
    status, _ = await stage.send(path, body, method="POST" if body else "GET")
    ((found, _, _),) = stage.server.seen

    assert (status, found) == (200, asked)


SHOWN = ("authorization", "x-api-key", "api-key")


@pytest.mark.parametrize(
    ("path", "model", "shown"),
    [
        (CHAT, "vllm", {"authorization": "Bearer s3cret"}),
        (MESSAGES, "vllm", {"authorization": "Bearer s3cret"}),
        (MESSAGES, "claude", {"x-api-key": "s3cret"}),
        (CHAT, "azure", {"api-key": "s3cret"}),
        (CHAT, "gpt", {"api-key": "s3cret"}),
        (CHAT, "flash", {"authorization": "Bearer s3cret"}),
        (CHAT, "own", {"authorization": f"Bearer {KEY}", "api-key": "mine"}),
        ("/v1/files", None, {"authorization": "Bearer s3cret"}),
        ("/v1/uploads", None, {}),
    ],
)
async def test_each_server_is_shown_what_the_file_says_and_nothing_else(stage: Stage, path: str, model, shown):
    await stage.send(path, ask(model) if model else {}, api_key="mine")
    ((_, headers, _),) = stage.server.seen

    assert {name: headers[name] for name in SHOWN if name in headers} == shown


async def test_a_fallback_at_another_provider_is_asked_as_that_one_wants_it(stage: Stage):
    await stage.send(CHAT, ask("gpt", user="unlucky"))
    _, (path, headers, body) = stage.server.seen

    assert (path, body["model"]) == ("/v1beta/openai/chat/completions", "flash")
    assert {name: headers[name] for name in SHOWN if name in headers} == {"authorization": "Bearer s3cret"}


AWS_SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
OF_AWS = ("x-amz-date", "x-amz-content-sha256", "x-amz-security-token")


def signature_of(path: str, headers: CIMultiDict[str], body: bytes) -> str:
    """What AWS would want to see there, by its documentation of Signature Version 4."""
    scope, signed = re.findall(r"Credential=[^/]+/([^,]+), SignedHeaders=([^,]+),", headers["authorization"])[0]
    lines = [f"{name}:{' '.join(headers[name].split())}\n" for name in signed.split(";")]
    request = "\n".join(["POST", path, "", "".join(lines), signed, sha256(body).hexdigest()])
    text = "\n".join(["AWS4-HMAC-SHA256", headers["x-amz-date"], scope, sha256(request.encode()).hexdigest()])
    key = f"AWS4{AWS_SECRET}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return hmac.digest(key, text.encode(), "sha256").hex()


def check_signed(path: str, headers: CIMultiDict[str], body: bytes) -> None:
    found = headers["authorization"]
    assert found.startswith("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/")
    assert "/eu-central-1/bedrock/aws4_request" in found
    assert headers["x-amz-content-sha256"] == sha256(body).hexdigest()
    assert headers.getall("x-amz-security-token") == ["session"]
    assert "host" in found
    assert found.rpartition("Signature=")[2] == signature_of(path, headers, body)


@pytest.mark.parametrize("size", [10, 3_000_000])
async def test_what_goes_to_aws_is_signed_as_it_goes_out_and_nobody_elses_key_goes_along(stage: Stage, size: int):
    status, _ = await stage.send(CHAT, ask("signed", padding="x" * size), api_key="mine", x_amz_date="old")
    ((path, headers, body),) = stage.server.seen

    assert (status, path, body["model"]) == (200, "/openai/v1/chat/completions", "signed")
    assert [name for name in ("api-key", "x-api-key") if name in headers] == []
    check_signed(path, headers, stage.server.raw)


async def test_a_fallback_at_aws_is_signed_as_it_was_written_for_it(stage: Stage):
    status, _ = await stage.send(CHAT, ask("gpt-then-signed", user="unlucky"))
    *_, (path, headers, body) = stage.server.seen

    assert (status, path, body["model"], "api-key" in headers) == (200, "/openai/v1/chat/completions", "signed", False)
    check_signed(path, headers, stage.server.raw)


async def test_a_signature_goes_no_further_than_to_aws(stage: Stage):
    await stage.send(CHAT, ask("signed", user="unsigned"))
    _, (path, headers, _) = stage.server.seen

    assert (path, headers["authorization"]) == ("/v1beta/openai/chat/completions", "Bearer s3cret")
    assert [name for name in OF_AWS if name in headers] == []


async def told_of(stage: Stage, body: bytes) -> tuple[str, str, bytes]:
    """Of the answer who gave it and what it lacked; and the body that it was given for."""
    headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
    async with (
        aiohttp.ClientSession() as session,
        session.post(stage.envoy.url + CHAT, data=body, headers=headers) as response,
    ):
        assert response.status == 200
        return response.headers["x-wissel-model"], response.headers.get("x-wissel-dropped", ""), stage.server.raw


async def test_a_model_gets_its_defaults_and_not_what_it_refuses_and_every_other_byte_as_it_came(stage: Stage):
    body = b'{"temperature":0.50,"model":"picky", "top_p":1.0 ,"seed":7,\n"messages":[]}'
    sent = b'{"model":"picky", "max_tokens": 9, "top_p":1.0 ,\n"messages":[]}'

    assert await told_of(stage, body) == ("picky", "temperature, seed", sent)


async def test_each_model_of_a_plan_gets_its_own(stage: Stage):
    body = b'{"temperature":0.50,"model":"picky", "top_p":1.0 ,"seed":7,\n"messages":[],"user":"unsigned"}'
    model, dropped, sent = await told_of(stage, body)

    assert (model, dropped) == ("lenient", "top_p")
    assert json.loads(sent) == {"temperature": 0.5, "model": "lenient", "seed": 7, "messages": [], "user": "unsigned"}


async def test_what_the_caller_wrote_and_the_model_takes_is_left_alone(stage: Stage):
    body = b'{"model":"picky","max_completion_tokens":1e2,"messages":[]}'

    assert await told_of(stage, body) == ("picky", "", body)


FOREIGN = {"openai_organization": "o", "openai_project": "p", "cookie": "c=d", "proxy_authorization": "Basic a"}


@pytest.mark.parametrize(
    ("model", "kept"),
    [("groq", set()), ("open", {"openai-organization"}), ("own", {"openai-organization", "openai-project"})],
)
async def test_a_caller_chooses_no_account_that_is_not_its_own(stage: Stage, model: str, kept: set[str]):
    await stage.send(CHAT, ask(model), **FOREIGN)
    ((_, headers, _),) = stage.server.seen

    assert {name for name in (each.replace("_", "-") for each in FOREIGN) if name in headers} == kept


async def test_anthropics_servers_are_told_a_version_where_the_caller_tells_none(stage: Stage):
    await stage.send(MESSAGES, ask("claude", max_tokens=9))
    ((_, headers, _),) = stage.server.seen

    assert headers["anthropic-version"] == "2023-06-01"


@pytest.mark.parametrize(("alias", "upstream"), [("claude-sonnet-5", "claude"), ("claude-opus-9", "vllm")])
async def test_tokens_are_counted_by_the_server_of_what_an_alias_means(stage: Stage, alias: str, upstream: str):
    status, told = await stage.send(f"{COUNT}?beta=true", ask(alias), **SPEAKS_MESSAGES)
    ((path, _, body),) = stage.server.seen

    assert (status, told) == (200, {"input_tokens": 42})
    assert (path, body["model"]) == (f"{COUNT}?beta=true", upstream)


@pytest.mark.parametrize(
    ("path", "body", "told"),
    [
        (COUNT, ask("open"), {}),
        ("/v1/responses/input_tokens", {"model": "open", "input": "hello"}, {"object": "response.input_tokens"}),
    ],
)
async def test_where_no_server_can_count_tokens_an_estimate_is_told_and_called_one(stage: Stage, path, body, told):
    _, short = await stage.send(path, body)
    _, long = await stage.send(path, {**body, "instructions": "word " * 4000, "system": "word " * 4000})

    assert stage.server.seen == []
    assert short.items() >= {**told, "input_tokens": short["input_tokens"]}.items()
    assert 1 <= short["input_tokens"] < 500
    assert 4000 <= long["input_tokens"] < 12_000


async def test_the_official_client_counts_tokens_of_a_model_that_speaks_chat_alone(stage: Stage):
    async with AsyncAnthropic(base_url=stage.envoy.url, api_key=KEY) as client:
        told = await client.messages.with_raw_response.count_tokens(**ask("open"))

    assert (told.headers["x-wissel-counted"], (await told.parse()).input_tokens > 0) == ("estimate", True)


@pytest.mark.parametrize("limit", [1, 1000])
async def test_the_official_anthropic_client_pages_through_all_models_once(stage: Stage, limit: int):
    async with AsyncAnthropic(base_url=stage.envoy.url, api_key=KEY) as client:
        names = [each.id async for each in client.models.list(limit=limit)]
        one = await client.models.retrieve("claude-sonnet-5")
        with pytest.raises(NotFoundError) as unknown:
            await client.models.retrieve("nobody/of that name")

    assert sorted(names) == sorted(set(names))
    assert {"claude", "claude-sonnet-5", "flash"} <= set(names)
    assert (one.type, one.id) == ("model", "claude-sonnet-5")
    assert unknown.value.body["error"]["type"] == "not_found_error"  # type: ignore[index]


async def test_models_are_listed_as_the_caller_reads_them(stage: Stage):
    _, anthropics = await stage.send("/v1/models?limit=2", method="GET", **SPEAKS_MESSAGES)
    _, openais = await stage.send("/v1/models", method="GET")

    assert [each["id"] for each in anthropics["data"]] == [each["id"] for each in openais["data"]]
    assert (anthropics["data"][0]["type"], anthropics["has_more"], openais["object"]) == ("model", False, "list")


async def test_one_model_is_told_as_the_caller_reads_it(stage: Stage):
    _, anthropics = await stage.send("/v1/models/claude-sonnet-5", method="GET", **SPEAKS_MESSAGES)
    _, openais = await stage.send("/v1/models/claude-sonnet-5", method="GET")

    assert (anthropics["display_name"], openais["object"]) == ("claude-sonnet-5", "model")


@pytest.mark.parametrize("speaks", [{}, SPEAKS_MESSAGES])
@pytest.mark.parametrize("written", ["meta-llama/Llama-3.1", "meta-llama%2FLlama-3.1", "meta-llama%2fllama-3%2E1"])
async def test_a_model_whose_name_has_a_slash_is_told_however_it_is_written(stage: Stage, written: str, speaks):
    status, told = await stage.send(f"/v1/models/{written}", method="GET", **speaks)

    assert (status, told["id"]) == (200, "meta-llama/Llama-3.1")


@pytest.mark.parametrize("speaks", [{}, SPEAKS_MESSAGES])
async def test_a_model_that_a_caller_may_not_use_is_told_of_as_one_that_there_is_not(stage: Stage, speaks):
    _, names = await stage.send("/v1/models", method="GET", **speaks)
    hidden, absent = [await stage.send(f"/v1/models/{name}", method="GET", **speaks) for name in ("hidden", "hiddex")]

    assert "hidden" not in {each["id"] for each in names["data"]}
    assert (hidden[0], json.dumps(hidden[1]).replace("hidden", "hiddex")) == (absent[0], json.dumps(absent[1]))
    assert hidden[0] == 404


REFUSED = [
    ("POST", COUNT, ask("nobody"), 404, "not_found_error", KEY),
    ("POST", MESSAGES, ask("gone"), 503, "api_error", KEY),
    ("POST", f"{MESSAGES}/batches", {}, 404, "not_found_error", KEY),
    ("GET", "/v1/models", None, 401, "authentication_error", "nobody's"),
    ("GET", "/v1/models/nobody", None, 404, "not_found_error", KEY),
    ("GET", "/v1/skills", None, 404, "not_found_error", KEY),
]


@pytest.mark.parametrize(("method", "path", "body", "status", "kind", "key"), REFUSED)
async def test_who_speaks_messages_is_refused_in_its_own_words(stage: Stage, method, path, body, status, kind, key):
    found, told = await stage.send(path, body, method=method, key=key, **SPEAKS_MESSAGES)

    assert (found, told["type"], told["error"]["type"]) == (status, "error", kind)


async def test_who_speaks_chat_is_refused_in_openais(stage: Stage):
    status, told = await stage.send(CHAT, ask("gone"))

    assert (status, list(told), told["error"]["type"]) == (503, ["error"], "server_error")
