"""Which ids a caller's request names: what an answer "no such thing" may be about.

A refusal that repeats one of them is the caller's affair. Only what looks like
an id counts, or every refusal would name some word of the conversation; and
only so many values are looked at, the newest first, since conversations grow.
"""

import re
from collections.abc import Iterator
from typing import Any, Final, cast

from wissel.apis.shapes import Json

MOST_VALUES: Final = 500
_ID: Final = re.compile(r"(?=\S*[\d_-])[\w.:/@-]{6,256}")
_NO_IDS: Final = frozenset({"model", "type", "role", "object"})
"""Members that name no thing of the caller's: the model is exchanged on the way, the others are words of the format."""


def ids_in(members: Json) -> frozenset[str]:
    """Of a request's body."""
    return frozenset(text for text in _texts(members) if _ID.fullmatch(text))


def named_in(text: str, ids: frozenset[str]) -> bool:
    """Whether a text repeats one of them."""
    return not ids.isdisjoint(each.rstrip(".:") for each in _ID.findall(text))


def _texts(members: Json) -> Iterator[str]:
    waiting: list[Any] = [members]
    for _ in range(MOST_VALUES):
        if not waiting:
            return
        value = waiting.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            inner = cast("dict[str, Any]", value)
            waiting += [each for name, each in inner.items() if name not in _NO_IDS]
        elif isinstance(value, list):
            waiting += cast("list[Any]", value)[-MOST_VALUES:]
