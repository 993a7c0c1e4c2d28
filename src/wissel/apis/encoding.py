"""Content codings: which of them a model may answer in, and how they are undone.

Only what the standard library reads is asked for. A stream is asked for
plain, because events that are compressed arrive late and cannot be taken out.
"""

import zlib
from typing import Final

MAX_INFLATED_BYTES: Final = 8 * 1024 * 1024
"""Out of one chunk; a chunk that holds more is a bomb, or nothing to read here."""

READABLE: Final = frozenset({"", "identity", "gzip", "x-gzip", "deflate"})

_AUTO: Final = 32 + zlib.MAX_WBITS
"""zlib's code for gzip or zlib, by the first bytes."""


def asked_away(accept_encoding: str, *, stream: bool) -> str:
    """The `accept-encoding` to send in place of the caller's, so that the answer can be read."""
    if stream:
        return "identity"
    for coding in accept_encoding.lower().split(","):
        name, _, parameters = coding.partition(";")
        if name.strip() in {"gzip", "*"} and _weight(parameters) > 0:
            return "gzip"
    return "identity"


def _weight(parameters: str) -> float:
    name, _, value = parameters.partition("=")
    try:
        return float(value) if name.strip() == "q" else 1.0
    except ValueError:
        return 0.0


class Inflater:
    """Undoes gzip and deflate, chunk by chunk."""

    __slots__ = ("_began", "_head", "_inflate")

    def __init__(self) -> None:
        self._inflate = zlib.decompressobj(_AUTO)
        self._head = b""
        self._began = False

    def feed(self, data: bytes) -> bytes | None:
        """What `data` says; None if it cannot be read, and then nothing after it can."""
        if not self._began:
            self._head += data
            if len(self._head) < 2:
                return b""
            self._began = True
            data, self._head = self._head, b""
            if not _has_header(data):
                self._inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        out: list[bytes] = []
        room = MAX_INFLATED_BYTES
        try:
            while data and room >= 0:
                out.append(self._inflate.decompress(data, room + 1))
                room -= len(out[-1])
                if not self._inflate.eof:
                    break
                # Members of gzip may follow each other, and zeros the last.
                data = self._inflate.unused_data.lstrip(b"\0")
                self._inflate = zlib.decompressobj(_AUTO)
        except zlib.error:
            return None
        return b"".join(out) if room >= 0 else None


def _has_header(head: bytes) -> bool:
    # RFC 1952's magic, or RFC 1950's check sum; some servers send deflate without the latter.
    return head.startswith(b"\x1f\x8b") or (head[0] & 0x0F == 8 and int.from_bytes(head[:2], "big") % 31 == 0)
