"""The server's side of one HTTP/2 connection (RFC 9113), without any I/O.

Frames come in, and the listener hears at once, in their order; what is to be
written gathers until `take`. It does what a gRPC server needs and no more: no
priorities, no push, nothing that forwards a header.

Why it is our own: ext_proc is many small frames, and the h2 library takes more
than ten times as long for the same ones (`python -m tests.bench.http2` has both
behind the same `Listener`), which is more than all the rest of a decision. The
price is that its faults are ours: it is held to h2 by differential tests, and
to the rules one by one by a playbook in raw frames.

A fault on one stream ends that stream, one that leaves the connection's state
in doubt ends the connection. The streams that are open are the listener's, in
`streams`. Of those that are gone the last few are remembered: a peer that had
ended its side must send no more, while one that had not may still be sending
and is passed over. Of such frames, and of others that bring nothing, the
listener hears too, so that it can lose its patience.

Windows that we grant are renewed when a quarter of one is used, as long as the
listener wants more of the stream. What comes over a window ends the stream, or
the connection where it is the connection's.
"""

from struct import Struct
from typing import Final, Generic, TypeVar

from hpack.exceptions import HPACKError, OversizedHeaderListError

from wissel.grpc import reader
from wissel.grpc.headers import HeaderBlock, RememberingDecoder, RememberingEncoder
from wissel.grpc.reader import HEAD, NUMBER, ErrorCode, FrameReader, ProtocolError, StreamError, unpad
from wissel.grpc.requests import MalformedError, check_trailers
from wissel.grpc.streams import STREAM_WINDOW, Listener, Stream

CONNECTION_WINDOW: Final = 16 << 20
LAST_STREAM_ID: Final = 2**31 - 1
"""In a GOAWAY: every stream that the peer has opened so far will be served."""

Headers = list[tuple[bytes, bytes]]

_SETTING: Final = Struct(">HL")
_HEADER_TABLE_SIZE, _ENABLE_PUSH, _MAX_STREAMS, _INITIAL_WINDOW, _MAX_FRAME, _MAX_HEADER_LIST = range(1, 7)

_DEFAULT_WINDOW: Final = 65_535
_DEFAULT_FRAME: Final = 16_384
_LARGEST_WINDOW: Final = 2**31 - 1
_TABLE_BYTES: Final = 4096
"""Of the table that we compress with, at the most: our headers are few."""
_GONE: Final = 256
"""Streams that are remembered after their end, at the least."""


