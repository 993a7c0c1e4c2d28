"""The connection against h2's client, without sockets: what arrives, what leaves, what is bounded."""

import asyncio
import socket
from collections.abc import Callable, Iterable
from itertools import pairwise

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import ConnectionTerminated, DataReceived, Event, ResponseReceived, StreamReset, TrailersReceived
from h2.settings import SettingCodes
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    ExtensionFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wissel.grpc.bounds import Limits
from wissel.grpc.call import Call
from wissel.grpc.connection import Connection, Shared
from wissel.grpc.frames import Deframer, Status, frame

ECHO = "/test.Test/Echo"
REQUEST = [
    (":method", "POST"),
    (":scheme", "http"),
    (":path", ECHO),
    (":authority", "wissel"),
    ("te", "trailers"),
    ("content-type", "application/grpc"),
]


class Echo:
    """Sends every message back, finishes with the client, and does as it is told by some."""

    def __init__(self, call: Call, seen: list["Echo"]) -> None:
        self.call = call
        self.heard: list[bytes] = []
        self.ended: list[str] = []
        seen.append(self)

    def message(self, data: bytes) -> None:
        self.heard.append(data)
        if data == b"raise":
            raise RuntimeError("secret")
        if data == b"finish, then raise":
            self.call.finish()
            raise RuntimeError("secret")
        if data == b"finish":
            self.call.finish()
        elif data != b"silence":
            self.call.send(data)

    def half_closed(self) -> None:
        self.ended.append("half closed")
        self.call.finish()

    def gone(self) -> None:
        self.ended.append("gone")


class Wire:
    """A transport that keeps what is written, and blocks when told to."""

    def __init__(self) -> None:
        self.written = bytearray()
        self.writes = 0
        self.closing = False
        self.reading = True
        self.connection: Connection | None = None

    def attach(self, connection: Connection) -> None:
        self.connection = connection
        connection.connection_made(self)  # pyright: ignore[reportArgumentType]  as much of a transport as is used

    def write(self, data: bytes) -> None:
        assert not self.closing
        self.written += data
        self.writes += 1

    def close(self) -> None:
        self.abort()

    def abort(self) -> None:
        if not self.closing and self.connection:
            self.closing = True
            asyncio.get_running_loop().call_soon(self.connection.connection_lost, None)

    def is_closing(self) -> bool:
        return self.closing

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def set_write_buffer_limits(self, high: int) -> None:
        pass

    def get_extra_info(self, name: str) -> socket.socket:
        return socket.socket(socket.AF_UNIX)


