"""Whether a server refused a request because of what wissel put into it: `stream_options`.

Some servers know no such member and refuse whatever has it. That is learned
from the refusal's own words, and only where nothing else can have led to them.
No caller may bring it about that nobody is asked any more: it wrote no such word
that could be repeated, the refusal does more than repeat the request as it was
sent, and it is no list of the members that are known.
"""

import re
from typing import Final
from urllib.parse import unquote

from wissel.apis.body import Body
from wissel.apis.encoding import READABLE, Inflater
from wissel.extproc.excerpt import Excerpt

STATUSES: Final = frozenset({400, 422})
"""With which a member is refused."""
OURS: Final = (b"stream_options", b"include_usage")
"""The words that wissel writes."""
OTHERS: Final = (b"temperature", b"top_p", b"max_tokens")
"""Members that stand in every list of those that are known; a refusal that names one which the caller did not write
is such a list."""
MOST_SEARCHED: Final = 256 << 10
"""Bytes of a body; nothing is learned from the refusal of a larger one."""
MOST_READ: Final = 16 << 10
"""Bytes of a refusal."""

_REPEATED: Final = re.compile(
    rb"""stream_options[\\"']{0,4}\s?[:=]\s?\w{0,40}[({\[]{1,2}[\\"']{0,4}"""
    rb"""(?:include_usage[\\"']{0,4}\s?[:=]\s?[tT]rue|\w{0,13}\W{0,8}\Z)"""
)
"""What wissel put in as a refusal repeats it with the rest of the request, in JSON, Python or Go, whole or cut off."""

_ESCAPED_LETTER: Final = re.compile(rb"\\u00(?:5[fF]|6[1-9a-fA-F]|7[0-9aA])")
"""A letter of those words, written so that it would be repeated as itself. Who writes JSON escapes none of them."""


class Objection:
    """To one request, read from its answer; `body` is None where wissel put nothing in."""

    __slots__ = ("_coding", "_excerpt", "_is_ours", "_unsaid", "is_raised")

    def __init__(self, body: Body | None, path: str) -> None:
        self._is_ours = body is not None and _is_silent(body.data, path)
        self._unsaid = [word for word in OTHERS if body is not None and self._is_ours and word not in body.data]
        self._excerpt = Excerpt(MOST_READ)
        self._coding = ""
        self.is_raised = False
        """Whether the refusal says that it is about what wissel put in."""

    def opened(self, status: int, coding: str) -> bool:
        """The answer's headers came; whether its body should be read."""
        self._coding = coding
        self._excerpt.is_wanted = self._is_ours and status in STATUSES and coding in READABLE
        return self._excerpt.is_wanted

    def feed(self, data: bytes) -> None:
        """Of the body, as it comes."""
        self._excerpt.feed(data)

    def closed(self) -> None:
        """The answer is complete."""
        if (read := self._excerpt.closed()) is not None:
            text = read if self._coding in {"", "identity"} else Inflater().feed(read) or b""
            is_a_list = any(word in text for word in self._unsaid)
            said = _REPEATED.sub(b"", text)
            self.is_raised = not is_a_list and any(word in said for word in OURS)


def _is_silent(data: bytes | bytearray, path: str) -> bool:
    """Whether a request says nothing that a refusal could repeat as one of the words."""
    asked = unquote(path).encode("utf-8", "surrogateescape")
    if len(data) > MOST_SEARCHED or any(word in data or word in asked for word in OURS):
        return False
    return b"\\u00" not in data or _ESCAPED_LETTER.search(data) is None
