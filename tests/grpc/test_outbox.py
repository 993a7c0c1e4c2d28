import pytest

from wissel.grpc.bounds import Memory
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
        self.memory = Memory(10_000_000)
        self.frames = 0
        self.outbox: Outbox[Queue] = Outbox(self.http2, self.memory, 1_000_000, self._sent)
        self.streams = [Queue(number, 1_000_000) for number in (1, 3, 5)]
        self.http2._window = 0

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

    left = [stream.queued for stream in desk.streams]
    assert max(left) - min(left) <= 16_384


def test_what_waits_is_held_until_it_is_sent_or_dropped(desk: Desk):
    first, second, _ = desk.streams
    desk.outbox.send(first, bytes(1000))
    desk.outbox.send(second, bytes(500))
    held = desk.memory.held
    done = desk.open(1000)
    desk.outbox.drop(second)

    assert (held, done, desk.memory.held) == (1500, [first], 0)


def test_a_message_leaves_at_once_where_there_is_room(desk: Desk):
    desk.http2._window = AT_ONCE
    stream = desk.streams[0]

    assert desk.outbox.send(stream, bytes(AT_ONCE))
    assert (stream.queued, desk.frames, desk.http2.room(stream)) == (0, 1, 0)


def test_too_much_that_waits_gives_the_stream_up(desk: Desk):
    assert [desk.outbox.send(desk.streams[0], bytes(600_000)) for _ in range(2)] == [True, False]
