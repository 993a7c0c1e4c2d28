"""Bytes become HTTP/2 frames (RFC 9113, sections 4 and 6.10), without any I/O.

However the bytes are cut, a handler hears of each whole frame once. Two rules
are about the order of frames and nothing else, so they are kept here: settings
come first, and a block of headers is not interrupted until it is whole.
"""

from collections.abc import Sequence
from enum import IntEnum
from struct import Struct
from typing import Final, Protocol

MAX_FRAME_BYTES: Final = 16_384
"""Of a frame's payload. HTTP/2's default, and as much as Envoy sends where it is offered more."""

HEAD: Final = Struct(">HBBBL")
"""Length (in two parts), kind, flags, stream."""
NUMBER: Final = Struct(">L")

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM: Final = 0x1
ACK: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
PRIORITISED: Final = 0x20

_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_HEAD_BYTES: Final = 9
_FRAGMENTS: Final = 64
"""Frames that one block of headers may come in."""


class ErrorCode(IntEnum):
    """Why a stream or a connection ends, in HTTP/2's numbers."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    ENHANCE_YOUR_CALM = 11


class ProtocolError(Exception):
    """The peer broke the protocol, and the connection with it."""

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.code = code


class StreamError(Exception):
    """The peer broke the protocol on one stream, and nothing but that stream."""

    def __init__(self, stream_id: int, code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.stream_id = stream_id
        self.code = code


class FrameHandler(Protocol):
    """Hears of one kind of frame; may raise StreamError and ProtocolError."""

    def __call__(self, flags: int, stream_id: int, payload: memoryview, /) -> None: ...


class FrameListener(Protocol):
    """Hears of frames."""

    def began(self) -> None:
        """The peer speaks HTTP/2."""
        ...

    def block_came(self, stream_id: int, block: bytes, parent: int | None, *, ended: bool) -> None:
        """A whole block of headers; `parent` is the stream that it says to depend on."""
        ...

    def unknown_came(self) -> None:
        """A frame of a kind that HTTP/2 does not have."""
        ...

    def stream_broke(self, error: StreamError) -> None:
        """A handler raised this."""
        ...


class FrameReader:
    """Takes the bytes of one connection; `kinds` are the handlers of all kinds but those that carry headers."""

    def __init__(self, handlers: FrameListener, kinds: dict[int, FrameHandler], max_block_bytes: int) -> None:
        self._handlers: Final = handlers
        self._max_block_bytes: Final = max_block_bytes
        own = {HEADERS: self._headers_came, CONTINUATION: self._continuation_came}
        self._kinds: Final[Sequence[FrameHandler]] = [own.get(kind) or kinds[kind] for kind in range(10)]
        self._rest = bytearray()
        """Of a read that ended within a frame."""
        self._need = len(_PREFACE)
        """Bytes that `_rest` must have before anything can be made of it."""
        self._greeted = False
        self._only: int | None = SETTINGS
        """The one kind that may come now; None for any."""
        self._fragments: _Fragments | None = None

    def receive(self, data: bytes) -> None:
        """Hear the next bytes. Raises ProtocolError; nothing that comes after it can be understood."""
        if self._rest:
            self._rest += data
            if len(self._rest) < self._need:
                return
            data, self._rest = bytes(self._rest), bytearray()
        at = 0
        if not self._greeted:
            if data[: len(_PREFACE)] != _PREFACE[: len(data)]:
                raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "this is not HTTP/2")
            if len(data) < len(_PREFACE):
                self._keep(data, len(_PREFACE))
                return
            self._greeted = True
            at = len(_PREFACE)
        self._read(data, at)

    def _read(self, data: bytes, at: int) -> None:
        view = memoryview(data)
        end = len(data)
        kinds = self._kinds
        while end - at >= _HEAD_BYTES:
            high, low, kind, flags, stream_id = HEAD.unpack_from(data, at)
            length = high << 8 | low
            if length > MAX_FRAME_BYTES:
                raise ProtocolError(ErrorCode.FRAME_SIZE_ERROR, "a frame is too large")
            after = at + _HEAD_BYTES + length
            if after > end:
                self._keep(view[at:], _HEAD_BYTES + length)
                return
            if self._only is not None:
                self._check_turn(kind, flags)
            try:
                if kind < len(kinds):
                    kinds[kind](flags, stream_id & 0x7FFFFFFF, view[at + _HEAD_BYTES : after])
                else:
                    self._handlers.unknown_came()
            except StreamError as error:
                self._handlers.stream_broke(error)
            at = after
        self._keep(view[at:], _HEAD_BYTES)

    def _keep(self, data: bytes | memoryview, need: int) -> None:
        self._rest += data
        self._need = need

    def _check_turn(self, kind: int, flags: int) -> None:
        if kind != self._only:
            what = "a connection begins with its settings" if self._only == SETTINGS else "headers were interrupted"
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, what)
        if kind == SETTINGS:
            if flags & ACK:
                raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "a connection begins with its settings")
            self._only = None
            self._handlers.began()

    def _headers_came(self, flags: int, stream_id: int, payload: memoryview) -> None:
        if not stream_id:
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "headers belong to a stream")
        if flags & PADDED:
            payload = unpad(payload)
        parent = None
        if flags & PRIORITISED:
            if len(payload) < 5:
                raise ProtocolError(ErrorCode.FRAME_SIZE_ERROR, "a priority is cut short")
            parent = NUMBER.unpack_from(payload)[0] & 0x7FFFFFFF
            payload = payload[5:]
        ended = bool(flags & END_STREAM)
        if flags & END_HEADERS:
            self._handlers.block_came(stream_id, bytes(payload), parent, ended=ended)
        else:
            self._only = CONTINUATION
            self._fragments = _Fragments(stream_id, parent, ended, bytearray(payload))

    def _continuation_came(self, flags: int, stream_id: int, payload: memoryview) -> None:
        found = self._fragments
        if found is None or found.stream_id != stream_id:
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "headers go on that did not begin")
        found.block += payload
        found.count += 1
        if found.count > _FRAGMENTS:
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "headers have too many parts")
        # A compressed list is hardly ever longer than its limit, which counts 32 more bytes for each header.
        if len(found.block) > self._max_block_bytes:
            raise ProtocolError(ErrorCode.ENHANCE_YOUR_CALM, "headers are too long")
        if flags & END_HEADERS:
            self._fragments = self._only = None
            self._handlers.block_came(stream_id, bytes(found.block), found.parent, ended=found.ended)


class _Fragments:
    """A block of headers that comes in several frames."""

    __slots__ = ("block", "count", "ended", "parent", "stream_id")

    def __init__(self, stream_id: int, parent: int | None, ended: bool, block: bytearray) -> None:
        self.stream_id = stream_id
        self.parent = parent
        self.ended = ended
        self.block = block
        self.count = 0


def unpad(payload: memoryview) -> memoryview:
    """A padded frame's payload without its padding."""
    if not payload or payload[0] >= len(payload):
        raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "a frame has more padding than bytes")
    return payload[1 : len(payload) - payload[0]]
