"""Who serves a request, in which order, where the first does not.

    the chosen model + its fallbacks -> those that the same caller may use, that are able, that do not rest -> Plan

A plan is made where the model is, so nothing that comes later has to ask again
who may use what: Envoy walks the list, and nothing outside it is ever asked.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

from wissel.core.access import ANONYMOUS, Permit, Principal, authorize
from wissel.core.request import Request
from wissel.core.snapshot import Model, Snapshot

Why = Literal["failing", "busy"]
"""Why a model rests: it kept failing, or its server asked to be left alone."""

Resting = Mapping[str, Why]
"""The models that rest."""

_RESTS: Final[Mapping[Why, str]] = {
    "failing": "is cooling down, for it kept failing",
    "busy": "is cooling down, as its server asked",
}
NOBODY: Final[Resting] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Unable:
    """A model that was taken out, before the split or of the plan, and why."""

    model: str
    why: str


@dataclass(frozen=True, slots=True)
class Plan:
    """Models in the order in which they are asked, until one answers."""

    models: tuple[Model, ...]
    """The first is the one that was chosen, unless it rests."""
    left_out: tuple[Unable, ...] = ()
    """Those that were named to follow it and may not, in the order in which they were named; before them the chosen
    one, where it rests and somebody else is there."""


def inability(model: Model, request: Request) -> str | None:
    """Why `model` cannot serve `request`; None if it can."""
    if request.api not in model.apis:
        return f'does not serve the api "{request.api}"'
    accepts = model.accepts if request.answers else model.embeds
    if accepts is not None and (missing := request.needs - accepts):
        return f"does not accept {', '.join(sorted(missing))}"
    needed = request.context_tokens + request.max_output_tokens
    if model.context is not None and needed > model.context and not request.only_counts:
        return f"has a context of {model.context} tokens, and this needs about {needed}"
    return None


def plan_of(
    snapshot: Snapshot,
    request: Request,
    caller: Principal,
    chosen: Model,
    *,
    route: str | None,
    now: float,
    resting: Resting = NOBODY,
) -> Plan:
    """The plan that begins with `chosen`; `route` is what led to it, None where the caller named it.

    What a caller lists itself has to be permitted as if it had been named, and on the route as well: no list leads
    anywhere that a name does not. `resting` are models that are not to be asked at the moment, unless
    nobody else is there.
    """
    failover = snapshot.terms.failover
    is_callers = failover.accept_models and bool(request.fallbacks)
    named = request.fallbacks if is_callers else chosen.fallbacks
    if not named:
        return Plan((chosen,))
    meant = (snapshot.aliases.get(each, each) for each in named) if is_callers else named
    names = [name for name in dict.fromkeys(meant) if name != chosen.name]
    known = [name for name in names if name in snapshot.models]
    permitted = set(_permitted(snapshot, request, caller, known, route=route, now=now))
    if is_callers:
        permitted &= set(_permitted(snapshot, request, caller, known, route=None, now=now))
    rests = chosen.name in resting and failover.attempts > 1
    models, left_out = [] if rests else [chosen], list[Unable]()
    for name in names:
        model = snapshot.models.get(name)
        if model is None:
            left_out.append(Unable(name, "is no model"))
        elif name not in permitted:
            left_out.append(Unable(name, "is not permitted to this caller"))
        elif why := _obstacle(model, models, request, caller, resting):
            left_out.append(Unable(name, why))
        elif len(models) == failover.attempts:
            left_out.append(Unable(name, f"would be attempt {failover.attempts + 1} of at most {failover.attempts}"))
        else:
            models.append(model)
    if not models:
        return Plan((chosen,), tuple(left_out))
    return Plan(
        tuple(models), tuple([Unable(chosen.name, _RESTS[resting[chosen.name]]), *left_out] if rests else left_out)
    )


def shows_callers_credential(model: Model, caller: Principal) -> bool:
    """Whether the model's server gets the credential that the caller sent."""
    if model.is_signed:
        return False
    return caller is ANONYMOUS if model.credential is None else model.credential.kind == "forward"


def _obstacle(model: Model, before: list[Model], request: Request, caller: Principal, resting: Resting) -> str | None:
    if (why := inability(model, request)) is not None:
        return why
    if request.previous is not None:
        return "does not keep the answer that this goes on from"
    if model.name in resting:
        return _RESTS[resting[model.name]]
    is_forwarded = model.credential is not None and model.credential.kind == "forward"
    # Headers are one map over all attempts, so what one of them overwrote is gone for those that follow.
    if is_forwarded and not all(shows_callers_credential(each, caller) for each in before):
        return "forwards the caller's credential, which a model before it replaces"
    return None


def _permitted(
    snapshot: Snapshot, request: Request, caller: Principal, names: list[str], *, route: str | None, now: float
) -> Iterator[str]:
    if snapshot.rules is None:
        yield from names
        return
    answer = authorize(snapshot.rules, caller, names, route=route, path=request.path, headers=request.headers, now=now)
    if isinstance(answer, Permit):
        yield from answer.models
