# pyright: reportAttributeAccessIssue=false, reportUnknownVariableType=false, reportUnknownMemberType=false, reportUnknownArgumentType=false
# Protobuf's messages are untyped.
"""What telling costs a request: metrics, and traces at the default share and for every request.

    python -m tests.bench.telemetry [--requests 500] [--rounds 30] [--json]

Whole ext_proc streams go through a session in this process, from the request's
headers to an answer whose usage is read. The same streams in turns, with
telemetry that does nothing and with the real one, whose spans go to an exporter
that drops them: the difference is what telling costs on the request path. Time
is the CPU's of this thread, so what else the machine does takes no part; what
the exporter's thread does is beside the path. Medians over the rounds.
"""

import argparse
import asyncio
import base64
import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from time import thread_time
from types import MappingProxyType
from typing import Final

from envoy.service.ext_proc.v3.external_processor_pb2 import ProcessingRequest
from google.protobuf.json_format import ParseDict
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from rich.console import Console
from rich.table import Table
from tests.bench.decision import snapshot

from wissel.config.model import Traces
from wissel.core.decision import Decision, Routed
from wissel.core.outcome import Outcome
from wissel.extproc import wire
from wissel.extproc.session import methods
from wissel.grpc.frames import Part
from wissel.grpc.server import Status
from wissel.router import Router, SharedParts
from wissel.telemetry.counting import Telemetry
from wissel.telemetry.tracing import Tracing

AIM_US: Final = 100.0
"""For telling at the default share."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One way of telling."""

    way: str
    request_us: float
    """A whole stream."""
    cost_us: float
    """Over telling nothing."""


class Silent(Telemetry):
    """Counts nothing."""

    def stream_opened(self) -> None:
        pass

    def stream_closed(self) -> None:
        pass

    def decided(self, decision: Decision, seconds: float) -> None:
        pass

    def ended(self, decision: Routed, outcome: Outcome) -> None:
        pass


class Dropped(SpanExporter):
    """Takes spans and forgets them."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:  # forgotten
        return SpanExportResult.SUCCESS


class Deaf:
    """A call whose answers nobody reads."""

    method = wire.METHOD
    owner = ""
    metadata = MappingProxyType[bytes, bytes]({})

    def send(self, *parts: Part) -> None:
        pass

    def finish(self, status: Status = Status.OK, message: str = "") -> None:
        pass


def messages() -> list[bytes]:
    """One stream of Envoy's."""
    asked = json.dumps({"model": "ab", "messages": [{"role": "user", "content": "why does my loop never end?"}]})
    answer = json.dumps({"model": "a", "choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 20}})
    told = {
        ":method": "POST", ":path": "/v1/chat/completions", "content-type": "application/json",
        "authorization": "Bearer secret-0", "x-session-id": "s",
    }  # fmt: skip
    answered = {":status": "200", "content-type": "application/json"}
    modes = {"request_body_mode": "BUFFERED", "response_body_mode": "STREAMED"}
    return [
        _message(request_headers=_headers(told), protocol_config=modes),
        _message(request_body=_body(asked)),
        _message(response_headers=_headers(answered)),
        _message(response_body=_body(answer)),
    ]


def _headers(told: dict[str, str]) -> dict[str, object]:
    return {"headers": {"headers": [{"key": name, "value": value} for name, value in told.items()]}}


def _body(text: str) -> dict[str, object]:
    return {"body": base64.b64encode(text.encode()).decode(), "end_of_stream": True}


def _message(**fields: object) -> bytes:
    return ParseDict(fields, ProcessingRequest()).SerializeToString()


async def measure(requests: int, rounds: int) -> list[Figure]:
    """Every way in turns."""
    share = Traces().sample
    ways = {
        "nothing": Router(snapshot(routes=10, callers=10), shared=SharedParts(telemetry=Silent())),
        "metrics": Router(snapshot(routes=10, callers=10)),
        f"metrics and {share:.0%} of traces (default)": _tracing(share),
        "metrics and every trace": _tracing(1.0),
    }
    sent = messages()
    samples: dict[str, list[float]] = {way: [] for way in ways}
    for turn in range(rounds + 1):
        for way, router in ways.items():
            began = thread_time()
            for _ in range(requests):
                _stream(router, sent)
            if turn:  # the first one only warms up
                samples[way].append((thread_time() - began) / requests * 1e6)
            # What was started beside the stream is done before the next way's turn.
            await asyncio.sleep(0)
    served = ways["metrics"].shared.telemetry.traffic()
    assert sum(way.input_tokens for way in served) > 0, "the bench's own request is not served"
    floor = statistics.median(samples["nothing"])
    for router in ways.values():
        router.shared.tracing.close()
    return [
        Figure(way, round(statistics.median(found), 1), round(statistics.median(found) - floor, 1))
        for way, found in samples.items()
    ]


def _tracing(share: float) -> Router:
    # A queue for every span of a round: dropping some would be another cost.
    tracing = Tracing(BatchSpanProcessor(Dropped(), max_queue_size=1 << 16), sample=share)
    return Router(snapshot(routes=10, callers=10), shared=SharedParts(tracing=tracing))


def _stream(router: Router, sent: list[bytes]) -> None:
    stream = methods(lambda: router, router.shared.telemetry)[wire.METHOD](Deaf())
    for message in sent:
        stream.message(message)
    stream.half_closed()
    stream.gone()


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.telemetry", description="What telling costs a request."
    )
    parser.add_argument("--requests", type=int, default=500, help="of each way in a round")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    figures = asyncio.run(measure(asked.requests, asked.rounds))
    if asked.json:
        print(json.dumps([asdict(each) for each in figures], indent=2))
        return
    table = Table(title=f"Telling about one request (aim: below {AIM_US:g} µs at the default share)")
    for name in ("what is told", "stream µs", "cost µs"):
        table.add_column(name, justify="right")
    for each in figures:
        table.add_row(each.way, f"{each.request_us:.1f}", f"{each.cost_us:.1f}")
    Console().print(table)


if __name__ == "__main__":
    main()
