"""Where bodies are read: a slice a turn of the event loop, and callers take turns.

A small body is read in the turn that brought it. A larger one is read in
slices, one in each turn of the loop whatever waits, so that the streams of
others are answered in between; and of those who wait each caller is served in
its turn, however many bodies it has brought. What one caller's bodies take of
the memory meanwhile is bounded.
"""

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from time import perf_counter
from typing import Final

from wissel.extproc.events import Read, Step

SLICE_SECONDS: Final = 0.002
"""That reading may take of one turn; what is begun by then is one window more."""

MOST_HELD_BYTES: Final = 64 << 20
"""Of one caller's bodies that are being read; one body is taken whatever its size."""

Done = Callable[[list[Step]], None]
Failed = Callable[[Exception], None]


class BodyReading:
    """A body that waits to be read on."""

    __slots__ = ("done", "failed", "is_wanted", "read")

    def __init__(self, read: Read, done: Done, failed: Failed) -> None:
        self.read = read
        self.done = done
        self.failed = failed
        self.is_wanted = True

    def cancel(self) -> None:
        """Nobody waits for it any more."""
        self.is_wanted = False


class Desk:
    """Reads the bodies of one process."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[str, deque[BodyReading]] = OrderedDict()
        """By caller, the one whose turn is next first."""
        self._held: Counter[str] = Counter()
        self._uploads: Counter[str] = Counter()
        self._is_due = False

    def held(self, caller: str) -> int:
        """Bytes of the caller's bodies that are being read."""
        return self._held[caller]

    def has_room(self, read: Read) -> bool:
        """Whether the caller may bring one more body."""
        held = self._held[read.caller.id]
        return not held or held + read.size <= MOST_HELD_BYTES

    def take(self, read: Read, done: Done, failed: Failed) -> BodyReading | None:
        """Read what one slice can; None if that was all, and `done` was called."""
        finished = _advance(read)
        if finished is not None:
            done(finished)
            return None
        reading = BodyReading(read, done, failed)
        self._waiting.setdefault(read.caller.id, deque()).append(reading)
        self._held[read.caller.id] += read.size
        self._take_turn()
        return reading

    def _take_turn(self) -> None:
        if self._waiting and not self._is_due:
            self._is_due = True
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        self._is_due = False
        caller, readings = self._waiting.popitem(last=False)
        reading = readings.popleft()
        finished: list[Step] | Exception | None = []
        if reading.is_wanted:
            try:
                finished = _advance(reading.read)
            except Exception as error:  # noqa: BLE001  a bug must end its own stream, and no other's reading
                finished = error
        if finished is None:
            readings.appendleft(reading)
        else:
            self._held[caller] -= reading.read.size
            if not self._held[caller]:
                del self._held[caller]
        if readings:
            self._waiting[caller] = readings
        # Whatever becomes of this one, the others are read on.
        self._take_turn()
        if not reading.is_wanted or finished is None:
            return
        if isinstance(finished, Exception):
            reading.failed(finished)
        else:
            reading.done(finished)

    # Bodies that are still on their way.

    def begins(self, caller: str, most: int) -> bool:
        """A body of the caller's begins to come; False where `most` are on their way already."""
        if self._uploads[caller] >= most:
            return False
        self._uploads[caller] += 1
        return True

    def ends(self, caller: str) -> None:
        """It is here, or will not come."""
        self._uploads[caller] -= 1
        if not self._uploads[caller]:
            del self._uploads[caller]


def _advance(read: Read) -> list[Step] | None:
    """The steps, if reading ends within a slice."""
    until = perf_counter() + SLICE_SECONDS
    try:
        while True:
            next(read.work)
            if perf_counter() >= until:
                return None
    except StopIteration as done:
        return done.value