class Peer:
    """h2's client on the other end."""

    def __init__(
        self,
        limits: Limits | None = None,
        *,
        windows: dict[SettingCodes | int, int] | None = None,
        shared: Shared | None = None,
    ) -> None:
        self.seen: list[Echo] = []
        self.errors: list[tuple[Exception, str]] = []
        self.shared = shared or Shared(
            {ECHO: lambda call: Echo(call, self.seen), "/test.Test/Broken": self._broken},
            limits or Limits(),
            lambda error, where: self.errors.append((error, where)),
        )
        self.wire = Wire()
        self.connection = Connection(self.shared)
        self.h2 = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        self.events: list[Event] = []
        self.wire.attach(self.connection)
        self.h2.initiate_connection()
        if windows:
            self.h2.update_settings(windows)
        self.push()

    def _broken(self, call: Call) -> Echo:
        raise RuntimeError("secret")

    def push(self, data: bytes = b"") -> None:
        """One read of the server: what h2 has to send and `data`; then its answers are read."""
        data = self.h2.data_to_send() + data
        if data and not self.wire.closing:
            self.connection.data_received(data)
        self.pull()

    def pull(self) -> None:
        if self.wire.written:
            written, self.wire.written = bytes(self.wire.written), bytearray()
            self.events += self.h2.receive_data(written)

    def open(self, *messages: bytes, end: bool = False, headers: Iterable[tuple[str, str]] = REQUEST) -> int:
        stream = self.h2.get_next_available_stream_id()
        self.h2.send_headers(stream, list(headers), end_stream=end and not messages)
        for left, message in enumerate(messages, 1 - len(messages)):
            self.send(stream, frame(message), end=end and not left)
        return stream

    def send(self, stream: int, data: bytes, *, end: bool = False) -> None:
        """Bytes of the stream, in as many frames as they need."""
        size = self.h2.max_outbound_frame_size
        for at in range(0, len(data), size):
            self.h2.send_data(stream, data[at : at + size], end_stream=end and at + size >= len(data))

    def call(self, *messages: bytes, end: bool = False, headers: Iterable[tuple[str, str]] = REQUEST) -> int:
        stream = self.open(*messages, end=end, headers=headers)
        self.push()
        return stream

    def of(self, stream: int, kind: type[Event]) -> list[Event]:
        return [event for event in self.events if isinstance(event, kind) and getattr(event, "stream_id", 0) == stream]

    def messages(self, stream: int) -> list[bytes]:
        return list(Deframer(1 << 30).feed(self.data(stream)))

    def data(self, stream: int) -> bytes:
        return b"".join(e.data for e in self.of(stream, DataReceived) if isinstance(e, DataReceived))

    def resets(self, stream: int) -> list[ErrorCodes | int]:
        return [e.error_code for e in self.of(stream, StreamReset) if isinstance(e, StreamReset)]

    def headers(self, stream: int) -> dict[str, str]:
        """Of response and trailers together."""
        merged: dict[str, str] = {}
        for event in self.events:
            if isinstance(event, ResponseReceived | TrailersReceived) and event.stream_id == stream:
                merged |= {str(name): str(value) for name, value in event.headers}
        return merged

    def status(self, stream: int) -> tuple[Status, str]:
        headers = self.headers(stream)
        return Status(int(headers["grpc-status"])), headers.get("grpc-message", "")

    @property
    def closed_with(self) -> ErrorCodes | int | None:
        """The error of the last GOAWAY; None before there was any."""
        codes = [event.error_code for event in self.events if isinstance(event, ConnectionTerminated)]
        return codes[-1] if codes else None


async def turn() -> None:
    """Let what was scheduled run, and what that scheduled."""
    for _ in range(3):
        await asyncio.sleep(0)


# messages


async def test_a_message_is_answered_in_the_turn_that_read_it():
    peer = Peer()
    stream = peer.call(b"hello")

    assert peer.messages(stream) == [b"hello"]


async def test_the_answers_of_one_read_leave_in_one_write():
    peer = Peer()
    peer.call()
    before = peer.wire.writes
    streams = [peer.open(b"a", b"b"), peer.open(b"c", end=True)]
    peer.push()

    assert [peer.messages(stream) for stream in streams] == [[b"a", b"b"], [b"c"]]
    assert peer.wire.writes == before + 1


async def test_a_stream_ends_with_its_trailers_and_is_gone_last():
    peer = Peer()
    stream = peer.call(b"hello", end=True)

    assert peer.status(stream) == (Status.OK, "")
    assert peer.headers(stream)["content-type"] == "application/grpc"
    assert peer.seen[0].ended == ["half closed", "gone"]


async def test_a_stream_finished_first_by_the_server_is_reset_without_error():
    peer = Peer()
    stream = peer.call(b"finish")

    assert peer.status(stream) == (Status.OK, "")
    assert peer.resets(stream) == [ErrorCodes.NO_ERROR]
    assert peer.seen[0].ended == ["gone"]


async def test_messages_after_the_finish_are_not_delivered():
    peer = Peer()
    peer.call(b"finish", b"late")

    assert peer.seen[0].heard == [b"finish"]


async def test_what_is_sent_between_reads_leaves_in_a_turn_of_its_own():
    peer = Peer()
    stream = peer.call(b"silence")
    before = peer.wire.writes
    peer.seen[0].call.send(b"one")
    peer.seen[0].call.send(b"two")
    peer.seen[0].call.finish(Status.ABORTED, "größer als 100%")
    await turn()
    peer.pull()

    assert peer.messages(stream) == [b"one", b"two"]
    assert peer.status(stream) == (Status.ABORTED, "gr%C3%B6%C3%9Fer als 100%25")
    assert peer.wire.writes == before + 1


