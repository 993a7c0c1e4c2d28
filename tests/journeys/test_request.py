"""The main job on real parts: a request goes through a real Envoy to the model that its intent picks."""

import asyncio
import io
import json
import os
import signal
from collections.abc import AsyncIterator
from hashlib import sha256
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from real import needs_encoder, needs_envoy, until
from wissel.demo.stage import Stage, running_stage

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module"), needs_envoy, needs_encoder]

ENG, SALES = "wsl-test-eng", "wsl-test-sales"
CALL = "/v1/chat/completions"


def digest(secret: str) -> str:
    return sha256(secret.encode()).hexdigest()


DOCUMENT: dict[str, Any] = {
    "models": [
        {"name": "coder-a", "cluster": "a", "upstream_model": "org/coder-a"},
        {"name": "coder-b", "cluster": "b", "context": 1000},
        {"name": "chatty", "cluster": "c",
         "apis": ["chat", "completions", "responses", "messages", "embeddings"]},
        {"name": "seer", "cluster": "d", "accepts": ["text", "image"], "apis": ["chat", "responses"]},
        {"name": "secret", "cluster": "d"},
    ],
    "entrypoints": ["auto"],
    "aliases": {"fast": "chatty"},
    "passthrough": [{"path_prefix": "/v1/files", "cluster": "c"}],
    "intent": {"fallback": "talk", "deadline_ms": 5000, "pin": {"header": "x-agent-session"}},
    "routes": [
        {"name": "code", "domain": "programming", "action": "fix bugs in code", "target": "coder",
         "examples": ["why does this raise a KeyError?", "my loop never ends"]},
        {"name": "talk", "description": "small talk", "target": "chatty",
         "examples": ["hello, how are you?", "good morning"]},
    ],
    "splits": [
        {"name": "coder", "variants": [{"model": "coder-a", "weight": 70}, {"model": "coder-b", "weight": 30}]},
        {"name": "look", "variants": [{"model": "chatty", "weight": 90}, {"model": "seer", "weight": 10}]},
    ],
    "access": {
        "keys": [
            {"id": "eng", "sha256": digest(ENG), "groups": ["staff"]},
            {"id": "sales", "sha256": digest(SALES), "groups": ["staff"]},
        ],
        "rules": [
            {"id": "staff", "effect": "permit", "groups": ["staff"]},
            {"id": "no-secret", "effect": "forbid", "principals": ["sales"], "models": ["secret"]},
            {"id": "no-code", "effect": "forbid", "principals": ["sales"], "routes": ["code"]},
        ],
        "allow_headers": ["x-wissel-tag"],
    },
}  # fmt: skip


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tmp_path_factory) -> AsyncIterator[Stage]:
    async with running_stage(DOCUMENT, tmp_path_factory.mktemp("stage")) as running:
        yield running


