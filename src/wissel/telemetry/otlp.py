# pyright: reportUnknownMemberType=false
# The exporters take untyped keywords.
"""The meter's sums and the traces, brought to an OTLP endpoint beside the request path.

Numbers are copied on the event loop, whose they are, and turned into
OpenTelemetry's data and sent in a thread. They are cumulative, so what an
endpoint missed while it was away is in what it is sent next.

The encoding is OTLP's JSON: xds-protos brings an older copy of OTLP's protobufs
under the same module names as opentelemetry-proto, and whichever is installed
last wins, so the protobuf exporter works on some machines only.
"""

import asyncio
import os
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from time import time_ns
from typing import Any, Final

import structlog
from opentelemetry.exporter.otlp.json.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.json.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    HistogramDataPoint,
    Metric,
    MetricExporter,
    MetricExportResult,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.metrics.export import Histogram as HistogramData
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from wissel import __version__
from wissel.config.model import Exports as Settings
from wissel.runtime.background import beside
from wissel.telemetry.meters import Counter, HistogramMeter, Instrument, Key, Meter, Observed
from wissel.telemetry.tracing import Tracing

log = structlog.get_logger(__name__)

SEND_SECONDS: Final = 5.0
"""For one message, tries again included; at the end of the process it is what a silent endpoint costs."""

_CUMULATIVE: Final = AggregationTemporality.CUMULATIVE


@dataclass(frozen=True, slots=True)
class Copied:
    """An instrument, and what its series were at one moment."""

    instrument: Instrument
    numbers: dict[Key, float]
    """Of a counter or gauge."""
    counts: dict[Key, list[float]]
    """Of a histogram: as `Histogram.series`."""


def copy(meter: Meter) -> list[Copied]:
    """All that the meter shows now."""
    copied: list[Copied] = []
    for each in meter.instruments:
        match each:
            case HistogramMeter():
                copied.append(Copied(each, {}, {key: list(found) for key, found in each.series.items()}))
            case Counter() | Observed():
                copied.append(Copied(each, dict(each.series), {}))
    return copied


def metrics_data(copied: list[Copied], resource: Resource, *, began: int, now: int) -> MetricsData:
    """In OpenTelemetry's shape; `began` and `now` are in nanoseconds since the epoch."""
    metrics = [_metric(each, began, now) for each in copied if each.numbers or each.counts]
    scope = ScopeMetrics(InstrumentationScope("wissel", __version__), metrics, "")
    return MetricsData([ResourceMetrics(resource, [scope], "")])


def _metric(copied: Copied, began: int, now: int) -> Metric:
    instrument = copied.instrument
    # Always of one type: a series that is an integer today and a fraction tomorrow is two to some who read it.
    points = [NumberDataPoint(dict(key), began, now, float(value)) for key, value in copied.numbers.items()]
    match instrument:
        case HistogramMeter(borders=borders):
            counted = [_histogram_point(key, found, borders, began, now) for key, found in copied.counts.items()]
            data = HistogramData(counted, _CUMULATIVE)
        case Counter(is_monotonic=is_monotonic):
            data = Sum(points, _CUMULATIVE, is_monotonic=is_monotonic)
        case Observed(is_monotonic=True):
            data = Sum(points, _CUMULATIVE, is_monotonic=True)
        case Observed():
            data = Gauge(points)
    return Metric(instrument.name, instrument.description, instrument.unit, data)


def _histogram_point(
    key: Key, found: list[float], borders: tuple[float, ...], began: int, now: int
) -> HistogramDataPoint:
    counts = [int(count) for count in found[:-1]]
    # The extremes are not kept; OTLP has them as optional, and the exporter leaves them out.
    unknown: Any = None
    return HistogramDataPoint(dict(key), began, now, sum(counts), found[-1], counts, borders, min=unknown, max=unknown)


def described(worker: int) -> Resource:
    """What sends; what the environment says by `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` wins."""
    ours = {
        "service.name": "wissel",
        "service.version": __version__,
        "service.instance.id": f"{socket.gethostname()}/{worker}",
    }
    return Resource.create({**ours, **OTELResourceDetector().detect().attributes})


def _is_disabled() -> bool:
    return os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"


@asynccontextmanager
async def exporting(settings: Settings, meter: Meter, *, worker: int = 0) -> AsyncGenerator[Tracing]:
    """Send what the meter counts, and the traces that are made with what is handed out, while the block runs.

    Without an endpoint, or with `OTEL_SDK_DISABLED`, nothing is sent and nothing traced. What is left is sent last.
    """
    if settings.otlp is None or _is_disabled():
        yield Tracing()
        return
    url = settings.otlp.rstrip("/")
    resource = described(worker)
    spans = BatchSpanProcessor(OTLPSpanExporter(f"{url}/v1/traces", timeout=SEND_SECONDS))
    tracing = Tracing(spans, sample=settings.traces.sample, resource=resource)
    exporter = OTLPMetricExporter(f"{url}/v1/metrics", timeout=SEND_SECONDS)
    began = time_ns()
    try:
        async with beside(_push_for_ever(exporter, meter, resource, began, settings.interval)):
            yield tracing
    finally:
        await asyncio.gather(_push(exporter, meter, resource, began), asyncio.to_thread(tracing.close))
        exporter.shutdown()


async def _push_for_ever(
    exporter: MetricExporter, meter: Meter, resource: Resource, began: int, interval: float
) -> None:
    while True:
        await asyncio.sleep(interval)
        await _push(exporter, meter, resource, began)


async def _push(exporter: MetricExporter, meter: Meter, resource: Resource, began: int) -> None:
    try:
        copied, now = copy(meter), time_ns()

        def send() -> MetricExportResult:
            return exporter.export(metrics_data(copied, resource, began=began, now=now))

        if await asyncio.to_thread(send) is not MetricExportResult.SUCCESS:
            log.warning("metrics_not_sent", instruments=len(copied))
    except Exception:
        # Telemetry is never a reason to stop; the next sums hold what these did.
        log.exception("metrics_not_sent")
