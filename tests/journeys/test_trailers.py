"""HTTP/2 trailers behind a request's body, sent by h2 through a real Envoy."""

import asyncio
import json
from base64 import b64encode
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
from envoy.service.ext_proc.v3 import external_processor_pb2 as pb
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, ResponseReceived, StreamEnded, StreamReset

import wissel.demo.stage
from processor import Processor, running_processor
from real import needs_envoy
from wissel.config import Config
from wissel.demo.parts import free_port, running_envoy
from wissel.demo.stage import Stage, running_stage
from wissel.demo.upstream import Upstream, running_upstream
from wissel.envoy import EnvoyPlan, UpstreamCluster, plan

pytestmark = [pytest.mark.slow, needs_envoy]

Mode = Literal["BUFFERED", "FULL_DUPLEX_STREAMED"]
MODES: tuple[Mode, ...] = ("BUFFERED", "FULL_DUPLEX_STREAMED")
CALL, FILES = "/v1/chat/completions", "/v1/files"
CHAT = json.dumps({"model": "small", "messages": [{"role": "user", "content": "hi " * 5000}]}).encode()
CHUNK = 8192
DOCUMENT: dict[str, Any] = {
    "models": [{"name": "small", "cluster": "a"}],
    "passthrough": [{"path_prefix": FILES, "cluster": "a"}],
}


async def send(address: str, path: str, body: bytes, *, trailers: bool) -> tuple[int, bytes]:
    """The status and the body of the answer; 0 where the stream was reset before there was one."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    connection = H2Connection(H2Configuration(client_side=True))
    connection.initiate_connection()
    headers = [(":method", "POST"), (":path", path), (":scheme", "http"), (":authority", address)]
    connection.send_headers(1, [*headers, ("content-type", "application/json")])
    chunks = [body[at : at + CHUNK] for at in range(0, len(body), CHUNK)]
    for at, chunk in enumerate(chunks):
        connection.send_data(1, chunk, end_stream=not trailers and at == len(chunks) - 1)
    if trailers:
        connection.send_headers(1, [("x-checksum", "1")], end_stream=True)
    writer.write(connection.data_to_send())
    status, answer = 0, b""
    try:
        async with asyncio.timeout(20):
            while data := await reader.read(65536):
                for event in connection.receive_data(data):
                    match event:
                        case ResponseReceived():
                            status = int(dict(event.headers)[b":status"])
                        case DataReceived():
                            answer += event.data
                        case StreamEnded() | StreamReset():
                            return status, answer
                        case _:
                            pass
                writer.write(connection.data_to_send())
    finally:
        writer.close()
    return status, answer


@asynccontextmanager
async def staged(home: Path, mode: Mode, monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[Stage]:
    def in_mode(config: Config) -> EnvoyPlan:
        return replace(plan(config), request_body_mode=mode)

    monkeypatch.setattr(wissel.demo.stage, "plan", in_mode)
    async with running_stage(DOCUMENT, home) as stage:
        yield stage


class Continues(Processor):
    """Hands every body back as it came, and trailers behind it."""

    def answer(self, message: pb.ProcessingRequest) -> dict[str, Any]:
        match message.WhichOneof("request"):
            case "request_headers":
                return {"request_headers": {"response": self.decision(None)}}
            case "request_body":
                found = message.request_body
                back = {"body": b64encode(found.body).decode(), "end_of_stream": found.end_of_stream}
                return {"request_body": {"response": {"body_mutation": {"streamed_response": back}}}}
            case kind:
                return {kind: {}}


def code_of(answer: bytes) -> str | None:
    return json.loads(answer).get("error", {}).get("code")


@pytest.mark.parametrize("mode", MODES)
async def test_no_server_gets_a_body_twice(mode: Mode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    async with staged(tmp_path, mode, monkeypatch) as stage:
        address = stage.envoy.plan.listen
        told = {
            (path, trailers): await send(address, path, CHAT, trailers=trailers)
            for path in (CALL, FILES)
            for trailers in (False, True)
        }
        arrived = [len(each.body) for each in stage.upstreams["a"].requests]
        refused = [code_of(answer) for (_, trailers), (status, answer) in told.items() if trailers and status == 400]

    assert told[CALL, False][0] == 200
    assert set(arrived) <= {len(CHAT)}
    if mode == "BUFFERED":
        assert told[CALL, True][0] == 200
        assert len(arrived) == 4
    else:
        assert refused == ["request_trailers"] * 2
        assert len(arrived) == 2


async def test_this_envoy_would_send_it_twice(tmp_path: Path):
    """What the refusal is there for: where it fails one day, the refusal can go."""
    async with running_upstream(Upstream("a")) as upstream, running_processor(Continues("a")) as processor:
        around = EnvoyPlan(
            listen=f"127.0.0.1:{free_port()}",
            admin=f"127.0.0.1:{free_port()}",
            processors=(processor.address,),
            clusters=(UpstreamCluster("a", ((upstream.address, 1),)),),
            request_body_mode="FULL_DUPLEX_STREAMED",
        )
        async with running_envoy(around, tmp_path) as envoy:
            await send(envoy.plan.listen, CALL, CHAT, trailers=True)

        assert [len(each.body) for each in upstream.requests] == [2 * len(CHAT)]
