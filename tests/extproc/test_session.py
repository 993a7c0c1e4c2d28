"""One stream on a call that is only written down."""

import asyncio
import gc
import json
import tracemalloc
from base64 import b64encode
from types import MappingProxyType

import pytest
from envoy.service.ext_proc.v3.external_processor_pb2 import ProcessingRequest
from google.protobuf.json_format import ParseDict

from factories import model, snapshot
from real import until
from wissel.core.decision import Decision, Routed
from wissel.core.outcome import Outcome
from wissel.extproc import wire
from wissel.extproc.session import methods
from wissel.grpc.frames import Part
from wissel.grpc.server import Receiver, Status
from wissel.router import Router, SharedParts
from wissel.telemetry.counting import Telemetry


class Written:
    """A call that keeps what is said."""

    method = wire.METHOD
    metadata = MappingProxyType[bytes, bytes]({})

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.status: Status | None = None

    def send(self, *parts: Part) -> None:
        self.messages.append(b"".join(parts))

    def finish(self, status: Status = Status.OK, message: str = "") -> None:
        self.status = status


class Listening(Telemetry):
    def __init__(self) -> None:
        super().__init__()
        self.outcomes: list[Outcome] = []
        self.decisions: list[Decision] = []

    def ended(self, decision: Routed, outcome: Outcome) -> None:
        self.outcomes.append(outcome)

    def decided(self, decision: Decision, seconds: float) -> None:
        self.decisions.append(decision)


def said(**message: object) -> bytes:
    return ParseDict(message, ProcessingRequest()).SerializeToString()


def header(key: str, value: str) -> dict[str, str]:
    return {"key": key, "value": value}


def forwarded() -> tuple[Receiver, Written, Listening]:
    """A stream whose request is on its way to a model."""
    telemetry = Listening()
    call = Written()
    router = Router(snapshot(models=(model("small"),)), shared=SharedParts(telemetry=telemetry))
    stream = methods(lambda: router, telemetry)[wire.METHOD](call)
    asked = [header(":method", "POST"), header(":path", "/v1/chat/completions")]
    modes = {"request_body_mode": "BUFFERED", "response_body_mode": "NONE"}
    stream.message(said(request_headers={"headers": {"headers": asked}}, protocol_config=modes))
    stream.message(said(request_body={"body": "eyJtb2RlbCI6InNtYWxsIn0=", "end_of_stream": True}))
    assert len(call.messages) == 2
    return stream, call, telemetry


async def test_a_stream_that_is_gone_before_its_answer_is_a_hang_up():
    stream, _, telemetry = forwarded()
    stream.gone()

    assert [outcome.hung_up for outcome in telemetry.outcomes] == [True]


async def test_a_stream_that_we_failed_ourselves_is_no_hang_up():
    stream, call, telemetry = forwarded()
    stream.message(b"\xff")
    stream.gone()

    assert call.status is Status.INTERNAL
    assert telemetry.outcomes == []


async def test_a_decision_is_told_once_after_its_answer():
    stream, call, telemetry = forwarded()
    before = list(telemetry.decisions)
    await asyncio.sleep(0)
    stream.gone()

    assert (len(call.messages), before, len(telemetry.decisions)) == (2, [], 1)


async def test_a_decision_is_told_also_of_a_stream_that_is_gone_at_once():
    stream, _, telemetry = forwarded()
    stream.gone()
    told = len(telemetry.decisions)
    await asyncio.sleep(0)

    assert (told, len(telemetry.decisions)) == (1, 1)


async def test_a_decision_is_told_also_of_a_stream_that_fails():
    stream, call, telemetry = forwarded()
    stream.message(b"\xff")
    told = len(telemetry.decisions)
    await asyncio.sleep(0)

    assert (call.status, told, len(telemetry.decisions)) == (Status.INTERNAL, 1, 1)


LARGE = json.dumps(
    {
        "model": "small",
        "messages": [{"role": "user", "content": [{"type": "text", "text": f"{n}"}]} for n in range(9_000)],
    }
).encode()


async def sent_large() -> Receiver:
    """A stream whose large request is on its way, while its answer has not begun."""
    telemetry = Telemetry()
    router = Router(snapshot(models=(model("small", upstream_model="s"),)), shared=SharedParts(telemetry=telemetry))
    call = Written()
    stream = methods(lambda: router, telemetry)[wire.METHOD](call)
    asked = [header(":method", "POST"), header(":path", "/v1/chat/completions")]
    modes = {"request_body_mode": "BUFFERED", "response_body_mode": "NONE"}
    stream.message(said(request_headers={"headers": {"headers": asked}}, protocol_config=modes))
    stream.message(said(request_body={"body": b64encode(LARGE).decode(), "end_of_stream": True}))
    await until(lambda: len(call.messages) == 2)
    call.messages.clear()
    return stream


@pytest.mark.slow
async def test_a_body_goes_when_it_was_forwarded_and_no_cycle_holds_it():
    (await sent_large()).gone()
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        streams = [await sent_large() for _ in range(3)]
        while_answered, _ = tracemalloc.get_traced_memory()
        for stream in streams:
            stream.gone()
        del stream, streams
        await asyncio.sleep(0)
        left, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        gc.enable()

    assert (while_answered < len(LARGE), left < len(LARGE) / 4) == (True, True)


async def test_a_caller_that_leaves_before_its_body_is_there_is_no_failure_of_ours():
    telemetry, call = Listening(), Written()
    failed: list[str] = []
    telemetry.exchange_failed = failed.append
    router = Router(snapshot(models=(model("small"),)), shared=SharedParts(telemetry=telemetry))
    stream = methods(lambda: router, telemetry)[wire.METHOD](call)
    asked = [header(":method", "POST"), header(":path", "/v1/chat/completions")]
    modes = {"request_body_mode": "BUFFERED", "response_body_mode": "NONE"}
    stream.message(said(request_headers={"headers": {"headers": asked}}, protocol_config=modes))
    stream.half_closed()
    stream.gone()

    assert (call.status, failed) == (Status.CANCELLED, [])