async def send(
    stage: Stage,
    body: bytes | dict[str, Any],
    *,
    path: str = CALL,
    key: str | None = ENG,
    method: str = "POST",
    **headers: str,
) -> tuple[int, Any, dict[str, str]]:
    """One request through Envoy: status, JSON answer, response headers."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    if key is not None:
        sent["authorization"] = f"Bearer {key}"
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    async with (
        aiohttp.ClientSession() as session,
        session.request(
            method, f"{stage.envoy.url}{path}", data=io.BytesIO(data) if data else None, headers=sent
        ) as response,
    ):
        text = await response.read()
        answer = json.loads(text) if text.startswith((b"{", b"[")) else text
        return response.status, answer, {name.lower(): value for name, value in response.headers.items()}


def ask(text: str = "hello", model: str = "auto", **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": text}], **more}


async def test_the_intent_picks_the_model(stage):
    async with stage.client(ENG) as client:
        answer = await client.chat.completions.with_raw_response.create(
            model="auto", messages=[{"role": "user", "content": "why does this function raise a KeyError?"}]
        )

    assert answer.headers["x-wissel-model"] in {"coder-a", "coder-b"}
    assert answer.headers["x-served-by"] == {"coder-a": "a", "coder-b": "b"}[answer.headers["x-wissel-model"]]
    assert answer.headers["x-wissel-request-id"].startswith("wr-")


async def test_a_streamed_answer_arrives_whole(stage):
    async with stage.client(ENG) as client:
        stream = await client.chat.completions.create(
            model="auto", messages=[{"role": "user", "content": "good morning, how are you?"}], stream=True
        )
        words = [chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices]

    assert "good morning, how are you?" in "".join(words)


async def test_a_session_stays_with_its_variant(stage):
    models = {
        (await send(stage, ask("my loop never ends"), x_session_id="s-9"))[2]["x-wissel-model"] for _ in range(10)
    }

    assert len(models) == 1


async def test_only_the_model_in_the_body_is_changed(stage):
    body = (
        b'{ "n":1.10,"model" : "coder-a", "x":{"model":"auto"},"big":1e400,'
        b'"messages":[{"role":"user","content":"\\u00e9\xc3\xa9 hi"}]}'
    )
    status, _, _ = await send(stage, body)

    assert status == 200
    assert stage.upstreams["a"].requests[-1].body == body.replace(b'"coder-a"', b'"org/coder-a"')


async def test_a_callers_own_headers_never_reach_the_model(stage):
    status, _, _ = await send(
        stage,
        ask(model="chatty"),
        x_wissel_cluster="d",
        x_wissel_model="secret",
        x_wissel_route="evil",
        x_wissel_tag="mine",
    )
    headers = stage.upstreams["c"].requests[-1].headers

    assert status == 200
    assert (headers["x-wissel-cluster"], headers["x-wissel-model"], headers["x-wissel-tag"]) == ("c", "chatty", "mine")
    assert "x-wissel-route" not in headers


async def test_an_accepted_key_never_reaches_the_model(stage):
    await send(stage, ask(model="chatty"))

    assert "authorization" not in stage.upstreams["c"].requests[-1].headers


@pytest.mark.parametrize("key", [None, "wrong", ENG + "x"])
async def test_without_a_valid_key_it_is_401(stage, key):
    status, answer, _ = await send(stage, ask(), key=key)

    assert (status, answer["error"]["code"]) == (401, "invalid_api_key")


async def test_a_forbidden_model_is_403_and_names_the_rule(stage):
    status, answer, _ = await send(stage, ask(model="secret"), key=SALES)

    assert status == 403
    assert '"no-secret"' in answer["error"]["message"]


async def test_a_forbidden_route_is_403_and_names_the_rule(stage):
    status, answer, _ = await send(stage, ask("why does this raise a KeyError?"), key=SALES)

    assert status == 403
    assert '"no-code"' in answer["error"]["message"]


async def test_an_unknown_model_is_404(stage):
    status, answer, _ = await send(stage, ask(model="gpt-99"))

    assert (status, answer["error"]["code"], answer["error"]["param"]) == (404, "model_not_found", "model")


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/"), ("POST", "/v1/audio/speech"), ("DELETE", CALL), ("PUT", CALL)]
)
async def test_an_unknown_path_is_404(stage, method, path):
    status, answer, _ = await send(stage, b"", method=method, path=path)

    assert (status, answer["error"]["code"]) == (404, "path_not_found")


@pytest.mark.parametrize(
    "body", [b"{", b"[]", b"{}", b'{"model": "chatty", "model": "secret"}', b'{"model": "chatty", "m": "\xff"}', b""]
)
async def test_an_unreadable_body_is_400_and_reaches_no_model(stage, body):
    before = sum(upstream.served for upstream in stage.upstreams.values())
    status, answer, _ = await send(stage, body)

    assert (status, answer["error"]["code"]) == (400, "unreadable_request")
    assert sum(upstream.served for upstream in stage.upstreams.values()) == before


async def test_an_image_never_reaches_a_text_model(stage):
    parts = [{"type": "text", "text": "what is this?"}, {"type": "image_url", "image_url": {"url": "data:,"}}]
    body = {"model": "look", "messages": [{"role": "user", "content": parts}]}
    served = {(await send(stage, body, x_session_id=f"s-{n}"))[2]["x-wissel-model"] for n in range(10)}
    status, answer, _ = await send(stage, {**body, "model": "chatty"})

    assert served == {"seer"}
    assert (status, answer["error"]["code"]) == (400, "no_able_model")


async def test_a_prompt_that_cannot_fit_goes_to_the_arm_that_can(stage):
    long = ask("why does this raise a KeyError? " + "x" * 8000, model="coder")
    served = {(await send(stage, long, x_session_id=f"s-{n}"))[2]["x-wissel-model"] for n in range(10)}

    assert served == {"coder-a"}


async def test_every_api_is_understood(stage):
    async with stage.client(ENG) as client:
        completion = await client.completions.create(model="fast", prompt="hello")
        response = await client.responses.create(model="fast", input="hello")
        embedding = await client.embeddings.create(model="fast", input=["hello"])
    status, message, _ = await send(
        stage,
        {"model": "auto", "max_tokens": 9, "messages": [{"role": "user", "content": "hello"}]},
        path="/v1/messages",
    )

    assert (completion.model, response.model, embedding.model) == ("chatty",) * 3
    assert (status, message["model"]) == (200, "chatty")


async def test_the_models_list_is_what_the_caller_may_use(stage):
    from openai import NotFoundError

    async with stage.client(ENG) as eng, stage.client(SALES) as sales:
        all_of_them = {model.id async for model in await eng.models.list()}
        fewer = {model.id async for model in await sales.models.list()}
        one = await sales.models.retrieve("chatty")
        with pytest.raises(NotFoundError):
            await sales.models.retrieve("secret")

    assert all_of_them - fewer == {"secret"}
    assert one.id == "chatty"


async def test_a_passthrough_goes_on_under_the_same_rules(stage):
    status, _, _ = await send(stage, b"any bytes", path="/v1/files", x_wissel_model="evil")
    request = stage.upstreams["c"].requests[-1]
    refused, _, _ = await send(stage, b"any bytes", path="/v1/files", key=None)

    assert (status, request.path, request.body) == (404, "/v1/files", b"any bytes")  # the simulated server has no files
    assert "x-wissel-model" not in request.headers
    assert refused == 401


@pytest.mark.parametrize(
    "path", ["/v1/chat/completions/", "//v1/chat//completions", "/V1/Chat/Completions", "/v1/chat%2Fcompletions"]
)
async def test_every_spelling_of_a_path_meets_the_same_rules(stage, path):
    refused, _, _ = await send(stage, ask(model="secret"), path=path, key=SALES)
    served, _, _ = await send(stage, ask(model="chatty"), path=path)

    assert (refused, served) == (403, 200)
    assert stage.upstreams["c"].requests[-1].path == CALL


async def test_an_upgrade_is_refused_and_does_not_hang(stage):
    async with asyncio.timeout(5):
        status, answer, _ = await send(stage, b"", method="GET", connection="upgrade", upgrade="websocket")

    assert (status, answer["error"]["code"]) == (426, "upgrade_not_supported")


@pytest.mark.parametrize("size", [100_000, 5_000_000, 20_000_000])
async def test_large_bodies_pass(stage, size):
    status, _, headers = await send(stage, ask("x" * size, model="chatty"))

    assert (status, headers["x-served-by"]) == (200, "c")


async def test_a_body_beyond_the_limit_is_413_and_an_openai_error(stage):
    status, answer, _ = await send(stage, ask("x" * 40_000_000, model="chatty"))

    assert status == 413
    assert answer["error"]["type"] == "invalid_request_error"


async def test_the_access_log_tells_the_decision(stage):
    await send(stage, ask(model="seer"), key=SALES)
    told = None
    while told is None:
        lines = [line["wissel"] for line in stage.envoy.accesses()]
        told = next((line for line in lines if (line["model"], line["principal"]) == ("seer", "sales")), None)
        await asyncio.sleep(0.05)

    assert (told["target"], told["variant"], told["reason"], told["revision"] != "") == ("seer", "seer", "static", True)


async def test_a_pinned_session_keeps_its_route_and_no_rule_is_skipped(stage):
    fix, talk = ask("why does this raise a KeyError?"), ask("good morning, how are you?")

    async def route(body, session: str, key: str = ENG) -> str:
        status, _, headers = await send(stage, body, key=key, x_agent_session=session)
        return headers["x-wissel-model"] if status == 200 else str(status)

    def logged() -> list[tuple[str, str | None]]:
        return [(line["wissel"].get("route"), line["wissel"].get("intent_reason")) for line in stage.envoy.accesses()]

    kept = [await route(body, "fixing") for body in (fix, talk, talk)]
    others = [await route(talk, "talking"), await route(talk, "fixing", SALES)]
    refused = [await route(fix, "forbidden", SALES), await route(talk, "forbidden", SALES)]
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{stage.admin}/v1/route?as=eng", json=talk, headers={"x-agent-session": "fixing"}) as response,
    ):
        told = await response.json()
    async with aiohttp.ClientSession() as session, session.get(f"{stage.admin}/metrics") as response:
        page = await response.text()

    assert {name[:5] for name in kept} == {"coder"}
    assert others == ["chatty", "chatty"]
    assert refused == ["403", "chatty"]
    assert (told["route"], told["intent"]["reason"], told["pin"]["keep_seconds"]) == ("code", "pinned", 1800)
    assert 'wissel_intents_total{reason="pinned",route="code"} 2.0' in page
    assert 'wissel_intents_total{classifier="embedding",reason="match",route="code"}' in page
    await until(lambda: ("code", "pinned") in logged())


async def test_metrics_count_by_route_variant_and_model(stage):
    await send(stage, ask("good morning, how are you?"))
    async with aiohttp.ClientSession() as session, session.get(f"{stage.admin}/metrics") as response:
        page = await response.text()

    line = next(
        line
        for line in page.splitlines()
        if line.startswith("wissel_response_duration_seconds_count") and 'route="talk"' in line
    )
    assert 'model="chatty"' in line
    assert 'status="200"' in line


async def test_a_decision_can_be_asked_for_and_is_the_one_that_is_served(stage):
    body = ask("my loop never ends")
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{stage.admin}/v1/route?as=eng", json=body, headers={"x-session-id": "s-4"}) as response,
    ):
        told = await response.json()
    _, _, headers = await send(stage, body, x_session_id="s-4")

    assert told["model"] == headers["x-wissel-model"]
    assert (told["route"], told["rules"], told["key"]["source"]) == ("code", ["staff"], "header:x-session-id")
    assert set(told["scores"]) == {"code", "talk"}


async def test_a_good_change_of_the_file_is_served_and_a_bad_one_is_told(stage):
    text = stage.path.read_text()
    stage.path.write_text(text.replace("fast: chatty", "fast: seer"))
    for _ in range(200):
        if (await send(stage, ask(model="fast")))[2].get("x-wissel-model") == "seer":
            break
        await asyncio.sleep(0.05)
    else:
        pytest.fail("the change was not served")
    stage.path.write_text(text.replace("fast: chatty", "fast: nobody"))
    async with aiohttp.ClientSession() as session:
        for _ in range(200):
            async with session.get(f"{stage.admin}/readyz") as response:
                ready = await response.json()
            if ready["config_problem"]:
                break
            await asyncio.sleep(0.05)
    still, _, headers = await send(stage, ask(model="fast"))
    stage.path.write_text(text)

    assert 'named "nobody"' in ready["config_problem"]
    assert (still, headers["x-wissel-model"]) == (200, "seer")


async def test_with_the_processor_stopped_envoy_refuses(tmp_path_factory):
    async with running_stage(DOCUMENT, tmp_path_factory.mktemp("stopped")) as stage:
        os.kill(stage.process_id, signal.SIGKILL)
        await asyncio.sleep(0.2)
        status, answer, _ = await send(stage, ask(model="chatty"))

    assert status >= 500
    assert answer["error"]["type"] == "server_error"
    assert sum(upstream.served for upstream in stage.upstreams.values()) == 0