async def test_a_call_that_is_gone_takes_what_is_sent_in_silence():
    peer = Peer()
    stream = peer.call(b"silence")
    peer.h2.reset_stream(stream)
    peer.push()
    peer.seen[0].call.send(b"late")
    peer.seen[0].call.finish()
    await turn()
    peer.pull()

    assert peer.messages(stream) == []
    assert peer.seen[0].ended == ["gone"]


async def test_data_and_its_reset_in_one_read_are_both_heard():
    peer = Peer()
    stream = peer.open(b"one", b"two")
    peer.h2.reset_stream(stream)
    other = peer.open(b"three")
    peer.push()

    assert [(echo.heard, echo.ended) for echo in peer.seen] == [([b"one", b"two"], ["gone"]), ([b"three"], [])]
    assert peer.messages(other) == [b"three"]
    assert peer.errors == []


async def test_a_finish_met_by_a_reset_in_the_same_read_is_no_error():
    peer = Peer()
    stream = peer.open(b"one", end=True)
    peer.push(RstStreamFrame(stream).serialize())

    assert peer.seen[0].ended == ["half closed", "gone"]
    assert (peer.errors, peer.wire.closing) == ([], False)


# refusals


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"content-type": "application/json"}, "415"),
        ({"content-type": "application/grpcx"}, "415"),
        ({":method": "GET"}, "405"),
    ],
)
async def test_what_is_no_grpc_is_answered_in_http(change: dict[str, str], status: str):
    peer = Peer()
    stream = peer.call(headers=[(name, change.get(name, value)) for name, value in REQUEST], end=True)

    assert peer.headers(stream)[":status"] == status
    assert b"speaks gRPC" in peer.data(stream)
    assert (peer.seen, peer.connection._streams, peer.shared.memory.held) == ([], {}, 0)


async def test_what_is_no_grpc_is_answered_once_it_was_heard_out():
    peer = Peer()
    stream = peer.call(headers=[*REQUEST[:-1], ("content-type", "text/plain")])
    before = peer.headers(stream)
    peer.send(stream, b"a body", end=True)
    peer.push()

    assert (before, peer.headers(stream)[":status"]) == ({}, "415")


@pytest.mark.parametrize("kind", ["application/grpc+proto", "application/grpc;charset=utf-8"])
async def test_content_types_of_grpc_are_taken(kind: str):
    peer = Peer()
    stream = peer.call(b"hello", headers=[*REQUEST[:-1], ("content-type", kind)])

    assert peer.messages(stream) == [b"hello"]


async def test_an_unknown_method_is_unimplemented_in_trailers_alone():
    peer = Peer()
    stream = peer.call(headers=[(n, "/test.Test/No" if n == ":path" else v) for n, v in REQUEST])

    assert peer.status(stream) == (Status.UNIMPLEMENTED, "unknown method")
    assert peer.of(stream, TrailersReceived) == []


async def test_a_compressed_message_is_unimplemented():
    peer = Peer()
    stream = peer.open()
    peer.h2.send_data(stream, b"\1\0\0\0\1x")
    peer.push()

    assert peer.status(stream)[0] is Status.UNIMPLEMENTED
    assert peer.seen[0].ended == ["gone"]


async def test_a_message_over_the_limit_exhausts_its_stream_only():
    peer = Peer(Limits(message_bytes=3))
    stream, other = peer.call(b"long"), peer.call(b"abc")

    assert peer.status(stream) == (Status.RESOURCE_EXHAUSTED, "message is larger than 3 bytes")
    assert peer.messages(other) == [b"abc"]


async def test_a_last_message_cut_short_is_an_error():
    peer = Peer()
    stream = peer.open()
    peer.h2.send_data(stream, frame(b"hello")[:-1], end_stream=True)
    peer.push()

    assert peer.status(stream) == (Status.INTERNAL, "last message is cut short")
    assert peer.seen[0].ended == ["gone"]


# memory


def half(size: int) -> bytes:
    """So many bytes of a message that lacks one more."""
    return frame(bytes(size - 4))[:-1]


