"""What waits on one connection until its peer takes it.

A message goes out at once where the windows and the socket have room for it.
Otherwise it waits here, and whenever there is room again each stream gets one
frame of it in turn, so that no stream starves another.
"""

from collections import deque
from collections.abc import Callable, Iterator
from typing import Final, Generic, TypeVar

from wissel.grpc.frames import Part
from wissel.grpc.http2 import Http2
from wissel.grpc.streams import Stream

AT_ONCE: Final = 1 << 18
"""Bytes that are written before the socket is asked again whether it takes more."""
_OBJECT_BYTES: Final = 256
"""That a queued message costs beside its own, so that many small ones are bounded as well as a few large ones."""


class Queue(Stream):
    """A stream, and what waits on it."""

    __slots__ = ("queue", "queued")

    def __init__(self, stream_id: int, window: int) -> None:
        super().__init__(stream_id, window)
        self.queue: deque[tuple[memoryview, int]] = deque()
        """What is left of each part, and what the whole of it costs for as long."""
        self.queued = 0
        """Bytes that its queue costs."""


Q = TypeVar("Q", bound=Queue)


class Outbox(Generic[Q]):
    """Sends what the peer takes, and keeps the rest.

    `hold` hears how many bytes more or fewer wait on a stream, and `sent` of
    each frame of a message that leaves.
    """

    def __init__(self, http2: Http2[Q], hold: Callable[[Q, int], None], sent: Callable[[], None]) -> None:
        self._http2: Final = http2
        self._hold: Final = hold
        self._sent: Final = sent
        self._waiting: Final[dict[int, Q]] = {}
        self.writable = True
        """Whether the socket takes more."""

    def send(self, stream: Q, *parts: Part) -> None:
        """Send `parts` now or later."""
        length = sum(map(len, parts))
        if self.writable and not stream.queue and length <= AT_ONCE and length <= self._http2.room(stream):
            self._http2.send_data(stream, b"".join(parts))
            self._sent()
            return
        stream.queue.extend((memoryview(part), len(part) + _OBJECT_BYTES) for part in parts)
        self._waiting[stream.id] = stream
        self._count(stream, length + len(parts) * _OBJECT_BYTES)

    def drop(self, stream: Q) -> None:
        """Send nothing of what waits on a stream."""
        if stream.queue:
            stream.queue.clear()
            del self._waiting[stream.id]
            self._count(stream, -stream.queued)

    def pump(self, flush: Callable[[], None]) -> Iterator[Q]:
        """Send what windows and socket take by now; the streams on which nothing waits any more."""
        ready = deque(self._waiting.values())
        written = 0
        while ready and self.writable:
            stream = ready.popleft()
            sent = self._send_frame(stream)
            if not stream.queue:
                del self._waiting[stream.id]
                yield stream
            elif sent:
                ready.append(stream)
                # The next time begins with those that got least this time.
                self._waiting[stream.id] = self._waiting.pop(stream.id)
            written += sent
            if written >= AT_ONCE:
                written = 0
                flush()

    def _send_frame(self, stream: Q) -> int:
        """Send one frame of what waits; its size, zero if no window is open."""
        room = min(self._http2.room(stream), self._http2.max_frame)
        if room <= 0:
            return 0
        head, cost = stream.queue.popleft()
        if len(head) > room:
            # What is left of a part keeps the whole of it in memory.
            stream.queue.appendleft((head[room:], cost))
            head = head[:room]
        else:
            self._count(stream, -cost)
        self._http2.send_data(stream, head)
        self._sent()
        return len(head)

    def _count(self, stream: Q, more: int) -> None:
        stream.queued += more
        self._hold(stream, more)
