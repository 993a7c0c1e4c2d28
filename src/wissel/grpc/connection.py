"""One HTTP/2 connection with its gRPC streams, on asyncio.

The rhythm is the turn: a read is parsed, every frame in it is handled at once,
every answer given meanwhile is gathered, and the turn ends with a single write.
Whatever is sent between reads gets a turn of its own. Two things wait for the
end of a turn: trailers, so that a handler that fails after it had finished its
stream still fails it, and `Receiver.gone`, so that it is never called from
inside another call to the same receiver.

What a peer may cost is bounded: what a stream makes us keep, from the first byte
of a message to the last byte of its answer, is on its account of memory; a
stream that owes us bytes must not be silent for long; and frames that bring
nothing have to be earned by some that do.
"""

import asyncio
import socket
from collections.abc import Callable, Mapping
from typing import cast

from wissel.grpc.answers import RESPONSE, Headers, refuse, trailers
from wissel.grpc.bounds import Allowance, Limits, Memory
from wissel.grpc.call import Method
from wissel.grpc.frames import FramingError, Part, Status, framed, parse_timeout
from wissel.grpc.http2 import LAST_STREAM_ID, Http2
from wissel.grpc.outbox import Outbox
from wissel.grpc.reader import ErrorCode, ProtocolError
from wissel.grpc.requests import RequestHead
from wissel.grpc.rpc import CallStream

_DRAIN_PING = b"draining"
_WRITE_BUFFER = 1 << 20
_FRAMES_PER_ANSWER = 8
"""Window updates and pings that a peer may send for each DATA frame that it gets."""


class Shared:
    """What the connections of one server have in common."""

    def __init__(
        self, methods: Mapping[str, Method], limits: Limits, on_error: Callable[[Exception, str], None]
    ) -> None:
        self.methods = methods
        self.limits = limits
        self.on_error = on_error
        self.connections: set[Connection] = set()
        self.memory = Memory(limits.memory_bytes)
        self.draining = False


