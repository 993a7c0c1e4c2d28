"""One request, one snapshot, one verdict.

    name what is asked for -> choose route -> authorize -> able models -> [strong or weak] -> assign variant -> plan

Access comes before the split, so a model that a caller may not use is never
assigned to it; so does ability, so an image never reaches a text model.
`admit` makes the part of the verdict that needs no intent, and is asked before
the classifier is: what is refused anyway is not worth a classification.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from wissel.core.access import Forbid, Permit, Principal, RuleBook, authorize
from wissel.core.conversation import conversation_key
from wissel.core.decision import Denied, Listed, Passed, Routed
from wissel.core.intent import Intent, NoScores, Pinned, Scores, choose_route
from wissel.core.lesson import lesson_of
from wissel.core.pin import Pin, pin_of
from wissel.core.plan import NOBODY, Plan, Resting, Unable, inability, plan_of
from wissel.core.refusals import forbidden, forbidden_path, no_able_model, unknown_model, unknown_path, unnamed_model
from wissel.core.request import Head, Request
from wissel.core.snapshot import Passthrough, Route, Snapshot
from wissel.core.split import Assignment, Reason, assign, targeting_key
from wissel.core.tier import Grading, NoWinRate, Strength, Tier, begin, grade

NO_MODEL = ""
"""What rules are asked about where a request has no model: only rules that name none, or all, speak of it."""


@dataclass(frozen=True, slots=True)
class Named:
    """The caller named its target, and may use some of what serves it; no intent is needed."""

    target: str
    permit: Permit


@dataclass(frozen=True, slots=True)
class ByIntent:
    """The caller left the choice to us."""

    pin: Pin | None = None
    """What the request's session is called; None where sessions are not pinned, or it names none."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """The route that the intent led to; whether the caller may take it is not asked yet."""

    target: str
    intent: Intent
    pin: Pin | None = None
    """Pins the session to the route once it is served; None where the intent was not clear."""


def admit(snapshot: Snapshot, request: Request, caller: Principal, *, now: float) -> Named | ByIntent | Denied:
    """What can be said before the intent is known: the name exists, and the caller may use some of it.

    `now` is Unix time, here and below: rules may speak at some times only.
    """
    if request.model in snapshot.entrypoints:
        if snapshot.rules is not None and not snapshot.rules.might_permit(caller, request.path, request.headers, now):
            return forbidden(Forbid(), request, caller, None, snapshot.revision)
        return ByIntent(pin_of(snapshot.pin, request, caller))
    target = _target(snapshot, request.model)
    if target is None:
        return unknown_model(request.model, caller, snapshot)
    match permitted(snapshot, request, caller, target, route=None, now=now):
        case Forbid() as forbid:
            return forbidden(forbid, request, caller, None, snapshot.revision)
        case Permit() as permit:
            return Named(target, permit)


def choose(snapshot: Snapshot, left: ByIntent, scores: Scores | NoScores | Pinned) -> Chosen:
    """The route, and what serves it. Where that is a tier, its grader must be asked before `decide` is."""
    intent = choose_route(scores, fallback=snapshot.fallback)
    is_clear = intent.reason in {"match", "pinned"}
    return Chosen(snapshot.routes[intent.route].target, intent, left.pin if is_clear else None)


def decide(
    snapshot: Snapshot,
    request: Request,
    caller: Principal,
    aim: Named | Chosen,
    grading: Grading | None = None,
    *,
    request_id: str,
    now: float,
    resting: Resting = NOBODY,
) -> Routed | Denied:
    """The verdict on an admitted request whose target is known; `grading` is read only where that is a tier.

    `resting` are models that are asked only where nobody else can serve.
    """
    match aim:
        case Named(_, permit):
            return _serve(snapshot, request, caller, aim, permit, grading, request_id, now, resting)
        case Chosen(target, intent):
            answer = permitted(snapshot, request, caller, target, route=intent.route, now=now)
            if isinstance(answer, Forbid):
                return forbidden(answer, request, caller, intent, snapshot.revision)
            return _serve(snapshot, request, caller, aim, answer, grading, request_id, now, resting)