async def test_where_all_hold_too_much_the_newest_of_the_large_streams_ends():
    peer = Peer(Limits(memory_bytes=400_000))
    streams = [peer.open() for _ in range(3)]
    for stream in streams:
        peer.send(stream, half(150_000))
    peer.push()
    for stream in streams[:2]:
        peer.send(stream, b"x")
    peer.push()

    assert peer.status(streams[2]) == (Status.RESOURCE_EXHAUSTED, "server holds too many unfinished messages")
    assert [len(echo.heard) for echo in peer.seen] == [1, 1, 0]


async def test_the_newest_may_be_a_stream_of_another_connection():
    first = Peer(Limits(memory_bytes=300_000))
    second = Peer(shared=first.shared)
    old, new, message = first.open(), second.open(), half(190_000)
    first.send(old, message[:120_000])
    first.push()
    second.send(new, half(120_000))
    second.push()
    third = first.call(b"silence")
    first.send(old, message[120_000:])
    first.push()
    await turn()
    second.pull()

    assert second.status(new)[0] is Status.RESOURCE_EXHAUSTED
    assert (first.resets(old), first.resets(third)) == ([], [])


async def test_small_streams_do_not_pay_for_a_large_one():
    peer = Peer(Limits(memory_bytes=300_000))
    large = peer.open()
    peer.send(large, half(250_000))
    small = [peer.open() for _ in range(20)]
    for stream in small:
        peer.send(stream, half(5000))
    peer.push()

    assert peer.status(large)[0] is Status.RESOURCE_EXHAUSTED
    assert peer.shared.memory.held == 100_000
    assert [peer.headers(stream) for stream in small] == [{}] * 20


async def test_a_message_is_held_until_it_is_answered():
    peer = Peer()
    stream = peer.call(b"silence")
    held = peer.shared.memory.held
    peer.seen[0].call.send(b"answer")
    after = peer.shared.memory.held
    peer.send(stream, frame(b"silence"))
    peer.h2.reset_stream(stream)
    peer.push()

    assert (held, after, peer.shared.memory.held) == (7, 0, 0)


async def test_tiny_messages_that_are_not_read_end_their_stream():
    peer = Peer(Limits(queued_bytes=100_000), windows={SettingCodes.INITIAL_WINDOW_SIZE: 0})
    other = peer.call(b"silence")
    stream = peer.call(*[b"x"] * 1000)

    assert peer.status(stream) == (Status.RESOURCE_EXHAUSTED, "too much waits to be read")
    assert peer.resets(other) == []
    assert peer.shared.memory.held == 7


async def test_a_stream_that_overruns_its_window_ends():
    peer = Peer(windows={SettingCodes.INITIAL_WINDOW_SIZE: 0})
    other, stream = peer.call(b"silence"), peer.call(b"x", b"finish")
    frames = DataFrame(stream, data=bytes(16_384)).serialize() * 65
    peer.push(frames)

    assert peer.resets(stream) == [ErrorCodes.FLOW_CONTROL_ERROR]
    assert (peer.closed_with, peer.resets(other)) == (None, [])
    assert [echo.ended for echo in peer.seen] == [[], ["gone"]]


# silence


@pytest.mark.parametrize("said", [b"", frame(b"silence") + half(100)])
async def test_a_stream_that_owes_us_bytes_must_not_be_silent(said: bytes):
    peer = Peer(Limits(silence=0.01))
    stream = peer.open()
    peer.send(stream, said)
    peer.push()
    await asyncio.sleep(0.05)
    peer.pull()

    assert peer.status(stream) == (Status.DEADLINE_EXCEEDED, "nothing came for too long")
    assert peer.seen[0].ended == ["gone"]


async def test_a_request_that_is_no_grpc_must_not_be_silent():
    peer = Peer(Limits(silence=0.01))
    stream = peer.call(headers=REQUEST[:-1])
    await asyncio.sleep(0.05)
    peer.pull()

    assert peer.resets(stream) == [ErrorCodes.CANCEL]


@pytest.mark.parametrize("end", [False, True])
async def test_a_stream_that_owes_nothing_may_be_silent(end: bool):
    peer = Peer(Limits(silence=0.01), windows={SettingCodes.INITIAL_WINDOW_SIZE: 0})
    stream = peer.call(b"silence", b"hello", end=end)
    await asyncio.sleep(0.05)
    peer.pull()

    assert (peer.headers(stream).get("grpc-status"), peer.resets(stream)) == (None, [])
    assert "gone" not in peer.seen[0].ended


