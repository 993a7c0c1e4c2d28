"""Every instrument of what happens to requests: its name, its unit and its buckets.

Names are OpenTelemetry's, those of the GenAI conventions where they have one.
`telemetry` says which attributes each is recorded with; what is not counted
here but kept by others is in `gauges`.
"""

from typing import Final, Literal, get_args

from wissel.telemetry.meters import Meter

_SECONDS: Final = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
"""Bucket borders of the GenAI conventions for durations of operations."""

_TOKENS: Final = tuple(4**power for power in range(14))
"""Bucket borders of the GenAI conventions for counts of tokens: 1 to 67,108,864."""

_TOKEN_SECONDS: Final = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
"""Bucket borders of the GenAI conventions for the time of one token."""

_DECISION_SECONDS: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)

_CONFIDENCE: Final = tuple(number / 20 for number in range(1, 20))

FAILURES: Final = ("exception", "half_closed", "malformed_message", "protocol")
"""Why a stream is failed closed. Each is counted from 0, so that an alert sees the first."""

DrawResult = Literal["drawn", "local", "exceeded", "unchecked", "uncounted"]
"""Of limits: counted over all replicas, or in this process alone; refused; refused since nobody could count; let
through although nobody could. Each is counted from 0 as well."""


Lookup = Literal["here", "found", "unknown", "unavailable"]
"""Of the id of an answer: this process remembers its origin, or Redis does; nobody knows it; Redis is away. Each is
counted from 0."""


class Instruments:
    """All of them, made on one meter."""

    def __init__(self, meter: Meter) -> None:
        # Deciding.
        self.decisions: Final = meter.counter(
            "wissel.decisions", description="decided requests, by kind, route, model, variant and reason"
        )
        self.denials: Final = meter.counter("wissel.denials", description="refused requests, by code, route and limit")
        self.shadows: Final = meter.counter(
            "wissel.shadow_rules", description="requests that a shadow rule would have changed"
        )
        self.decision_seconds: Final = meter.histogram(
            "wissel.decision.duration",
            unit="s",
            description="from the request's body to its decision",
            borders=_DECISION_SECONDS,
        )
        self.classifications: Final = meter.histogram(
            "wissel.classify.duration",
            unit="s",
            description="classifications that were waited for, by result",
            borders=_DECISION_SECONDS,
        )
        self.intents: Final = meter.counter(
            "wissel.intents",
            description="requests routed by intent, by route, reason (match, pinned, other and more) and who answered",
        )
        self.scripts: Final = meter.counter(
            "wissel.intent.scripts",
            description="requests routed by intent, by the script their last question is written in, and by reason",
        )
        self.confidence: Final = meter.histogram(
            "wissel.classify.confidence",
            unit="",
            description="the best route's score, by the route taken and whether it matched or fell back (other)",
            borders=_CONFIDENCE,
        )
        self.draws: Final = meter.counter(
            "wissel.limit.draws", description="times that limits were asked for, by what came of it"
        )
        for result in get_args(DrawResult):
            self.draws.add(0, {"result": result})
        self.draw_seconds: Final = meter.histogram(
            "wissel.limit.duration",
            unit="s",
            description="for which a request waited for its limits, each time",
            borders=_DECISION_SECONDS,
        )
        self.lookups: Final = meter.counter(
            "wissel.affinity.lookups", description="times that an answer's origin was asked for, by what came of it"
        )
        for result in get_args(Lookup):
            self.lookups.add(0, {"result": result})
        self.lookup_seconds: Final = meter.histogram(
            "wissel.affinity.duration",
            unit="s",
            description="for which a request waited to know where an answer was made",
            borders=_DECISION_SECONDS,
        )
        self.tier_requests: Final = meter.counter(
            "wissel.tier.requests", description="requests that a tier served, by tier, end and reason"
        )
        self.tier_thresholds: Final = meter.up_down_counter(
            "wissel.tier.threshold", description="the win rate from which a tier's strong end is asked, as last used"
        )
        self.gradings: Final = meter.histogram(
            "wissel.grade.duration",
            unit="s",
            description="win rates that were waited for, by tier and result",
            borders=_DECISION_SECONDS,
        )
        self.assignments: Final = meter.counter(
            "wissel.assignments", description="requests of a split or rollout, by variant and reason"
        )
        # What the models answered.
        self.responses: Final = meter.histogram(
            "wissel.response.duration",
            unit="s",
            description="from the request to its response's headers, by status, route, model and variant",
            borders=_SECONDS,
        )
        self.attempts: Final = meter.counter(
            "wissel.attempts",
            description="models that were tried where there are fallbacks, or rested, by model, chosen one and result",
        )
        self.attempts.add(0, {})
        self.tokens: Final = meter.histogram(
            "gen_ai.client.token.usage",
            unit="{token}",
            description="tokens of a request, by type",
            borders=_TOKENS,
        )
        self.operations: Final = meter.histogram(
            "gen_ai.client.operation.duration",
            unit="s",
            description="from the request to the end of its response, or to its headers where the body is not read",
            borders=_SECONDS,
        )
        self.first_chunks: Final = meter.histogram(
            "gen_ai.client.operation.time_to_first_chunk",
            unit="s",
            description="from the request to the first token of its stream",
            borders=_SECONDS,
        )
        self.output_chunks: Final = meter.histogram(
            "gen_ai.client.operation.time_per_output_chunk",
            unit="s",
            description="between two chunks of a stream, one mean for each response",
            borders=_SECONDS,
        )
        # The conventions have no name for this on the side of a client.
        self.output_tokens: Final = meter.histogram(
            "gen_ai.server.time_per_output_token",
            unit="s",
            description="for a token after the first, one mean for each response",
            borders=_TOKEN_SECONDS,
        )
        self.cost: Final = meter.counter("wissel.cost", unit="USD", description="by the models' prices")
        self.hang_ups: Final = meter.counter(
            "wissel.hang_ups", description="streams that were gone before their response ended"
        )
        self.unread: Final = meter.counter(
            "wissel.responses.unread", description="responses of which something could not be read, by reason"
        )
        self.usage_refusals: Final = meter.counter(
            "wissel.stream_usage.refusals",
            description="models whose servers refused to be asked for the usage of a stream, and are asked no more",
        )
        self.usage_refusals.add(0, {})
        # The process itself.
        self.failures: Final = meter.counter(
            "wissel.exchange.failures", description="streams that were failed closed, by reason"
        )
        for reason in FAILURES:
            self.failures.add(0, {"reason": reason})
        self.reloads: Final = meter.counter("wissel.config.reloads", description="configurations loaded, by result")
        for result in ("ok", "refused"):
            self.reloads.add(0, {"result": result})
        self.streams: Final = meter.up_down_counter("wissel.streams", description="open ext_proc streams")