S = TypeVar("S", bound=Stream)


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
        self._granted = CONNECTION_WINDOW
        """Bytes that we take of all streams together."""
        self._max_frame = _DEFAULT_FRAME
        self._decoder: Final = RememberingDecoder(max_header_bytes)
        self._encoder: Final = RememberingEncoder()
        self._out: list[bytes | memoryview] = []
        self._gone: dict[int, bool] = {}
        """Of the last streams that ended, whether the peer had ended its side."""
        self._gone_before: dict[int, bool] = {}
        kinds: dict[int, reader.FrameHandler] = {
            reader.DATA: self._data_came,
            reader.PRIORITY: self._priority_came,
            reader.RST_STREAM: self._reset_came,
            reader.SETTINGS: self._settings_came,
            reader.PUSH_PROMISE: self._push_came,
            reader.PING: self._ping_came,
            reader.GOAWAY: self._goaway_came,
            reader.WINDOW_UPDATE: self._window_update_came,
        }
        self._reader: Final = FrameReader(self, kinds, max_header_bytes)

    # What we say.

    def begin(self) -> None:
        """Announce the settings and the connection's window."""
        settings = (
            (_MAX_STREAMS, self._max_streams),
            (_INITIAL_WINDOW, STREAM_WINDOW),
            (_MAX_HEADER_LIST, self._max_header_bytes),
        )
        self._write(reader.SETTINGS, 0, 0, b"".join(_SETTING.pack(*each) for each in settings))
        self._write(reader.WINDOW_UPDATE, 0, 0, NUMBER.pack(CONNECTION_WINDOW - _DEFAULT_WINDOW))

    def send_headers(self, stream: S, headers: Headers, *, end: bool = False) -> None:
        """Response headers or trailers; they are short, and no window limits them."""
        block = self._encoder.encode(headers)
        flags = reader.END_HEADERS | reader.END_STREAM if end else reader.END_HEADERS
        first, rest = block[: self._max_frame], block[self._max_frame :]
        if not rest:
            self._out.append(HEAD.pack(len(block) >> 8, len(block) & 0xFF, reader.HEADERS, flags, stream.id) + block)
            return
        self._write(reader.HEADERS, flags & ~reader.END_HEADERS, stream.id, first)
        while rest:
            first, rest = rest[: self._max_frame], rest[self._max_frame :]
            self._write(reader.CONTINUATION, 0 if rest else reader.END_HEADERS, stream.id, first)

    def room(self, stream: S) -> int:
        """Bytes that may be sent on a stream right now; zero or less for none."""
        return min(stream.window, self._window)

    def send_data(self, stream: S, data: bytes | memoryview) -> None:
        """Send bytes for which there is room."""
        length = len(data)
        stream.window -= length
        self._window -= length
        if length <= self._max_frame:
            self._out.append(HEAD.pack(length >> 8, length & 0xFF, reader.DATA, 0, stream.id))
            self._out.append(data)
            return
        view = memoryview(data)
        for at in range(0, length, self._max_frame):
            self._write(reader.DATA, 0, stream.id, view[at : at + self._max_frame])

    def end_data(self, stream: S) -> None:
        """End an answer that has no trailers."""
        self._write(reader.DATA, reader.END_STREAM, stream.id, b"")

    @property
    def max_frame(self) -> int:
        """Bytes that the peer takes in one frame."""
        return self._max_frame

    def close(self, stream: S) -> None:
        """All is sent; a peer that has not ended its side is told to stop."""
        if not stream.peer_ended:
            self._write(reader.RST_STREAM, 0, stream.id, NUMBER.pack(ErrorCode.NO_ERROR))
        self._part_from(stream.id, ended=stream.peer_ended)

    def reset(self, stream_id: int, code: ErrorCode) -> None:
        """End a stream before its time."""
        self._write(reader.RST_STREAM, 0, stream_id, NUMBER.pack(code))
        self._part_from(stream_id, ended=False)

    def ping(self, data: bytes) -> None:
        """Ask for a sign of life; `data` has eight bytes."""
        self._write(reader.PING, 0, 0, data)

    def say_goodbye(self, last_stream_id: int, code: ErrorCode = ErrorCode.NO_ERROR) -> None:
        """Say which streams will still be served; those go on."""
        self._write(reader.GOAWAY, 0, 0, NUMBER.pack(last_stream_id) + NUMBER.pack(code))

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
        self._out.append(HEAD.pack(length >> 8, length & 0xFF, kind, flags, stream_id))
        self._out.append(payload)

    def _part_from(self, stream_id: int, *, ended: bool) -> None:
        self.streams.pop(stream_id, None)
        self._gone[stream_id] = ended
        if len(self._gone) >= _GONE:
            self._gone_before, self._gone = self._gone, {}

    def _had_ended(self, stream_id: int) -> bool | None:
        """Whether the peer had ended its side of a stream that is gone; None where that is forgotten."""
        ended = self._gone.get(stream_id)
        return self._gone_before.get(stream_id) if ended is None else ended

    # What the peer says.

    def receive(self, data: bytes) -> None:
        """Hear the next bytes. Raises ProtocolError, and a GOAWAY that says so waits to be written."""
        try:
            self._reader.receive(data)
        except ProtocolError as error:
            self.say_goodbye(self.highest_stream, error.code)
            raise

    def began(self) -> None:
        self._listener.began()

    def unknown_came(self) -> None:
        self._listener.nothing_new()

    def stream_broke(self, error: StreamError) -> None:
        self._write(reader.RST_STREAM, 0, error.stream_id, NUMBER.pack(error.code))
        stream = self.streams.get(error.stream_id)
        if stream is not None:
            self._part_from(stream.id, ended=stream.peer_ended)
            self._listener.was_reset(stream)
        elif self._had_ended(error.stream_id) is None:
            self._part_from(error.stream_id, ended=False)
        self._listener.nothing_new()

    def block_came(self, stream_id: int, block: bytes, parent: int | None, *, ended: bool) -> None:
        # Also of a stream that nobody wants any more: what a block means rests on all blocks before it.
        try:
            headers = self._decoder.fields(block)
        except OversizedHeaderListError as error:
            raise ProtocolError(ErrorCode.ENHANCE_YOUR_CALM, "the headers are too large") from error
        except (HPACKError, UnicodeDecodeError) as error:
            raise ProtocolError(ErrorCode.COMPRESSION_ERROR, "a block of headers cannot be read") from error
        stream = self.streams.get(stream_id)
        try:
            if stream is not None:
                self._trailers_came(stream, headers, ended=ended)
            elif stream_id > self.highest_stream:
                self._request_came(stream_id, headers, parent, ended=ended)
            else:
                self._late_headers_came(stream_id)
        except MalformedError as error:
            raise StreamError(stream_id, ErrorCode.PROTOCOL_ERROR, str(error)) from error

    def _request_came(self, stream_id: int, headers: HeaderBlock, parent: int | None, *, ended: bool) -> None:
        if not stream_id & 1:
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "a client's streams have odd numbers")
        self.highest_stream = stream_id
        if parent == stream_id:
            raise MalformedError("a stream depends on itself")
        request = headers.request
        if ended and request.length:
            raise MalformedError("content-length is not the body's")
        self._listener.opened(stream_id, request)
        stream = self.streams.get(stream_id)
        if stream is None:
            return
        stream.left = request.length
        if ended:
            stream.peer_ended = True
            self._listener.ended(stream)

    def _trailers_came(self, stream: S, headers: HeaderBlock, *, ended: bool) -> None:
        if stream.peer_ended:
            raise StreamError(stream.id, ErrorCode.STREAM_CLOSED, "headers came after the end of their stream")
        if not ended:
            raise MalformedError("trailers end a stream")
        if stream.left:
            raise MalformedError("content-length is not the body's")
        check_trailers(headers)
        self._listener.nothing_new()
        stream.peer_ended = True
        self._listener.ended(stream)

    def _late_headers_came(self, stream_id: int) -> None:
        had_ended = self._had_ended(stream_id)
        if had_ended is None:
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "a stream's number is lower than one before")
        if had_ended:
            raise ProtocolError(ErrorCode.STREAM_CLOSED, "headers came after the end of their stream")
        self._listener.nothing_new()

    def _data_came(self, flags: int, stream_id: int, payload: memoryview) -> None:
        length = len(payload)
        self._granted -= length
        if self._granted <= CONNECTION_WINDOW * 3 // 4:
            if self._granted < 0:
                raise ProtocolError(ErrorCode.FLOW_CONTROL_ERROR, "the connection's window was overrun")
            self._write(reader.WINDOW_UPDATE, 0, 0, NUMBER.pack(CONNECTION_WINDOW - self._granted))
            self._granted = CONNECTION_WINDOW
        if flags & reader.PADDED:
            payload = unpad(payload)
        stream = self.streams.get(stream_id)
        if stream is None:
            self._late_data_came(stream_id, payload)
            return
        if stream.peer_ended:
            raise StreamError(stream_id, ErrorCode.STREAM_CLOSED, "data came after the end of its stream")
        stream.granted -= length
        if stream.granted <= STREAM_WINDOW * 3 // 4:
            self._renew(stream)
        ended = flags & reader.END_STREAM
        if stream.left is not None:
            stream.left -= len(payload)
            if stream.left < 0 or (ended and stream.left):
                raise StreamError(stream_id, ErrorCode.PROTOCOL_ERROR, "content-length is not the body's")
        if payload:
            self._listener.received(stream, payload)
        else:
            self._listener.nothing_new()
        if ended:
            stream.peer_ended = True
            self._listener.ended(stream)

    def _renew(self, stream: S) -> None:
        if stream.granted < 0:
            raise StreamError(stream.id, ErrorCode.FLOW_CONTROL_ERROR, "a window was overrun")
        if stream.wanted:
            self._write(reader.WINDOW_UPDATE, 0, stream.id, NUMBER.pack(STREAM_WINDOW - stream.granted))
            stream.granted = STREAM_WINDOW

    def _late_data_came(self, stream_id: int, payload: memoryview) -> None:
        self._check_was_open(stream_id)
        if self._had_ended(stream_id):
            raise StreamError(stream_id, ErrorCode.STREAM_CLOSED, "data came after the end of its stream")
        # What was on its way when a stream ended here is no nuisance: a window of it may come.
        if not payload:
            self._listener.nothing_new()

    def _priority_came(self, _flags: int, stream_id: int, payload: memoryview) -> None:
        if not stream_id:
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "a priority belongs to a stream")
        _check_size(payload, 5)
        if NUMBER.unpack_from(payload)[0] & 0x7FFFFFFF == stream_id:
            # On a stream that is not open there is nothing to end.
            kind = StreamError(stream_id, ErrorCode.PROTOCOL_ERROR, "a stream depends on itself")
            raise kind if stream_id in self.streams else ProtocolError(kind.code, str(kind))
        self._listener.nothing_new()

    def _reset_came(self, _flags: int, stream_id: int, payload: memoryview) -> None:
        _check_size(payload, 4)
        stream = self.streams.get(stream_id)
        if stream is None:
            self._check_was_open(stream_id)
            self._listener.nothing_new()
        else:
            self._part_from(stream_id, ended=True)
            self._listener.was_reset(stream)

    def _settings_came(self, flags: int, stream_id: int, payload: memoryview) -> None:
        if stream_id:
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "settings belong to no stream")
        if flags & reader.ACK:
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
            self._write(reader.SETTINGS, reader.ACK, 0, b"")
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
        if flags & reader.ACK:
            self._listener.ponged(bytes(payload))
        else:
            self._write(reader.PING, reader.ACK, 0, bytes(payload))

    def _goaway_came(self, _flags: int, stream_id: int, payload: memoryview) -> None:
        if stream_id:
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "a goodbye belongs to no stream")
        if len(payload) < 8:
            raise ProtocolError(ErrorCode.FRAME_SIZE_ERROR, "a goodbye is cut short")
        self._listener.nothing_new()
        self._listener.leaves()

    def _window_update_came(self, _flags: int, stream_id: int, payload: memoryview) -> None:
        _check_size(payload, 4)
        more = NUMBER.unpack(payload)[0] & 0x7FFFFFFF
        if not stream_id:
            if not more:
                raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "a window is opened by nothing")
            self._window += more
            if self._window > _LARGEST_WINDOW:
                raise ProtocolError(ErrorCode.FLOW_CONTROL_ERROR, "the connection's window is too large")
        elif (stream := self.streams.get(stream_id)) is None:
            self._check_was_open(stream_id)
        else:
            if not more:
                raise StreamError(stream_id, ErrorCode.PROTOCOL_ERROR, "a window is opened by nothing")
            stream.window += more
            if stream.window > _LARGEST_WINDOW:
                raise StreamError(stream_id, ErrorCode.FLOW_CONTROL_ERROR, "a window is too large")
        self._listener.nothing_new()
        self._listener.window_opened()

    def _check_was_open(self, stream_id: int) -> None:
        if not stream_id & 1 or stream_id > self.highest_stream:
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, f"stream {stream_id} was never opened")


def _check_size(payload: memoryview, size: int) -> None:
    if len(payload) != size:
        raise ProtocolError(ErrorCode.FRAME_SIZE_ERROR, f"a frame of {len(payload)} bytes should have {size}")