async def test_a_stream_that_goes_on_is_not_silent():
    peer = Peer(Limits(silence=0.03))
    stream, message = peer.open(), frame(b"a message that takes its time")
    for at in range(len(message)):
        peer.send(stream, message[at : at + 1])
        peer.push()
        await asyncio.sleep(0.005)

    assert peer.messages(stream) == [b"a message that takes its time"]


# bugs


@pytest.mark.parametrize("message", [b"raise", b"finish, then raise"])
async def test_a_bug_fails_its_stream_without_saying_why(message: bytes):
    peer = Peer()
    stream = peer.call(message)

    assert peer.status(stream) == (Status.INTERNAL, "internal error")
    assert [(str(error), where) for error, where in peer.errors] == [("secret", ECHO)]
    assert peer.seen[0].ended == ["gone"]


async def test_a_bug_in_the_method_fails_its_stream():
    peer = Peer()
    stream = peer.call(b"x", headers=[(n, "/test.Test/Broken" if n == ":path" else v) for n, v in REQUEST])

    assert peer.status(stream) == (Status.INTERNAL, "internal error")


async def test_a_bug_at_the_end_is_reported_and_harms_no_other(monkeypatch: pytest.MonkeyPatch):
    def fail(self: Echo) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr(Echo, "gone", fail)
    peer = Peer()
    streams = [peer.open(b"a", end=True), peer.open(b"b", end=True)]
    peer.push()

    assert [peer.status(stream)[0] for stream in streams] == [Status.OK, Status.OK]
    assert len(peer.errors) == 2


# deadlines


async def test_a_deadline_ends_the_stream():
    peer = Peer()
    stream = peer.call(b"silence", headers=[*REQUEST, ("grpc-timeout", "5m")])
    await asyncio.sleep(0.02)
    peer.pull()

    assert peer.status(stream) == (Status.DEADLINE_EXCEEDED, "deadline exceeded")
    assert peer.seen[0].ended == ["gone"]


async def test_a_deadline_ends_a_stream_whose_answer_waits_for_the_peer():
    peer = Peer(windows={SettingCodes.INITIAL_WINDOW_SIZE: 2})
    stream = peer.call(b"hello", end=True, headers=[*REQUEST, ("grpc-timeout", "5m")])
    await asyncio.sleep(0.02)
    peer.pull()

    assert peer.status(stream)[0] is Status.DEADLINE_EXCEEDED
    assert peer.shared.memory.held == 0


async def test_a_malformed_timeout_is_refused():
    peer = Peer()
    stream = peer.call(headers=[*REQUEST, ("grpc-timeout", "soon")])

    assert peer.status(stream) == (Status.INTERNAL, "malformed grpc-timeout")


# flow control


async def test_an_answer_waits_for_the_window_and_goes_on_when_it_opens():
    peer = Peer(windows={SettingCodes.INITIAL_WINDOW_SIZE: 10})
    stream = peer.call(b"0123456789", end=True)

    assert len(peer.data(stream)) == 10
    assert peer.seen[0].ended == ["half closed"]
    peer.h2.increment_flow_control_window(100, stream)
    peer.push()
    assert peer.messages(stream) == [b"0123456789"]
    assert peer.status(stream)[0] is Status.OK
    assert peer.seen[0].ended == ["half closed", "gone"]


async def test_new_settings_open_windows_too():
    peer = Peer(windows={SettingCodes.INITIAL_WINDOW_SIZE: 0})
    stream = peer.call(b"hello")
    peer.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 100})
    peer.push()
    peer.push()

    assert peer.messages(stream) == [b"hello"]


async def test_streams_share_the_window_of_the_connection():
    peer = Peer(windows={SettingCodes.INITIAL_WINDOW_SIZE: 1 << 20})
    half = bytes(40_000)
    streams = [peer.call(half[:20_000], half[20_000:]), peer.call(half[:20_000], half[20_000:])]

    assert sum(len(peer.messages(stream)) for stream in streams) == 3
    peer.h2.increment_flow_control_window(1 << 20)
    peer.push()
    assert [len(peer.messages(stream)) for stream in streams] == [2, 2]
    assert peer.shared.memory.held == 0


