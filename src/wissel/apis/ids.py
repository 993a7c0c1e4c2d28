"""Which ids a caller's request names: what an answer "no such thing" may be about.

A refusal that repeats one of them is the caller's affair. Only what looks like
an id counts, or every refusal would name some word of the conversation; and
only the beginning and the end of a body are looked at, since conversations grow.
"""

import re
from typing import Final

from wissel.apis.body import Body

HEAD_BYTES: Final = 8 << 10
TAIL_BYTES: Final = 32 << 10
_WORD: Final = re.compile(r"[\w.:/@-]{6,256}")
_VALUE: Final = re.compile(rb'(?:"(\w{1,64})"\s{0,8}:\s{0,8})?"((?=[^"\s]*[\d_-])[A-Za-z0-9_.:/@-]{6,256})"(?!\s*:)')
"""A text in quotes that could be an id, and the member that it is of."""
_NO_IDS: Final = frozenset({b"model", b"type", b"role", b"object"})
"""Members that name no thing of the caller's: the model is exchanged on the way, the others are words of the format."""


def ids_in(body: Body) -> frozenset[str]:
    """Of a request's body."""
    data = body.data
    stretches = [data] if len(data) <= HEAD_BYTES + TAIL_BYTES else [data[:HEAD_BYTES], data[-TAIL_BYTES:]]
    found = (match for stretch in stretches for match in _VALUE.finditer(stretch))
    return frozenset(match[2].decode() for match in found if match[1] not in _NO_IDS)


def named_in(text: str, ids: frozenset[str]) -> bool:
    """Whether a text repeats one of them."""
    return not ids.isdisjoint(each.rstrip(".:") for each in _WORD.findall(text))
