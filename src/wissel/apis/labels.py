"""The short texts of a body beside its messages: where clients name sessions, users and what they go on from."""

from itertools import islice
from typing import Any, Final, cast

from wissel.apis.shapes import Json

MOST: Final = 256
"""Members that are looked at, of the body."""
MOST_INSIDE: Final = 32
"""Of each object in it."""
LONGEST: Final = 2048
"""Characters; a longer text is no label."""


def labels_in(members: Json) -> dict[str, str]:
    """By place: `user`, `metadata.session_id`."""
    found: dict[str, str] = {}
    for name, value in islice(members.items(), MOST):
        if isinstance(value, str):
            found[name] = value
        elif isinstance(value, dict):
            inner = islice(cast("dict[str, Any]", value).items(), MOST_INSIDE)
            found |= {f"{name}.{each}": text for each, text in inner if isinstance(text, str)}
    return {place: text for place, text in found.items() if place != "model" and 0 < len(text) <= LONGEST}
