"""A request's content coding, undone: packed bytes become the body that a model's server reads.

Servers of models read plain JSON; agents pack theirs. What is unpacked is
bounded by what a body may be, however little of it was sent, and is done in
slices like all work that grows with a body.
"""

import io
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import brotli
import zstandard

from wissel.apis.windows import Slices
from wissel.core.quoting import quoted
from wissel.errors import TooLargeError, UnreadableError, UnsupportedCodingError

_PIECE: Final = 64 * 1024
_MOST_WINDOW: Final = 8 << 20
"""Bytes that a zstd frame may make us remember: what RFC 9659 allows on the web."""

_ZSTD_PIECE: Final = 128
_MOST_FRAMES: Final = 10_000
"""That follow each other: empty ones take time and say nothing."""

_BROTLI: Final[Any] = brotli
"""It has no types."""

PLAIN: Final = frozenset({"", "identity"})


def coding_of(written: str) -> str:
    """The one coding that a `content-encoding` names, in lower case; empty for none.

    Raises UnsupportedCodingError for one that is not read here, and for more than one.
    """
    named = [each.strip().lower() for each in written.split(",")]
    packed = [each for each in named if each not in PLAIN]
    if not packed:
        return ""
    if len(packed) > 1 or packed[0] not in _READERS:
        raise UnsupportedCodingError(f"the content-encoding {quoted(written)} is not read here; send one of {ACCEPTED}")
    return packed[0]


def unpacked(data: bytes | bytearray, coding: str, most: int) -> Slices[bytes]:
    """The body. Raises UnreadableError for what is not packed so, and TooLargeError where it is larger than `most`."""
    out = io.BytesIO()
    try:
        for piece in _READERS[coding](data):
            out.write(piece)
            if out.tell() > most:
                raise TooLargeError
            yield
    except (zlib.error, _BROTLI.error, zstandard.ZstdError):
        raise UnreadableError(f"the body is not {coding}, as its content-encoding says") from None
    return out.getvalue()


def _inflated(data: bytes | bytearray) -> Iterator[bytes]:
    """Gzip or zlib, by the first bytes; members of gzip may follow each other."""
    return _inflated_by(data, 32 + zlib.MAX_WBITS, follow=True)


def _deflated(data: bytes | bytearray) -> Iterator[bytes]:
    """With RFC 1950's frame, or without it, as some clients send deflate."""
    framed = len(data) > 1 and data[0] & 0x0F == zlib.DEFLATED and int.from_bytes(data[:2], "big") % 31 == 0
    return _inflated_by(data, zlib.MAX_WBITS if framed else -zlib.MAX_WBITS, follow=False)


def _inflated_by(data: bytes | bytearray, code: int, *, follow: bool) -> Iterator[bytes]:
    """Fed in pieces, for the library copies what it leaves each time; `follow` says whether another may follow."""
    inflate, frames = zlib.decompressobj(code), 1
    for at in range(0, len(data), _PIECE):
        piece: bytes | bytearray = data[at : at + _PIECE]
        while piece:
            if inflate.eof:
                if not follow:
                    raise zlib.error
                inflate, frames = zlib.decompressobj(code), frames + 1
                _check_frames(frames)
            yield inflate.decompress(piece, _PIECE)
            piece = inflate.unused_data if inflate.eof else inflate.unconsumed_tail
    yield inflate.flush()
    if not inflate.eof:
        raise zlib.error


def _check_frames(frames: int) -> None:
    if frames > _MOST_FRAMES:
        raise UnreadableError(f"the body is packed in more than {_MOST_FRAMES} pieces")


def _unbrotlied(data: bytes | bytearray) -> Iterator[bytes]:
    reader: Any = _BROTLI.Decompressor()
    yield reader.process(data, output_buffer_limit=_PIECE)
    while not reader.is_finished():
        piece: bytes = reader.process(b"", output_buffer_limit=_PIECE)
        if not piece:
            raise _BROTLI.error
        yield piece


def _unzstded(data: bytes | bytearray) -> Iterator[bytes]:
    """Fed in small pieces, for the library bounds no output: of one piece come 4 MiB at most."""
    reader, frames = None, 0
    for at in range(0, len(data), _ZSTD_PIECE):
        piece = data[at : at + _ZSTD_PIECE]
        while piece:
            reader = reader or zstandard.ZstdDecompressor(max_window_size=_MOST_WINDOW).decompressobj()
            yield reader.decompress(piece)
            piece = reader.unused_data
            if reader.eof:
                reader, frames = None, frames + 1
                _check_frames(frames)
    if reader is not None:
        raise zstandard.ZstdError


_READERS: Final[Mapping[str, Callable[[bytes | bytearray], Iterator[bytes]]]] = {
    "gzip": _inflated,
    "x-gzip": _inflated,
    "deflate": _deflated,
    "br": _unbrotlied,
    "zstd": _unzstded,
}

ACCEPTED: Final = "gzip, deflate, br, zstd"
"""What a caller is told that it may send."""
