import pytest

from wissel.grpc.http2 import Http2
from wissel.grpc.outbox import AT_ONCE, Outbox, Queue


class Deaf:
    """Hears nothing of a peer."""

    def __getattr__(self, name: str) -> object:
        return lambda *_: None


class Desk:
    """An outbox with three streams and no room."""

    def __init__(self) -> None:
        self.http2: Http2[Queue] = Http2(Deaf(), max_streams=10, max_header_bytes=1000)  # pyright: ignore[reportArgumentType]
        self.held = 0
        self.frames = 0
        self.outbox: Outbox[Queue] = Outbox(self.http2, self._hold, self._sent)
        self.streams = [Queue(number, 1_000_000) for number in (1, 3, 5)]
        self.http2._window = 0

    def _hold(self, _stream: Queue, more: int) -> None:
        self.held += more

    def _sent(self) -> None:
        self.frames += 1

    def open(self, size: int) -> list[Queue]:
        """Let the peer take so many bytes more; the streams on which nothing waits now."""
        self.http2._window += size
        return list(self.outbox.pump(lambda: None))


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_streams_take_turns_over_many_openings_of_a_window(desk: Desk):
    for stream in desk.streams:
        desk.outbox.send(stream, bytes(200_000))
    for _ in range(9):
        desk.open(16_384)

    left = [sum(map(len, stream.queue)) for stream in desk.streams]
    assert max(left) - min(left) <= 16_384


def test_what_waits_is_held_until_it_is_sent_or_dropped(desk: Desk):
    first, second, _ = desk.streams
    desk.outbox.send(first, bytes(1000))
    desk.outbox.send(second, bytes(500))
    held = desk.held
    done = desk.open(1000)
    desk.outbox.drop(second)

    assert (held >= 1500, done, desk.held) == (True, [first], 0)


def test_a_message_is_held_whole_until_its_last_byte_is_sent(desk: Desk):
    desk.outbox.send(desk.streams[0], bytes(100_000))
    desk.open(99_999)
    held = desk.held
    desk.open(1)

    assert (held >= 100_000, desk.held) == (True, 0)


def test_small_messages_cost_more_than_their_bytes(desk: Desk):
    for _ in range(1000):
        desk.outbox.send(desk.streams[0], b"x")

    assert desk.held == desk.streams[0].queued > 200_000


def test_a_message_leaves_at_once_where_there_is_room(desk: Desk):
    desk.http2._window = AT_ONCE
    stream = desk.streams[0]
    desk.outbox.send(stream, bytes(AT_ONCE))

    assert (stream.queued, desk.frames, desk.http2.room(stream)) == (0, 1, 0)
