"""A request through a session, and the spans that are left of it."""

import asyncio
import json
from base64 import b64encode
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import pytest
import structlog
from envoy.service.ext_proc.v3.external_processor_pb2 import ProcessingRequest
from google.protobuf.json_format import ParseDict
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from structlog.testing import capture_logs

from factories import api_key, model, permit, snapshot
from wissel.core.access import ANONYMOUS
from wissel.core.decision import Routed
from wissel.core.intent import NoScores, Scores
from wissel.core.request import Conversation, Head
from wissel.core.snapshot import Limit, Rate
from wissel.extproc import wire
from wissel.extproc.session import methods
from wissel.grpc.frames import Part
from wissel.grpc.server import Status
from wissel.router import Advisers, Router, SharedParts
from wissel.store.keys import Keys
from wissel.store.limits import Limiter
from wissel.telemetry.tracing import EVALUATION, Tracing, add_trace_ids

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED, UNSAMPLED = f"00-{TRACE}-{PARENT}-01", f"00-{TRACE}-{PARENT}-00"
SECRET, PROMPT = "sk-very-secret", "tell-nobody-about-this"
SESSION = "ada@example.org"


class Quiet:
    """A call whose answers nobody reads."""

    method = wire.METHOD
    metadata = MappingProxyType[bytes, bytes]({})

    def send(self, *parts: Part) -> None:
        pass

    def finish(self, status: Status = Status.OK, message: str = "") -> None:
        pass


class Guess:
    """A classifier that takes a turn of the event loop, and logs."""

    def recall(self, conversation: Conversation) -> Scores | NoScores | None:
        return None

    async def classify(self, conversation: Conversation) -> Scores:
        await asyncio.sleep(0)
        structlog.get_logger().info("guessing")
        return Scores({"chat": 0.9, "code": 0.2}, 0.5, "guess")


class Traced:
    """A router whose spans are kept."""

    def __init__(self, *, sample: float = 1.0, **fields: Any) -> None:
        self.exporter = InMemorySpanExporter()
        self.tracing = Tracing(SimpleSpanProcessor(self.exporter), sample=sample)
        self.router = Router(snapshot(**fields), Advisers(classifier=Guess()), SharedParts(tracing=self.tracing))

    async def send(self, model: str = "ab", *, key: str = "", traceparent: str = "", status: int = 200) -> None:
        stream = methods(lambda: self.router, self.router.shared.telemetry)[wire.METHOD](Quiet())
        told = {":method": "POST", ":path": "/v1/chat/completions", "x-session-id": SESSION}
        told |= {"authorization": f"Bearer {key}"} if key else {}
        told |= {"traceparent": traceparent} if traceparent else {}
        modes = {"request_body_mode": "BUFFERED", "response_body_mode": "NONE"}
        stream.message(said(request_headers={"headers": headers(told)}, protocol_config=modes))
        body = json.dumps({"model": model, "messages": [{"role": "user", "content": PROMPT}]}).encode()
        stream.message(said(request_body={"body": b64encode(body).decode(), "end_of_stream": True}))
        for _ in range(5):
            await asyncio.sleep(0)
        answered = {":status": str(status)}
        stream.message(said(response_headers={"headers": headers(answered), "end_of_stream": True}))
        stream.gone()

    @property
    def spans(self) -> dict[str, ReadableSpan]:
        return {span.name: span for span in self.exporter.get_finished_spans()}

    @property
    def parents(self) -> dict[str, str | None]:
        """Name of each span to that of its parent, or to the id of one that is not ours."""
        names = {span.context.span_id: name for name, span in self.spans.items() if span.context}
        return {
            name: names.get(span.parent.span_id, f"{span.parent.span_id:016x}") if span.parent else None
            for name, span in self.spans.items()
        }


def headers(told: dict[str, str]) -> dict[str, Any]:
    return {"headers": [{"key": key, "value": value} for key, value in told.items()]}


def said(**message: object) -> bytes:
    return ParseDict(message, ProcessingRequest()).SerializeToString()


async def test_a_request_is_one_trace_that_joins_the_callers():
    traced = Traced()
    await traced.send("auto", traceparent=SAMPLED)

    assert traced.parents == {"route": PARENT, "classify": "route", "authorize": "route", "chat small": "route"}
    assert {f"{span.context.trace_id:032x}" for span in traced.spans.values() if span.context} == {TRACE}


