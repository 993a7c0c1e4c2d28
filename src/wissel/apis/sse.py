"""Server-sent events out of a stream of bytes, wherever its chunks are cut.

An event is every byte up to and with the blank line that ends it, so the
events, joined, are the stream again. Lines end with LF, CR or CRLF; a CR at the
end of a chunk waits for the next byte, which may belong to it.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

MAX_EVENT_BYTES: Final = 1024 * 1024
"""A longer event is passed on in parts."""

# Atomic, so that a CRLF is never taken for two line ends.
_LINE_END = re.compile(rb"(?>\r\n|\r|\n)")
_BLANK_LINE = re.compile(rb"(?>\r\n|\r|\n)(?>\r\n|\r|\n)")
_BOM: Final = b"\xef\xbb\xbf"
_LONGEST_NAME: Final = 16
"""Bytes of a field's name; no name that is known is longer."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes of the stream: an event, or a part of one that is too long."""

    raw: bytes
    whole: bool


class Splitter:
    """Cuts one stream into its events."""

    __slots__ = ("_buffer", "_scanned", "in_long_event")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._scanned = 0
        self.in_long_event = False
        """Whether the bytes now held belong to an event that is too long."""

    @property
    def rest(self) -> bytes:
        """The bytes since the last piece."""
        return bytes(self._buffer)

    def feed(self, data: bytes) -> Iterator[Piece]:
        """The pieces that `data` completes."""
        self._buffer += data
        while (end := self._next_end()) >= 0:
            raw = bytes(self._buffer[:end])
            del self._buffer[:end]
            self._scanned = 0
            whole = not self.in_long_event and end <= MAX_EVENT_BYTES
            self.in_long_event = False
            yield Piece(raw, whole)
        # Three bytes may be the beginning of a blank line.
        self._scanned = max(0, len(self._buffer) - 3)
        if len(self._buffer) > MAX_EVENT_BYTES:
            raw = bytes(self._buffer[: self._scanned])
            del self._buffer[: self._scanned]
            self._scanned = 0
            self.in_long_event = True
            yield Piece(raw, whole=False)

    def _next_end(self) -> int:
        found = _BLANK_LINE.search(self._buffer, self._scanned)
        if found is None or (found.end() == len(self._buffer) and self._buffer.endswith(b"\r")):
            return -1
        return found.end()


class DataLines:
    """Of an event that comes in parts, what its `data` lines say."""

    __slots__ = ("_is_data", "_name")

    def __init__(self) -> None:
        self._name: bytes | None = b""
        """What was read of a line's name; None behind it."""
        self._is_data = False

    def feed(self, part: bytes) -> bytes:
        """The data in the event's next bytes; between two lines stands a space that no reader minds."""
        found: list[bytes] = []
        for number, line in enumerate(_LINE_END.split(part)):
            value = line
            if number:
                self._name = b""
            if self._name is not None:
                name, colon, value = (self._name + line).partition(b":")
                self._name = None if colon else name[:_LONGEST_NAME]
                self._is_data = bool(colon) and name.removeprefix(_BOM) == b"data"
            if self._is_data:
                found.append(value)
        return b" ".join(found)


def data_of(event: bytes) -> bytes:
    """What the event's `data` lines say; empty where it has none."""
    body = event.removeprefix(_BOM).rstrip(b"\r\n")
    if body.startswith(b"data: ") and b"\n" not in body and b"\r" not in body:
        return body[6:]
    lines: list[bytes] = []
    for line in _LINE_END.split(body):
        name, _, value = line.partition(b":")
        if name == b"data":
            lines.append(value.removeprefix(b" "))
    return b"\n".join(lines)
