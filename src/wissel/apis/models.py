"""The list of models, as the clients of each format read it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

MODELS_PATH: Final = "/v1/models"
"""Answered by wissel itself."""

_Entry = dict[str, Any]


@dataclass(frozen=True, slots=True)
class ModelsShape:
    """How one format lists models; wissel knows no dates of their making."""

    entry: Callable[[str], _Entry]
    """The answer to `GET /v1/models/NAME`."""
    listing: Callable[[Sequence[_Entry]], dict[str, Any]]
    """The answer to `GET /v1/models`, of entries."""


def _openai_entry(name: str) -> _Entry:
    return {"id": name, "object": "model", "created": 0, "owned_by": "wissel"}


def _openai_listing(entries: Sequence[_Entry]) -> dict[str, Any]:
    return {"object": "list", "data": entries}


def _anthropic_entry(name: str) -> _Entry:
    return {"type": "model", "id": name, "display_name": name, "created_at": "1970-01-01T00:00:00Z"}


def _anthropic_listing(entries: Sequence[_Entry]) -> dict[str, Any]:
    # One page, whatever `limit` says: who asks for the next one after it would wait for nothing.
    ends = [entry["id"] for entry in entries] or [None]
    return {"data": entries, "has_more": False, "first_id": ends[0], "last_id": ends[-1]}


OPENAI_MODELS: Final = ModelsShape(_openai_entry, _openai_listing)
ANTHROPIC_MODELS: Final = ModelsShape(_anthropic_entry, _anthropic_listing)