async def test_a_message_larger_than_every_window_arrives_as_its_windows_are_renewed():
    peer = Peer()
    message = bytes(range(256)) * (5 << 12)  # 5 MiB
    stream, rest = peer.open(), memoryview(frame(b"silence") + frame(message))
    while rest:
        room = min(peer.h2.local_flow_control_window(stream), peer.h2.max_outbound_frame_size, len(rest))
        assert room, "the server has stopped renewing its windows"
        peer.h2.send_data(stream, rest[:room])
        rest = rest[room:]
        peer.push()

    assert peer.seen[0].heard[1] == message


async def test_windows_are_renewed_for_streams_that_are_gone():
    peer = Peer()
    part = frame(bytes(60_000))[:-1]
    for _ in range(400):
        stream = peer.open()
        peer.h2.send_data(stream, part[:16_384])
        peer.h2.send_data(stream, part[16_384:32_768])
        peer.h2.reset_stream(stream)
        peer.push()

    assert peer.h2.outbound_flow_control_window > 8 << 20


async def test_a_socket_that_is_not_read_makes_answers_wait():
    peer = Peer()
    peer.connection.pause_writing()
    stream = peer.call(b"hello", end=True)

    assert (peer.wire.reading, peer.messages(stream)) == (False, [])
    peer.connection.resume_writing()
    await turn()
    peer.pull()
    assert (peer.wire.reading, peer.messages(stream)) == (True, [b"hello"])


async def test_a_socket_that_is_never_read_is_given_up():
    peer = Peer(Limits(stall=0.01))
    peer.call(b"silence")
    peer.connection.pause_writing()
    await asyncio.sleep(0.03)

    assert peer.wire.closing
    assert peer.seen[0].ended == ["gone"]


# floods


def ping() -> bytes:
    return PingFrame(0, opaque_data=b"12345678").serialize()


def priority() -> bytes:
    return PriorityFrame(1, depends_on=3).serialize()


def empty_data() -> bytes:
    return DataFrame(1, data=b"").serialize()


def unknown() -> bytes:
    return ExtensionFrame(0x50, 0).serialize()


def empty_settings() -> bytes:
    return SettingsFrame(0).serialize()


def window() -> bytes:
    return WindowUpdateFrame(0, window_increment=1).serialize()


@pytest.mark.parametrize("nuisance", [ping, priority, empty_data, unknown, empty_settings, window])
async def test_a_flood_of_frames_that_bring_nothing_ends_the_connection(nuisance: Callable[[], bytes]):
    peer = Peer(Limits(idle_frames=50))
    peer.call(b"silence")
    peer.push(nuisance() * 30)
    assert peer.closed_with is None
    peer.push(nuisance() * 30)
    await turn()

    assert peer.closed_with is ErrorCodes.ENHANCE_YOUR_CALM
    assert peer.seen[0].ended == ["gone"]


async def test_traffic_earns_window_updates():
    peer = Peer(Limits(idle_frames=20))
    for _ in range(50):
        stream = peer.open(b"x", end=True)
        peer.h2.increment_flow_control_window(10)
        peer.h2.increment_flow_control_window(10, stream)
        peer.push(ping())

    assert peer.closed_with is None


async def test_streams_reset_before_any_answer_are_counted():
    peer = Peer(Limits(resets=20))
    for _ in range(30):
        stream = peer.open()
        peer.h2.reset_stream(stream)
    peer.push()

    assert peer.closed_with is ErrorCodes.ENHANCE_YOUR_CALM


async def test_streams_reset_after_an_answer_are_how_envoy_ends_them():
    peer = Peer(Limits(resets=20))
    for _ in range(50):
        peer.h2.reset_stream(peer.call(b"hello"))
    peer.push()

    assert peer.closed_with is None
    assert [echo.ended for echo in peer.seen] == [["gone"]] * 50


