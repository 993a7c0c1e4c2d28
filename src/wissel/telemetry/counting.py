"""What happens, and with which attributes it is counted.

Attributes are OpenTelemetry's, those of the GenAI conventions where they have
one. They are bounded by the configuration: names of routes, models and rules,
never what a caller wrote; and by `meters.SERIES`, whatever that says.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from time import time
from typing import Final, NamedTuple, get_args

from prometheus_client import CollectorRegistry, generate_latest

from wissel.apis.table import APIS
from wissel.core.decision import Decision, Denied, Kept, Listed, ListedAnswers, Passed, Routed
from wissel.core.intent import NoScores, Scores
from wissel.core.limits import Drawn, Exceeded, Unchecked
from wissel.core.outcome import Outcome
from wissel.core.tier import NoWinRate, WinRate
from wissel.telemetry.instruments import DrawResult, Instruments, Lookup
from wissel.telemetry.meters import Meter, Value

PROMETHEUS_CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

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
    refused: int = 0
    """With which the provider refused a credential or an account of ours."""
    seconds: float = 0.0
    """That they took, together."""
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float = 0.0


@dataclass(slots=True)
class Tried:
    """What came of one model where `chosen` was dealt; the words are those of the metric's results."""

    chosen: str
    model: str
    served: int = 0
    failed: int = 0
    rested: int = 0
    """Times that it was left out since it rests."""


@dataclass(frozen=True, slots=True)
class Refusals:
    """Requests that were refused in one way."""

    code: str
    route: str
    limit: str
    """The id of the limit that refused; empty where none did."""
    count: int