def _serve(
    snapshot: Snapshot,
    request: Request,
    caller: Principal,
    aim: Named | Chosen,
    permit: Permit,
    grading: Grading | None,
    request_id: str,
    now: float,
    resting: Resting,
) -> Routed | Denied:
    target = aim.target
    intent, pin = (aim.intent, aim.pin) if isinstance(aim, Chosen) else (None, None)
    unable = tuple(
        Unable(name, why) for name in permit.models if (why := inability(snapshot.models[name], request)) is not None
    )
    able = frozenset(permit.models) - {each.model for each in unable}
    tier = snapshot.tiers.get(target)
    ends: tuple[tuple[Strength, str], ...] = tier.ends if tier else (("strong", target),)

    def assigned_of(models: frozenset[str]) -> dict[Strength, tuple[str, Assignment]]:
        return {
            end: (name, assigned)
            for end, name in ends
            if (assigned := _assign(snapshot, request, caller, name, models, request_id)) is not None
        }

    assignments = assigned_of(able)
    counts_here = request.only_counts and not assignments
    if counts_here:
        # Clients plan by the number and stop without one; an estimate serves them better than a refusal.
        assignments = assigned_of(frozenset(permit.models))
    if not assignments:
        return no_able_model(target, unable, caller, intent, snapshot.revision)
    graded = grade(tier, grading or _ungraded(tier), assignments.keys()) if tier else None
    served, assigned = assignments[graded.end if graded else "strong"]
    broken = any(each is not None and each.reason in {"late", "failed"} for each in (intent, graded))
    chosen = snapshot.models[assigned.variant.model]
    route = intent.route if intent else None
    plan = plan_of(snapshot, request, caller, chosen, route=route, now=now, resting=resting)
    model = plan.models[0]
    routed = Routed(
        model=model,
        target=target,
        variant=assigned.variant.name,
        reason="error" if broken else assigned.reason,
        principal=caller,
        revision=snapshot.revision,
        route=intent.route if intent else "",
        intent=intent,
        split=snapshot.splits.get(served),
        key=assigned.key,
        bucket=assigned.bucket,
        rule_ids=permit.rule_ids,
        shadow_ids=permit.shadow_ids,
        unable=unable,
        tier=graded,
        lesson=lesson_of(tier, graded, snapshot.harness.spoken_only(request.conversation).last_user)
        if tier and graded
        else None,
        pin=pin,
        lead=request.lead,
        thread=(conversation_key(request, snapshot.conversation) or "") if request.keeps else None,
        at=now,
        plan=plan,
        rested="" if model is chosen else chosen.name,
        rests_as_failing=model is not chosen and resting[chosen.name] == "failing",
    )
    # Where nothing is generated no arm shows what it is worth, no budget is used and nothing is learned.
    counted = replace(routed, split=None, tier=None, lesson=None, pin=None) if request.only_counts else routed
    return replace(counted, plan=Plan(()), counted=max(1, request.input_tokens)) if counts_here else counted


def _ungraded(tier: Tier) -> Grading:
    return Grading(NoWinRate("failed", "not graded"), begin(tier).threshold)


def _assign(
    snapshot: Snapshot, request: Request, caller: Principal, target: str, able: frozenset[str], request_id: str
) -> Assignment | None:
    split = snapshot.splits.get(target)
    if split is None:
        reason: Reason = "static"
        return Assignment(snapshot.arms(target)[0], reason) if target in able else None
    key = targeting_key(split.key, request, caller, request_id, snapshot.conversation)
    return assign(split, key, able=able, headers=request.headers, claims=caller.claims)


def pass_through(snapshot: Snapshot, head: Head, caller: Principal, *, now: float) -> Passed | Denied:
    """The verdict on a request that is no LLM call: 404 unless a passthrough lists its path."""
    found = passthrough_for(snapshot.passthrough, head.path)
    if found is None:
        return unknown_path(head.method, head.path)
    if snapshot.rules is None:
        return Passed(found, caller, snapshot.revision)
    if (
        found.reads_models
        and not _names_well(snapshot, head)
        and not _may_use_all(snapshot, snapshot.rules, head, caller, now)
    ):
        return unnamed_model(head, caller, snapshot.revision)
    rule_ids: list[str] = []
    for model in _models_named(snapshot, head):
        match authorize(snapshot.rules, caller, (model,), path=head.path, headers=head.headers, now=now):
            case Permit() as permit:
                rule_ids += permit.rule_ids
            case Forbid() as forbid:
                return forbidden_path(forbid, head.path, model, caller, snapshot.revision)
    return Passed(found, caller, snapshot.revision, tuple(dict.fromkeys(rule_ids)))


