"""What waits on one connection until its peer takes it.

A message goes out at once where the windows and the socket have room for it.
Otherwise it waits here, and whenever there is room again each stream gets one
frame of it in turn, so that no stream starves another.
"""

from collections import deque
from collections.abc import Callable, Iterator
from typing import Final, Generic, TypeVar

from wissel.grpc.bounds import Memory
from wissel.grpc.http2 import Http2, Stream

AT_ONCE: Final = 1 << 18
"""Bytes that are written before the socket is asked again whether it takes more."""


class Queue(Stream):
    """A stream, and what waits on it."""

    __slots__ = ("queue", "queued")

    def __init__(self, stream_id: int, window: int) -> None:
        super().__init__(stream_id, window)
        self.queue: deque[memoryview] = deque()
        self.queued = 0


Q = TypeVar("Q", bound=Queue)


class Outbox(Generic[Q]):
    """Sends what the peer takes, and keeps the rest; `sent` hears of each frame of a message that leaves."""

    def __init__(self, http2: Http2[Q], memory: Memory, limit: int, sent: Callable[[], None]) -> None:
        self._http2: Final = http2
        self._memory: Final = memory
        self._limit: Final = limit
        self._sent: Final = sent
        self._waiting: Final[dict[int, Q]] = {}
        self.writable = True
        """Whether the socket takes more."""

    def send(self, stream: Q, data: bytes) -> bool:
        """Send `data` now or later; False where so much waits already that the stream should be given up."""
        length = len(data)
        if self.writable and not stream.queue and length <= AT_ONCE and length <= self._http2.room(stream):
            self._http2.send_data(stream, data)
            self._sent()
            return True
        stream.queue.append(memoryview(data))
        stream.queued += length
        self._waiting[stream.id] = stream
        return self._memory.hold(length) and stream.queued <= self._limit

    def drop(self, stream: Q) -> None:
        """Send nothing of what waits on a stream."""
        if stream.queue:
            self._memory.hold(-stream.queued)
            stream.queue.clear()
            stream.queued = 0
            del self._waiting[stream.id]

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
        head = stream.queue.popleft()
        if len(head) > room:
            stream.queue.appendleft(head[room:])
            head = head[:room]
        self._http2.send_data(stream, head)
        self._sent()
        stream.queued -= len(head)
        self._memory.hold(-len(head))
        return len(head)
