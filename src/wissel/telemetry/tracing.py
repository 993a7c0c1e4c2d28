"""What happens to one request, as spans of its caller's trace.

    (the caller's or Envoy's span) -> route -> authorize, limit, classify, grade
                                           -> chat MODEL

`route` lasts from the request's headers to its decision, and carries a
`feature_flag.evaluation` event for an assigned variant. `authorize` comes twice
where the intent decides: whether the caller may ask at all, and whether for
this; and so does `limit`: for the caller, and for the model. The span named
after the operation lasts to the end of the response, and follows the GenAI
conventions. Whether a request is traced is the caller's choice where its
`traceparent` says so, else a share is drawn; one that is not traced costs a few
microseconds.

No prompt, answer or credential is ever an attribute. The targeting key may be
a person's, so only its hash is told.
"""

from collections.abc import Generator, Mapping, MutableMapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from hashlib import blake2b
from random import random
from typing import Any, Final, Literal

from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import (
    INVALID_SPAN,
    Span,
    SpanKind,
    Status,
    StatusCode,
    Tracer,
    get_current_span,
    set_span_in_context,
    use_span,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

from wissel.apis.table import APIS
from wissel.core.decision import Decision, Denied, Kept, Listed, ListedAnswers, Passed, Routed
from wissel.core.intent import NoScores, Scores
from wissel.core.limits import Charge, Drawn, Exceeded, Unchecked
from wissel.core.outcome import Outcome
from wissel.core.request import Head
from wissel.core.snapshot import Model
from wissel.core.tier import NoWinRate, Tier, WinRate
from wissel.telemetry.counting import draw_result, error_type

EVALUATION: Final = "feature_flag.evaluation"
FAILED_ATTEMPT: Final = "wissel.attempt.failed"
"""The event of a model that failed, on the span of the one that answered."""
_PROPAGATOR: Final = TraceContextTextMapPropagator()
_HASH_BYTES: Final = 8
_NO_PARENT: Final = Context()


class Tracing:
    """Makes traces. Without `processor` there are none, and nothing is spent on them."""

    def __init__(
        self, processor: SpanProcessor | None = None, *, sample: float = 1.0, resource: Resource | None = None
    ) -> None:
        self._provider: TracerProvider | None = None
        self._tracer: Tracer | None = None
        self._sample = sample
        if processor is not None:
            # What is traced is chosen before there is a span: the SDK takes 20 µs to make one that records nothing.
            self._provider = TracerProvider(sampler=ALWAYS_ON, resource=resource, shutdown_on_exit=False)
            self._provider.add_span_processor(processor)
            self._tracer = self._provider.get_tracer("wissel")

    def begin(self, head: Head, request_id: str) -> "Trace | None":
        """The trace of the request that begins so; None where it is not traced."""
        if self._tracer is None:
            return None
        parent = _parent(head.headers)
        told = get_current_span(parent).get_span_context()
        if not (told.trace_flags.sampled if told.is_valid else random() < self._sample):
            return None
        route = self._tracer.start_span("route", parent, kind=SpanKind.SERVER)
        route.set_attribute("wissel.request_id", request_id)
        return Trace(self._tracer, route, head.api)

    def close(self) -> None:
        """Send what is still to be sent, which may wait for the processor."""
        if self._provider is not None:
            self._provider.shutdown()


def _parent(headers: Mapping[str, str]) -> Context:
    """The caller's, and nothing else: what is active in this task, if anything, is of another request."""
    if "traceparent" not in headers:
        return _NO_PARENT
    carrier = {name: value for name in ("traceparent", "tracestate") if (value := headers.get(name))}
    return _PROPAGATOR.extract(carrier, context=Context())


class Trace:
    """One request's spans."""

    __slots__ = ("_api", "_candidates", "_operation", "_route", "tracer")

    def __init__(self, tracer: Tracer, route: Span, api: str | None) -> None:
        self.tracer: Final = tracer
        self._route = route
        self._api: Final = api
        self._operation: Span | None = None
        self._candidates: tuple[Model, ...] = ()

    @contextmanager
    def active(self) -> Generator[None]:
        """What is done and logged in this block, and in tasks made there, belongs to the request."""
        token = _active.set(self)
        try:
            with use_span(self._route, record_exception=False, set_status_on_exception=False):
                yield
        finally:
            _active.reset(token)

    def decided(self, decision: Decision) -> None:
        """The request was decided."""
        route = self._route
        match decision:
            case Routed():
                self._routed(decision)
            case Kept(model=model):
                route.set_attributes({"gen_ai.provider.name": model.cluster, "gen_ai.request.model": model.name})
            case Passed(cluster=cluster):
                route.set_attribute("gen_ai.provider.name", cluster)
            case Listed() | ListedAnswers():
                pass
            case Denied():
                route.set_attributes({"error.type": decision.code, "http.response.status_code": decision.status})
                if decision.route:
                    route.set_attribute("wissel.route", decision.route)
        route.end()

    def _routed(self, decision: Routed) -> None:
        assert self._api is not None
        self._candidates = decision.candidates
        attributes = _operation(decision, self._api)
        self._route.set_attributes({**attributes, "wissel.reason": decision.reason})
        if decision.split is not None:
            self._route.add_event(EVALUATION, _evaluation(decision))
        name = f"{APIS[self._api].operation} {decision.model.name}"
        within = set_span_in_context(self._route, Context())
        self._operation = self.tracer.start_span(name, within, kind=SpanKind.CLIENT, attributes=attributes)

    def failed(self, reason: str) -> None:
        """The stream was failed closed."""
        span = self._operation or self._route
        span.set_attribute("error.type", reason)
        span.set_status(Status(StatusCode.ERROR, reason))

    def ended(self, outcome: Outcome | None) -> None:
        """The stream is over; `outcome` is None where nothing is known of a response."""
        if self._route.is_recording():
            self._route.end()
        span = self._operation
        if span is None:
            return
        if outcome is not None:
            self._tell_attempts(span, outcome.attempts)
            span.set_attributes(_outcome(outcome))
            if error := error_type(outcome):
                span.set_attribute("error.type", error)
                span.set_status(Status(StatusCode.ERROR))
        span.end()

    def _tell_attempts(self, span: Span, attempts: int) -> None:
        if attempts == 1:
            return
        *failed, served = self._candidates[:attempts]
        for model in failed:
            span.add_event(FAILED_ATTEMPT, {"gen_ai.request.model": model.name, "gen_ai.provider.name": model.cluster})
        served_by = {"gen_ai.request.model": served.name, "gen_ai.provider.name": served.cluster}
        span.set_attributes({**served_by, "wissel.attempts": attempts})


_active: ContextVar[Trace | None] = ContextVar("active_trace", default=None)
_UNTRACED: Final = nullcontext(INVALID_SPAN)


def step(name: Literal["classify", "authorize", "limit", "grade", "affinity"]) -> AbstractContextManager[Span]:
    """The span of a part of deciding; one that records nothing where the request is not traced."""
    trace = _active.get()
    if trace is None:
        return _UNTRACED
    return trace.tracer.start_as_current_span(name, record_exception=False)


def tell_scores(span: Span, scores: Scores | NoScores) -> None:
    """What the classifier said, as attributes."""
    match scores:
        case NoScores(reason=reason):
            span.set_attribute("error.type", reason)
        case Scores():
            best, score = scores.ranking[0]
            span.set_attributes(
                {"wissel.classifier": scores.classifier, "wissel.intent.best": best, "wissel.intent.score": score}
            )


def tell_rate(span: Span, tier: Tier, rate: WinRate | NoWinRate) -> None:
    """What the grader of a tier said, as attributes."""
    span.set_attribute("wissel.tier", tier.name)
    match rate:
        case NoWinRate(reason=reason):
            span.set_attribute("error.type", reason)
        case WinRate(value=value):
            span.set_attribute("wissel.win_rate", value)


def tell_draw(span: Span, charges: tuple[Charge, ...], found: Drawn | Exceeded | Unchecked | None) -> None:
    """Which limits were asked for and what came of it, as attributes."""
    result = draw_result(found)
    span.set_attributes({"wissel.limits": sorted({charge.limit for charge in charges}), "wissel.limit.result": result})


def add_trace_ids(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A processor of structlog's: lines that belong to a traced request say to which."""
    found = get_current_span().get_span_context()
    if found.is_valid:
        event["trace_id"] = f"{found.trace_id:032x}"
        event["span_id"] = f"{found.span_id:016x}"
    return event


def _operation(decision: Routed, api: str) -> dict[str, str]:
    return {
        "gen_ai.operation.name": APIS[api].operation,
        "gen_ai.provider.name": decision.model.cluster,
        "gen_ai.request.model": decision.model.name,
        "wissel.route": decision.route,
        "wissel.target": decision.target,
    }


def _evaluation(decision: Routed) -> dict[str, str]:
    attributes = {
        "feature_flag.key": decision.target,
        "feature_flag.result.variant": decision.variant,
        "feature_flag.result.reason": decision.reason,
        "feature_flag.provider.name": "wissel",
        "feature_flag.version": decision.revision,
    }
    if decision.key is not None:
        digest = blake2b(decision.key.value.encode("utf-8", "surrogatepass"), digest_size=_HASH_BYTES).hexdigest()
        attributes["feature_flag.context.id"] = digest
    return attributes


def _outcome(outcome: Outcome) -> dict[str, AttributeValue]:
    found: dict[str, AttributeValue | None] = {
        "http.response.status_code": outcome.status or None,
        "gen_ai.response.time_to_first_chunk": outcome.ttft,
        "gen_ai.usage.input_tokens": outcome.usage.input_tokens if outcome.usage else None,
        "gen_ai.usage.output_tokens": outcome.usage.output_tokens if outcome.usage else None,
        "gen_ai.usage.cache_read.input_tokens": outcome.usage.cached_tokens if outcome.usage else None,
        "gen_ai.usage.reasoning.output_tokens": outcome.usage.reasoning_tokens if outcome.usage else None,
        "gen_ai.response.model": outcome.response_model or None,
        "gen_ai.response.finish_reasons": outcome.finish_reasons or None,
        "wissel.cost_usd": outcome.cost_usd,
    }
    return {name: value for name, value in found.items() if value is not None}
