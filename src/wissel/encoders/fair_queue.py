"""Texts that wait, dealt out fairly among those who wait for them.

Each caller has a clock that runs by the work done for it, and the one whose
clock is furthest behind is next; of its own texts the shortest. A caller that
had nothing waiting begins where the queue stands, so nobody saves up time, and
nobody who asks for little waits for one who asks for much. A text that several
wait for is worked on when the first of them has its turn.
"""

from collections.abc import Iterator
from typing import Final, Generic, Protocol, TypeVar

from wissel.runtime.bounded import Bounded


class Waiting(Protocol):
    """Something to be done."""

    @property
    def text(self) -> str: ...


Job = TypeVar("Job", bound=Waiting)

OVERHEAD: Final = 64
"""Characters that even the shortest text is worth."""
MOST_CLOCKS: Final = 10_000


class FairQueue(Generic[Job]):
    """Each job once for each caller that waits for it."""

    def __init__(self) -> None:
        self._waiting: dict[str, dict[str, Job]] = {}
        """By caller and text."""
        self._texts: dict[str, set[str]] = {}
        """Who waits for each text."""
        self._clocks: Bounded[str, float] = Bounded(MOST_CLOCKS)
        self._now = 0.0

    def __len__(self) -> int:
        return len(self._texts)

    def __contains__(self, text: str) -> bool:
        return text in self._texts

    def of(self, caller: str) -> int:
        """How many texts one caller waits for."""
        return len(self._waiting.get(caller, ()))

    def put(self, job: Job, caller: str) -> None:
        self._waiting.setdefault(caller, {})[job.text] = job
        self._texts.setdefault(job.text, set()).add(caller)

    def remove(self, text: str) -> None:
        """Nobody waits for it any more, or it is being done."""
        for caller in self._texts.pop(text, ()):
            jobs = self._waiting[caller]
            del jobs[text]
            if not jobs:
                del self._waiting[caller]

    def take(self, most: int, size: int) -> list[Job]:
        """The next jobs: at most so many, together of that size at most unless the first one alone is larger."""
        taken: list[Job] = []
        chars = 0
        while self._waiting and len(taken) < most:
            caller, job = min(self._next(), key=lambda each: (self._clock_of(each[0]), len(each[1].text)))
            if taken and chars + len(job.text) > size:
                break
            self._now = self._clock_of(caller)
            self._clocks.put(caller, self._now + len(job.text) + OVERHEAD)
            taken.append(job)
            chars += len(job.text)
            self.remove(job.text)
        return taken

    def _next(self) -> Iterator[tuple[str, Job]]:
        """Of each caller its shortest."""
        return ((caller, min(jobs.values(), key=_size)) for caller, jobs in self._waiting.items())

    def _clock_of(self, caller: str) -> float:
        return max(self._clocks.peek(caller) or 0.0, self._now)


def _size(job: Waiting) -> int:
    return len(job.text)
