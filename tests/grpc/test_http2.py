"""Our HTTP/2 against h2's: what its client says is heard, what we say its client understands, and what breaks the rules
for ours breaks them for its server."""

import contextlib
from dataclasses import dataclass, field

import h2.events
import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.exceptions import ProtocolError as H2ProtocolError
from hpack import Encoder, NeverIndexedHeaderTuple
from hyperframe.frame import (
    DataFrame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    PushPromiseFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from wissel.grpc.http2 import CONNECTION_WINDOW, LAST_STREAM_ID, Http2
from wissel.grpc.reader import MAX_FRAME_BYTES, ErrorCode, ProtocolError
from wissel.grpc.requests import RequestHead
from wissel.grpc.streams import STREAM_WINDOW, Stream

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
REQUEST = [(":method", "POST"), (":scheme", "http"), (":path", "/x"), (":authority", "a"), ("content-type", "y")]
RESPONSE = [(b":status", b"200"), (b"content-type", b"application/grpc")]


@dataclass
class Ear:
    """Writes down what it hears; takes every stream."""

    heard: list[tuple[object, ...]] = field(default_factory=list[tuple[object, ...]])
    idle: int = 0
    http2: "Http2[Stream]" = field(init=False)

    def __post_init__(self) -> None:
        self.http2 = Http2(self, max_streams=1000, max_header_bytes=1 << 16)
        self.http2.begin()

    def began(self) -> None:
        self.heard.append(("began",))

    def opened(self, stream_id: int, request: RequestHead) -> None:
        self.http2.streams[stream_id] = Stream(stream_id, self.http2.initial_window)
        self.heard.append(("opened", stream_id, request))

    def received(self, stream: Stream, data: memoryview) -> None:
        self.heard.append(("received", stream.id, bytes(data)))

    def ended(self, stream: Stream) -> None:
        self.heard.append(("ended", stream.id))

    def was_reset(self, stream: Stream) -> None:
        self.heard.append(("reset", stream.id))

    def window_opened(self) -> None: ...

    def ponged(self, data: bytes) -> None:
        self.heard.append(("ponged", data))

    def leaves(self) -> None:
        self.heard.append(("leaves",))

    def nothing_new(self) -> None:
        self.idle += 1


class Pair:
    """Our server and h2's client, both past their greetings."""

    def __init__(self) -> None:
        self.ear = Ear()
        self.server = self.ear.http2
        self.client = H2Connection(H2Configuration(client_side=True))
        self.client.initiate_connection()
        self.events: list[h2.events.Event] = []
        self.exchange()

    def exchange(self) -> None:
        """Let both hear each other until neither has more to say."""
        while (said := self.client.data_to_send()) + (answer := self.server.take()):
            self.server.receive(said)
            self.events += self.client.receive_data(answer)

    def open(self, *, end: bool = False) -> Stream:
        stream_id = self.client.get_next_available_stream_id()
        self.client.send_headers(stream_id, REQUEST, end_stream=end)
        self.exchange()
        return self.server.streams[stream_id]


def test_a_request_is_heard_in_the_order_of_its_frames():
    pair = Pair()
    stream = pair.open()
    pair.client.send_data(stream.id, b"one")
    pair.client.send_data(stream.id, b"two", pad_length=9, end_stream=True)
    pair.exchange()

    opened, *rest = pair.ear.heard[1:]
    assert opened[:2] == ("opened", 1)
    assert rest == [("received", 1, b"one"), ("received", 1, b"two"), ("ended", 1)]


def test_an_answer_is_understood():
    pair = Pair()
    stream = pair.open(end=True)
    pair.server.send_headers(stream, RESPONSE)
    pair.server.send_data(stream, b"x" * 40_000)
    pair.server.send_headers(stream, [(b"grpc-status", b"0")], end=True)
    pair.server.close(stream)
    pair.exchange()

    kinds = [type(event).__name__ for event in pair.events if getattr(event, "stream_id", None) == 1]
    assert kinds == ["ResponseReceived", *["DataReceived"] * 3, "TrailersReceived", "StreamEnded"]
    assert pair.server.streams == {}


def test_a_stream_that_is_closed_first_here_is_reset_without_error():
    pair = Pair()
    stream = pair.open()
    pair.server.send_headers(stream, RESPONSE, end=True)
    pair.server.close(stream)
    pair.exchange()

    assert [e.error_code for e in pair.events if isinstance(e, h2.events.StreamReset)] == [ErrorCodes.NO_ERROR]


def test_what_comes_for_a_stream_that_is_gone_is_passed_over():
    pair = Pair()
    stream = pair.open()
    pair.client.send_data(stream.id, b"late")
    pair.client.increment_flow_control_window(5, stream.id)
    pair.client.send_headers(stream.id, [("x", "y")], end_stream=True)
    pair.server.reset(stream.id, ErrorCode.CANCEL)
    before, idle = list(pair.ear.heard), pair.ear.idle
    pair.exchange()

    assert pair.ear.heard == before
    # What was on its way is no nuisance: only the trailers and the window are.
    assert pair.ear.idle == idle + 2


def test_a_window_is_renewed_before_it_is_used_up():
    pair = Pair()
    stream = pair.open()
    for _ in range(2 * CONNECTION_WINDOW // MAX_FRAME_BYTES):
        pair.client.send_data(stream.id, bytes(MAX_FRAME_BYTES))
        pair.exchange()

    assert pair.client.local_flow_control_window(stream.id) > STREAM_WINDOW // 2


def test_room_is_what_the_peer_grants():
    pair = Pair()
    stream, other = pair.open(), pair.open()
    pair.server.send_headers(stream, RESPONSE)
    pair.server.send_data(stream, bytes(60_000))

    assert (pair.server.room(stream), pair.server.room(other)) == (5535, 5535)
    pair.exchange()
    pair.client.increment_flow_control_window(100_000)
    pair.client.increment_flow_control_window(10, stream.id)
    pair.exchange()
    assert (pair.server.room(stream), pair.server.room(other)) == (5545, 65_535)
    pair.client.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 10})
    pair.exchange()
    assert (pair.server.room(stream), pair.server.room(other)) == (5545 - 65_525, 10)