async def test_settings_by_the_thousand_are_not_stored():
    peer = Peer()
    body = b"".join((0x1000 + n).to_bytes(2, "big") + bytes(4) for n in range(1000))
    peer.push(len(body).to_bytes(3, "big") + b"\x04" + bytes(5) + body)

    assert peer.closed_with is ErrorCodes.ENHANCE_YOUR_CALM


async def test_a_header_block_without_end_is_refused():
    peer = Peer()
    endless = HeadersFrame(1, data=b"x" * 100).serialize() + ContinuationFrame(1, data=b"x" * 100).serialize() * 100
    peer.push(endless)

    assert peer.closed_with is ErrorCodes.PROTOCOL_ERROR


async def test_headers_over_the_limit_are_refused():
    peer = Peer(Limits(header_bytes=1000))
    peer.call(headers=[*REQUEST, ("x-long", "y" * 2000)])

    assert peer.closed_with is ErrorCodes.ENHANCE_YOUR_CALM


async def test_a_stream_over_the_limit_is_refused_and_no_other():
    peer = Peer(Limits(streams=2))
    first, _ = peer.call(b"silence"), peer.call(b"silence")
    third = HeadersFrame(5, data=peer.h2.encoder.encode(REQUEST), flags=["END_HEADERS"])
    peer.connection.data_received(third.serialize())

    assert RstStreamFrame(5, error_code=ErrorCodes.REFUSED_STREAM).serialize() in peer.wire.written
    peer.pull()
    peer.h2.reset_stream(first)
    peer.push()
    assert peer.closed_with is None
    assert len(peer.seen) == 2


async def test_closed_streams_leave_nothing_behind():
    peer = Peer()
    for _ in range(20):
        peer.call(b"x", end=True)

    assert peer.connection._streams == {}


# beginnings and ends of connections


async def test_a_peer_that_does_not_begin_is_dropped():
    wire, connection = Wire(), Connection(Shared({}, Limits(handshake=0.01), lambda error, where: None))
    wire.attach(connection)
    await asyncio.sleep(0.03)

    assert wire.closing


async def test_a_peer_that_has_begun_may_be_idle():
    peer = Peer(Limits(handshake=0.01))
    await asyncio.sleep(0.03)

    assert not peer.wire.closing


async def test_what_is_not_http2_is_closed():
    wire, connection = Wire(), Connection(Shared({}, Limits(), lambda error, where: None))
    wire.attach(connection)
    connection.data_received(b"GET / HTTP/1.1\r\nhost: wissel\r\n\r\n")

    assert wire.closing


async def test_streams_are_gone_when_the_connection_is():
    peer = Peer()
    peer.call(b"silence")
    peer.connection.connection_lost(None)

    assert peer.seen[0].ended == ["gone"]
    assert peer.connection.closed.done()
    assert peer.shared.connections == set()


async def test_a_drained_connection_takes_streams_until_the_peer_has_heard_of_it():
    peer = Peer()
    stream = peer.call(b"silence")
    peer.connection.drain()
    await turn()
    racing = HeadersFrame(3, data=peer.h2.encoder.encode(REQUEST), flags=["END_HEADERS"]).serialize()
    racing += DataFrame(3, data=frame(b"in time")).serialize()
    peer.connection.data_received(racing)
    written = bytes(peer.wire.written)

    assert GoAwayFrame(0, last_stream_id=2**31 - 1).serialize() in written
    assert peer.seen[1].heard == [b"in time"]
    peer.connection.data_received(PingFrame(0, opaque_data=b"draining", flags=["ACK"]).serialize())
    assert GoAwayFrame(0, last_stream_id=3).serialize() in peer.wire.written
    late = HeadersFrame(5, data=peer.h2.encoder.encode(REQUEST), flags=["END_HEADERS"]).serialize()
    peer.connection.data_received(late)
    assert RstStreamFrame(5, error_code=ErrorCodes.REFUSED_STREAM).serialize() in peer.wire.written
    assert not peer.wire.closing
    for still_open in (stream, 3):
        peer.connection.data_received(DataFrame(still_open, data=frame(b"bye"), flags=["END_STREAM"]).serialize())
    assert [echo.ended for echo in peer.seen] == [["half closed", "gone"]] * 2
    assert peer.wire.closing


