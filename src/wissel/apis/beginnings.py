"""An answer's first bytes become what the answer is: words, an error inside a 200, a refusal, or nothing yet.

Nothing is changed here, and nothing is kept but what is needed to tell. What
cannot be read counts as words: whoever waits for it waits no longer.
"""

from collections.abc import Callable, Mapping
from typing import Final

from wissel.apis.answers import kind_of, parsed
from wissel.apis.api import Api, Beginning
from wissel.apis.encoding import READABLE, Inflater
from wissel.apis.sse import Splitter, data_of

MOST_UNTOLD_BYTES: Final = 256 * 1024
"""Of an answer that may still turn out to be anything; behind them it counts as words."""


class BeginningReader:
    """Reads one answer until it is known what it is."""

    __slots__ = ("_api", "_held", "_inflater", "_kind", "_size", "_splitter")

    def __init__(self, api: Api, headers: Mapping[str, str]) -> None:
        self._api = api
        self._kind = kind_of(headers)
        coding = headers.get("content-encoding", "").strip().lower()
        if coding not in READABLE:
            self._kind = "unread"
        self._inflater = None if coding in {"", "identity"} else Inflater()
        self._splitter = Splitter()
        self._held = bytearray()
        """Of an answer that is no stream."""
        self._size = 0

    def feed(self, data: bytes, *, is_over: bool) -> Beginning:
        """What the answer is, with its next bytes."""
        plain = data if self._inflater is None else self._inflater.feed(data)
        if plain is None or (self._kind == "unread" and data):
            return "words"
        self._size += len(plain)
        if self._kind == "untold":
            plain = bytes(self._held) + plain
            self._held.clear()
            if first := plain.lstrip()[:1]:
                self._kind = "whole" if first in b"{[" else "stream"
        read: Callable[[bytes, bool], Beginning] = self._read_stream if self._kind == "stream" else self._read_whole
        found = read(plain, is_over)
        return found or ("words" if self._size > MOST_UNTOLD_BYTES else "")

    def _read_whole(self, plain: bytes, is_over: bool) -> Beginning:
        self._held += plain
        if not is_over:
            return ""
        said = parsed(bytes(self._held))
        return "words" if said is None else self._api.begins(said) or "words"

    def _read_stream(self, plain: bytes, is_over: bool) -> Beginning:
        for piece in self._splitter.feed(plain):
            if found := self._read(piece.raw) if piece.whole else "words":
                return found
        if not is_over:
            return ""
        # Without its blank line it is no event, but clients take it for one. A stream that ended without a word failed.
        return self._read(self._splitter.rest) or "error"

    def _read(self, event: bytes) -> Beginning:
        data = data_of(event)
        if not data.strip():
            return ""
        said = parsed(data)
        return "words" if said is None else self._api.begins(said)
