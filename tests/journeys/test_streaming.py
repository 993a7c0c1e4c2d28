"""Answers through a real Envoy: whole ones and streams, and upstreams and callers that stop in the middle."""

import asyncio
import gzip
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

import wissel.envoy.listener
from factories import model, snapshot
from real import needs_encoder, needs_envoy, until
from wissel.core.decision import Routed
from wissel.core.outcome import Outcome, Usage
from wissel.core.snapshot import Price
from wissel.demo.parts import EnvoyProcess, free_port, running_envoy
from wissel.demo.stage import Stage, running_stage
from wissel.envoy import EnvoyPlan, UpstreamCluster
from wissel.extproc.session import PROCESSOR, methods
from wissel.grpc.server import Server, ServingStatus
from wissel.router import Router, SharedParts
from wissel.telemetry.counting import Telemetry

pytestmark = [pytest.mark.slow, needs_envoy]

CHAT = "/v1/chat/completions"
ASK = {"model": "small", "messages": [{"role": "user", "content": "hi"}], "stream": True}

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
CONTENT = b'data: {"model":"small","choices":[{"index":0,"delta":{"content":"Hi"},"finish_reason":null}]}\n\n'
STOP = b'data: {"model":"small","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
USAGE = b'data: {"model":"small","choices":[],"usage":{"prompt_tokens":5,"completion_tokens":2}}\n\n'
DONE = b"data: [DONE]\n\n"
STREAM = CONTENT + CONTENT + STOP + USAGE + DONE
WHOLE = json.dumps({"model": "small", "choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 2}}).encode()


class Listening(Telemetry):
    """Keeps each outcome."""

    def __init__(self) -> None:
        super().__init__()
        self.outcomes: list[Outcome] = []

    def ended(self, decision: Routed, outcome: Outcome) -> None:
        super().ended(decision, outcome)
        self.outcomes.append(outcome)


Script = Callable[[asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Wire:
    """wissel behind a real Envoy, before an upstream that says exactly what the test wants."""

    envoy: EnvoyProcess
    telemetry: Listening
    script: list[Script] = field(default_factory=list)
    requests: list[bytes] = field(default_factory=list)

    async def outcome(self) -> Outcome:
        await until(lambda: self.telemetry.outcomes)
        return self.telemetry.outcomes[-1]


def chunked(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def sse(*chunks: bytes, gap: float = 0.0, end: bytes = b"0\r\n\r\n") -> Script:
    async def write(writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD)
        for data in chunks:
            writer.write(chunked(data))
            await writer.drain()
            await asyncio.sleep(gap)
        writer.write(end)

    return write


def raw(data: bytes) -> Script:
    async def write(writer: asyncio.StreamWriter) -> None:
        writer.write(data)

    return write


def whole(body: bytes, headers: str = "") -> Script:
    return raw(
        f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n{headers}\r\n".encode()
        + body
    )


MODES = {
    "on request": {},
    "streamed": {"response_body_mode": "STREAMED"},
    "duplex": {"request_body_mode": "FULL_DUPLEX_STREAMED", "response_body_mode": "STREAMED"},
}


@asynccontextmanager
async def running_wire(home: Path, **plan: Any) -> AsyncGenerator[Wire]:
    async with AsyncExitStack() as stack:
        telemetry = Listening()
        small = model("small", price=Price(input=100.0, output=200.0))
        known = snapshot(models=(small, model("dead"), model("nowhere")))
        server = Server(
            methods(lambda: Router(known, shared=SharedParts(telemetry=telemetry)), telemetry), services=[PROCESSOR]
        )
        address = await server.start("127.0.0.1:0")
        stack.push_async_callback(server.drain, 0.5)
        server.health.set(ServingStatus.SERVING)
        scripts: list[Script] = []
        requests: list[bytes] = []

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(
                    (line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")), None
                )
                if length is not None:
                    requests.append(head + await reader.readexactly(int(length.partition(b":")[2])))
                else:
                    requests.append(head + await reader.readuntil(b"0\r\n\r\n"))
                await scripts[-1](writer)
                await writer.drain()
            writer.close()

        upstream = await asyncio.start_server(serve, "127.0.0.1", 0)
        stack.callback(upstream.close)
        port = upstream.sockets[0].getsockname()[1]
        around = EnvoyPlan(
            listen=f"127.0.0.1:{free_port()}",
            admin=f"127.0.0.1:{free_port()}",
            processors=(address,),
            clusters=(
                UpstreamCluster("small-cluster", ((f"127.0.0.1:{port}", 1),)),
                UpstreamCluster("dead-cluster", ((f"127.0.0.1:{free_port()}", 1),)),
            ),
            **plan,
        )
        envoy = await stack.enter_async_context(running_envoy(around, home))
        yield Wire(envoy, telemetry, scripts, requests)


@pytest.fixture
async def wire(tmp_path: Path) -> AsyncIterator[Wire]:
    async with running_wire(tmp_path) as running:
        yield running


async def post(wire: Wire, body: dict[str, Any] | None = None, **headers: str) -> tuple[int, bytes, dict[str, str]]:
    async with (
        aiohttp.ClientSession(auto_decompress=False) as session,
        session.post(f"{wire.envoy.url}{CHAT}", json=body or ASK, headers=headers) as response,
    ):
        return response.status, await response.read(), {name.lower(): value for name, value in response.headers.items()}


@pytest.mark.parametrize("mode", MODES)
async def test_a_stream_is_read_and_loses_only_what_we_asked_for(mode, tmp_path):
    async with running_wire(tmp_path, **MODES[mode]) as wire:
        for chunks in (
            [STREAM],
            [CONTENT, CONTENT, STOP, USAGE, DONE],
            [STREAM[at : at + 7] for at in range(0, len(STREAM), 7)],
        ):
            wire.script[:] = [sse(*chunks, gap=0.002)]
            wire.telemetry.outcomes.clear()
            status, body, _ = await post(wire)
            outcome = await wire.outcome()

            assert (status, body) == (200, STREAM.replace(USAGE, b""))
            assert (outcome.usage, outcome.finish_reasons, outcome.complete) == (Usage(5, 2), ("stop",), True)
            assert outcome.cost_usd == pytest.approx(0.0009)
    assert b'"stream_options": {"include_usage": true}' in wire.requests[-1]


async def test_a_caller_who_asked_for_usage_gets_it(wire):
    wire.script.append(sse(STREAM))
    _, body, _ = await post(wire, {**ASK, "stream_options": {"include_usage": True}})

    assert body == STREAM


async def test_the_access_log_tells_tokens_cost_and_pace(wire):
    wire.script.append(sse(STREAM))
    await post(wire)
    await until(wire.envoy.accesses)
    told = wire.envoy.accesses()[0]["wissel"]

    assert (told["input_tokens"], told["output_tokens"], told["cost_usd"]) == (5, 2, pytest.approx(0.0009))
    assert told["ttft_ms"] > 0
    assert told["model"] == "small"


async def test_words_reach_the_caller_as_they_come(wire):
    gate = asyncio.Event()

    async def write(writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + chunked(CONTENT))
        await gate.wait()
        writer.write(chunked(STOP + USAGE + DONE) + b"0\r\n\r\n")

    wire.script.append(write)
    async with aiohttp.ClientSession() as session, session.post(f"{wire.envoy.url}{CHAT}", json=ASK) as response:
        first = await response.content.readexactly(len(CONTENT))
        gate.set()
        rest = await response.content.read()

    assert (first, rest) == (CONTENT, STOP + DONE)


@pytest.mark.parametrize("mode", MODES)
async def test_a_whole_answer_is_read_and_passes_as_it_is(mode, tmp_path):
    async with running_wire(tmp_path, **MODES[mode]) as wire:
        wire.script.append(whole(WHOLE))
        status, body, headers = await post(wire, {**ASK, "stream": False})
        outcome = await wire.outcome()

    assert (status, body, headers["x-wissel-model"]) == (200, WHOLE, "small")
    assert (outcome.usage, outcome.complete) == (Usage(5, 2), True)


async def test_a_compressed_answer_is_read_and_stays_compressed(wire):
    wire.script.append(whole(gzip.compress(WHOLE), "content-encoding: gzip\r\n"))
    _, body, headers = await post(wire, {**ASK, "stream": False}, **{"accept-encoding": "br, gzip"})
    outcome = await wire.outcome()

    assert (gzip.decompress(body), headers["content-encoding"], outcome.usage) == (WHOLE, "gzip", Usage(5, 2))
    assert b"accept-encoding: gzip\r\n" in wire.requests[-1].lower()


async def test_trailers_lose_nothing(wire):
    wire.script.append(sse(STREAM, end=b"0\r\nx-checksum: 1\r\n\r\n"))
    _, body, _ = await post(wire)
    outcome = await wire.outcome()

    assert body == STREAM.replace(USAGE, b"")
    assert (outcome.complete, outcome.usage) == (True, Usage(5, 2))


async def test_large_answers_pass_unchanged(wire):
    large = json.dumps({"usage": {"prompt_tokens": 1, "completion_tokens": 1}, "x": "y" * 5_000_000}).encode()
    wire.script.append(whole(large))
    _, body, _ = await post(wire, {**ASK, "stream": False})

    assert body == large
    assert (await wire.outcome()).usage == Usage(1, 1)


async def test_without_leave_to_override_answers_pass_unread(tmp_path, monkeypatch):
    monkeypatch.setattr("wissel.envoy.listener.ext_proc", without_overrides(wissel.envoy.listener.ext_proc))
    async with running_wire(tmp_path) as wire:
        wire.script.append(sse(STREAM))
        status, body, _ = await post(wire)
        outcome = await wire.outcome()

    assert (status, body) == (200, STREAM)
    assert (outcome.unread, outcome.usage, outcome.hung_up, outcome.is_evidence) == ("not_sent", None, False, True)


def without_overrides(filter_of: Callable[[EnvoyPlan], dict[str, object]]) -> Callable[[EnvoyPlan], dict[str, object]]:
    return lambda plan: {**filter_of(plan), "allow_mode_override": False}


async def test_who_leaves_between_headers_and_the_first_word_is_counted(wire):
    gate = asyncio.Event()

    async def write(writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD)
        await gate.wait()

    wire.script.append(sse(STREAM))
    await post(wire)
    await until(lambda: wire.telemetry.outcomes)
    wire.telemetry.outcomes.clear()
    wire.script.append(write)
    async with aiohttp.ClientSession() as session:
        response = await session.post(f"{wire.envoy.url}{CHAT}", json=ASK)
        response.close()
    outcome = await wire.outcome()
    gate.set()

    assert (outcome.status, outcome.hung_up, outcome.chunks, outcome.is_evidence) == (200, True, 0, False)


# Whose fault it is.


async def test_a_refused_connection_is_the_variants(wire):
    status, _, _ = await post(wire, {**ASK, "model": "dead"})
    outcome = await wire.outcome()

    assert (status, outcome.status, outcome.is_evidence, outcome.is_error) == (503, 503, True, True)
    assert outcome.code_details.startswith("upstream_reset_before_response_started{")


async def test_a_connection_that_dies_before_its_answer_is_the_variants(wire):
    wire.script.append(raw(b""))
    status, _, _ = await post(wire)
    outcome = await wire.outcome()

    assert (status, outcome.is_evidence, outcome.is_error) == (503, True, True)
    assert outcome.code_details.startswith("upstream_reset_before_response_started{")


async def test_a_model_that_stays_silent_is_the_variants(tmp_path):
    async with running_wire(tmp_path, idle_timeout=1.0) as wire:
        gate = asyncio.Event()

        async def silent(writer: asyncio.StreamWriter) -> None:
            await gate.wait()

        wire.script.append(silent)
        status, _, _ = await post(wire)
        outcome = await wire.outcome()
        gate.set()

    assert (status, outcome.code_details, outcome.is_evidence) == (504, "stream_idle_timeout", True)


async def test_a_cluster_that_envoy_does_not_know_is_nobodys(wire):
    status, _, _ = await post(wire, {**ASK, "model": "nowhere"})
    outcome = await wire.outcome()

    assert (status, outcome.code_details, outcome.is_evidence) == (503, "cluster_not_found", False)


async def test_an_error_of_the_upstreams_is_passed_on_and_is_the_variants(wire):
    wire.script.append(raw(b"HTTP/1.1 500 Oops\r\ncontent-length: 4\r\n\r\noops"))
    status, body, _ = await post(wire)
    outcome = await wire.outcome()

    assert (status, body) == (500, b"oops")
    assert (outcome.code_details, outcome.is_evidence, outcome.is_error) == ("via_upstream", True, True)


async def test_a_caller_who_hangs_up_in_the_middle_is_counted(wire):
    gate = asyncio.Event()

    async def write(writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + chunked(CONTENT))
        await gate.wait()

    wire.script.append(write)
    async with aiohttp.ClientSession() as session, session.post(f"{wire.envoy.url}{CHAT}", json=ASK) as response:
        await response.content.readexactly(len(CONTENT))
        response.close()
    outcome = await wire.outcome()
    gate.set()

    assert (outcome.hung_up, outcome.complete, outcome.chunks, outcome.is_evidence) == (True, False, 1, False)


async def test_a_caller_who_hangs_up_before_the_answer_is_counted(wire):
    gate = asyncio.Event()

    async def write(writer: asyncio.StreamWriter) -> None:
        await gate.wait()

    wire.script.append(write)
    async with aiohttp.ClientSession() as session:
        with suppress(TimeoutError):
            async with asyncio.timeout(0.5):
                await session.post(f"{wire.envoy.url}{CHAT}", json=ASK)
    outcome = await wire.outcome()
    gate.set()

    assert (outcome.hung_up, outcome.status, outcome.is_evidence) == (True, 0, False)


async def test_an_upstream_that_dies_in_the_middle_looks_like_a_hang_up(wire):
    wire.script.append(sse(CONTENT, gap=0.1, end=b""))
    with pytest.raises(aiohttp.ClientError):
        await post(wire)
    outcome = await wire.outcome()

    # Envoy ends both streams the same way, and tells the processor nothing more.
    assert (outcome.status, outcome.complete, outcome.hung_up) == (200, False, True)


# The whole installation.

DOCUMENT: dict[str, Any] = {
    "models": [
        {"name": "chatty", "cluster": "c", "price": {"input": 1.0, "output": 2.0},
         "apis": ["chat", "completions", "responses", "messages", "embeddings"]},
    ],
    "entrypoints": ["auto"],
    "intent": {"fallback": "talk", "deadline_ms": 5000},
    "routes": [{"name": "talk", "description": "small talk", "target": "chatty"}],
}  # fmt: skip


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    async with running_stage(DOCUMENT, tmp_path_factory.mktemp("stage")) as running:
        yield running


@needs_encoder
@pytest.mark.asyncio(loop_scope="module")
async def test_every_api_is_served_whole_and_as_a_stream_and_counted(stage: Stage):
    messages: list[Any] = [{"role": "user", "content": "hello"}]
    async with stage.client("any") as client:
        bare = [
            chunk
            async for chunk in await client.chat.completions.create(model="chatty", messages=messages, stream=True)
        ]
        asked = [
            chunk
            async for chunk in await client.chat.completions.create(
                model="chatty", messages=messages, stream=True, stream_options={"include_usage": True}
            )
        ]
        text = [chunk async for chunk in await client.completions.create(model="chatty", prompt="hello", stream=True)]
        events = [event async for event in await client.responses.create(model="chatty", input="hello", stream=True)]
        await client.embeddings.create(model="chatty", input="hello")
    body = {"model": "chatty", "max_tokens": 9, "messages": messages, "stream": True}
    async with aiohttp.ClientSession() as session:
        async with session.post(f"{stage.envoy.url}/v1/messages", json=body) as response:
            anthropic = await response.text()
        await asyncio.sleep(0.2)
        async with session.get(f"{stage.admin}/metrics") as response:
            page = await response.text()
    counted = {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in page.splitlines() if line[0] != "#"}
    requests = {
        key: value
        for key, value in counted.items()
        if key.startswith("gen_ai_client_token_usage_count") and 'type="input"' in key
    }

    assert all(chunk.choices for chunk in bare)
    assert (asked[-1].choices, asked[-1].usage is not None) == ([], True)
    assert all(chunk.choices for chunk in text)
    assert events[-1].type == "response.completed"
    assert "message_stop" in anthropic
    assert {('"chat"' in key, value) for key, value in requests.items()} == {(True, 4.0), (False, 1.0)}
    assert sum(value for key, value in counted.items() if key.startswith("wissel_cost_USD_total")) > 0
    assert not any(key.startswith("wissel_hang_ups_total") for key in counted)
