"""gRPC's own layer: bytes become messages, a status becomes trailers.

A message travels behind five bytes, a flag for compression and its length; the
borders of HTTP/2 frames mean nothing to it. No input or output happens here:
the same chunks, however they are cut, always make the same messages.
"""

import re
from collections.abc import Iterator
from enum import IntEnum
from urllib.parse import quote

PREFIX_BYTES = 5
OWN_BYTES = 64 << 10
"""A larger message is handed over in the buffer that it was gathered in."""
_PRINTABLE = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")
_TIMEOUT = re.compile(rb"([0-9]{1,8})([HMSmun])", re.ASCII)
_NOTHING = memoryview(b"")
_SECONDS = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}


class Status(IntEnum):
    """How a call ended, in gRPC's numbers."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class FramingError(Exception):
    """The peer's bytes are no messages that this server takes; `status` is what it is told."""

    def __init__(self, status: Status, message: str) -> None:
        super().__init__(message)
        self.status = status


Message = bytes | bytearray
"""One that came; a large one is the buffer that it was gathered in, and its receiver's to change."""
Part = bytes | bytearray | memoryview
"""Of a message to send, which may come in as many as its sender has: a large one is never copied into one."""


def frame(message: bytes) -> bytes:
    """The message as it travels, uncompressed."""
    return b"\0%b%b" % (len(message).to_bytes(4, "big"), message)


def framed(*parts: Part) -> list[Part]:
    """As `frame`, of a message in parts; a large one stays in parts."""
    length = sum(map(len, parts))
    if length > OWN_BYTES:
        return [b"\0" + length.to_bytes(4, "big"), *(part for part in parts if part)]
    return [frame(b"".join(parts))]


class Deframer:
    """Puts messages together from chunks that are cut anywhere."""

    __slots__ = ("_limit", "_need", "_partial")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        # One buffer, not a list of chunks: a message that comes byte by byte must not cost forty times its size.
        self._partial = bytearray()
        self._need = PREFIX_BYTES

    @property
    def held(self) -> int:
        """Bytes of a message that is not complete yet; zero on a border between messages."""
        return len(self._partial)

    def drop(self) -> None:
        """Forget what is not complete."""
        self._partial = bytearray()

    def feed(self, data: bytes | memoryview) -> Iterator[Message]:
        """The messages that `data` completes.

        Raises FramingError at a compressed message, and at one that announces
        more bytes than the limit before any of them is kept.
        """
        if not self._partial:
            pending = memoryview(data)
        else:
            self._partial += data
            if len(self._partial) < self._need:
                return
            gathered, self._partial = self._partial, bytearray()
            pending = memoryview(gathered)
            if self._need > OWN_BYTES:
                # The buffer itself, without what stands around: a copy would hold everybody up.
                pending = memoryview(bytes(pending[self._need :]))
                del gathered[self._need :]
                del gathered[:PREFIX_BYTES]
                yield gathered
            del gathered
        while len(pending) >= PREFIX_BYTES:
            length = int.from_bytes(pending[1:PREFIX_BYTES], "big")
            if pending[0]:
                raise FramingError(Status.UNIMPLEMENTED, "compressed messages are not supported")
            if length > self._limit:
                raise FramingError(Status.RESOURCE_EXHAUSTED, f"message is larger than {self._limit} bytes")
            end = PREFIX_BYTES + length
            if end > len(pending):
                self._need = end
                break
            message = pending[PREFIX_BYTES:end].tobytes()
            # At the end of a large message its buffer goes before the message is looked at.
            pending = pending[end:] if end < len(pending) else _NOTHING
            yield message
        else:
            self._need = PREFIX_BYTES
        self._partial += pending


def percent_encode(message: str) -> bytes:
    """A status message as `grpc-message` carries it: printable ASCII stays, the rest becomes %XX."""
    return quote(message, safe=_PRINTABLE, errors="replace").encode("ascii")


def parse_timeout(value: bytes) -> float:
    """Seconds of a `grpc-timeout` header; raises ValueError where it is none."""
    match = _TIMEOUT.fullmatch(value)
    if match is None:
        raise ValueError(f'grpc-timeout "{value.decode("latin-1")}": expected up to eight digits and one of HMSmun')
    return int(match[1]) * _SECONDS[match[2]]
