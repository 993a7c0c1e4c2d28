"""JSON as translations write it: compact, and of ASCII alone.

Whatever a model says can be written so: half a character, which its server sent
in two events, too.
"""

import json
from collections.abc import Callable, Mapping
from json.encoder import encode_basestring_ascii
from typing import Any, Final

in_json: Final[Callable[[str], str]] = encode_basestring_ascii
"""A text, in its quotes."""

_ENCODER: Final = json.JSONEncoder(separators=(",", ":"))


def compact(value: Any) -> str:
    return _ENCODER.encode(value)


def named_event(said: Mapping[str, Any]) -> str:
    """A server-sent event whose name is its `type`."""
    return f"event: {said['type']}\ndata: {compact(said)}\n\n"


LONGEST_ID: Final = 40
"""Characters; the strictest provider takes no more."""
_KEPT: Final = 28


def made_id(prefix: str, owner: str, number: int) -> str:
    """A name for what its server left without one, in letters that every provider takes; `owner` makes it unique."""
    told = "".join(each for each in owner if each.isascii() and (each.isalnum() or each in "_-"))
    return f"{prefix}_{told[-_KEPT:]}_{number}"
