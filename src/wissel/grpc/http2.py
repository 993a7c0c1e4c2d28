"""The server's side of one HTTP/2 connection (RFC 9113), without any I/O.

Bytes go in, and the listener hears at once, in the order of the frames; what is
to be written gathers until `take`. It does what a gRPC server needs and no
more: no priorities, no push, nothing that forwards a header.

A stream is the listener's: it keeps the streams that are open in `streams`, and
whatever a peer says of another is passed over, since it may not have heard yet
that the stream is gone. Of such frames, and of others that bring nothing, the
listener hears too, so that it can lose its patience.

Windows that we grant are renewed when a quarter of one is used, in the turn
that reads the data. No frame is larger than what is left then, so whether a
peer keeps within them needs no check.
"""

from collections.abc import Callable
from enum import IntEnum
from struct import Struct
from typing import Final, Generic, Protocol, TypeVar

from hpack import HeaderTuple
from hpack.exceptions import HPACKError, OversizedHeaderListError

from wissel.grpc.headers import RememberingDecoder, RememberingEncoder

STREAM_WINDOW: Final = 1 << 20
CONNECTION_WINDOW: Final = 16 << 20
MAX_FRAME_BYTES: Final = 1 << 18
"""Of a frame's payload; a peer need not use it."""
LAST_STREAM_ID: Final = 2**31 - 1
"""In a GOAWAY: every stream that the peer has opened so far will be served."""

Headers = list[tuple[bytes, bytes]]

_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_HEAD: Final = Struct(">HBBBL")
"""Length (in two parts), kind, flags, stream."""
_HEAD_BYTES: Final = 9
_SETTING: Final = Struct(">HL")
_NUMBER: Final = Struct(">L")

_DATA, _HEADERS, _RST_STREAM, _SETTINGS = 0, 1, 3, 4
_PING, _GOAWAY, _WINDOW_UPDATE, _CONTINUATION = 6, 7, 8, 9
_END_STREAM = _ACK = 0x1
_END_HEADERS, _PADDED, _PRIORITISED = 0x4, 0x8, 0x20
_HEADER_TABLE_SIZE, _ENABLE_PUSH, _MAX_STREAMS, _INITIAL_WINDOW, _MAX_FRAME, _MAX_HEADER_LIST = range(1, 7)

_DEFAULT_WINDOW: Final = 65_535
_DEFAULT_FRAME: Final = 16_384
_LARGEST_WINDOW: Final = 2**31 - 1
_TABLE_BYTES: Final = 4096
"""Of the table that we compress with, at the most: our headers are few."""
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
    """The peer broke the protocol, and the connection with it; a GOAWAY that says so waits to be written."""

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.code = code


class Stream:
    """What the protocol knows of an open stream."""

    __slots__ = ("id", "peer_ended", "unacknowledged", "window")

    def __init__(self, stream_id: int, window: int) -> None:
        self.id = stream_id
        self.window = window
        """Bytes that the peer takes of this stream right now."""
        self.unacknowledged = 0
        """Bytes received since its window was last renewed."""
        self.peer_ended = False


S = TypeVar("S", bound=Stream)
Heard_contra = TypeVar("Heard_contra", bound=Stream, contravariant=True)


class Listener(Protocol[Heard_contra]):
    """Hears what a peer does."""

    def began(self) -> None:
        """The peer speaks HTTP/2."""
        ...

    def opened(self, stream_id: int, headers: list[HeaderTuple]) -> None:
        """A request; to hear more of it, put it into `streams`."""
        ...

    def received(self, stream: Heard_contra, data: memoryview) -> None:
        """Some bytes of an open stream, at least one."""
        ...

    def ended(self, stream: Heard_contra) -> None:
        """The peer sends no more on this stream."""
        ...

    def was_reset(self, stream: Heard_contra) -> None:
        """The peer wants nothing more of this stream."""
        ...

    def window_opened(self) -> None:
        """The peer may take more than before."""
        ...

    def ponged(self, data: bytes) -> None:
        """A ping of ours was answered."""
        ...

    def leaves(self) -> None:
        """The peer opens no more streams."""
        ...

    def nothing_new(self) -> None:
        """A frame came that has to be read, and brings nothing."""
        ...


