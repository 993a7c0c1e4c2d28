"""What a model wants put into a call and what left out, as splices of the body that its caller sent.

    defaults, drop_params + the members that are there -> splices, of the caller's body or of one that went on before

A further attempt is written from the body as it went on to the first model, so
what makes the one body of the other is worked out where the caller's own is
still there, and goes along with the plan.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Final

from wissel.apis.api import Api
from wissel.apis.body import Body, Splice, in_order
from wissel.apis.table import APIS
from wissel.core.snapshot import Model

MOST_CARRIED: Final = 1 << 20
"""Bytes of members that go along with a plan, as metadata that Envoy shows with each attempt."""


def dropped(model: Model, body: Body) -> tuple[str, ...]:
    """The members that its caller wrote and the model does not get."""
    return tuple(name for name in body.spans if name in model.drop_params)


def dropped_by(models: Iterable[Model], body: Body) -> Mapping[str, str]:
    """By model, of those that lack something, its names in a list."""
    found = {each.name: ", ".join(dropped(each, body)) for each in models}
    return {name: names for name, names in found.items() if names}


def goes_along(models: Sequence[Model], body: Body) -> bool:
    """Whether what the first model does not get is little enough to go along with the plan, for the others."""
    starts_and_ends = (body.spans[name] for name in dropped(models[0], body))
    return sum(end - start for start, end in starts_and_ends) <= MOST_CARRIED


def fitted(model: Model, api: Api, body: Body, *, only_counts: bool) -> tuple[Splice, ...]:
    """What changes of a call for the model, beside its name."""
    out = tuple(body.leaving_out(name) for name in dropped(model, body))
    named = [] if only_counts else [name for name in model.defaults if _is_missing(name, api, body)]
    if not named:
        return out
    end = body.spans["model"][1]
    text = "".join(f', "{name}": {model.defaults[name]}' for name in named)
    return (*out, Splice(end, end, text))


_LIMITS = frozenset(chain.from_iterable(api.output_limits for api in APIS.values()))
"""Of an answer, in the words of each API."""


def _is_missing(name: str, api: Api, body: Body) -> bool:
    # A limit is known to some APIs alone, and to some by two names.
    if name in _LIMITS:
        return name in api.output_limits and not any(each in body.spans for each in api.output_limits)
    return name not in body.spans


def between(sent: Sequence[Splice], wanted: Sequence[Splice], body: Body) -> tuple[Splice, ...]:
    """What makes of the body that `sent` has changed the one that `wanted` would.

    Both are of `body`, and two of their stretches are the same or do not meet.
    """
    found: list[Splice] = []
    shift = 0
    for each in in_order(sent):
        size = len(each.text.encode())
        if each not in wanted:
            start = each.start + shift
            found.append(Splice(start, start + size, body.data[each.start : each.end].decode()))
        shift += size - (each.end - each.start)
    for each in wanted:
        if each not in sent:
            moved = sum(len(one.text.encode()) - one.end + one.start for one in sent if one.end <= each.start)
            found.append(Splice(each.start + moved, each.end + moved, each.text))
    return tuple(found)