def test_headers_longer_than_a_frame_go_on_in_others():
    pair = Pair()
    stream = pair.open(end=True)
    pair.server.send_headers(stream, [*RESPONSE, *((b"x-%d" % n, bytes(str(n) * 300, "ascii")) for n in range(100))])
    pair.exchange()

    (response,) = [event for event in pair.events if isinstance(event, h2.events.ResponseReceived)]
    assert len(response.headers) == 102


def test_a_table_size_that_is_said_twice_is_still_announced():
    pair = Pair()
    stream = pair.open(end=True)
    for _ in range(2):
        pair.client.update_settings({h2.settings.SettingCodes.HEADER_TABLE_SIZE: 1000})
        pair.exchange()
    pair.server.send_headers(stream, [*RESPONSE, (b"x-new", b"1")], end=True)
    pair.exchange()

    assert [e.stream_id for e in pair.events if isinstance(e, h2.events.ResponseReceived)] == [stream.id]


def test_of_a_setting_that_is_there_twice_the_last_counts():
    pair = Pair()
    stream = pair.open()
    entries = b"".join(b"\0\4" + size.to_bytes(4, "big") for size in (0, 10, 2**31 - 1, 70_000))
    pair.server.receive(raw(4, entries))

    assert pair.server.initial_window == stream.window == 70_000


def test_a_goodbye_lets_streams_go_on():
    pair = Pair()
    stream = pair.open()
    pair.server.say_goodbye(LAST_STREAM_ID)
    pair.client.send_data(stream.id, b"still")
    pair.server.receive(pair.client.data_to_send())
    pair.events += pair.client.receive_data(pair.server.take())

    assert [e.last_stream_id for e in pair.events if isinstance(e, h2.events.ConnectionTerminated)] == [LAST_STREAM_ID]
    assert pair.ear.heard[-1] == ("received", 1, b"still")


# what breaks the rules

SETTINGS = SettingsFrame(0).serialize()
GREETING = PREFACE + SETTINGS
BLOCK = Encoder().encode(REQUEST)


def opening(stream_id: int = 1, *flags: str) -> bytes:
    return HeadersFrame(stream_id, data=BLOCK, flags=["END_HEADERS", *flags]).serialize()


def raw(kind: int, payload: bytes = b"", *, flags: int = 0, stream_id: int = 0) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream_id.to_bytes(4, "big") + payload


def test_a_connection_that_ends_says_which_streams_it_knew():
    ear = Ear()
    ear.http2.take()
    with pytest.raises(ProtocolError) as caught:
        ear.http2.receive(GREETING + opening(3) + PushPromiseFrame(3, 4, data=BLOCK).serialize())

    assert caught.value.code is ErrorCode.PROTOCOL_ERROR
    assert ear.http2.take().endswith(GoAwayFrame(0, last_stream_id=3, error_code=1).serialize())


