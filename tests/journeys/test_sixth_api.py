"""An API is a row: one more, made here alone, is read, routed, counted, refused and simulated like the others."""

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
import yaml

from real import needs_envoy, until
from wissel.apis.api import Api, Beginning, Simulation
from wissel.apis.findings import Findings
from wissel.apis.models import OPENAI_MODELS
from wissel.apis.prompt import Prompt
from wissel.apis.shapes import Json, object_of, words_in
from wissel.apis.simulated import Answer, event
from wissel.apis.table import APIS, PATHS
from wissel.apis.usage import Convention
from wissel.apis.windows import Slices
from wissel.config import load
from wissel.core.decision import Denied
from wissel.demo.parts import EnvoyProcess, free_port, running_envoy
from wissel.demo.upstream import Upstream, running_upstream
from wissel.envoy import plan
from wissel.errors import ConfigError
from wissel.serving.app import App, running_app

pytestmark = [pytest.mark.slow, needs_envoy]


def read(prompt: Prompt, members: Json) -> Slices[None]:
    yield from prompt.say_member("user", members, "say")


def learn(found: Findings, said: Json) -> None:
    found.take(said, (Convention(("heard",), ("spoken",)),))
    found.finish(said.get("over"))


def output(said: Json) -> int:
    return words_in(said.get("word")) + words_in(said.get("words"))


def begins(said: Json) -> Beginning:
    return "error" if "alas" in said else "words"


def error(denied: Denied) -> bytes:
    return json.dumps({"alas": denied.message}).encode()


def ending(answer: Answer) -> dict[str, Any]:
    usage = {"heard": answer.input_tokens, "spoken": answer.output_tokens}
    return {"model": answer.model, "over": "silence", "usage": usage}


def whole(answer: Answer) -> dict[str, Any]:
    return {"words": answer.text, **ending(answer)}


def events(answer: Answer) -> Iterator[bytes]:
    for piece in answer.pieces:
        yield event({"word": piece})
    yield event(ending(answer))


TALK = Api(
    name="talk",
    paths=("/v2/talk", "/talk"),
    counting_paths=(),
    counted=None,
    marker="",
    operation="generate_content",
    read=read,
    output_limits=("patience",),
    usage_on_ask=None,
    learn=learn,
    output=output,
    begins=begins,
    error=error,
    models=OPENAI_MODELS,
    kept=None,
    simulation=Simulation(lambda body: str(body["say"]), whole, events),
)


@pytest.fixture(autouse=True)
def _table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(APIS, TALK.name, TALK)
    for path in TALK.paths:
        monkeypatch.setitem(PATHS, path, TALK)
    monkeypatch.setenv("TALK_KEY", "s3cret")


@pytest_asyncio.fixture
async def talk(tmp_path) -> AsyncIterator[tuple[App, EnvoyProcess, Upstream]]:
    async with AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(running_upstream(Upstream("t")))
        document = {
            "listen": {"ext_proc": f"127.0.0.1:{free_port()}", "admin": f"127.0.0.1:{free_port()}"},
            "models": [
                {"name": "talker", "cluster": "t", "upstream_model": "org/talker", "apis": ["talk"],
                 "credential": {"env": "TALK_KEY", "header": "x-talk-key"}},
                {"name": "writer", "cluster": "t"},
            ],
            "envoy": {
                "listen": f"127.0.0.1:{free_port()}",
                "admin": f"127.0.0.1:{free_port()}",
                "clusters": [{"name": "t", "address": upstream.address}],
            },
        }  # fmt: skip
        path = tmp_path / "wissel.yaml"
        path.write_text(yaml.safe_dump(document))
        app = await stack.enter_async_context(running_app(path, data=tmp_path, grace=0.0))
        envoy = await stack.enter_async_context(running_envoy(plan(load(path)), tmp_path, concurrency=1))
        yield app, envoy, upstream


async def ask(envoy: EnvoyProcess, path: str, model: str = "talker", **more: Any) -> tuple[int, str]:
    body = {"model": model, "say": "hello there", **more}
    async with aiohttp.ClientSession() as session, session.post(f"{envoy.url}{path}", json=body) as response:
        return response.status, await response.text()


@pytest.mark.parametrize("path", TALK.paths)
async def test_its_call_reaches_its_model_and_its_answer_is_counted(talk, path):
    app, envoy, upstream = talk
    status, text = await ask(envoy, path)
    await until(lambda: app.telemetry.traffic() and app.telemetry.traffic()[0].ended)
    (traffic,) = app.telemetry.traffic()
    (request,) = upstream.requests

    assert (status, json.loads(text)["words"]) == (200, 'This is org/talker on t. You said: "hello there"')
    assert (request.json["model"], request.headers["x-talk-key"]) == ("org/talker", "s3cret")
    assert (traffic.model, traffic.input_tokens, traffic.output_tokens) == ("talker", 2, 9)
    assert 'gen_ai_operation_name="generate_content"' in app.telemetry.exposition().decode()


async def test_its_stream_passes_and_is_counted(talk):
    app, envoy, _ = talk
    _, text = await ask(envoy, "/talk", stream=True)
    await until(lambda: app.telemetry.traffic() and app.telemetry.traffic()[0].ended)
    told = [json.loads(line[6:]) for line in text.splitlines() if line]
    (traffic,) = app.telemetry.traffic()

    assert "".join(each.get("word", "") for each in told).endswith('You said: "hello there"')
    assert (object_of(told[-1])["over"], traffic.output_tokens, traffic.errors) == ("silence", 9, 0)
    assert "gen_ai_client_operation_time_to_first_chunk" in app.telemetry.exposition().decode()


async def test_its_callers_are_refused_in_its_own_shape(talk):
    _, envoy, _ = talk
    unknown = await ask(envoy, "/talk", model="nobody")
    unable = await ask(envoy, "/talk", model="writer")

    assert (unknown[0], list(json.loads(unknown[1]))) == (404, ["alas"])
    assert (unable[0], list(json.loads(unable[1]))) == (400, ["alas"])
    assert 'does not serve the api "talk"' in json.loads(unable[1])["alas"]


def test_the_configuration_knows_its_name_and_its_paths(tmp_path):
    path = tmp_path / "wissel.yaml"
    path.write_text("models: [{name: m, cluster: c, apis: [tlak]}]\npassthrough: [{path_prefix: /v2, cluster: c}]\n")
    with pytest.raises(ConfigError) as refused:
        load(path)

    assert 'did you mean "talk"?' in str(refused.value)
    assert '"/v2" covers /v2/talk, which wissel routes itself' in str(refused.value)