def _names_well(snapshot: Snapshot, head: Head) -> bool:
    """Whether it is certain which models are meant: those that are named are known, or nothing could name one."""
    called = {model.upstream_model for model in snapshot.models.values()}
    known = all(name in called or _target(snapshot, name) is not None for name in head.models)
    return known and (bool(head.models) or not head.carries)


def _target(snapshot: Snapshot, name: str) -> str | None:
    """What a name stands for; None for an entrypoint and for what the file does not know."""
    target = snapshot.aliases.get(name, name)
    known = any(target in names for names in (snapshot.models, snapshot.splits, snapshot.tiers))
    return target if known else None


def _may_use_all(snapshot: Snapshot, rules: RuleBook, head: Head, caller: Principal, now: float) -> bool:
    models = tuple(snapshot.models)
    answer = authorize(rules, caller, models, path=head.path, headers=head.headers, now=now)
    return isinstance(answer, Permit) and answer.models == models


def _models_named(snapshot: Snapshot, head: Head) -> list[str]:
    """Every model of ours that the query or the body could mean, after the one that stands for none."""
    known = [target for name in head.models if (target := _target(snapshot, name)) is not None]
    # What named it goes on as it is, so it may also say what the upstream calls a model.
    called = (model.name for model in snapshot.models.values() if model.upstream_model in head.models)
    return [NO_MODEL, *(model for target in known for model in _models(snapshot, target)), *called]


def passthrough_for(entries: Iterable[Passthrough], path: str) -> Passthrough | None:
    """The first entry that covers `path`."""
    return next((entry for entry in entries if lies_below(path, (entry.path_prefix,))), None)


def lies_below(path: str, prefixes: Iterable[str]) -> bool:
    """Whether a prefix covers `path` at the border of a segment."""
    return any(path == prefix or path.startswith(f"{prefix}/") for prefix in (each.rstrip("/") for each in prefixes))


def list_models(snapshot: Snapshot, head: Head, caller: Principal, *, now: float) -> Listed:
    """Every name that the caller may put into `model`, sorted."""
    if snapshot.rules is None:
        return Listed(snapshot.names, caller, snapshot.revision)
    by_intent = _some_route_is_open(snapshot, snapshot.rules, head, caller, now)
    direct = authorize(snapshot.rules, caller, tuple(snapshot.models), path=head.path, headers=head.headers, now=now)
    named = frozenset(direct.models) if isinstance(direct, Permit) else frozenset[str]()

    def usable(name: str) -> bool:
        if name in snapshot.entrypoints:
            return by_intent
        return any(arm.model in named for arm in snapshot.arms(snapshot.aliases.get(name, name)))

    return Listed(tuple(name for name in snapshot.names if usable(name)), caller, snapshot.revision)


def permitted(
    snapshot: Snapshot, request: Request, caller: Principal, target: str, *, route: str | None, now: float
) -> Permit | Forbid:
    """Which of the models behind `target` the caller may use for this."""
    models = _models(snapshot, target)
    if snapshot.rules is None:
        return Permit(models, ())
    return authorize(snapshot.rules, caller, models, route=route, path=request.path, headers=request.headers, now=now)


def _some_route_is_open(snapshot: Snapshot, rules: RuleBook, head: Head, caller: Principal, now: float) -> bool:
    def is_open(route: Route) -> bool:
        models = _models(snapshot, route.target)
        answer = authorize(rules, caller, models, route=route.name, path=head.path, headers=head.headers, now=now)
        return isinstance(answer, Permit)

    return any(is_open(route) for route in snapshot.routes.values())


def _models(snapshot: Snapshot, target: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(arm.model for arm in snapshot.arms(target)))
