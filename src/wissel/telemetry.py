"""Every instrument and attribute, in one place.

Names and attributes are OpenTelemetry's, those of the GenAI conventions where
they have one. Attributes are bounded by the configuration: names
of routes, models and rules, never what a caller wrote. What others keep anyway,
such as where a rollout stands, is asked for only when the numbers are shown.
"""

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from time import time
from typing import Final, NamedTuple, get_args

from prometheus_client import CollectorRegistry, generate_latest

from wissel.core.analysis import Judgement, Reading
from wissel.core.decision import Decision, Denied, Listed, Passed, Routed
from wissel.core.intent import NoScores, Scores
from wissel.core.metrics import Comparison, Guard, Limit
from wissel.core.outcome import Outcome
from wissel.core.request import Api
from wissel.core.rollout import Phase, Progress
from wissel.core.tier import NoWinRate, WinRate
from wissel.meters import Meter, Observations, Value

PROMETHEUS_CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

_SECONDS: Final = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
"""Bucket borders of the GenAI conventions for durations of operations."""

_TOKENS: Final = tuple(4**power for power in range(14))
"""Bucket borders of the GenAI conventions for counts of tokens: 1 to 67,108,864."""

OPERATIONS: Final[Mapping[Api, str]] = {
    "chat": "chat",
    "completions": "text_completion",
    "responses": "chat",
    "messages": "chat",
    "embeddings": "embeddings",
}
"""`gen_ai.operation.name` by API."""

_DECISION_SECONDS: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)

RECENT: Final = 50
"""Decisions, and apart from them denials, that are remembered for people to look at."""


class Decided(NamedTuple):
    """A decision that was made; a tuple, since one is made for every request."""

    at: float
    """In seconds since the epoch."""
    seconds: float
    """From the request's body to the decision."""
    decision: Decision


@dataclass(slots=True)
class Traffic:
    """What has gone one way since the process began."""

    route: str
    """Empty where the callers named the target."""
    model: str
    variant: str
    decided: int = 0
    ended: int = 0
    """Responses that are over."""
    errors: int = 0
    """Of those, with a status from 400 or an error in their body; who hangs up makes none."""
    seconds: float = 0.0
    """That they took, together."""
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float = 0.0


_CONFIDENCE: Final = tuple(number / 20 for number in range(1, 20))

FAILURES: Final = ("exception", "half_closed", "malformed_message", "protocol")
"""Why a stream is failed closed. Each is counted from 0, so that an alert sees the first."""


@dataclass(frozen=True, slots=True)
class Revision:
    """The configuration that serves."""

    id: str
    loaded_at: float
    """Seconds since the epoch."""
    is_refused: bool
    """Whether a newer file was refused."""


@dataclass(frozen=True, slots=True)
class StoreHealth:
    """How delivering to Redis goes."""

    lag: float
    """Seconds since everything was delivered."""
    failures: int


