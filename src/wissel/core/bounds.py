"""What one body may hold: bounds that real traffic never meets, so that no caller's body is work for everybody."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from wissel.errors import UnreadableError

Bound = Literal["model_name", "messages", "parts", "members", "values", "depth", "fields", "lines"]


@dataclass(frozen=True, slots=True)
class Bounds:
    """`listen.bounds`, as readers keep to them."""

    model_name: int = 256
    messages: int = 10_000
    parts: int = 20_000
    members: int = 1_000
    values: int = 500_000
    depth: int = 64
    fields: int = 1_000
    lines: int = 50_000
    uploads: int = 1_000


def beyond(bounds: Bounds, name: Bound) -> UnreadableError:
    """The body holds more than a bound allows."""
    most = getattr(bounds, name)
    return UnreadableError(f'{_SENTENCES[name].format(most=most)}; the bound is "listen.bounds.{name}"')


_SENTENCES: Final[Mapping[Bound, str]] = {
    "model_name": "the model's name has more than {most} characters",
    "messages": "the body has more than {most} messages, items or prompts",
    "parts": "the body has more than {most} content parts",
    "members": "the body has more than {most} members",
    "values": "the body holds more than {most} values",
    "depth": "the body is nested too deeply: more than {most} levels",
    "fields": "the form or query has more than {most} fields",
    "lines": "the file has more than {most} lines",
}
