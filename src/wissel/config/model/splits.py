"""Several models behind one name, shared by weight."""

from typing import Annotated

from pydantic import Field

from wissel.config.model.forms import HeaderName, KeySourceName, MemberName, Name
from wissel.config.model.section import Section
from wissel.core.conversation import SESSION_HEADERS, SESSION_MEMBERS
from wissel.core.rollouts.callers import SHARE


class ConversationIds(Section):
    """Where clients name the session that a request belongs to."""

    headers: tuple[HeaderName, ...] = SESSION_HEADERS
    """Headers, the first one present; without any of them `members` are looked at."""
    members: tuple[MemberName, ...] = SESSION_MEMBERS
    """Members of the body, and members of its objects as metadata.session_id, the first one present. metadata.user_id
    and user count only where they hold a session, and prompt_cache_key only where it looks unique."""


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
    """Where the targeting key is, first one present: principal, conversation, request, header:NAME or claim:NAME. A
    conversation is known by an id that its client sends (`conversation`), else by what its previous response belongs
    to, else by the first line of its instructions and the first words of a person."""
    variants: Annotated[tuple[Variant, ...], Field(min_length=1)]
    """The arms; a request without a key gets the first."""
    caller_share: Annotated[float, Field(gt=0, le=1)] = SHARE
    """Of the evidence about an arm that may be one caller's, from five callers on; feedback alike."""