def test_a_fault_on_a_stream_is_heard_as_its_reset():
    ear = Ear()
    ear.http2.take()
    ear.http2.receive(GREETING + opening() + raw(8, b"\x7f\xff\xff\xff", stream_id=1))

    assert ear.heard[-1] == ("reset", 1)
    assert ear.http2.take().endswith(RstStreamFrame(1, error_code=ErrorCode.FLOW_CONTROL_ERROR).serialize())
    assert ear.http2.streams == {}


def test_only_the_last_streams_are_remembered_after_their_end():
    ear = Ear()
    for stream_id in range(1, 2001, 2):
        ear.http2.receive((GREETING if stream_id == 1 else b"") + opening(stream_id, "END_STREAM"))
        ear.http2.close(ear.http2.streams[stream_id])

    assert len(ear.http2._gone) + len(ear.http2._gone_before) <= 512


def test_a_window_that_nobody_wants_more_of_is_not_renewed():
    pair = Pair()
    stream = pair.open()
    stream.wanted = False
    for _ in range(STREAM_WINDOW // MAX_FRAME_BYTES):
        pair.client.send_data(stream.id, bytes(MAX_FRAME_BYTES))
        pair.exchange()
    before = pair.client.local_flow_control_window(stream.id)
    pair.server.receive(raw(0, b"x", stream_id=stream.id))

    assert before == 0
    assert pair.ear.heard[-1] == ("reset", stream.id)


def test_the_connections_window_is_the_peers_bound():
    ear = Ear()
    ear.http2.receive(GREETING + opening())
    ear.http2._granted = 10
    with pytest.raises(ProtocolError) as caught:
        ear.http2.receive(raw(0, bytes(11), stream_id=1))

    assert caught.value.code is ErrorCode.FLOW_CONTROL_ERROR


# beside h2's server

stream_ids = st.sampled_from([1, 1, 3, 3, 5, 7, 2, 0])
payloads = st.binary(max_size=40)
odd_fields = st.sampled_from(
    [
        ("x-plain", "1"),
        ("X-Upper", "1"),
        ("x-blank", " 1"),
        ("te", "trailers"),
        ("te", "gzip"),
        ("connection", "close"),
        ("transfer-encoding", "chunked"),
        ("content-length", "0"),
        ("host", "a"),
        ("host", "b"),
        (":path", "/y"),
        (":status", "200"),
        (":test", "x"),
        ("", "x"),
    ]
)


def speak(stream_id: int, fields: list[tuple[str, str]], *, end: bool) -> bytes:
    """Headers that mean the same whatever was said before."""
    block = Encoder().encode([NeverIndexedHeaderTuple(*each) for each in fields])
    return HeadersFrame(stream_id, data=block, flags=["END_HEADERS", *(["END_STREAM"] if end else [])]).serialize()


odd_requests = st.builds(
    lambda at, kept, more, end: speak(at, [*kept, *more], end=end),
    st.sampled_from([1, 3, 5]),
    st.lists(st.sampled_from(REQUEST[:3]), unique=True, min_size=2).map(lambda kept: [*kept, *REQUEST[3:]]),
    st.lists(odd_fields, max_size=2),
    st.booleans(),
)
anything = st.one_of(
    odd_requests,
    st.builds(
        lambda at, fields: speak(at, fields, end=True), st.sampled_from([1, 3]), st.lists(odd_fields, max_size=2)
    ),
    st.builds(lambda at, end: opening(at, *(["END_STREAM"] if end else [])), stream_ids.filter(bool), st.booleans()),
    st.builds(
        lambda at, data, end: DataFrame(at, data=data, flags=["END_STREAM"] if end else []).serialize(),
        stream_ids.filter(bool),
        payloads,
        st.booleans(),
    ),
    st.builds(lambda at: RstStreamFrame(at, error_code=8).serialize(), stream_ids.filter(bool)),
    st.builds(lambda at, n: WindowUpdateFrame(at, window_increment=n).serialize(), stream_ids, st.integers(1, 1 << 20)),
    st.builds(
        lambda code, value: SettingsFrame(0, {code: value}).serialize(),
        st.sampled_from([1, 3, 4, 5, 6, 9]),
        st.sampled_from([0, 1, 100, 16_384, 70_000]),
    ),
    st.builds(lambda data: PingFrame(0, data).serialize(), st.binary(min_size=8, max_size=8)),
    st.builds(lambda at: PriorityFrame(at, depends_on=0).serialize(), st.sampled_from([1, 3, 9])),
    st.builds(
        lambda kind, data, flags: raw(kind, data, flags=flags), st.integers(32, 255), payloads, st.integers(0, 9)
    ),
)


def resets(said: bytes) -> bool:
    """Whether a RST_STREAM is among the frames."""
    while said:
        if said[3] == 3:
            return True
        said = said[9 + int.from_bytes(said[:3], "big") :]
    return False


@dataclass
class Oracle:
    """h2's server, whose events are told in our words."""

    heard: list[tuple[object, ...]] = field(default_factory=list[tuple[object, ...]])
    failed: bool = False

    def __post_init__(self) -> None:
        self.h2 = H2Connection(H2Configuration(client_side=False))
        self.h2.initiate_connection()

    def objects(self, data: bytes) -> bool:
        """Whether h2 minds too: it fails the connection, or the stream."""
        self.h2.clear_outbound_data_buffer()
        self.receive(data)
        return self.failed or resets(self.h2.data_to_send())

    def receive(self, data: bytes) -> None:
        try:
            events = self.h2.receive_data(data)
        except H2ProtocolError:
            self.failed = True
            return
        for event in events:
            match event:
                case h2.events.RequestReceived():
                    self.heard.append(("opened", event.stream_id))
                case h2.events.DataReceived(data=data) if data:
                    self.heard.append(("received", event.stream_id, data))
                case h2.events.StreamEnded():
                    self.heard.append(("ended", event.stream_id))
                case h2.events.StreamReset():
                    # Also of a stream that it resets itself, for what is no error of the connection's.
                    self.heard.append(("reset", event.stream_id))
                case h2.events.ConnectionTerminated():
                    self.heard.append(("leaves",))
                case _:
                    pass


def told(ear: Ear) -> list[tuple[object, ...]]:
    return [each[:2] if each[0] == "opened" else each for each in ear.heard if each[0] not in {"began", "ponged"}]


def is_where_we_differ(ear: Ear, frame: bytes) -> bool:
    """h2 minds headers of streams that are gone, and not resets of streams never opened."""
    kind, stream_id = frame[3], int.from_bytes(frame[5:9], "big")
    if kind == 1:
        return stream_id <= ear.http2.highest_stream and stream_id not in ear.http2.streams
    return kind == 3 and (stream_id > ear.http2.highest_stream or not stream_id % 2)


@settings(max_examples=250, deadline=None)
@given(st.lists(anything, max_size=25))
def test_frames_mean_here_what_they_mean_to_h2(parts: list[bytes]):
    ear, oracle = Ear(), Oracle()
    for part in (GREETING, *parts):
        if is_where_we_differ(ear, part):
            continue
        try:
            ear.http2.receive(part)
        except ProtocolError:
            assert oracle.objects(part)
            return
        if resets(ear.http2.take()):
            assert oracle.objects(part)
            return
        oracle.receive(part)
        assert not oracle.failed
        assert told(ear) == oracle.heard


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_the_borders_of_reads_do_not_matter(data: st.DataObject):
    client = H2Connection(H2Configuration(client_side=True))
    client.initiate_connection()
    for _ in range(data.draw(st.integers(1, 5))):
        stream_id = client.get_next_available_stream_id()
        client.send_headers(stream_id, [*REQUEST, ("x", data.draw(st.sampled_from(["1", "2"])))])
        for body in data.draw(st.lists(payloads, max_size=3)):
            client.send_data(stream_id, body, pad_length=data.draw(st.sampled_from([None, 3])))
        data.draw(st.sampled_from([client.end_stream, client.reset_stream]))(stream_id)
    said = client.data_to_send()
    cuts = sorted(data.draw(st.sets(st.integers(0, len(said)), max_size=20)))
    whole, cut = Ear(), Ear()
    whole.http2.receive(said)
    for start, end in zip([0, *cuts], [*cuts, len(said)], strict=True):
        cut.http2.receive(said[start:end])

    assert cut.heard == whole.heard
    assert cut.http2.take() == whole.http2.take()


@settings(max_examples=300, deadline=None)
@given(st.lists(st.one_of(anything, payloads), max_size=20))
def test_no_bytes_do_more_than_end_the_connection(parts: list[bytes]):
    ear = Ear()
    with contextlib.suppress(ProtocolError):
        ear.http2.receive(GREETING + b"".join(parts))

    assert all(stream_id <= ear.http2.highest_stream for stream_id in ear.http2.streams)
