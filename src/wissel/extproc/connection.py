"""One HTTP/2 connection with its gRPC streams, on asyncio.

The rhythm is the turn: a read is parsed by h2, every event in it is handled at
once, every answer given meanwhile is gathered, and the turn ends with a single
write. Whatever is sent between reads gets a turn of its own. Two things wait
for the end of a turn: trailers, so that a handler that fails after it had
finished its stream still fails it, and `Receiver.gone`, so that it is never
called from inside another call to the same receiver.

What a peer may cost is bounded: a full window or an unread socket makes a
stream queue, queues and half-read messages share one allowance of memory, and
frames that bring nothing have to be earned by some that do.
"""

import asyncio
import contextlib
import socket
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import cast

from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    PingAckReceived,
    PingReceived,
    PriorityUpdated,
    RemoteSettingsChanged,
    RequestReceived,
    SettingsAcknowledged,
    StreamEnded,
    StreamReset,
    TrailersReceived,
    UnknownFrameReceived,
    WindowUpdated,
)
from h2.exceptions import FlowControlError, FrameTooLargeError, ProtocolError
from hpack import NeverIndexedHeaderTuple

from wissel.extproc.call import Method, Receiver
from wissel.extproc.grpc_frames import Deframer, FramingError, Status, frame, parse_timeout, percent_encode
from wissel.extproc.http2 import CONNECTION_WINDOW, LAST_STREAM_ID, STREAM_WINDOW, ServerConnection

Headers = list[tuple[bytes, bytes]]

_RESPONSE = [(b":status", b"200"), (b"content-type", b"application/grpc")]
_OK = [(b"grpc-status", b"0")]
_DRAIN_PING = b"draining"
_SETTINGS_KNOWN = 64
"""More distinct settings than this are an attempt to fill memory: HTTP/2 has a dozen."""
_WRITE_BUFFER = 1 << 20
_PERIOD = 10.0
"""Seconds over which the frames of a peer are counted."""
_FRAMES_PER_ANSWER = 8
"""Window updates and pings that a peer may send for each DATA frame that it gets."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one peer may cost."""

    message_bytes: int = 256 << 20
    """Of one message; a larger one ends its stream with RESOURCE_EXHAUSTED."""
    queued_bytes: int = 256 << 20
    """Waiting on one stream for its peer to read; beyond it the stream is reset."""
    memory_bytes: int = 1 << 30
    """Half-read messages and queues of all connections together; the stream that would exceed it ends."""
    streams: int = 4096
    """Open at once on one connection; Envoy holds one for every response that is streaming."""
    header_bytes: int = 64 << 10
    resets: int = 1000
    """Streams in ten seconds that a peer may reset before any answer, beyond those it let be answered."""
    idle_frames: int = 2000
    """Frames in ten seconds that bring nothing (pings, settings, empty data), beyond those its traffic explains."""
    handshake: float = 10.0
    """Seconds for a new connection to speak TLS, and then HTTP/2."""
    stall: float = 30.0
    """Seconds that a peer may leave its socket unread, while open and while closing."""


@dataclass(eq=False, slots=True)
class Shared:
    """What the connections of one server have in common."""

    methods: Mapping[str, Method]
    limits: Limits
    on_error: Callable[[Exception, str], None]
    connections: "set[Connection]" = field(default_factory=lambda: set())  # noqa: PLW0108  the class comes below
    held_bytes: int = 0
    """By half-read messages and by queues."""
    draining: bool = False


class Stream:
    """A `Call`, with what its connection knows of it."""

    __slots__ = (
        "answered",
        "connection",
        "deadline",
        "deframer",
        "held",
        "id",
        "method",
        "queue",
        "queued",
        "receiver",
        "status",
        "unacknowledged",
        "unreachable",
    )

    def __init__(self, connection: "Connection", stream_id: int, method: str, message_limit: int) -> None:
        self.connection = connection
        self.id = stream_id
        self.method = method
        self.deframer = Deframer(message_limit)
        self.receiver: Receiver | None = None
        self.deadline: asyncio.TimerHandle | None = None
        self.status: tuple[Status, str] | None = None
        """Set when the stream is finished, by the handler or for it."""
        self.answered = False
        self.unreachable = False
        """The peer has reset the stream, and the event that says so is still to come."""
        self.queue: deque[memoryview] = deque()
        self.queued = 0
        self.held = 0
        """This stream's part of `Shared.held_bytes`."""
        self.unacknowledged = 0

    def send(self, message: bytes) -> None:
        if self.status is None:
            self.connection.send(self, message)

    def finish(self, status: Status = Status.OK, message: str = "") -> None:
        if self.status is None:
            self.connection.finish(self, status, message)