class Http2(Generic[S]):
    """One connection, as its server sees it."""

    def __init__(self, listener: Listener[S], *, max_streams: int, max_header_bytes: int) -> None:
        self.streams: Final[dict[int, S]] = {}
        """That are open; the listener adds them when they open, and `close` and a reset take them out."""
        self.highest_stream = 0
        """That the peer has opened."""
        self.initial_window = _DEFAULT_WINDOW
        """Of a new stream, as the peer wants it."""
        self._listener: Final = listener
        self._max_streams: Final = max_streams
        self._max_header_bytes: Final = max_header_bytes
        self._window = _DEFAULT_WINDOW
        """Bytes that the peer takes of all streams together right now."""
        self._max_frame = _DEFAULT_FRAME
        self._unacknowledged = 0
        self._decoder: Final = RememberingDecoder(max_header_bytes)
        self._encoder: Final = RememberingEncoder()
        self._out: list[bytes | memoryview] = []
        self._rest = bytearray()
        """Of a read that ended within a frame."""
        self._need = len(_PREFACE)
        """Bytes that `_rest` must have before anything can be made of it."""
        self._greeted = False
        self._began = False
        self._fragments: _Fragments | None = None
        # By the kind of frame, in HTTP/2's numbers from 0 to 9.
        self._frames: Final[tuple[Callable[[int, int, memoryview], None], ...]] = (
            self._data_came,
            self._headers_came,
            self._priority_came,
            self._reset_came,
            self._settings_came,
            self._push_came,
            self._ping_came,
            self._goaway_came,
            self._window_update_came,
            self._continuation_came,
        )

    # What we say.

    def begin(self) -> None:
        """Announce the settings and the connection's window."""
        settings = (
            (_MAX_STREAMS, self._max_streams),
            (_INITIAL_WINDOW, STREAM_WINDOW),
            (_MAX_FRAME, MAX_FRAME_BYTES),
            (_MAX_HEADER_LIST, self._max_header_bytes),
        )
        self._write(_SETTINGS, 0, 0, b"".join(_SETTING.pack(*each) for each in settings))
        self._write(_WINDOW_UPDATE, 0, 0, _NUMBER.pack(CONNECTION_WINDOW - _DEFAULT_WINDOW))

    def send_headers(self, stream: S, headers: Headers, *, end: bool = False) -> None:
        """Response headers or trailers; they are short, and no window limits them."""
        block = self._encoder.encode(headers)
        flags = _END_HEADERS | _END_STREAM if end else _END_HEADERS
        first, rest = block[: self._max_frame], block[self._max_frame :]
        if not rest:
            self._out.append(_HEAD.pack(len(block) >> 8, len(block) & 0xFF, _HEADERS, flags, stream.id) + block)
            return
        self._write(_HEADERS, flags & ~_END_HEADERS, stream.id, first)
        while rest:
            first, rest = rest[: self._max_frame], rest[self._max_frame :]
            self._write(_CONTINUATION, 0 if rest else _END_HEADERS, stream.id, first)

    def room(self, stream: S) -> int:
        """Bytes that may be sent on a stream right now; zero or less for none."""
        return min(stream.window, self._window)

    def send_data(self, stream: S, data: bytes | memoryview) -> None:
        """Send bytes for which there is room."""
        length = len(data)
        stream.window -= length
        self._window -= length
        if length <= self._max_frame:
            self._out.append(_HEAD.pack(length >> 8, length & 0xFF, _DATA, 0, stream.id))
            self._out.append(data)
            return
        view = memoryview(data)
        for at in range(0, length, self._max_frame):
            self._write(_DATA, 0, stream.id, view[at : at + self._max_frame])

    @property
    def max_frame(self) -> int:
        """Bytes that the peer takes in one frame."""
        return self._max_frame

    def close(self, stream: S) -> None:
        """All is sent; a peer that has not ended its side is told to stop."""
        if not stream.peer_ended:
            self._write(_RST_STREAM, 0, stream.id, _NUMBER.pack(ErrorCode.NO_ERROR))
        self.streams.pop(stream.id, None)

    def reset(self, stream_id: int, code: ErrorCode) -> None:
        """End a stream before its time."""
        self._write(_RST_STREAM, 0, stream_id, _NUMBER.pack(code))
        self.streams.pop(stream_id, None)

    def ping(self, data: bytes) -> None:
        """Ask for a sign of life; `data` has eight bytes."""
        self._write(_PING, 0, 0, data)

    def say_goodbye(self, last_stream_id: int, code: ErrorCode = ErrorCode.NO_ERROR) -> None:
        """Say which streams will still be served; those go on."""
        self._write(_GOAWAY, 0, 0, _NUMBER.pack(last_stream_id) + _NUMBER.pack(code))

    def take(self) -> bytes:
        """What is to be written now."""
        out = self._out
        if not out:
            return b""
        data = b"".join(out)
        out.clear()
        return data

    def _write(self, kind: int, flags: int, stream_id: int, payload: bytes | memoryview) -> None:
        length = len(payload)
        self._out.append(_HEAD.pack(length >> 8, length & 0xFF, kind, flags, stream_id))
        self._out.append(payload)

    # What the peer says.

    def receive(self, data: bytes) -> None:
        """Hear the next bytes. Raises ProtocolError; nothing that comes after it can be understood."""
        if self._rest:
            self._rest += data
            if len(self._rest) < self._need:
                return
            data, self._rest = bytes(self._rest), bytearray()
        try:
            self._read(data)
        except ProtocolError as error:
            self.say_goodbye(self.highest_stream, error.code)
            raise

    def _read(self, data: bytes) -> None:
        at = 0
        if not self._greeted:
            if data[: len(_PREFACE)] != _PREFACE[: len(data)]:
                raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "this is not HTTP/2")
            if len(data) < len(_PREFACE):
                self._keep(data, len(_PREFACE))
                return
            self._greeted = True
            at = len(_PREFACE)
        view = memoryview(data)
        end = len(data)
        while end - at >= _HEAD_BYTES:
            high, low, kind, flags, stream_id = _HEAD.unpack_from(data, at)
            length = high << 8 | low
            if length > MAX_FRAME_BYTES:
                raise ProtocolError(ErrorCode.FRAME_SIZE_ERROR, "a frame is too large")
            after = at + _HEAD_BYTES + length
            if after > end:
                self._keep(view[at:], _HEAD_BYTES + length)
                return
            if self._fragments is not None and kind != _CONTINUATION:
                raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "a block of headers was interrupted")
            if not self._began and kind != _SETTINGS:
                raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "a connection begins with its settings")
            if kind < len(self._frames):
                self._frames[kind](flags, stream_id & 0x7FFFFFFF, view[at + _HEAD_BYTES : after])
            else:
                self._listener.nothing_new()
            at = after
        self._keep(view[at:], _HEAD_BYTES)

    def _keep(self, data: bytes | memoryview, need: int) -> None:
        self._rest += data
        self._need = need

    def _data_came(self, flags: int, stream_id: int, payload: memoryview) -> None:
        length = len(payload)
        self._unacknowledged += length
        if self._unacknowledged >= CONNECTION_WINDOW // 4:
            self._write(_WINDOW_UPDATE, 0, 0, _NUMBER.pack(self._unacknowledged))
            self._unacknowledged = 0
        stream = self.streams.get(stream_id)
        if stream is None:
            self._check_was_open(stream_id)
            # What was on its way when a stream ended here is no nuisance: a window of it may come.
            if not payload:
                self._listener.nothing_new()
            return
        if stream.peer_ended:
            raise ProtocolError(ErrorCode.STREAM_CLOSED, "data came after the end of its stream")
        stream.unacknowledged += length
        if stream.unacknowledged >= STREAM_WINDOW // 4:
            self._write(_WINDOW_UPDATE, 0, stream_id, _NUMBER.pack(stream.unacknowledged))
            stream.unacknowledged = 0
        if flags & _PADDED:
            payload = _unpadded(payload)
        if payload:
            self._listener.received(stream, payload)
        else:
            self._listener.nothing_new()
        if flags & _END_STREAM:
            stream.peer_ended = True
            self._listener.ended(stream)

    def _headers_came(self, flags: int, stream_id: int, payload: memoryview) -> None:
        if not stream_id:
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "headers belong to a stream")
        if flags & _PADDED:
            payload = _unpadded(payload)
        if flags & _PRIORITISED:
            if len(payload) < 5:
                raise ProtocolError(ErrorCode.FRAME_SIZE_ERROR, "a priority is cut short")
            payload = payload[5:]
        block = bytes(payload)
        if flags & _END_HEADERS:
            self._block_came(stream_id, block, ended=bool(flags & _END_STREAM))
        else:
            self._fragments = _Fragments(stream_id, bool(flags & _END_STREAM), bytearray(block))

    def _continuation_came(self, flags: int, stream_id: int, payload: memoryview) -> None:
        found = self._fragments
        if found is None or found.stream_id != stream_id:
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "a block of headers goes on that did not begin")
        found.block += payload
        found.count += 1
        if found.count > _FRAGMENTS:
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "a block of headers has too many parts")
        # A compressed list is hardly ever longer than its limit, which counts 32 more bytes for each header.
        if len(found.block) > self._max_header_bytes:
            raise ProtocolError(ErrorCode.ENHANCE_YOUR_CALM, "a block of headers is too long")
        if flags & _END_HEADERS:
            self._fragments = None
            self._block_came(stream_id, bytes(found.block), ended=found.ended)

    def _block_came(self, stream_id: int, block: bytes, *, ended: bool) -> None:
        # Also of a stream that nobody wants any more: what a block means rests on all blocks before it.
        try:
            headers = self._decoder.decode(block, raw=True)
        except OversizedHeaderListError as error:
            raise ProtocolError(ErrorCode.ENHANCE_YOUR_CALM, "the headers are too large") from error
        except (HPACKError, UnicodeDecodeError) as error:
            raise ProtocolError(ErrorCode.COMPRESSION_ERROR, "a block of headers cannot be read") from error
        stream = self.streams.get(stream_id)
        if stream is None and stream_id > self.highest_stream:
            if not stream_id & 1:
                raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "a client's streams have odd numbers")
            self.highest_stream = stream_id
            self._listener.opened(stream_id, headers)
            stream = self.streams.get(stream_id)
        elif not ended or (stream is not None and stream.peer_ended):
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "headers came after those of their stream")
        else:
            self._listener.nothing_new()
        if ended and stream is not None:
            stream.peer_ended = True
            self._listener.ended(stream)

    def _priority_came(self, _flags: int, stream_id: int, payload: memoryview) -> None:
        if not stream_id:
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "a priority belongs to a stream")
        _check_size(payload, 5)
        self._listener.nothing_new()

    def _reset_came(self, _flags: int, stream_id: int, payload: memoryview) -> None:
        _check_size(payload, 4)
        stream = self.streams.pop(stream_id, None)
        if stream is None:
            self._check_was_open(stream_id)
            self._listener.nothing_new()
        else:
            self._listener.was_reset(stream)

    def _settings_came(self, flags: int, stream_id: int, payload: memoryview) -> None:
        if stream_id:
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "settings belong to no stream")
        if flags & _ACK:
            _check_size(payload, 0)
        else:
            if len(payload) % _SETTING.size:
                raise ProtocolError(ErrorCode.FRAME_SIZE_ERROR, "the settings are cut short")
            # HTTP/2 has a dozen of them.
            if len(payload) > 64 * _SETTING.size:
                raise ProtocolError(ErrorCode.ENHANCE_YOUR_CALM, "there are too many settings")
            # Of one that is there twice the last counts: each may cost a walk over all streams.
            for setting, value in dict(_SETTING.iter_unpack(payload)).items():
                self._set(setting, value)
            self._write(_SETTINGS, _ACK, 0, b"")
        if not self._began:
            if flags & _ACK:
                raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "a connection begins with its settings")
            self._began = True
            self._listener.began()
        self._listener.nothing_new()
        self._listener.window_opened()

    def _set(self, setting: int, value: int) -> None:
        if setting == _HEADER_TABLE_SIZE:
            size = min(value, _TABLE_BYTES)
            # Set to what it is already, hpack forgets to announce an earlier change.
            if size != self._encoder.header_table_size:
                self._encoder.header_table_size = size
        elif setting == _ENABLE_PUSH and value > 1:
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "ENABLE_PUSH is neither 0 nor 1")
        elif setting == _INITIAL_WINDOW:
            self._set_initial_window(value)
        elif setting == _MAX_FRAME:
            if not _DEFAULT_FRAME <= value < 1 << 24:
                raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "MAX_FRAME_SIZE is out of its range")
            self._max_frame = value

    def _set_initial_window(self, value: int) -> None:
        if value > _LARGEST_WINDOW:
            raise ProtocolError(ErrorCode.FLOW_CONTROL_ERROR, "INITIAL_WINDOW_SIZE is too large")
        more = value - self.initial_window
        self.initial_window = value
        for stream in self.streams.values():
            stream.window += more
            if stream.window > _LARGEST_WINDOW:
                raise ProtocolError(ErrorCode.FLOW_CONTROL_ERROR, "a window is too large")

    def _push_came(self, _flags: int, _stream_id: int, _payload: memoryview) -> None:
        raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "a client does not push")

    def _ping_came(self, flags: int, stream_id: int, payload: memoryview) -> None:
        if stream_id:
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "a ping belongs to no stream")
        _check_size(payload, 8)
        self._listener.nothing_new()
        if flags & _ACK:
            self._listener.ponged(bytes(payload))
        else:
            self._write(_PING, _ACK, 0, bytes(payload))

    def _goaway_came(self, _flags: int, stream_id: int, payload: memoryview) -> None:
        if stream_id:
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "a goodbye belongs to no stream")
        if len(payload) < 8:
            raise ProtocolError(ErrorCode.FRAME_SIZE_ERROR, "a goodbye is cut short")
        self._listener.nothing_new()
        self._listener.leaves()

    def _window_update_came(self, _flags: int, stream_id: int, payload: memoryview) -> None:
        _check_size(payload, 4)
        more = _NUMBER.unpack(payload)[0] & 0x7FFFFFFF
        if not more:
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "a window is opened by nothing")
        self._listener.nothing_new()
        if not stream_id:
            self._window += more
            if self._window > _LARGEST_WINDOW:
                raise ProtocolError(ErrorCode.FLOW_CONTROL_ERROR, "the connection's window is too large")
        elif (stream := self.streams.get(stream_id)) is None:
            self._check_was_open(stream_id)
            return
        else:
            stream.window += more
            if stream.window > _LARGEST_WINDOW:
                raise ProtocolError(ErrorCode.FLOW_CONTROL_ERROR, "a window is too large")
        self._listener.window_opened()

    def _check_was_open(self, stream_id: int) -> None:
        if not stream_id & 1 or stream_id > self.highest_stream:
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, f"stream {stream_id} was never opened")


class _Fragments:
    """A block of headers that comes in several frames."""

    __slots__ = ("block", "count", "ended", "stream_id")

    def __init__(self, stream_id: int, ended: bool, block: bytearray) -> None:
        self.stream_id = stream_id
        self.ended = ended
        self.block = block
        self.count = 0


def _unpadded(payload: memoryview) -> memoryview:
    if not payload or payload[0] >= len(payload):
        raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "a frame has more padding than bytes")
    return payload[1 : len(payload) - payload[0]]


def _check_size(payload: memoryview, size: int) -> None:
    if len(payload) != size:
        raise ProtocolError(ErrorCode.FRAME_SIZE_ERROR, f"a frame of {len(payload)} bytes should have {size}")