class Telemetry:
    """What wissel counts. Each method is called once for each thing that happens."""

    def __init__(self) -> None:
        self.meter: Final = Meter()
        meter = self.meter
        self._registry = CollectorRegistry()
        self._registry.register(meter)
        self._decisions = meter.counter(
            "wissel.decisions", description="decided requests, by kind, route, model, variant and reason"
        )
        self._denials = meter.counter("wissel.denials", description="refused requests, by code, route and limit")
        self._shadows = meter.counter(
            "wissel.shadow_rules", description="requests that a shadow rule would have changed"
        )
        self._decision_seconds = meter.histogram(
            "wissel.decision.duration",
            unit="s",
            description="from the request's body to its decision",
            borders=_DECISION_SECONDS,
        )
        self._classifications = meter.histogram(
            "wissel.classify.duration",
            unit="s",
            description="classifications that were waited for, by result",
            borders=_DECISION_SECONDS,
        )
        self._tier_requests = meter.counter(
            "wissel.tier.requests", description="requests that a tier served, by tier, end and reason"
        )
        self._tier_thresholds = meter.up_down_counter(
            "wissel.tier.threshold", description="the win rate from which a tier's strong end is asked, as last used"
        )
        self._thresholds: dict[str, float] = {}
        """What is counted as each tier's threshold by now."""
        self._gradings = meter.histogram(
            "wissel.grade.duration",
            unit="s",
            description="win rates that were waited for, by tier and result",
            borders=_DECISION_SECONDS,
        )
        self._confidence = meter.histogram(
            "wissel.classify.confidence",
            unit="",
            description="the best route's score, by the route taken and whether it matched or fell back (other)",
            borders=_CONFIDENCE,
        )
        self._assignments = meter.counter(
            "wissel.assignments", description="requests of a split or rollout, by variant and reason"
        )
        self._responses = meter.histogram(
            "wissel.response.duration",
            unit="s",
            description="from the request to its response's headers, by status, route, model and variant",
            borders=_SECONDS,
        )
        self._tokens = meter.histogram(
            "gen_ai.client.token.usage",
            unit="{token}",
            description="tokens of a request, by type",
            borders=_TOKENS,
        )
        self._operations = meter.histogram(
            "gen_ai.client.operation.duration",
            unit="s",
            description="from the request to the end of its response, or to its headers where the body is not read",
            borders=_SECONDS,
        )
        self._first_chunks = meter.histogram(
            "gen_ai.client.operation.time_to_first_chunk",
            unit="s",
            description="from the request to the first token of its stream",
            borders=_SECONDS,
        )
        self._output_chunks = meter.histogram(
            "gen_ai.client.operation.time_per_output_chunk",
            unit="s",
            description="between two chunks of a stream, one mean for each response",
            borders=_SECONDS,
        )
        self._cost = meter.counter("wissel.cost", unit="USD", description="by the models' prices")
        self._hang_ups = meter.counter(
            "wissel.hang_ups", description="streams that were gone before their response ended"
        )
        self._unread = meter.counter(
            "wissel.responses.unread", description="responses of which something could not be read, by reason"
        )
        self._failures = meter.counter(
            "wissel.exchange.failures", description="streams that were failed closed, by reason"
        )
        for reason in FAILURES:
            self._failures.add(0, {"reason": reason})
        self._reloads = meter.counter("wissel.config.reloads", description="configurations loaded, by result")
        for result in ("ok", "refused"):
            self._reloads.add(0, {"result": result})
        self._streams = meter.up_down_counter("wissel.streams", description="open ext_proc streams")
        self.recent: deque[Decided] = deque(maxlen=RECENT)
        """The latest requests that were let through, oldest first."""
        self.denied: deque[Decided] = deque(maxlen=RECENT)
        """The latest that were refused, oldest first; kept apart, so that a flood of one does not hide the other."""

    def show_config(self, read: Callable[[], Revision]) -> None:
        """From now on tell what `read` says of the configuration."""
        observed = self.meter.observed
        observed("wissel.config.info", "1, with the revision that serves", lambda: [({"revision": read().id}, 1.0)])
        observed(
            "wissel.config.loaded_time",
            "when the revision that serves was loaded, since the epoch",
            lambda: [({}, read().loaded_at)],
            unit="s",
        )
        observed(
            "wissel.config.refused",
            "1 while the file on disk cannot be used and the last good one serves",
            lambda: [({}, float(read().is_refused))],
        )

    def show_store(self, read: Callable[[], StoreHealth]) -> None:
        """From now on tell how `read` says that delivering goes."""
        observed = self.meter.observed
        observed(
            "wissel.store.lag",
            "since everything that was counted had reached Redis",
            lambda: [({}, read().lag)],
            unit="s",
        )
        observed(
            "wissel.store.failures",
            "writes of counters that Redis did not take",
            lambda: [({}, read().failures)],
            is_monotonic=True,
        )

    def show_rollouts(self, read: Callable[[], Iterable[Progress]]) -> None:
        """From now on tell where `read` says that every rollout stands.

        The weight that is set is told here; the actual one is the canary's part in `wissel.assignments`.
        """
        observed = self.meter.observed
        observed("wissel.rollout.weight", "percent of the keys that the canary is set to", lambda: _weights(read()))
        observed("wissel.rollout.phase", "1 for the phase that the rollout is in, else 0", lambda: _phases(read()))
        observed(
            "wissel.rollout.lost",
            "1 while the rollout serves stable only because its record vanished from Redis, else 0",
            lambda: _lost(read()),
        )
        observed("wissel.rollout.step", "steps that the rollout has behind it", lambda: _steps(read()))
        observed("wissel.rollout.steps", "steps that the rollout has", lambda: _all_steps(read()))
        observed(
            "wissel.rollout.verdict",
            "1 for the judgement of the latest look, else 0",
            lambda: _verdicts(read()),
        )
        observed(
            "wissel.rollout.metric.value",
            "a metric at the latest look, by arm, in its own unit",
            lambda: _values(read()),
        )
        observed(
            "wissel.rollout.metric.threshold",
            "the value at which the canary would be worse than is allowed, in the metric's own unit",
            lambda: _thresholds(read()),
        )
        observed(
            "wissel.rollout.metric.change",
            "the ends of the interval of the canary's difference from stable; of relative metrics, a share",
            lambda: _changes(read()),
        )

    def stream_opened(self) -> None:
        self._streams.add(1)

    def stream_closed(self) -> None:
        self._streams.add(-1)

    def decided(self, decision: Decision, seconds: float) -> None:
        """A request was decided, `seconds` after its body was complete."""
        self._decision_seconds.record(seconds)
        (self.denied if isinstance(decision, Denied) else self.recent).append(Decided(time(), seconds, decision))
        match decision:
            case Routed():
                self._decisions.add(1, {"kind": "routed", **_where(decision), "reason": decision.reason})
                if graded := decision.tier:
                    self._tier_requests.add(1, {"tier": graded.tier, "end": graded.end, "reason": graded.reason})
                    moved = graded.threshold - self._thresholds.get(graded.tier, 0.0)
                    self._tier_thresholds.add(moved, {"tier": graded.tier})
                    self._thresholds[graded.tier] = graded.threshold
                if decision.split is not None:
                    self._assignments.add(
                        1,
                        {
                            "feature_flag.key": decision.split.name,
                            "feature_flag.result.variant": decision.variant,
                            "feature_flag.result.reason": decision.reason,
                        },
                    )
                if decision.intent is not None and decision.intent.score is not None:
                    self._confidence.record(
                        decision.intent.score, {"route": decision.intent.route, "result": decision.intent.reason}
                    )
            case Passed():
                self._decisions.add(1, {"kind": "passed", "cluster": decision.cluster})
            case Listed():
                self._decisions.add(1, {"kind": "listed"})
            case Denied():
                limit = {"limit": decision.limit_id} if decision.limit_id else {}
                self._denials.add(1, {"code": decision.code, "route": decision.route, **limit})
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
        """The response to a routed request is over."""
        where = _where(decision)
        if outcome.headers_after is not None:
            blame = "variant" if outcome.is_evidence else "nobody"
            self._responses.record(outcome.headers_after, {**where, "status": outcome.status, "blame": blame})
        if outcome.hung_up:
            self._hang_ups.add(1, where)
        if outcome.unread:
            self._unread.add(1, {**where, "reason": outcome.unread})
        operation = _operation(decision, outcome)
        error = error_type(outcome)
        self._operations.record(outcome.duration, {**operation, "error.type": error} if error else operation)
        if outcome.usage is not None:
            self._tokens.record(outcome.usage.input_tokens, {**operation, "gen_ai.token.type": "input"})
            self._tokens.record(outcome.usage.output_tokens, {**operation, "gen_ai.token.type": "output"})
        if outcome.cost_usd is not None:
            self._cost.add(outcome.cost_usd, operation)
        if outcome.ttft is not None:
            self._first_chunks.record(outcome.ttft, operation)
        if outcome.time_per_output_chunk is not None:
            self._output_chunks.record(outcome.time_per_output_chunk, operation)

    def exchange_failed(self, reason: str) -> None:
        self._failures.add(1, {"reason": reason})

    def reloaded(self, *, ok: bool) -> None:
        self._reloads.add(1, {"result": "ok" if ok else "refused"})

    def traffic(self) -> list[Traffic]:
        """Every way that requests have gone, by route, model and variant."""
        ways: dict[tuple[Value, ...], Traffic] = {}
        for key, count in self._decisions.series.items():
            if (facts := dict(key)).get("kind") == "routed":
                _way(ways, facts, _PLACE).decided += int(count)
        for key, (*counts, seconds) in self._operations.series.items():
            way, ended = _way(ways, facts := dict(key), _OPERATION_PLACE), int(sum(counts))
            way.ended += ended
            way.seconds += seconds
            way.errors += ended if facts.get("error.type", "hung_up") != "hung_up" else 0
        for key, (*_, tokens) in self._tokens.series.items():
            way = _way(ways, facts := dict(key), _OPERATION_PLACE)
            if facts.get("gen_ai.token.type") == "input":
                way.input_tokens += int(tokens)
            else:
                way.output_tokens += int(tokens)
        for key, cost in self._cost.series.items():
            _way(ways, dict(key), _OPERATION_PLACE).cost_usd += cost
        return list(ways.values())

    def denials(self) -> Iterable[tuple[str, str, int]]:
        """Code, route and how many requests were refused so."""
        for key, count in self._denials.series.items():
            facts = dict(key)
            yield str(facts.get("code", "")), str(facts.get("route", "")), int(count)

    def exposition(self) -> bytes:
        """The page that Prometheus reads."""
        return generate_latest(self._registry)


