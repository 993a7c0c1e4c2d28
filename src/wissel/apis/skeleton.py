"""What is left of an answer of any size, once its long parts are dropped.

    JSON in chunks, cut anywhere -> the JSON of its short members, usage among them

Answers may hold pictures, vectors or a book, and what is learned from them
stands in a few short members: beside those, or behind them. So the text is walked
as it passes and nothing is built of it; only members that are short are kept,
of the outermost object and of those in it that tell how an answer went. What a
model or a caller wrote lies deeper, or within texts, and is never taken for one.
"""

import re
from collections.abc import Generator, Mapping
from typing import Final, cast

from wissel.apis.windows import Slices

LONGEST: Final = 16 * 1024
"""Bytes of a value that is kept."""
MOST: Final = 128 * 1024
"""Bytes that are kept in all; usage is kept whatever was before it."""

_Walked = Mapping[bytes, "_Walked"]
_EACH: Final = b"*"
_WALKED: Final[_Walked] = {
    b'"response"': {},
    b'"message"': {},
    b'"delta"': {},
    b'"choices"': {_EACH: {b'"delta"': {}, b'"message"': {}}},
    b'"x_groq"': {},
}
"""What is walked however long it is, by its name as it stands there."""
_ALWAYS: Final = frozenset({b'"usage"'})

_SPACE: Final = re.compile(rb"[ \t\n\r]*")
_PLAIN: Final = re.compile(rb"[^ \t\n\r,\[\]{}\":]*")
_ESCAPED: Final = re.compile(rb'(?:\\.[^"\\]*+)*+', re.DOTALL)
_BRACKETS: Final = re.compile(rb'(?:[^"{}\[\]]++|"(?:[^"\\]++|\\.)*+")*+(?:([{\[])|([}\]])|(?="|\Z))', re.DOTALL)
"""Up to the next bracket and with it; or up to a text whose end is not here yet, or to where there is no more."""
_OPENS, _CLOSES = 1, 2
_QUOTE, _COMMA, _COLON, _ESCAPE = b'",:\\'
_OPENING: Final = frozenset(b"[{")


class _NoJsonError(Exception):
    pass


class Skeleton:
    """Walks one JSON text."""

    __slots__ = ("_at", "_data", "_kept", "_short", "_text", "_work", "dropped")

    def __init__(self) -> None:
        self._data = b""
        self._at = 0
        self._kept = 0
        self._short: bytearray | None = None
        """Of the value that is being read; None once it is too long, or where none is to be kept."""
        self._text: bytes | None = None
        self.dropped = 0
        """Bytes of the values that were not kept."""
        self._work: Slices[bytes] | None = self._outermost()

    def feed(self, data: bytes) -> None:
        """Its next bytes."""
        if self._work is None:
            return
        self._data, self._at = data, 0
        try:
            next(self._work)
        except StopIteration as done:
            self._text, self._work = cast("bytes", done.value), None
        except _NoJsonError:
            self._work = None
        self._data = b""

    def finish(self) -> bytes | None:
        """An object of what was kept; None where the text was no JSON object, or is not complete."""
        self._work = None
        return self._text

    def _outermost(self) -> Slices[bytes]:
        if (yield from self._mark()) != ord("{"):
            raise _NoJsonError
        return (yield from self._object(_WALKED))

    def _mark(self) -> Slices[int]:
        """The next byte that is no space; it is not taken."""
        while True:
            self._at = cast("re.Match[bytes]", _SPACE.match(self._data, self._at)).end()
            if self._at < len(self._data):
                return self._data[self._at]
            yield

    def _object(self, walked: _Walked) -> Slices[bytes]:
        self._at += 1
        kept: list[bytes] = []
        while (mark := (yield from self._mark())) != ord("}"):
            if mark == _COMMA:
                self._at += 1
                continue
            name = yield from self._value(mark)
            if mark != _QUOTE or (yield from self._mark()) != _COLON:
                raise _NoJsonError
            self._at += 1
            value = yield from self._member(walked.get(name))
            if self._keeps(name, value):
                kept.append(name + b":" + value)
        self._at += 1
        return b"{" + b",".join(kept) + b"}"

    def _array(self, walked: _Walked) -> Slices[bytes]:
        self._at += 1
        kept: list[bytes] = []
        while (mark := (yield from self._mark())) != ord("]"):
            if mark == _COMMA:
                self._at += 1
                continue
            value = yield from self._member(walked.get(_EACH))
            if self._keeps(b"", value):
                kept.append(value)
        self._at += 1
        return b"[" + b",".join(kept) + b"]"

    def _keeps(self, name: bytes, value: bytes) -> bool:
        if not value or (self._kept + len(value) > MOST and name not in _ALWAYS):
            self.dropped += len(value)
            return False
        self._kept += len(value)
        return True

    def _member(self, walked: _Walked | None) -> Slices[bytes]:
        mark = yield from self._mark()
        if walked is not None and mark == ord("{"):
            return (yield from self._object(walked))
        if walked is not None and mark == ord("["):
            return (yield from self._array(walked))
        return (yield from self._value(mark))

    def _value(self, mark: int) -> Slices[bytes]:
        """The value that begins with `mark`; empty where it is too long."""
        self._short = bytearray()
        if mark == _QUOTE:
            yield from self._in_quotes()
        elif mark in _OPENING:
            yield from self._in_brackets()
        else:
            yield from self._in_plain()
        return bytes(self._short or b"")

    def _take(self, end: int) -> None:
        size = end - self._at
        if self._short is None:
            self.dropped += size
        elif len(self._short) + size > LONGEST:
            self.dropped += len(self._short) + size
            self._short = None
        else:
            self._short += self._data[self._at : end]
        self._at = end

    def _more(self) -> Generator[None]:
        """Wait until there is a next byte."""
        while self._at == len(self._data):
            yield

    def _in_plain(self) -> Slices[None]:
        begin = self._at
        while True:
            self._take(cast("re.Match[bytes]", _PLAIN.match(self._data, self._at)).end())
            if self._at < len(self._data):
                break
            yield
            begin = -1
        if self._at == begin:
            raise _NoJsonError

    def _in_quotes(self) -> Slices[None]:
        self._take(self._at + 1)
        while True:
            data, begin = self._data, self._at
            end = data.find(b'"', begin)
            escape = data.find(b"\\", begin, end if end >= 0 else len(data))
            if escape < 0 <= end:
                self._take(end + 1)
                return
            if escape < 0:
                self._take(len(data))
            else:
                # As far as escapes follow one another closely, in one go.
                self._take(cast("re.Match[bytes]", _ESCAPED.match(data, escape)).end())
            yield from self._more()
            if self._data[self._at] == _ESCAPE:
                # What it escapes comes with the next chunk.
                self._take(self._at + 1)
                yield from self._more()
                self._take(self._at + 1)

    def _in_brackets(self) -> Slices[None]:
        depth = 0
        while True:
            end = len(self._data)
            for found in _BRACKETS.finditer(self._data, self._at):
                kind = found.lastindex
                if kind == _OPENS:
                    depth += 1
                elif kind == _CLOSES:
                    depth -= 1
                    if not depth:
                        self._take(found.end())
                        return
                else:
                    end = found.end()
                    break
            self._take(end)
            yield from self._more()
            if self._data[self._at] == _QUOTE:
                yield from self._in_quotes()