async def test_a_peer_that_says_goodbye_finishes_its_streams():
    peer = Peer()
    stream = peer.call(b"silence")
    peer.push(GoAwayFrame(0).serialize())
    peer.h2.send_data(stream, frame(b"hello"), end_stream=True)
    peer.push()

    assert peer.messages(stream) == [b"hello"]
    assert peer.wire.closing


async def test_a_shutdown_ends_streams_as_unavailable():
    peer = Peer()
    stream = peer.call(b"silence")
    peer.connection.shut_down()
    await turn()
    peer.pull()

    assert peer.status(stream) == (Status.UNAVAILABLE, "server is shutting down")
    assert peer.seen[0].ended == ["gone"]
    assert peer.wire.closing


# whatever comes


frames = st.one_of(
    st.builds(
        lambda n, data, flags: DataFrame(n, data, flags=flags),
        st.integers(1, 9),
        st.one_of(st.binary(max_size=30), st.sampled_from([frame(b"hello"), frame(b"finish"), frame(b"raise")])),
        st.sampled_from([[], ["END_STREAM"]]),
    ),
    st.builds(
        lambda n, flags: HeadersFrame(n, bytes([0x83, 0x86, 0x84]), flags=flags),
        st.integers(1, 9),
        st.sampled_from([["END_HEADERS"], ["END_HEADERS", "END_STREAM"], []]),
    ),
    st.builds(RstStreamFrame, st.integers(1, 9), st.integers(0, 20)),
    st.builds(WindowUpdateFrame, st.integers(0, 9), st.integers(1, 2**31 - 1)),
    st.builds(lambda data: PingFrame(0, data), st.binary(min_size=8, max_size=8)),
    st.builds(lambda s: SettingsFrame(0, s), st.dictionaries(st.integers(1, 9), st.integers(0, 2**32 - 1), max_size=3)),
    st.builds(lambda last, code: GoAwayFrame(0, last, code), st.integers(0, 9), st.integers(0, 20)),
    st.builds(lambda n, on: PriorityFrame(n, depends_on=on), st.integers(1, 9), st.integers(0, 9)),
    st.builds(lambda n: ContinuationFrame(n, b"\x83", flags=["END_HEADERS"]), st.integers(1, 9)),
).map(Frame.serialize)


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    st.lists(st.one_of(frames, st.binary(max_size=40), st.sampled_from(["open", "open and end"])), max_size=20),
    st.integers(0, 3),
    st.data(),
)
async def test_nothing_that_a_peer_sends_leaks_a_stream(parts: list[bytes | str], joined: int, data: st.DataObject):
    peer = Peer()
    pending = b""
    for part in parts:
        if isinstance(part, str):
            pending += peer.h2.data_to_send()
            peer.open(b"hello", end=part == "open and end")
            pending += peer.h2.data_to_send()
        else:
            pending += part
        if data.draw(st.integers(0, joined)) == 0 and not peer.wire.closing:
            peer.connection.data_received(pending)
            pending = b""
    if not peer.wire.closing:
        peer.connection.data_received(pending)
    peer.wire.abort()
    await turn()

    assert [echo.ended.count("gone") for echo in peer.seen] == [1] * len(peer.seen)
    assert all(echo.ended[-1] == "gone" for echo in peer.seen)
    assert (peer.shared.memory.held, peer.shared.connections) == (0, set())
    assert [error for error, where in peer.errors if not where] == []


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(max_size=30), min_size=1, max_size=5), st.sets(st.integers(1, 300)))
async def test_the_borders_of_reads_do_not_matter(messages: list[bytes], cuts: set[int]):
    special = {b"raise", b"finish", b"silence"}
    peer = Peer()
    stream = peer.open(*messages, end=True)
    sent = peer.h2.data_to_send()
    borders = sorted({0, len(sent), *(cut for cut in cuts if cut < len(sent))})
    for start, end in pairwise(borders):
        peer.connection.data_received(sent[start:end])
    peer.pull()

    assert special.isdisjoint(messages)
    assert peer.messages(stream) == messages
    assert peer.status(stream)[0] is Status.OK