def _rollout(progress: Progress) -> dict[str, str]:
    return {"rollout": progress.spec.name}


def _weights(all_progress: Iterable[Progress]) -> Observations:
    return [(_rollout(each), each.rollout.weight if each.rollout else 0) for each in all_progress]


def _phases(all_progress: Iterable[Progress]) -> Observations:
    return [
        ({**_rollout(each), "phase": phase}, float(each.rollout.phase == phase))
        for each in all_progress
        if each.rollout is not None
        for phase in get_args(Phase)
    ]


def _lost(all_progress: Iterable[Progress]) -> Observations:
    return [(_rollout(each), float(each.rollout.paused == "lost")) for each in all_progress if each.rollout is not None]


def _steps(all_progress: Iterable[Progress]) -> Observations:
    return [(_rollout(each), each.rollout.step) for each in all_progress if each.rollout is not None]


def _all_steps(all_progress: Iterable[Progress]) -> Observations:
    return [(_rollout(each), len(each.spec.steps)) for each in all_progress]


def _verdicts(all_progress: Iterable[Progress]) -> Observations:
    return [
        ({**_rollout(each), "verdict": judgement}, float(each.verdict.judgement == judgement))
        for each in all_progress
        if each.verdict is not None
        for judgement in get_args(Judgement)
    ]


