"""Every instrument and attribute, in one place.

Metrics are OpenTelemetry's, so one set of names serves the Prometheus page and,
later in the pipeline, OTLP. Attributes are bounded by the configuration: names
of routes, models and rules, never what a caller wrote.
"""

from typing import Final

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.resources import Resource
from prometheus_client import CollectorRegistry, generate_latest

from wissel import __version__
from wissel.core.decision import Decision, Denied, Listed, Passed, Routed
from wissel.core.intent import NoScores, Scores
from wissel.core.outcome import Outcome
from wissel.core.tier import NoWinRate, WinRate

PROMETHEUS_CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

_SECONDS: Final = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
"""Bucket borders of the GenAI conventions for durations of operations."""

_DECISION_SECONDS: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)


class Telemetry:
    """What wissel counts. Each method is called once for each thing that happens."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        reader = PrometheusMetricReader(disable_target_info=True, scope_info_enabled=False, registry=self._registry)
        resource = Resource.create({"service.name": "wissel", "service.version": __version__})
        self._provider = MeterProvider(metric_readers=[reader], resource=resource, shutdown_on_exit=False)
        meter = self._provider.get_meter("wissel", __version__)
        self._decisions = meter.create_counter(
            "wissel.decisions", description="decided requests, by kind, route, model, variant and reason"
        )
        self._denials = meter.create_counter("wissel.denials", description="refused requests, by code and route")
        self._shadows = meter.create_counter(
            "wissel.shadow_rules", description="requests that a shadow rule would have changed"
        )
        self._decision_seconds = meter.create_histogram(
            "wissel.decision.duration",
            unit="s",
            description="from the request's body to its decision",
            explicit_bucket_boundaries_advisory=_DECISION_SECONDS,
        )
        self._classifications = meter.create_histogram(
            "wissel.classify.duration",
            unit="s",
            description="classifications that were waited for, by result",
            explicit_bucket_boundaries_advisory=_DECISION_SECONDS,
        )
        self._tier_requests = meter.create_counter(
            "wissel.tier.requests", description="requests that a tier served, by tier, end and reason"
        )
        self._tier_thresholds = meter.create_gauge(
            "wissel.tier.threshold", description="the win rate from which a tier's strong end is asked, as last used"
        )
        self._gradings = meter.create_histogram(
            "wissel.grade.duration",
            unit="s",
            description="win rates that were waited for, by tier and result",
            explicit_bucket_boundaries_advisory=_DECISION_SECONDS,
        )
        self._responses = meter.create_histogram(
            "wissel.response.duration",
            unit="s",
            description="from the request to its response's headers, by status, route, model and variant",
            explicit_bucket_boundaries_advisory=_SECONDS,
        )
        self._failures = meter.create_counter(
            "wissel.exchange.failures", description="streams that were failed closed, by reason"
        )
        self._reloads = meter.create_counter("wissel.config.reloads", description="configurations loaded, by result")
        self._streams = meter.create_up_down_counter("wissel.streams", description="open ext_proc streams")

    def stream_opened(self) -> None:
        self._streams.add(1)

    def stream_closed(self) -> None:
        self._streams.add(-1)

    def decided(self, decision: Decision, seconds: float) -> None:
        """A request was decided, `seconds` after its body was complete."""
        self._decision_seconds.record(seconds)
        match decision:
            case Routed():
                self._decisions.add(1, {"kind": "routed", **_where(decision), "reason": decision.reason})
                if graded := decision.tier:
                    self._tier_requests.add(1, {"tier": graded.tier, "end": graded.end, "reason": graded.reason})
                    self._tier_thresholds.set(graded.threshold, {"tier": graded.tier})
            case Passed():
                self._decisions.add(1, {"kind": "passed", "cluster": decision.cluster})
            case Listed():
                self._decisions.add(1, {"kind": "listed"})
            case Denied():
                self._denials.add(1, {"code": decision.code, "route": decision.route})
        if isinstance(decision, Routed | Denied):
            for rule_id in decision.shadow_ids:
                self._shadows.add(1, {"rule": rule_id})

    def classified(self, scores: Scores | NoScores, seconds: float) -> None:
        result = scores.reason if isinstance(scores, NoScores) else "scores"
        self._classifications.record(seconds, {"result": result})

    def graded(self, tier: str, rate: WinRate | NoWinRate, seconds: float) -> None:
        result = rate.reason if isinstance(rate, NoWinRate) else "win_rate"
        self._gradings.record(seconds, {"tier": tier, "result": result})

    def ended(self, decision: Routed, outcome: Outcome) -> None:
        """The response to a routed request has begun."""
        blame = "variant" if outcome.is_evidence else "nobody"
        attributes = {**_where(decision), "status": outcome.status, "blame": blame}
        self._responses.record(outcome.duration, attributes)

    def exchange_failed(self, reason: str) -> None:
        self._failures.add(1, {"reason": reason})

    def reloaded(self, *, ok: bool) -> None:
        self._reloads.add(1, {"result": "ok" if ok else "refused"})

    def exposition(self) -> bytes:
        """The page that Prometheus reads."""
        return generate_latest(self._registry)

    def close(self) -> None:
        self._provider.shutdown()


def _where(decision: Routed) -> dict[str, str]:
    return {"route": decision.route, "model": decision.model.name, "variant": decision.variant}
