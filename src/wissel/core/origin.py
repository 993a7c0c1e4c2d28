"""A request that speaks of an answer goes where that was made.

    id -> Origin -> the model that made it, if the caller may use it now -> Kept | Routed | Denied

Nothing is permitted by an id: rules, abilities and limits are asked as for any
call. An answer of somebody else's is as unknown as one that nobody made.
"""

from collections.abc import Mapping
from dataclasses import replace

from wissel.core.access import Forbid, Permit, Principal, authorize
from wissel.core.affinity import Lead, MadeId, Origin, owner_of
from wissel.core.decision import Denied, Kept, ListedAnswer, ListedAnswers, Routed
from wissel.core.policy import ByIntent, Named, decide, permitted
from wissel.core.refusals import answer_not_found, forbidden, forbidden_path
from wissel.core.request import Head, Request
from wissel.core.snapshot import Model, Snapshot


def revisit(snapshot: Snapshot, head: Head, caller: Principal, origin: Origin | None, *, now: float) -> Kept | Denied:
    """The verdict on a request about an answer that is kept; `origin` is None where nobody knows it."""
    assert head.about is not None
    maker = _maker(snapshot, origin)
    if origin is None or maker is None or origin.owner != owner_of(caller):
        return answer_not_found(head.about.id, caller, snapshot.revision)
    match _authorized(snapshot, head, caller, maker, origin, now):
        case Forbid() as forbid:
            return forbidden_path(forbid, head.path, maker.name, caller, snapshot.revision)
        case Permit(_, rule_ids, shadow_ids):
            route = _route(snapshot, origin)
            return Kept(maker, caller, snapshot.revision, route=route, rule_ids=rule_ids, shadow_ids=shadow_ids)


def list_answers(
    snapshot: Snapshot, head: Head, caller: Principal, made: Mapping[MadeId, Origin], *, now: float
) -> ListedAnswers:
    """Those that the caller could ask for one by one, of the models that the request names if it names any."""
    wanted = {model for name in head.models for model in _behind(snapshot, name)}
    listed = [
        ListedAnswer(each.id, maker.name, int(origin.at))
        for each, origin in made.items()
        if (maker := _maker(snapshot, origin)) is not None
        and origin.owner == owner_of(caller)
        and (not head.models or maker.name in wanted)
        and isinstance(_authorized(snapshot, head, caller, maker, origin, now), Permit)
    ]
    listed.sort(key=lambda each: (each.created, each.id))
    return ListedAnswers(tuple(listed), caller, snapshot.revision)


def go_on(
    snapshot: Snapshot,
    request: Request,
    caller: Principal,
    admitted: Named | ByIntent,
    origin: Origin | None,
    *,
    request_id: str,
    now: float,
) -> Routed | Denied | Request:
    """The verdict on an admitted call that goes on from an answer of `origin`.

    The request comes back, with what became of the id, where the route decides as if there were none.
    """
    assert request.previous is not None
    if origin is None:
        return _led(request, "unknown")
    if origin.owner != owner_of(caller):
        # Sent on it might reach the server that keeps it, which knows none of our callers from another.
        denied = answer_not_found(request.previous.id, caller, snapshot.revision)
        return replace(denied, param=request.goes_on_by)
    maker = _maker(snapshot, origin)
    if maker is None:
        return _led(request, "gone", origin.thread)
    request = _led(request, "made", origin.thread)
    by_intent = isinstance(admitted, ByIntent)
    route = _route(snapshot, origin) if by_intent else ""
    target = snapshot.routes[route].target if route else maker.name if by_intent else admitted.target
    if target in snapshot.splits:
        # The key is that of the conversation, so mostly its arm is the one that made the answer, and stays evidence.
        dealt = _serve(snapshot, request, caller, target, route, request_id, now)
        if isinstance(dealt, Routed) and dealt.model is maker:
            return dealt
    served = _serve(snapshot, request, caller, maker.name, route, request_id, now)
    return served if isinstance(served, Denied) else replace(served, reason="targeting_match")


def _led(request: Request, lead: Lead, thread: str = "") -> Request:
    return replace(request, lead=lead, thread=thread)


def _serve(
    snapshot: Snapshot, request: Request, caller: Principal, target: str, route: str, request_id: str, now: float
) -> Routed | Denied:
    match permitted(snapshot, request, caller, target, route=route or None, now=now):
        case Forbid() as forbid:
            return forbidden(forbid, replace(request, model=target), caller, None, snapshot.revision)
        case Permit() as permit:
            decision = decide(snapshot, request, caller, Named(target, permit), request_id=request_id, now=now)
            return replace(decision, route=route)


def _maker(snapshot: Snapshot, origin: Origin | None) -> Model | None:
    """The model that made it, where it still is: elsewhere is another server, and another credential."""
    model = snapshot.models.get(origin.model) if origin else None
    return model if model and origin and model.cluster == origin.cluster else None


def _behind(snapshot: Snapshot, name: str) -> list[str]:
    target = snapshot.aliases.get(name, name)
    known = any(target in names for names in (snapshot.models, snapshot.splits, snapshot.tiers))
    return [arm.model for arm in snapshot.arms(target)] if known else []


def _route(snapshot: Snapshot, origin: Origin) -> str:
    return origin.route if origin.route in snapshot.routes else ""


def _authorized(
    snapshot: Snapshot, head: Head, caller: Principal, maker: Model, origin: Origin, now: float
) -> Permit | Forbid:
    """What rules say of the call that made it holds for all that is asked of it later, beside what they say of that."""
    if snapshot.rules is None:
        return Permit((maker.name,), ())
    route, headers = _route(snapshot, origin) or None, head.headers
    answers = [
        authorize(snapshot.rules, caller, (maker.name,), route=route, path=path, headers=headers, now=now)
        for path in (head.call_path, head.path)
    ]
    against = [each for each in answers if isinstance(each, Forbid)]
    by_rule = next((each for each in against if each.rule_ids), None)
    return by_rule or next((each for each in answers if isinstance(each, Permit)), Forbid())