class Telemetry:
    """What wissel counts. Each method is called once for each thing that happens."""

    def __init__(self) -> None:
        self.meter: Final = Meter()
        self._registry = CollectorRegistry()
        self._registry.register(self.meter)
        self._count = Instruments(self.meter)
        self._thresholds: dict[str, float] = {}
        """What is counted as each tier's threshold by now."""
        self.recent: deque[Decided] = deque(maxlen=RECENT)
        """The latest requests that were let through, oldest first."""
        self.denied: deque[Decided] = deque(maxlen=RECENT)
        """The latest that were refused, oldest first; kept apart, so that a flood of one does not hide the other."""

    def stream_opened(self) -> None:
        self._count.streams.add(1)

    def stream_closed(self) -> None:
        self._count.streams.add(-1)

    def decided(self, decision: Decision, seconds: float) -> None:
        """A request was decided, `seconds` after its body was complete."""
        self._count.decision_seconds.record(seconds)
        (self.denied if isinstance(decision, Denied) else self.recent).append(Decided(time(), seconds, decision))
        match decision:
            case Routed():
                self._count.decisions.add(1, {"kind": "routed", **_where(decision), "reason": decision.reason})
                if graded := decision.tier:
                    self._count.tier_requests.add(1, {"tier": graded.tier, "end": graded.end, "reason": graded.reason})
                    moved = graded.threshold - self._thresholds.get(graded.tier, 0.0)
                    self._count.tier_thresholds.add(moved, {"tier": graded.tier})
                    self._thresholds[graded.tier] = graded.threshold
                if decision.split is not None:
                    self._count.assignments.add(
                        1,
                        {
                            "feature_flag.key": decision.split.name,
                            "feature_flag.result.variant": decision.variant,
                            "feature_flag.result.reason": decision.reason,
                        },
                    )
                if (intent := decision.intent) is not None:
                    stage = {"classifier": intent.classifier} if intent.classifier else {}
                    self._count.intents.add(1, {"route": intent.route, "reason": intent.reason, **stage})
                    if intent.script:
                        self._count.scripts.add(1, {"script": intent.script, "reason": intent.reason})
                    if intent.score is not None:
                        self._count.confidence.record(intent.score, {"route": intent.route, "result": intent.reason})
            case Passed() | Kept() | Listed() | ListedAnswers():
                self._count.decisions.add(1, _beside_calls(decision))
            case Denied():
                limit = {"limit": decision.limit_id} if decision.limit_id else {}
                self._count.denials.add(1, {"code": decision.code, "route": decision.route, **limit})
        if isinstance(decision, Routed | Kept | Denied):
            for rule_id in decision.shadow_ids:
                self._count.shadows.add(1, {"rule": rule_id})

    def classified(self, scores: Scores | NoScores, seconds: float) -> None:
        result = scores.reason if isinstance(scores, NoScores) else "scores"
        self._count.classifications.record(seconds, {"result": result})

    def graded(self, tier: str, rate: WinRate | NoWinRate, seconds: float) -> None:
        result = rate.reason if isinstance(rate, NoWinRate) else "win_rate"
        self._count.gradings.record(seconds, {"tier": tier, "result": result})

    def drew(self, found: Drawn | Exceeded | Unchecked | None, seconds: float) -> None:
        """Limits were asked for; None where the request goes on without them."""
        self._count.draw_seconds.record(seconds)
        self._count.draws.add(1, _DRAWS[draw_result(found)])

    def ended(self, decision: Routed, outcome: Outcome) -> None:
        """The response to a routed request is over."""
        self._tried(decision, outcome)
        where = _where(decision, outcome)
        if outcome.headers_after is not None:
            told = {**where, "status": outcome.status, "blame": _blame(decision, outcome)}
            self._count.responses.record(outcome.headers_after, told)
        if outcome.hung_up:
            self._count.hang_ups.add(1, where)
        if outcome.unread:
            self._count.unread.add(1, {**where, "reason": outcome.unread})
        operation = _operation(decision, outcome)
        error = error_type(outcome)
        self._count.operations.record(outcome.duration, {**operation, "error.type": error} if error else operation)
        if outcome.usage is not None:
            self._count.tokens.record(outcome.usage.input_tokens, {**operation, "gen_ai.token.type": "input"})
            self._count.tokens.record(outcome.usage.output_tokens, {**operation, "gen_ai.token.type": "output"})
        if outcome.cost_usd is not None:
            self._count.cost.add(outcome.cost_usd, operation)
        if outcome.ttft is not None:
            self._count.first_chunks.record(outcome.ttft, operation)
        if outcome.time_per_output_chunk is not None:
            self._count.output_chunks.record(outcome.time_per_output_chunk, operation)
        if outcome.time_per_output_token is not None:
            self._count.output_tokens.record(outcome.time_per_output_token, operation)

    def looked_up(self, result: Lookup, seconds: float) -> None:
        """Where something was made was asked for."""
        self._count.lookup_seconds.record(seconds)
        self._count.lookups.add(1, {"result": result})

    def _tried(self, decision: Routed, outcome: Outcome) -> None:
        candidates, chosen = decision.candidates, decision.chosen
        if decision.rested:
            self._count.attempts.add(1, {"model": chosen, "chosen": chosen, "result": "rested"})
        elif len(candidates) == 1:
            return
        for model in candidates[: outcome.attempts - 1]:
            self._count.attempts.add(1, {"model": model.name, "chosen": chosen, "result": "failed"})
        # Who left before an answer began has seen none of them fail, and none serve.
        if outcome.status:
            is_failure = outcome.status >= 500 or (outcome.attempts > 1 and outcome.status == 429)
            served = {"model": decision.served_after(outcome.attempts).name, "chosen": chosen}
            self._count.attempts.add(1, {**served, "result": "failed" if is_failure else "served"})

    def exchange_failed(self, reason: str) -> None:
        self._count.failures.add(1, {"reason": reason})

    def usage_refused(self, model: str) -> None:
        """The model's server refuses to be asked for the usage of a stream, and will not be asked again."""
        self._count.usage_refusals.add(1, {"model": model})

    def reloaded(self, *, ok: bool) -> None:
        self._count.reloads.add(1, {"result": "ok" if ok else "refused"})

    def traffic(self) -> list[Traffic]:
        """Every way that requests have gone, by route, model and variant."""
        ways: dict[tuple[Value, ...], Traffic] = {}
        for key, count in self._count.decisions.series.items():
            if (facts := dict(key)).get("kind") == "routed":
                _way(ways, facts, _PLACE).decided += int(count)
        for key, (*counts, seconds) in self._count.operations.series.items():
            way, ended = _way(ways, facts := dict(key), _OPERATION_PLACE), int(sum(counts))
            way.ended += ended
            way.seconds += seconds
            way.errors += ended if facts.get("error.type", "hung_up") != "hung_up" else 0
        for key, (*counts, _) in self._count.responses.series.items():
            if (facts := dict(key)).get("blame") == "operator":
                _way(ways, facts, _PLACE).refused += int(sum(counts))
        for key, (*_, tokens) in self._count.tokens.series.items():
            way = _way(ways, facts := dict(key), _OPERATION_PLACE)
            if facts.get("gen_ai.token.type") == "input":
                way.input_tokens += int(tokens)
            else:
                way.output_tokens += int(tokens)
        for key, cost in self._count.cost.series.items():
            _way(ways, dict(key), _OPERATION_PLACE).cost_usd += cost
        return list(ways.values())

    def attempts(self) -> list[Tried]:
        """What came of each model that was asked, or rested, by the model that was chosen."""
        tried: dict[tuple[str, str], Tried] = {}
        for key, count in self._count.attempts.series.items():
            facts = {name: str(value) for name, value in key}
            match facts:
                case {"chosen": chosen, "model": model, "result": result}:
                    found = tried.setdefault((chosen, model), Tried(chosen, model))
                    setattr(found, result, getattr(found, result) + int(count))
                case _:
                    pass
        return list(tried.values())

    def denials(self) -> Iterable[Refusals]:
        """How many requests were refused, and how."""
        for key, count in self._count.denials.series.items():
            facts = dict(key)
            code, route, limit = (str(facts.get(name, "")) for name in ("code", "route", "limit"))
            yield Refusals(code, route, limit, int(count))

    def draws(self) -> dict[str, int]:
        """How often limits were asked for, by what came of it."""
        return {str(dict(key)["result"]): int(count) for key, count in self._count.draws.series.items()}

    def exposition(self) -> bytes:
        """The page that Prometheus reads."""
        return generate_latest(self._registry)