class Allowance:
    """So many events in a period; useful work earns more."""

    __slots__ = ("_left", "_limit", "_since")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._left = limit
        self._since = 0.0

    def earn(self, count: int) -> None:
        self._left += count

    def spend(self, now: float) -> bool:
        """Whether one more event is within the allowance."""
        if now - self._since > _PERIOD:
            self._since = now
            self._left = self._limit
        self._left -= 1
        return self._left >= 0


class Connection(asyncio.Protocol):
    """Reads, answers and bounds one connection."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._limits = shared.limits
        self._loop = asyncio.get_running_loop()
        self._h2 = ServerConnection(max_streams=shared.limits.streams, max_header_bytes=shared.limits.header_bytes)
        self._transport: asyncio.Transport  # from connection_made on, which comes first
        self._streams: dict[int, Stream] = {}
        self._blocked: dict[int, Stream] = {}
        self._finishing: list[Stream] = []
        self._over: list[Stream] = []
        self._unreachable: list[Stream] = []
        self._turn_due = False
        self._pump_due = False
        self._writable = True
        self._unacknowledged = 0
        self._resets = Allowance(shared.limits.resets)
        self._idle_frames = Allowance(shared.limits.idle_frames)
        self._leaving = False
        """A GOAWAY was sent or received: the connection ends with its last stream."""
        self._refusing = False
        """The final GOAWAY was sent: a new stream is refused."""
        self._handshake: asyncio.TimerHandle | None = None
        self._stall: asyncio.TimerHandle | None = None
        self._goodbye: asyncio.TimerHandle | None = None
        self.closed: asyncio.Future[None] = self._loop.create_future()
        self._handlers: dict[type[Event], Callable[..., None]] = {
            RequestReceived: self._request_received,
            DataReceived: self._data_received,
            StreamEnded: self._stream_ended,
            StreamReset: self._stream_reset,
            WindowUpdated: self._window_updated,
            RemoteSettingsChanged: self._settings_changed,
            PingAckReceived: self._ping_acknowledged,
            ConnectionTerminated: self._peer_leaves,
            PingReceived: self._idle_frame,
            PriorityUpdated: self._idle_frame,
            SettingsAcknowledged: self._idle_frame,
            TrailersReceived: self._idle_frame,
            UnknownFrameReceived: self._idle_frame,
        }

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=_WRITE_BUFFER)
        _notice_dead_peers(transport.get_extra_info("socket"))
        self._shared.connections.add(self)
        if self._shared.draining:
            self._transport.abort()
            return
        self._handshake = self._loop.call_later(self._limits.handshake, self._transport.abort)
        self._h2.begin()
        self._end_turn()

    def data_received(self, data: bytes) -> None:
        self._turn_due = True
        try:
            events = self._h2.receive_data(data)
        except ProtocolError:
            self._close()  # h2 has written the GOAWAY
        except Exception as error:  # noqa: BLE001  whatever bytes do to h2, they cost only their own connection
            self._shared.on_error(error, "")
            self._transport.abort()
        else:
            for event in events:
                handle = self._handlers.get(type(event))
                if handle is not None:
                    handle(event)
        self._end_turn()

    def pause_writing(self) -> None:
        # A peer that does not read is not read from: nothing it asks for may pile up here.
        self._writable = False
        self._transport.pause_reading()
        self._watch_for_stall()

    def resume_writing(self) -> None:
        self._writable = True
        self._pump_due = True
        if self._stall is not None and not self._transport.is_closing():
            self._stall.cancel()
            self._stall = None
        self._transport.resume_reading()
        self._take_turn()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  asyncio calls it by this name
        for timer in (self._handshake, self._stall, self._goodbye):
            if timer is not None:
                timer.cancel()
        self._shared.connections.discard(self)
        for stream in list(self._streams.values()):
            self._release(stream)
        self._end_turn()
        self.closed.set_result(None)

    # the streams' side

    def send(self, stream: Stream, message: bytes) -> None:
        data = frame(message)
        try:
            if not stream.answered:
                self._h2.send_headers(stream.id, _RESPONSE)
                stream.answered = True
                self._resets.earn(1)
            if stream.queue or not self._writable:
                self._enqueue(stream, data)
            else:
                self._h2.send_data(stream.id, data)
                self._idle_frames.earn(_FRAMES_PER_ANSWER)
        except (FlowControlError, FrameTooLargeError):
            self._enqueue(stream, data)
        except ProtocolError:
            self._mark_unreachable(stream)
        self._take_turn()

    def finish(self, stream: Stream, status: Status, message: str) -> None:
        stream.status = (status, message)
        self._finishing.append(stream)
        self._take_turn()

    # the server's side

    def drain(self) -> None:
        """Tell the peer to open no more streams, and close once the open ones have ended."""
        if self._leaving or self._transport.is_closing():
            return
        # The peer may be opening a stream just now: refuse only what it sends after it has seen the first GOAWAY.
        self._leaving = True
        self._h2.say_goodbye(LAST_STREAM_ID)
        self._h2.ping(_DRAIN_PING)
        self._goodbye = self._loop.call_later(1.0, self._refuse_streams)
        self._take_turn()

    def shut_down(self) -> None:
        """End every stream with UNAVAILABLE, and close."""
        for stream in self._streams.values():
            self._fail(stream, Status.UNAVAILABLE, "server is shutting down")
        # Trailers first: a strict peer takes nothing after the final GOAWAY.
        self._end_turn()
        self._refuse_streams()

    def abort(self) -> None:
        self._transport.abort()

    # turns

    def _take_turn(self) -> None:
        """See to it that a turn ends soon: the running one, or one of its own."""
        if not self._turn_due:
            self._turn_due = True
            self._loop.call_soon(self._end_turn)

    def _end_turn(self) -> None:
        while self._finishing:
            stream = self._finishing.pop()
            if not stream.queue:
                self._send_trailers(stream)
        if self._pump_due:
            self._pump()
        while self._unreachable:
            self._release(self._unreachable.pop())
        if self._leaving and not self._streams and (self._refusing or not self._goodbye):
            self._close()
        data = self._h2.data_to_send()
        if data and not self._transport.is_closing():
            self._transport.write(data)
        self._turn_due = False
        while self._over:
            stream = self._over.pop()
            if stream.receiver is not None:
                try:
                    stream.receiver.gone()
                except Exception as error:  # noqa: BLE001  the stream is over: its bug is reported, no more
                    self._shared.on_error(error, stream.method)

    # events

    def _request_received(self, event: RequestReceived) -> None:
        stream_id = event.stream_id
        if self._refusing or len(self._streams) >= self._limits.streams:
            self._reset(stream_id, ErrorCodes.REFUSED_STREAM)
            return
        headers: dict[bytes, bytes] = dict(cast("Headers", event.headers))
        path = headers.get(b":path", b"").decode("latin-1")
        stream = self._streams[stream_id] = Stream(self, stream_id, path, self._limits.message_bytes)
        refusal = _http_refusal(headers)
        if refusal:
            self._refuse(stream, refusal)
            return
        method = self._shared.methods.get(path)
        if method is None:
            self.finish(stream, Status.UNIMPLEMENTED, "unknown method")
            return
        timeout = headers.get(b"grpc-timeout")
        if timeout is not None:
            try:
                seconds = parse_timeout(timeout)
            except ValueError:
                self.finish(stream, Status.INTERNAL, "malformed grpc-timeout")
                return
            stream.deadline = self._loop.call_later(seconds, self._deadline_passed, stream)
        try:
            stream.receiver = method(stream)
        except Exception as error:  # noqa: BLE001  a bug must end the stream, and only it
            self._fault(stream, error)

    def _data_received(self, event: DataReceived) -> None:
        length = event.flow_controlled_length
        if not length:
            self._idle_frame(event)
            return
        self._unacknowledged += length
        if self._unacknowledged >= CONNECTION_WINDOW // 4:
            self._h2.increment_flow_control_window(self._unacknowledged)
            self._unacknowledged = 0
        stream = self._streams.get(event.stream_id)
        if stream is None:
            return
        stream.unacknowledged += length
        if stream.unacknowledged >= STREAM_WINDOW // 4:
            with contextlib.suppress(ProtocolError):  # the peer may have reset the stream in this read
                self._h2.increment_flow_control_window(stream.unacknowledged, stream.id)
            stream.unacknowledged = 0
        if stream.status is None and stream.receiver is not None:
            self._deliver(stream, stream.receiver, event.data)

    def _deliver(self, stream: Stream, receiver: Receiver, data: bytes) -> None:
        deframer = stream.deframer
        held = deframer.held
        try:
            for message in deframer.feed(data):
                receiver.message(message)
                if stream.status is not None:
                    return
        except FramingError as error:
            self._fail(stream, error.status, str(error))
            return
        except Exception as error:  # noqa: BLE001  a bug must end the stream, and only it
            self._fault(stream, error)
            return
        if deframer.held != held and not self._hold(stream, deframer.held - held):
            self._fail(stream, Status.RESOURCE_EXHAUSTED, "server holds too many unfinished messages")

    def _stream_ended(self, event: StreamEnded) -> None:
        stream = self._streams.get(event.stream_id)
        if stream is None or stream.receiver is None or stream.status is not None:
            return
        if stream.deframer.held:
            self._fail(stream, Status.INTERNAL, "last message is cut short")
            return
        try:
            stream.receiver.half_closed()
        except Exception as error:  # noqa: BLE001  a bug must end the stream, and only it
            self._fault(stream, error)

    def _stream_reset(self, event: StreamReset) -> None:
        stream = self._streams.get(event.stream_id)
        if stream is None:
            return
        self._release(stream)
        if not stream.answered and not self._resets.spend(self._loop.time()):
            self._calm()

    def _window_updated(self, event: WindowUpdated) -> None:
        self._pump_due = True
        self._idle_frame(event)

    def _settings_changed(self, event: RemoteSettingsChanged) -> None:
        if self._handshake is not None:
            self._handshake.cancel()
            self._handshake = None
        self._pump_due = True
        if len(self._h2.remote_settings) > _SETTINGS_KNOWN:
            self._calm()
        self._idle_frame(event)

    def _ping_acknowledged(self, event: PingAckReceived) -> None:
        if self._leaving and event.ping_data == _DRAIN_PING:
            self._refuse_streams()
        self._idle_frame(event)

    def _peer_leaves(self, event: ConnectionTerminated) -> None:
        self._leaving = True
        self._idle_frame(event)

    def _idle_frame(self, _event: Event) -> None:
        if not self._idle_frames.spend(self._loop.time()):
            self._calm()

    # ends of streams

    def _fail(self, stream: Stream, status: Status, message: str) -> None:
        """End the stream now, whatever was queued or decided before."""
        self._drop_queue(stream)
        stream.status = None
        self.finish(stream, status, message)

    def _fault(self, stream: Stream, error: Exception) -> None:
        self._shared.on_error(error, stream.method)
        self._fail(stream, Status.INTERNAL, "internal error")

    def _deadline_passed(self, stream: Stream) -> None:
        self._fail(stream, Status.DEADLINE_EXCEEDED, "deadline exceeded")

    def _refuse(self, stream: Stream, headers: Headers) -> None:
        """Answer in plain HTTP what is no gRPC."""
        stream.status = (Status.UNKNOWN, "")
        try:
            self._h2.send_headers(stream.id, headers, end_stream=True)
        except ProtocolError:
            self._mark_unreachable(stream)
        else:
            self._end_stream(stream)

    def _send_trailers(self, stream: Stream) -> None:
        if self._streams.get(stream.id) is not stream or stream.status is None:
            return
        status, message = stream.status
        trailers = _OK if status is Status.OK and not message else _trailers(status, message)
        try:
            self._h2.send_headers(stream.id, trailers if stream.answered else _RESPONSE + trailers, end_stream=True)
        except ProtocolError:
            self._mark_unreachable(stream)
        else:
            self._end_stream(stream)

    def _end_stream(self, stream: Stream) -> None:
        """Everything is sent; a peer that has not ended its side is told to stop."""
        if self._h2.half_closed(stream.id):
            self._h2.reset_stream(stream.id, ErrorCodes.NO_ERROR)
        self._release(stream)

    def _reset(self, stream_id: int, error: ErrorCodes) -> None:
        with contextlib.suppress(ProtocolError):  # the peer may have reset it in the same read
            self._h2.reset_stream(stream_id, error)
        self._h2.forget(stream_id)

    def _mark_unreachable(self, stream: Stream) -> None:
        # One read can hold messages and then a reset: h2 refuses to send from the start, but the messages count.
        if not stream.unreachable:
            stream.unreachable = True
            self._unreachable.append(stream)

    def _release(self, stream: Stream) -> None:
        if self._streams.pop(stream.id, None) is None:
            return
        self._drop_queue(stream)
        self._hold(stream, -stream.held)
        self._h2.forget(stream.id)
        stream.status = stream.status or (Status.CANCELLED, "")
        if stream.deadline is not None:
            stream.deadline.cancel()
        self._over.append(stream)

    # queues

    def _enqueue(self, stream: Stream, data: bytes) -> None:
        stream.queue.append(memoryview(data))
        stream.queued += len(data)
        self._blocked[stream.id] = stream
        self._pump_due = True
        if not self._hold(stream, len(data)) or stream.queued > self._limits.queued_bytes:
            stream.status = (Status.RESOURCE_EXHAUSTED, "")
            self._reset(stream.id, ErrorCodes.ENHANCE_YOUR_CALM)
            self._release(stream)

    def _drop_queue(self, stream: Stream) -> None:
        self._hold(stream, -stream.queued)
        stream.queue.clear()
        stream.queued = 0
        self._blocked.pop(stream.id, None)

    def _hold(self, stream: Stream, count: int) -> bool:
        """Count bytes held for a stream; whether all held bytes are within the limit."""
        stream.held += count
        self._shared.held_bytes += count
        return self._shared.held_bytes <= self._limits.memory_bytes

    def _pump(self) -> None:
        """Send what windows and the socket take of the queues, one frame of each stream after the other."""
        self._pump_due = False
        ready = deque(self._blocked.values())
        written = 0
        while ready and self._writable:
            stream = ready.popleft()
            try:
                sent = self._send_queued(stream)
            except ProtocolError:
                self._drop_queue(stream)
                self._mark_unreachable(stream)
                continue
            if stream.queue and sent:
                ready.append(stream)
            elif not stream.queue:
                del self._blocked[stream.id]
                if stream.status is not None:
                    self._send_trailers(stream)
            written += sent
            if written >= _WRITE_BUFFER // 4:
                written = 0
                self._transport.write(self._h2.data_to_send())

    def _send_queued(self, stream: Stream) -> int:
        """Send one frame from the queue; its size, zero if no window is open."""
        room = min(self._h2.local_flow_control_window(stream.id), self._h2.max_outbound_frame_size)
        if room <= 0:
            return 0
        head = stream.queue.popleft()
        if len(head) > room:
            stream.queue.appendleft(head[room:])
            head = head[:room]
        self._h2.send_data(stream.id, head)
        self._idle_frames.earn(_FRAMES_PER_ANSWER)
        stream.queued -= len(head)
        self._hold(stream, -len(head))
        return len(head)

    # ends of the connection

    def _calm(self) -> None:
        """The peer costs more than it brings."""
        if not self._transport.is_closing():
            self._h2.say_goodbye(self._h2.highest_inbound_stream_id, ErrorCodes.ENHANCE_YOUR_CALM)
            self._close()

    def _refuse_streams(self) -> None:
        if self._goodbye is not None:
            self._goodbye.cancel()
            self._goodbye = None
        if not self._refusing:
            self._refusing = self._leaving = True
            self._h2.say_goodbye(self._h2.highest_inbound_stream_id)
        self._take_turn()

    def _close(self) -> None:
        """Write what is left to write, then close; a peer that does not read gets no say in it."""
        if self._transport.is_closing():
            return
        self._refusing = True
        for stream in list(self._streams.values()):
            self._release(stream)
        self._transport.write(self._h2.data_to_send())
        self._transport.close()
        self._watch_for_stall()

    def _watch_for_stall(self) -> None:
        if self._stall is None:
            self._stall = self._loop.call_later(self._limits.stall, self._transport.abort)


def _http_refusal(headers: Mapping[bytes, bytes]) -> Headers | None:
    """The answer to a request that is not gRPC at all."""
    if headers.get(b":method") != b"POST":
        return [(b":status", b"405"), (b"allow", b"POST")]
    kind = headers.get(b"content-type", b"")
    if not kind.startswith(b"application/grpc") or kind[16:17] not in (b"", b"+", b";"):
        return [(b":status", b"415"), (b"accept", b"application/grpc")]
    return None


def _trailers(status: Status, message: str) -> Headers:
    trailers = [(b"grpc-status", b"%d" % status)]
    if message:
        # Never indexed: messages vary, and the peer chooses how many of them our compression table remembers.
        trailers.append(NeverIndexedHeaderTuple(b"grpc-message", percent_encode(message)))
    return trailers


def _notice_dead_peers(sock: socket.socket) -> None:
    """Have the kernel probe a silent TCP peer: its open streams must not be open for ever."""
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (
        ("TCP_KEEPIDLE", 30),
        ("TCP_KEEPINTVL", 10),
        ("TCP_KEEPCNT", 3),
        ("TCP_USER_TIMEOUT", 60_000),
    ):
        if hasattr(socket, option):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
