"""From a decision to what Envoy is told to change.

Every header that wissel owns is overwritten or removed on every request, so
what a caller wrote into one never survives.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from wissel.apis.api import Api
from wissel.apis.body import Written
from wissel.apis.errors import openai_error
from wissel.apis.listing import page, page_asked
from wissel.apis.models import MODELS_PATH, OPENAI_MODELS
from wissel.apis.paths import spelled_path
from wissel.core.decision import Decision, Denied, Kept, Listed, ListedAnswers, Passed, Routed
from wissel.core.names import (
    ATTEMPTS_HEADER,
    CLUSTER_HEADER,
    COUNTED_HEADER,
    DROPPED_HEADER,
    MODEL_HEADER,
    OWNED,
    PREFIX,
    REQUEST_ID_HEADER,
    ROUTE_HEADER,
    VARIANT_HEADER,
)
from wissel.core.refusals import unlisted_model
from wissel.core.request import Head
from wissel.core.tier import Graded
from wissel.extproc.upstream import headers_for, path_for

Metadata = Mapping[str, str | float]
"""Dynamic metadata in the namespace `wissel`."""


@dataclass(frozen=True, slots=True)
class Mutation:
    """Changes to the headers and the body of one direction."""

    set_headers: Mapping[str, str] = field(default_factory=dict[str, str])
    remove_headers: tuple[str, ...] = ()
    body: Written | None = None
    """The new body; None leaves it as it is."""
    reroute: bool = False
    """Let Envoy choose the route again, by the headers that were set."""


@dataclass(frozen=True, slots=True)
class ImmediateResponse:
    """What Envoy answers in place of the upstream."""

    status: int
    body: bytes
    headers: Mapping[str, str]
    details: str
    """For Envoy's `%RESPONSE_CODE_DETAILS%`."""


def for_routed(
    decision: Routed | Kept,
    *,
    api: Api,
    headers: Mapping[str, str],
    allow: frozenset[str],
    also: Mapping[str, str],
    without: tuple[str, ...] = (),
    body: Written | None = None,
) -> Mutation:
    """The request on its way to the model that was decided, with headers that are set and left out besides."""
    ours = {
        CLUSTER_HEADER: decision.model.cluster,
        MODEL_HEADER: decision.model.name,
        VARIANT_HEADER: decision.variant,
        **also,
    }
    if decision.route:
        ours[ROUTE_HEADER] = decision.route
    theirs, withheld = headers_for(decision.model, api.name, headers, decision.principal)
    ours |= theirs
    removed = _left_out([*without, *withheld], headers=headers, allow=allow, ours=ours)
    return Mutation(set_headers=ours, remove_headers=removed, body=body, reroute=True)


def for_kept(decision: Kept, head: Head, api: Api, *, allow: frozenset[str]) -> Mutation:
    """A request about an answer, on its way to the model that made it; the id alone keeps its letters as written."""
    assert head.about is not None
    written = head.headers.get(":path", "")
    _, mark, query = written.partition("?")
    end = len(head.call_path) + 1 + len(head.about.id)
    path = path_for(decision.model, f"{head.call_path}/{head.about.id}{head.path[end:]}{mark}{query}")
    return for_routed(
        decision, api=api, headers=head.headers, allow=allow, also={} if path == written else {":path": path}
    )


def for_passed(decision: Passed, *, headers: Mapping[str, str], allow: frozenset[str]) -> Mutation:
    """A request that is no LLM call, on its way to the cluster of its passthrough."""
    ours = {CLUSTER_HEADER: decision.cluster}
    asked = headers.get(":path", "")
    if (path := path_for(decision.entry, asked)) != asked:
        ours[":path"] = path
    theirs, withheld = headers_for(decision.entry, "", headers, decision.principal)
    ours |= theirs
    removed = _left_out(withheld, headers=headers, allow=allow, ours=ours)
    return Mutation(set_headers=ours, remove_headers=removed, reroute=True)


def _left_out(
    names: list[str], *, headers: Mapping[str, str], allow: frozenset[str], ours: Mapping[str, str]
) -> tuple[str, ...]:
    """These headers and the `x-wissel-*` of the caller's own, as far as they are there and are not set anyway."""
    removed = dict.fromkeys([*names, *foreign_headers(headers, allow=allow, ours=ours)])
    return tuple(name for name in removed if name in headers and name not in ours)


def foreign_headers(headers: Mapping[str, str], *, allow: frozenset[str], ours: Iterable[str]) -> list[str]:
    """The caller's own `x-wissel-*` headers that must not go on; those in `ours` are overwritten anyway."""
    kept = (allow - OWNED) | frozenset(ours)
    return [name for name in headers if name.startswith(PREFIX) and name not in kept]


