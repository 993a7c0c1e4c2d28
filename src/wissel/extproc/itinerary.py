"""Where a request goes, and what each further attempt at it is made of, as Envoy carries it along.

The plan of a request is written once, into dynamic metadata, and nowhere else:
Envoy takes the clusters from there, one after the other, and shows the rest to
whichever processor it asks about an attempt. So any worker may answer for any
attempt, and none has to remember a request.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from wissel.apis.body import Splice
from wissel.core.names import ATTEMPTS_NAMESPACE


@dataclass(frozen=True, slots=True)
class Errand:
    """What has to be known of a request to write it for another model of its plan."""

    models: tuple[str, ...]
    """In the order in which they are asked."""
    clusters: tuple[str, ...]
    """Where each of them is: Envoy goes there, whatever the file says by then."""
    api: str
    path: str
    """As it goes on, without any server's base path, and with its query."""
    model_at: tuple[int, int]
    """From where to where the model stands in the body as it goes on to the first."""
    edits: tuple[tuple[Splice, ...], ...]
    """Of each model in that order: what changes of that body for it, beside the model's name; of the first nothing."""
    is_anonymous: bool
    """Whether the caller is nobody that wissel knows."""
    kept: tuple[str, ...]
    """Headers of the caller's own that servers demand, and that some model of the plan would set."""
    shown: tuple[tuple[str, ...], ...]
    """Of each model in that order: headers in which it is shown a credential, as the file said then."""
    until: float
    """Unix time after which no attempt begins."""
    streams: bool
    request_id: str


Fields = Mapping[str, Any]
"""A Struct of protobuf's, as JSON has it."""


def told(errand: Errand) -> Fields:
    """As metadata."""
    return {
        "models": list(errand.models),
        "clusters": list(errand.clusters),
        "api": errand.api,
        # Text is UTF-8 there, and a path is whatever bytes the caller sent.
        "path": errand.path.encode("utf-8", "surrogateescape").decode("latin-1"),
        "model_at": list(errand.model_at),
        "edits": [[[each.start, each.end, each.text] for each in edits] for edits in errand.edits],
        "is_anonymous": errand.is_anonymous,
        "kept": list(errand.kept),
        "shown": [list(each) for each in errand.shown],
        "until": errand.until,
        "streams": errand.streams,
        "request_id": errand.request_id,
    }


def heard(metadata: Mapping[str, Mapping[str, Any]]) -> Errand | None:
    """Out of the metadata that Envoy shows; None where it has none, or something else."""
    found = metadata.get(ATTEMPTS_NAMESPACE, {}).get("plan")
    if not isinstance(found, dict):
        return None
    plan = cast("dict[str, Any]", found)
    try:
        start, end = plan["model_at"]
        return Errand(
            models=tuple(plan["models"]),
            clusters=tuple(plan["clusters"]),
            api=plan["api"],
            path=plan["path"].encode("latin-1").decode("utf-8", "surrogateescape"),
            model_at=(int(start), int(end)),
            edits=tuple(tuple(Splice(int(at), int(to), text) for at, to, text in edits) for edits in plan["edits"]),
            is_anonymous=plan["is_anonymous"],
            kept=tuple(plan["kept"]),
            shown=tuple(tuple(each) for each in plan["shown"]),
            until=plan["until"],
            streams=plan["streams"],
            request_id=plan["request_id"],
        )
    except (AttributeError, KeyError, TypeError, ValueError):
        return None