def _readings(all_progress: Iterable[Progress]) -> Iterable[tuple[dict[str, str], Guard | Limit | Comparison, Reading]]:
    """Every metric of every rollout that was looked at, with its attributes."""
    for each in all_progress:
        if each.verdict is None or each.spec.analysis is None:
            continue
        # A look that could not measure has no readings.
        for metric, reading in zip(each.spec.analysis.metrics, each.verdict.readings, strict=False):
            yield {**_rollout(each), "metric": reading.metric}, metric, reading


def _values(all_progress: Iterable[Progress]) -> Observations:
    return [
        ({**attributes, "arm": arm}, value)
        for attributes, _, reading in _readings(all_progress)
        for arm, value in (("canary", reading.canary), ("stable", reading.stable))
        if value is not None
    ]


def _thresholds(all_progress: Iterable[Progress]) -> Observations:
    for attributes, metric, reading in _readings(all_progress):
        match metric:
            case Guard(max=most):
                yield {**attributes, "end": "max"}, most
            case Limit():
                ends = (("min", metric.min), ("max", metric.max))
                yield from (({**attributes, "end": end}, value) for end, value in ends if value is not None)
            case Comparison(direction=direction) if reading.stable is not None:
                sign = 1 if direction == "increase" else -1
                scale = reading.stable if metric.relative else 1.0
                end = "max" if direction == "increase" else "min"
                yield {**attributes, "end": end}, reading.stable + sign * metric.allowed * scale
            case Comparison():
                pass


def _changes(all_progress: Iterable[Progress]) -> Observations:
    return [
        ({**attributes, "end": end}, value)
        for attributes, _, reading in _readings(all_progress)
        for end, value in zip(("lower", "upper"), reading.change, strict=True)
        if value is not None
    ]


def _where(decision: Routed) -> dict[str, str]:
    return {"route": decision.route, "model": decision.model.name, "variant": decision.variant}


_PLACE: Final = ("route", "model", "variant")
_OPERATION_PLACE: Final = ("wissel.route", "gen_ai.request.model", "feature_flag.result.variant")


def _way(ways: dict[tuple[Value, ...], Traffic], facts: Mapping[str, Value], place: tuple[str, str, str]) -> Traffic:
    """The way that a series belongs to; what exceeds the bound on series is one of its own, without names."""
    route, model, variant = (str(facts.get(name, "")) for name in place)
    return ways.setdefault((route, model, variant), Traffic(route, model, variant))


def _operation(decision: Routed, outcome: Outcome) -> dict[str, str]:
    """By the GenAI conventions; the provider is known by the name of its cluster."""
    return {
        "gen_ai.operation.name": OPERATIONS[outcome.api],
        "gen_ai.provider.name": decision.model.cluster,
        "gen_ai.request.model": decision.model.name,
        "wissel.route": decision.route,
        "feature_flag.result.variant": decision.variant,
    }


def error_type(outcome: Outcome) -> str:
    """`error.type`, empty without an error. Bounded: never an upstream's own words."""
    if outcome.hung_up:
        return "hung_up"
    return str(outcome.status) if outcome.status >= 400 else "_OTHER" if outcome.error else ""
