"""A tiny OTLP receiver, and what arrives there."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web
from pydantic import ValidationError

from real import needs_envoy, until
from wissel.admin.listener import listening
from wissel.config.model import Exports as Settings
from wissel.config.model import Traces
from wissel.core.request import Head
from wissel.demo.stage import running_stage
from wissel.telemetry.meters import Meter
from wissel.telemetry.otlp import described, exporting


class Receiver:
    def __init__(self) -> None:
        self.bodies: dict[str, list[Any]] = {"metrics": [], "traces": []}
        self.status = 200
        self.address = ""

    async def take(self, request: web.Request) -> web.Response:
        self.bodies[request.match_info["signal"]].append(await request.json())
        return web.json_response({}, status=self.status)

    @property
    def metrics(self) -> dict[str, dict[str, Any]]:
        """Of the latest push, by name."""
        (resource,) = self.bodies["metrics"][-1]["resourceMetrics"]
        (scope,) = resource["scopeMetrics"]
        return {metric["name"]: metric for metric in scope["metrics"]}


@pytest_asyncio.fixture
async def receiver() -> AsyncIterator[Receiver]:
    found = Receiver()
    app = web.Application()
    app.router.add_post("/v1/{signal}", found.take)
    async with listening(app, "127.0.0.1:0") as listener:
        found.address = listener.address
        yield found


def settings(receiver: Receiver, **fields: Any) -> Settings:
    return Settings(otlp=f"http://{receiver.address}", traces=Traces(sample=1.0), **fields)


async def test_sums_arrive_under_their_own_names(receiver: Receiver):
    meter = Meter()
    meter.counter("wissel.served", "what was served").add(3, {"route": "code"})
    meter.observed("wissel.lag", "how late", lambda: [({}, 1.5)], unit="s")
    meter.histogram("wissel.time", "how long", unit="s", borders=(1.0, 2.0)).record(1.5)
    async with exporting(settings(receiver), meter):
        pass
    served, lag, time = (receiver.metrics[name] for name in ("wissel.served", "wissel.lag", "wissel.time"))

    assert served["sum"]["isMonotonic"]
    assert served["sum"]["aggregationTemporality"] == 2
    assert served["sum"]["dataPoints"][0]["asDouble"] == 3.0
    assert served["sum"]["dataPoints"][0]["attributes"] == [{"key": "route", "value": {"stringValue": "code"}}]
    assert (lag["unit"], lag["gauge"]["dataPoints"][0]["asDouble"]) == ("s", 1.5)
    (point,) = time["histogram"]["dataPoints"]
    assert [int(count) for count in point["bucketCounts"]] == [0, 1, 0]
    assert (int(point["count"]), point["sum"], point["explicitBounds"]) == (1, 1.5, [1.0, 2.0])
    assert not {"min", "max"} & point.keys()


async def test_they_are_sent_again_and_again(receiver: Receiver):
    async with exporting(settings(receiver, interval="50ms"), Meter()):
        await until(lambda: len(receiver.bodies["metrics"]) >= 2)


async def test_spans_arrive_at_the_end(receiver: Receiver):
    async with exporting(settings(receiver), Meter(), worker=3) as tracing:
        trace = tracing.begin(Head("llm", "POST", "/v1/chat/completions", {}, "chat"), "wr-1")
        assert trace
        trace.ended(None)
    (body,) = receiver.bodies["traces"]
    (resource,) = body["resourceSpans"]
    told = {each["key"]: each["value"]["stringValue"] for each in resource["resource"]["attributes"]}

    assert [span["name"] for span in resource["scopeSpans"][0]["spans"]] == ["route"]
    assert told["service.name"] == "wissel"
    assert told["service.instance.id"].endswith("/3")


async def test_an_endpoint_that_refuses_is_no_reason_to_stop(receiver: Receiver):
    receiver.status = 400
    async with exporting(settings(receiver), Meter()):
        pass

    assert receiver.bodies["metrics"]


async def test_without_an_endpoint_nothing_is_traced():
    async with exporting(Settings(), Meter()) as tracing:
        assert tracing.begin(Head("llm", "POST", "/v1/chat/completions", {}, "chat"), "wr-1") is None


def test_a_password_has_no_place_in_the_address():
    with pytest.raises(ValidationError, match="password"):
        Settings(otlp="http://me:secret@collector:4318")


@pytest.mark.slow
@needs_envoy
async def test_a_request_through_envoy_is_a_trace_that_joins_its_callers(receiver: Receiver, tmp_path: Path):
    telemetry = {"otlp": f"http://{receiver.address}", "interval": "200ms", "traces": {"sample": 0}}
    document = {"models": [{"name": "small", "cluster": "a"}], "telemetry": telemetry}
    trace, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    async with running_stage(document, tmp_path) as stage, aiohttp.ClientSession() as session:
        headers = {"traceparent": f"00-{trace}-{parent}-01"}
        asked = {"model": "small", "messages": [{"role": "user", "content": "hello"}]}
        async with session.post(f"{stage.envoy.url}/v1/chat/completions", json=asked, headers=headers) as answer:
            assert answer.status == 200
        await until(lambda: receiver.bodies["metrics"] and "wissel.decisions" in receiver.metrics)
    spans = {
        span["name"]: span
        for body in receiver.bodies["traces"]
        for resource in body["resourceSpans"]
        for scope in resource["scopeSpans"]
        for span in scope["spans"]
    }

    assert spans.keys() == {"route", "authorize", "chat small"}
    assert {span["traceId"].lower() for span in spans.values()} == {trace}
    assert spans["route"]["parentSpanId"].lower() == parent
    assert spans["authorize"]["parentSpanId"] == spans["chat small"]["parentSpanId"] == spans["route"]["spanId"]
    told = {each["key"]: each["value"] for each in spans["chat small"]["attributes"]}
    assert int(told["gen_ai.usage.output_tokens"]["intValue"]) > 0


def test_what_the_environment_says_of_the_service_wins(monkeypatch):
    monkeypatch.setenv("OTEL_SERVICE_NAME", "gateway")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.version=7,deployment.environment.name=prod")

    found = described(0).attributes

    assert (found["service.name"], found["service.version"], found["deployment.environment.name"]) == (
        "gateway",
        "7",
        "prod",
    )


def test_without_a_word_of_the_environment_it_is_wissel(monkeypatch):
    monkeypatch.delenv("OTEL_SERVICE_NAME", raising=False)
    monkeypatch.delenv("OTEL_RESOURCE_ATTRIBUTES", raising=False)

    assert described(3).attributes["service.name"] == "wissel"


async def test_a_disabled_sdk_sends_nothing(monkeypatch):
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    sent: list[object] = []
    monkeypatch.setattr("wissel.telemetry.otlp.OTLPMetricExporter", lambda *told, **more: sent.append(told))

    async with exporting(Settings(otlp="http://127.0.0.1:9"), Meter()):
        pass

    assert sent == []