async def test_limits_are_steps_that_say_what_was_asked_and_what_came_of_it():
    limits = (Limit("per-key", "principal", requests=Rate(1, 86_400)),)
    traced = Traced(keys=(api_key(SECRET),), rules=(permit(),), limits=limits)
    shared = replace(traced.router.shared, limiter=Limiter(None, Keys("t"), "r"))
    traced.router = replace(traced.router, shared=shared)
    await traced.send("small", key=SECRET)
    await traced.send("small", key=SECRET)
    told = [dict(span.attributes or {}) for span in traced.exporter.get_finished_spans() if span.name == "limit"]

    assert traced.parents["limit"] == "route"
    assert told == [
        {"wissel.limits": ("per-key",), "wissel.limit.result": "local"},
        {"wissel.limits": ("per-key",), "wissel.limit.result": "exceeded"},
    ]


async def test_a_request_without_a_parent_begins_a_trace():
    traced = Traced()
    await traced.send("small")

    assert traced.parents == {"route": None, "authorize": "route", "chat small": "route"}


@pytest.mark.parametrize(
    ("sample", "traceparent", "spans"),
    [(1.0, UNSAMPLED, 0), (0.0, SAMPLED, 3), (0.0, "", 0), (1.0, "nonsense", 3), (0.0, "nonsense", 0)],
)
async def test_the_caller_says_whether_to_trace_and_else_the_share(sample: float, traceparent: str, spans: int):
    traced = Traced(sample=sample)
    await traced.send(traceparent=traceparent)

    assert len(traced.spans) == spans


async def test_two_requests_in_one_task_are_two_traces():
    traced = Traced()
    await traced.send("small")
    await traced.send("large")

    assert len({span.context.trace_id for span in traced.exporter.get_finished_spans() if span.context}) == 2


async def test_an_assignment_is_an_event_with_its_variant_and_reason():
    traced = Traced()
    await traced.send("ab")
    (event,) = traced.spans["route"].events

    assert event.name == EVALUATION
    assert event.attributes
    assert {name: event.attributes[name] for name in event.attributes if not name.endswith("context.id")} == {
        "feature_flag.key": "ab",
        "feature_flag.result.variant": traced.spans["route"].attributes["gen_ai.request.model"],  # type: ignore[index]
        "feature_flag.result.reason": "split",
        "feature_flag.provider.name": "wissel",
        "feature_flag.version": "r1",
    }


async def test_the_operation_is_told_by_the_names_of_the_conventions():
    traced = Traced()
    await traced.send("small", status=503)

    assert dict(traced.spans["chat small"].attributes or {}) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "small-cluster",
        "gen_ai.request.model": "small",
        "wissel.route": "",
        "wissel.target": "small",
        "http.response.status_code": 503,
        "error.type": "503",
    }


@pytest.mark.parametrize(
    ("api", "name"),
    [
        ("chat", "chat"),
        ("completions", "text_completion"),
        ("responses", "chat"),
        ("messages", "chat"),
        ("embeddings", "embeddings"),
    ],
)
def test_an_operation_is_named_after_its_api(api: str, name: str):
    traced = Traced()
    trace = traced.tracing.begin(Head("llm", "POST", "/", {}, api), "r-1")
    assert trace is not None
    trace.decided(Routed(model("small"), "small", "small", "static", ANONYMOUS, "r1"))
    trace.ended(None)

    assert (traced.spans[f"{name} small"].attributes or {})["gen_ai.operation.name"] == name


async def test_a_refusal_is_told_on_the_route():
    traced = Traced(keys=(api_key(SECRET),), rules=(permit(models=frozenset({"large"})),))
    await traced.send("small", key=SECRET)

    assert traced.spans.keys() == {"route", "authorize"}
    assert (traced.spans["route"].attributes or {})["error.type"] == "forbidden"


async def test_prompts_credentials_and_targeting_keys_stay_here():
    traced = Traced(keys=(api_key(SECRET),), rules=(permit(),))
    await traced.send("auto", key=SECRET)
    await traced.send("ab", key=SECRET)
    everything = "".join(span.to_json() for span in traced.exporter.get_finished_spans())

    assert not [told for told in (SECRET, PROMPT, SESSION) if told in everything]


async def test_lines_of_a_traced_request_say_to_which_trace_they_belong():
    traced = Traced()
    with capture_logs(processors=[add_trace_ids]) as lines:
        await traced.send("auto", traceparent=SAMPLED)
        structlog.get_logger().info("idle")

    assert [(line["event"], line.get("trace_id")) for line in lines] == [("guessing", TRACE), ("idle", None)]