def draw_result(found: Drawn | Exceeded | Unchecked | None) -> DrawResult:
    """What came of asking for limits, as metrics and traces call it."""
    match found:
        case Drawn(is_local=is_local):
            return "local" if is_local else "drawn"
        case Exceeded():
            return "exceeded"
        case Unchecked():
            return "unchecked"
        case None:
            return "uncounted"


_DRAWS: Final = {result: {"result": result} for result in get_args(DrawResult)}


def _beside_calls(decision: Passed | Kept | Listed | ListedAnswers) -> dict[str, str]:
    match decision:
        case Passed(cluster=cluster):
            return {"kind": "passed", "cluster": cluster}
        case Kept(model=model, route=route):
            return {"kind": "kept", "route": route, "model": model.name}
        case Listed() | ListedAnswers():
            return {"kind": "listed"}


def _where(decision: Routed, outcome: Outcome | None = None) -> dict[str, str]:
    """By who served; what a fallback answers is no variant's."""
    if outcome is not None and decision.has_failed_over(outcome.attempts):
        served = decision.served_after(outcome.attempts).name
        return {"route": decision.route, "model": served, "variant": served}
    return {"route": decision.route, "model": decision.model.name, "variant": decision.variant}


def _blame(decision: Routed, outcome: Outcome) -> str:
    if outcome.fault == "operator":
        return "operator"
    return "variant" if outcome.is_evidence and not decision.has_failed_over(outcome.attempts) else "nobody"


_PLACE: Final = ("route", "model", "variant")
_OPERATION_PLACE: Final = ("wissel.route", "gen_ai.request.model", "feature_flag.result.variant")


def _way(ways: dict[tuple[Value, ...], Traffic], facts: Mapping[str, Value], place: tuple[str, str, str]) -> Traffic:
    """The way that a series belongs to; what exceeds the bound on series is one of its own, without names."""
    route, model, variant = (str(facts.get(name, "")) for name in place)
    return ways.setdefault((route, model, variant), Traffic(route, model, variant))


def _operation(decision: Routed, outcome: Outcome) -> dict[str, str]:
    """By the GenAI conventions; the provider is known by the name of its cluster."""
    where = _where(decision, outcome)
    return {
        "gen_ai.operation.name": APIS[outcome.api].operation,
        "gen_ai.provider.name": decision.served_after(outcome.attempts).cluster,
        "gen_ai.request.model": where["model"],
        "wissel.route": decision.route,
        "feature_flag.result.variant": where["variant"],
    }


def error_type(outcome: Outcome) -> str:
    """`error.type`, empty without an error. Bounded: never an upstream's own words."""
    if outcome.hung_up:
        return "hung_up"
    return str(outcome.status) if outcome.status >= 400 else "_OTHER" if outcome.error else ""