def metadata_of(decision: Decision) -> Metadata:
    """What access logs and other filters read of a decision."""
    match decision:
        case Routed():
            score = decision.intent.score if decision.intent else None
            return {
                **({} if score is None else {"score": round(score, 4)}),
                **({} if decision.intent is None else {"intent_reason": decision.intent.reason}),
                "route": decision.route,
                "target": decision.target,
                "model": decision.model.name,
                **_plan_metadata(decision),
                "variant": decision.variant,
                "reason": decision.reason,
                "principal": decision.principal.id,
                "revision": decision.revision,
                **({"lead": decision.lead} if decision.lead else {}),
                **_tier_metadata(decision.tier),
            }
        case Kept():
            return {
                "route": decision.route,
                "model": decision.model.name,
                "principal": decision.principal.id,
                "revision": decision.revision,
            }
        case Passed() | Listed() | ListedAnswers():
            return {"principal": decision.principal.id, "revision": decision.revision}
        case Denied():
            named = {
                "code": decision.code,
                "route": decision.route,
                "principal": decision.principal.id if decision.principal else "",
                "revision": decision.revision,
            }
            return {name: value for name, value in named.items() if value}


def _plan_metadata(decision: Routed) -> Metadata:
    names = {
        "plan": " > ".join(each.name for each in decision.candidates[1:] and decision.candidates),
        "left_out": "; ".join(f"{each.model} {each.why}" for each in decision.plan.left_out),
    }
    return {name: text for name, text in names.items() if text}


def answered_headers(decision: Routed, attempts: int, dropped: Mapping[str, str]) -> dict[str, str]:
    """What the caller is told of who answers, of how many were asked where that may be several, and of what it lacked.

    `dropped` has by model what of the body it does not get.
    """
    served = decision.served_after(attempts).name
    lacked = {DROPPED_HEADER: dropped[served]} if served in dropped else {}
    tried = {} if len(decision.candidates) == 1 else {ATTEMPTS_HEADER: str(attempts)}
    return {MODEL_HEADER: served, **tried, **lacked}


def attempts_metadata(decision: Routed, attempts: int) -> Metadata | None:
    """What access logs read of a plan once somebody answers."""
    if len(decision.candidates) == 1:
        return None
    return {"served": decision.served_after(attempts).name, "attempts": attempts}


def _tier_metadata(graded: Graded | None) -> Metadata:
    if graded is None:
        return {}
    rate = {} if graded.win_rate is None else {"win_rate": graded.win_rate}
    told = {"tier": graded.tier, "tier_end": graded.end, "tier_reason": graded.reason}
    return {**told, "threshold": graded.threshold, **rate}


def for_denied(decision: Denied, *, request_id: str, api: Api | None = None) -> ImmediateResponse:
    """The refusal as an error of the API that the caller speaks; where nobody knows which, as OpenAI's."""
    return ImmediateResponse(
        status=decision.status,
        body=openai_error(decision) if api is None else api.error(decision),
        headers={**decision.headers, **_json_headers(request_id)},
        details=f"wissel_{decision.code}",
    )


def for_answered(
    decision: Listed | ListedAnswers | Routed, *, path: str, request_id: str, api: Api | None = None
) -> ImmediateResponse:
    """What wissel says itself: which models the caller may use, the page that `path` asks for of its answers that are
    kept, or how many tokens its call is estimated to be.
    """
    if isinstance(decision, Listed):
        return _for_models(decision, path, request_id, api)
    assert api is not None
    if isinstance(decision, Routed):
        assert api.counted is not None
        assert decision.counted is not None
        told = json.dumps(api.counted(decision.counted)).encode()
        return ImmediateResponse(200, told, {**_json_headers(request_id), COUNTED_HEADER: "estimate"}, "wissel_counted")
    assert api.kept is not None
    assert api.kept.listed is not None
    body = page(decision.answers, page_asked(path), api.kept.listed)
    return ImmediateResponse(200, body, _json_headers(request_id), "wissel_answers")


def _for_models(decision: Listed, path: str, request_id: str, api: Api | None) -> ImmediateResponse:
    """All of them; or the one that `path` names, in other letters where only one is meant.

    Both have the shape of the API that the caller speaks.
    """
    shape = OPENAI_MODELS if api is None else api.models
    name = spelled_path(path)[len(MODELS_PATH) + 1 :]
    if not name:
        return _models(shape.listing([shape.entry(each) for each in decision.names]), request_id)
    near = [each for each in decision.names if each.lower() == name.lower()]
    if name in near or len(near) == 1:
        return _models(shape.entry(name if name in near else near[0]), request_id)
    return for_denied(unlisted_model(name, decision), request_id=request_id, api=api)


def _models(body: Mapping[str, Any], request_id: str) -> ImmediateResponse:
    return ImmediateResponse(200, json.dumps(body).encode(), _json_headers(request_id), "wissel_models")


def for_scored(*, request_id: str) -> ImmediateResponse:
    """The caller's feedback was accepted."""
    body = json.dumps({"status": "accepted"}).encode()
    return ImmediateResponse(200, body, _json_headers(request_id), "wissel_feedback")


def _json_headers(request_id: str) -> dict[str, str]:
    return {"content-type": "application/json", REQUEST_ID_HEADER: request_id}
