"""Many callers, few threads: texts go in one by one and are encoded together.

All state belongs to the event loop, so nothing here is locked: callers queue
their texts, and whenever a thread of the pool is free it gets the next few, of
each caller its fair part. A thread only computes. The same text asked for twice
is encoded once, and what was encoded lately is remembered.
"""

import asyncio
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from wissel.encoders.base import Read, TextReading
from wissel.encoders.fair_queue import FairQueue
from wissel.errors import WorldError
from wissel.runtime.asking import asker
from wissel.runtime.bounded import Bounded

BATCH_TEXTS = 16
BATCH_CHARS = 512
"""A batch holds about as much text as one long prompt, so nobody waits much longer for companions than for one."""


CALLER_PART = 4
"""One caller's texts may be so much of the queue, as one part of so many."""


class OverloadError(WorldError):
    """More texts are waiting than could be encoded in time."""


@dataclass(slots=True, eq=False)
class _Job:
    """A text that is to be encoded, and how many callers still want it."""

    text: str
    done: asyncio.Future[TextReading]
    waiters: int = 0


class Batcher:
    """Reads for all callers of one event loop.

    `read` runs in `workers` threads at once. At most `queue_limit` texts wait, of one caller (`asking_for`) at most a
    quarter of that; `memory` readings are kept.
    """

    def __init__(self, read: Read, *, workers: int = 2, queue_limit: int = 256, memory: int = 4096) -> None:
        self._read = read
        self._workers = workers
        self._queue_limit = queue_limit
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="encode")
        self._memory: Bounded[str, TextReading] = Bounded(memory)
        self._jobs: dict[str, _Job] = {}
        """Queued and running, by text."""
        self._queue: FairQueue[_Job] = FairQueue()
        """Those not yet given to a thread."""
        self._running: set[asyncio.Future[Sequence[TextReading]]] = set()
        self._closed = False

    def recall(self, texts: Sequence[str]) -> list[TextReading] | None:
        """The readings, if all of them are remembered; never blocks."""
        found: list[TextReading] = []
        for text in texts:
            reading = self._memory.get(text)
            if reading is None:
                return None
            found.append(reading)
        return found

    async def read(self, texts: Sequence[str]) -> list[TextReading]:
        """The readings; a caller that is cancelled takes its texts off the queue.

        Raises OverloadError at once if the queue is full or closed, and whatever `read` raised.
        """
        known = {text: reading for text in texts if (reading := self._memory.get(text)) is not None}
        jobs = self._enlist(dict.fromkeys(text for text in texts if text not in known))
        if jobs:
            self._start()
            try:
                # Unlike gather, wait leaves the futures alone when it is cancelled: others may want them too.
                await asyncio.wait([job.done for job in jobs])
            finally:
                self._leave(jobs)
            known |= {job.text: job.done.result() for job in jobs}
        return [known[text] for text in texts]

    async def close(self) -> None:
        """Refuses new texts, finishes those that callers wait for, and ends the threads."""
        self._closed = True
        while self._running:
            await asyncio.wait(self._running)
        self._pool.shutdown(wait=False)

    def _enlist(self, texts: Iterable[str]) -> list[_Job]:
        """One job a text, a new one where nobody else asked for it yet; all or none."""
        jobs = [self._jobs.get(text) or _Job(text, asyncio.get_running_loop().create_future()) for text in texts]
        new = [job for job in jobs if job.text not in self._jobs]
        if new and self._closed:
            raise OverloadError("the encoder is closed")
        if new and len(self._queue) + len(new) > self._queue_limit:
            raise OverloadError(f"{len(self._queue)} texts wait to be encoded, and {self._queue_limit} is the limit")
        caller = asker()
        most = self._queue_limit // CALLER_PART
        if new and caller and self._queue.of(caller) + len(new) > most:
            raise OverloadError(f"{self._queue.of(caller)} texts of one caller wait to be encoded, {most} is the limit")
        for job in new:
            self._jobs[job.text] = job
            self._queue.put(job, caller)
        for job in jobs:
            job.waiters += 1
            if job.text in self._queue:
                self._queue.put(job, caller)
        return jobs

    def _leave(self, jobs: Iterable[_Job]) -> None:
        for job in jobs:
            job.waiters -= 1
            if not job.waiters and job.text in self._queue:
                self._queue.remove(job.text)
                del self._jobs[job.text]

    def _start(self) -> None:
        """Gives queued texts to the threads that are free."""
        while self._queue and len(self._running) < self._workers:
            batch = self._queue.take(BATCH_TEXTS, BATCH_CHARS)
            running = asyncio.get_running_loop().run_in_executor(self._pool, self._read, [job.text for job in batch])
            self._running.add(running)
            running.add_done_callback(partial(self._finish, batch))

    def _finish(self, batch: list[_Job], running: asyncio.Future[Sequence[TextReading]]) -> None:
        self._running.discard(running)
        for job in batch:
            del self._jobs[job.text]
        if error := running.exception():
            for job in batch:
                job.done.set_exception(error)
                job.done.exception()  # so that asyncio does not complain where every caller has left
        else:
            for job, reading in zip(batch, running.result(), strict=True):
                self._memory.put(job.text, reading)
                job.done.set_result(reading)
        self._start()
