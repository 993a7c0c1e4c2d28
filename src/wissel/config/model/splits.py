"""Several models behind one name, shared by weight."""

from typing import Annotated

from pydantic import Field

from wissel.config.model.forms import KeySourceName, Name
from wissel.config.model.section import Section


class Variant(Section):
    """One arm of a split."""

    model: Name
    """The model that serves it."""
    weight: Annotated[int, Field(ge=0, le=1_000_000)]
    """Its share, as a part of the sum of all weights; 0 serves nobody."""
    name: Name = Field(default_factory=lambda data: data["model"])
    """What metrics and headers call it; the model's name if not given."""


class Split(Section):
    """Traffic divided among models by a targeting key."""

    name: Name
    """What routes, aliases and callers name."""
    key: Annotated[tuple[KeySourceName, ...], Field(min_length=1)] = ("header:x-session-id", "conversation")
    """Where the targeting key is, first one present: principal, conversation, request, header:NAME or claim:NAME."""
    variants: Annotated[tuple[Variant, ...], Field(min_length=1)]
    """The arms; a request without a key gets the first."""
