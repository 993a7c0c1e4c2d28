"""How a request goes on: a call as its model wants it."""

import json
from dataclasses import dataclass, replace

from wissel.apis.api import Api
from wissel.apis.body import Body, Splice, Written, size_of
from wissel.apis.encoding import asked_away
from wissel.core.access import ANONYMOUS
from wissel.core.decision import Routed
from wissel.core.names import HELD_HEADER, PLAN_HEADER
from wissel.core.request import Head
from wissel.core.snapshot import Failover, Model, Terms
from wissel.extproc.fitting import between, fitted, goes_along
from wissel.extproc.itinerary import Errand
from wissel.extproc.mutation import Mutation, for_routed
from wissel.extproc.upstream import demanded_by, path_for, shown_in


@dataclass(frozen=True, slots=True)
class ReadCall:
    """An LLM call whose body was read."""

    head: Head
    api: Api
    body: Body
    """Without its members, which take a multiple of its bytes."""
    streams: bool
    """Whether the caller wants the answer as a stream."""
    unpacked: bool
    """Whether the caller sent it in a content coding."""
    asking_for_usage: tuple[Splice, ...]
    """What makes its stream tell its usage; nothing where it does so unasked."""
    leaving_out: tuple[Splice, ...] = ()
    """What of the body was meant for wissel alone."""


def read_call(head: Head, api: Api, body: Body, terms: Terms, *, streams: bool, unpacked: bool) -> ReadCall:
    """What has to be kept of a call whose body was understood."""
    on_ask = api.usage_on_ask if streams else None
    ask = () if on_ask is None else on_ask.ask(body)
    is_ours = terms.failover.accept_models and "models" in body.spans
    left_out = (body.leaving_out("models"),) if is_ours else ()
    return ReadCall(head, api, replace(body, members={}), streams, unpacked, ask, left_out)


def as_walked(decision: Routed, call: ReadCall | None, *, walks_plans: bool) -> Routed:
    """The plan as Envoy can walk it for this call."""
    if not walks_plans:
        return decision.alone("is asked by an Envoy that walks plans, and this one does not")
    if call is not None and not goes_along(decision.candidates, call.body):
        return decision.alone(f"would get what {decision.model.name} does not, which is too long to go along")
    return decision


def to_model(
    call: ReadCall,
    decision: Routed,
    splices: tuple[Splice, ...],
    terms: Terms,
    *,
    request_id: str,
    read_answer: bool,
    in_chunks: bool,
) -> tuple[Mutation, Errand | None, Written]:
    """The call for the model that was decided: what changes, where it goes, and its whole body.

    With `read_answer` the answer is asked for in a coding that can be read; with `in_chunks` the body is not part of
    the mutation.
    """
    head, body = call.head, call.body
    also: dict[str, str] = {}
    first, *others = decision.candidates
    is_held = bool(others) and terms.failover.holds
    if (read_answer or is_held) and (accepted := head.headers.get("accept-encoding")) is not None:
        also["accept-encoding"] = asked_away(accepted, stream=call.streams)
    # One spelling for all: what the rules were asked about is what the upstream gets.
    asked = _canonical(head)
    if (path := path_for(first, asked, first.upstream_model)) != head.headers.get(":path"):
        also[":path"] = path
    also |= _patience(first, others, terms.failover)
    if is_held:
        also[HELD_HEADER] = "1"
    counts = head.path in call.api.counting_paths
    for_all = (*splices, *call.leaving_out)
    fits = [(*for_all, *fitted(each, call.api, body, only_counts=counts)) for each in decision.candidates]
    splices = fits[0]
    upstream = first.upstream_model
    data = body.with_model(upstream, *splices) if upstream != body.model or splices or call.unpacked else None
    if data is not None and not in_chunks and "content-length" in head.headers:
        also["content-length"] = str(size_of(data))
    mutation = for_routed(
        decision,
        api=call.api,
        headers=head.headers,
        allow=terms.allow_headers,
        also=also,
        without=(*(["content-length"] if in_chunks else []), *(["content-encoding"] if call.unpacked else [])),
        body=None if in_chunks else data,
    )
    written = (memoryview(body.data),) if data is None else data
    if not others:
        return mutation, None, written
    renamed = () if data is None else (Splice(*body.spans["model"], json.dumps(upstream)),)
    demanded = {name for each in decision.candidates for name in demanded_by(each)}
    errand = Errand(
        models=tuple(each.name for each in decision.candidates),
        clusters=tuple(each.cluster for each in decision.candidates),
        api=call.api.name,
        path=asked,
        model_at=body.spans["model"] if data is None else body.model_in(upstream, *splices),
        edits=tuple(between((*renamed, *splices), (*renamed, *each), body) for each in fits),
        is_anonymous=decision.principal is ANONYMOUS,
        kept=tuple(sorted(demanded & head.headers.keys())),
        shown=tuple(tuple(sorted(shown_in(each, call.api.name))) for each in decision.candidates),
        until=decision.at + terms.failover.deadline,
        streams=call.streams,
        request_id=request_id,
    )
    return mutation, errand, written


def _patience(first: Model, others: list[Model], failover: Failover) -> dict[str, str]:
    """What tells Envoy's router how long to wait, and what to take for a failure.

    It keeps one time for all attempts of a request, that of the first.
    """
    waits = first.first_token
    told: dict[str, str] = {}
    if others:
        waits = min(failover.deadline, waits or failover.deadline)
        told = {
            PLAN_HEADER: str(1 + len(others)),
            "x-envoy-retry-on": "5xx,retriable-status-codes",
            "x-envoy-retriable-status-codes": ",".join(map(str, failover.statuses)),
            "x-envoy-max-retries": str(len(others)),
        }
    return (
        told if waits is None else {**told, "x-envoy-upstream-rq-per-try-timeout-ms": str(max(1, round(waits * 1000)))}
    )


def _canonical(head: Head) -> str:
    query = head.headers.get(":path", "").partition("?")[2]
    return f"{head.path}?{query}" if query else head.path