class Connection(asyncio.Protocol):
    """Reads, answers and bounds one connection."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._limits = limits = shared.limits
        self._loop = asyncio.get_running_loop()
        self._http2: Http2[CallStream] = Http2(self, max_streams=limits.streams, max_header_bytes=limits.header_bytes)
        self._streams = self._http2.streams
        self._outbox: Outbox[CallStream] = Outbox(self._http2, self._queue_grew, self._frame_sent)
        self._transport: asyncio.Transport  # from connection_made on, which comes first
        self._finishing: list[CallStream] = []
        self._over: list[CallStream] = []
        self._turn_due = False
        self._pump_due = False
        self._resets = Allowance(limits.resets)
        self._idle_frames = Allowance(limits.idle_frames)
        self._leaving = False
        """A GOAWAY was sent or received: the connection ends with its last stream."""
        self._refusing = False
        """The final GOAWAY was sent: a new stream is refused."""
        self._handshake: asyncio.TimerHandle | None = None
        self._stall: asyncio.TimerHandle | None = None
        self._look: asyncio.TimerHandle | None = None
        self._goodbye: asyncio.TimerHandle | None = None
        self.closed: asyncio.Future[None] = self._loop.create_future()

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
        self._http2.begin()
        self._end_turn()

    def data_received(self, data: bytes) -> None:
        self._turn_due = True
        try:
            self._http2.receive(data)
        except ProtocolError:
            self._close()
        except Exception as error:  # noqa: BLE001  whatever bytes do to us, they cost only their own connection
            self._shared.on_error(error, "")
            self._transport.abort()
        self._end_turn()

    def pause_writing(self) -> None:
        # A peer that does not read is not read from: nothing it asks for may pile up here.
        self._outbox.writable = False
        self._transport.pause_reading()
        self._watch_for_stall()

    def resume_writing(self) -> None:
        self._outbox.writable = True
        self._pump_due = True
        if self._stall is not None and not self._transport.is_closing():
            self._stall.cancel()
            self._stall = None
        self._transport.resume_reading()
        self._take_turn()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  asyncio calls it by this name
        for timer in (self._handshake, self._stall, self._look, self._goodbye):
            if timer is not None:
                timer.cancel()
        self._shared.connections.discard(self)
        for stream in list(self._streams.values()):
            self._release(stream)
        self._end_turn()
        self.closed.set_result(None)

    # the streams' side

    def send(self, stream: CallStream, parts: tuple[Part, ...]) -> None:
        if not stream.answered:
            self._begin_answer(stream, RESPONSE)
        stream.unanswered = 0
        if stream.inbound:
            self._count(stream)
        self._outbox.send(stream, *framed(*parts))
        self._take_turn()

    def finish(self, stream: CallStream, status: Status, message: str) -> None:
        stream.status = (status, message)
        stream.wanted = False
        self._finishing.append(stream)
        self._take_turn()

    def give_up(self, stream: CallStream) -> None:
        """All streams together hold too much, and this one is to pay for it."""
        self._fail(stream, Status.RESOURCE_EXHAUSTED, "server holds too many unfinished messages")

    # the server's side

    def drain(self) -> None:
        """Tell the peer to open no more streams, and close once the open ones have ended."""
        if self._leaving or self._transport.is_closing():
            return
        # The peer may be opening a stream just now: refuse only what it sends after it has seen the first GOAWAY.
        self._leaving = True
        self._http2.say_goodbye(LAST_STREAM_ID)
        self._http2.ping(_DRAIN_PING)
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
                self._end_answer(stream)
        if self._pump_due:
            self._pump_due = False
            for stream in self._outbox.pump(self._flush):
                self._end_answer(stream)
        if self._leaving and not self._streams and (self._refusing or not self._goodbye):
            self._close()
        self._flush()
        self._turn_due = False
        while self._over:
            stream = self._over.pop()
            # The receiver holds its call: what is over holds nothing back, so that no cycle is left.
            receiver, stream.receiver = stream.receiver, None
            if receiver is not None:
                try:
                    receiver.gone()
                except Exception as error:  # noqa: BLE001  the stream is over: its bug is reported, no more
                    self._shared.on_error(error, stream.method)

    def _flush(self) -> None:
        data = self._http2.take()
        if data and not self._transport.is_closing():
            self._transport.write(data)

    # what the peer does

    def began(self) -> None:
        if self._handshake is not None:
            self._handshake.cancel()
            self._handshake = None

    def opened(self, stream_id: int, request: RequestHead) -> None:
        if self._refusing or len(self._streams) >= self._limits.streams:
            self._http2.reset(stream_id, ErrorCode.REFUSED_STREAM)
            return
        path = request.path.decode("latin-1")
        limit = self._limits.message_bytes
        stream = CallStream(self, stream_id, self._http2.initial_window, path, request.fields, limit)
        self._streams[stream_id] = stream
        if self._look is None:
            self._look = self._loop.call_later(self._limits.silence, self._look_for_silence)
        stream.plain = refuse(request)
        if stream.plain is not None:
            return
        method = self._shared.methods.get(path)
        if method is None:
            self.finish(stream, Status.UNIMPLEMENTED, "unknown method")
            return
        timeout = request.fields.get(b"grpc-timeout")
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

    def received(self, stream: CallStream, data: memoryview) -> None:
        stream.silent = False
        receiver = stream.receiver
        if receiver is None or stream.status is not None:
            return
        deframer = stream.deframer
        try:
            for message in deframer.feed(data):
                stream.heard = True
                stream.unanswered += len(message)
                receiver.message(message)
                if stream.status is not None:
                    return
        except FramingError as error:
            self._fail(stream, error.status, str(error))
            return
        except Exception as error:  # noqa: BLE001  a bug must end the stream, and only it
            self._fault(stream, error)
            return
        if deframer.held + stream.unanswered != stream.inbound:
            self._count(stream)

    def _count(self, stream: CallStream) -> None:
        inbound = stream.deframer.held + stream.unanswered
        more, stream.inbound = inbound - stream.inbound, inbound
        self._shared.memory.hold(stream, more)

    def _queue_grew(self, stream: CallStream, more: int) -> None:
        # The windows may have room for a part of it.
        self._pump_due = self._pump_due or more > 0
        self._shared.memory.hold(stream, more)
        if stream.queued > self._limits.queued_bytes:
            self._fail(stream, Status.RESOURCE_EXHAUSTED, "too much waits to be read")

    def ended(self, stream: CallStream) -> None:
        if stream.plain is not None and stream.status is None:
            self._begin_answer(stream, stream.plain.headers)
            self._outbox.send(stream, stream.plain.body)
            self.finish(stream, Status.UNKNOWN, "")
        if stream.receiver is None or stream.status is not None:
            return
        if stream.deframer.held:
            self._fail(stream, Status.INTERNAL, "last message is cut short")
            return
        try:
            stream.receiver.half_closed()
        except Exception as error:  # noqa: BLE001  a bug must end the stream, and only it
            self._fault(stream, error)

    def was_reset(self, stream: CallStream) -> None:
        self._release(stream)
        if not stream.answered and not self._resets.spend(self._loop.time()):
            self._calm()

    def window_opened(self) -> None:
        self._pump_due = True

    def ponged(self, data: bytes) -> None:
        if self._leaving and data == _DRAIN_PING:
            self._refuse_streams()

    def leaves(self) -> None:
        self._leaving = True

    def nothing_new(self) -> None:
        if not self._idle_frames.spend(self._loop.time()):
            self._calm()

    def _frame_sent(self) -> None:
        self._idle_frames.earn(_FRAMES_PER_ANSWER)

    # ends of streams

    def _fail(self, stream: CallStream, status: Status, message: str) -> None:
        """End the stream now, whatever was queued or decided before."""
        self._drop(stream)
        stream.status = None
        self.finish(stream, status, message)

    def _drop(self, stream: CallStream) -> None:
        """Keep nothing of what came and of what waits."""
        if stream.held:
            self._outbox.drop(stream)
            stream.unanswered = 0
            stream.deframer.drop()
            self._count(stream)

    def _fault(self, stream: CallStream, error: Exception) -> None:
        self._shared.on_error(error, stream.method)
        self._fail(stream, Status.INTERNAL, "internal error")

    def _deadline_passed(self, stream: CallStream) -> None:
        self._fail(stream, Status.DEADLINE_EXCEEDED, "deadline exceeded")

    def _look_for_silence(self) -> None:
        """End the streams of which nothing came since the last look, though they owe us more."""
        self._look = None
        for stream in list(self._streams.values()):
            if stream.status is None and stream.owes:
                if stream.silent:
                    self._fail(stream, Status.DEADLINE_EXCEEDED, "nothing came for too long")
                stream.silent = True
        if self._streams:
            self._look = self._loop.call_later(self._limits.silence, self._look_for_silence)

    def _begin_answer(self, stream: CallStream, headers: Headers) -> None:
        self._http2.send_headers(stream, headers)
        stream.answered = True
        self._resets.earn(1)

    def _end_answer(self, stream: CallStream) -> None:
        if stream.over or stream.status is None:
            return
        if stream.plain is None:
            end = trailers(*stream.status)
            self._http2.send_headers(stream, end if stream.answered else RESPONSE + end, end=True)
            self._http2.close(stream)
        elif stream.answered:
            self._http2.end_data(stream)
            self._http2.close(stream)
        else:
            self._http2.reset(stream.id, ErrorCode.CANCEL)
        self._release(stream)

    def _release(self, stream: CallStream) -> None:
        """The stream is over, and the protocol knows it."""
        if stream.over:
            return
        stream.over = True
        self._streams.pop(stream.id, None)
        self._drop(stream)
        stream.status = stream.status or (Status.CANCELLED, "")
        if stream.deadline is not None:
            stream.deadline.cancel()
        self._over.append(stream)

    # ends of the connection

    def _calm(self) -> None:
        """The peer costs more than it brings."""
        if not self._transport.is_closing():
            self._http2.say_goodbye(self._http2.highest_stream, ErrorCode.ENHANCE_YOUR_CALM)
            self._close()

    def _refuse_streams(self) -> None:
        if self._goodbye is not None:
            self._goodbye.cancel()
            self._goodbye = None
        if not self._refusing:
            self._refusing = self._leaving = True
            self._http2.say_goodbye(self._http2.highest_stream)
        self._take_turn()

    def _close(self) -> None:
        """Write what is left to write, then close; a peer that does not read gets no say in it."""
        if self._transport.is_closing():
            return
        self._refusing = True
        for stream in list(self._streams.values()):
            self._release(stream)
        self._flush()
        self._transport.close()
        self._watch_for_stall()

    def _watch_for_stall(self) -> None:
        if self._stall is None:
            self._stall = self._loop.call_later(self._limits.stall, self._transport.abort)


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
