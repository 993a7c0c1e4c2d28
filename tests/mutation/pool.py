"""Tasks run in forked processes, some at a time, and none of them for ever."""

import contextlib
import math
import os
import pickle
import resource
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

_POLL: Final = 0.02
_WALL: Final = 5.0
"""How many times its CPU seconds a task may take by the clock: other processes want the machine too."""

Key = TypeVar("Key")
Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Done(Generic[Key, Answer]):
    key: Key
    answer: Answer | None
    """None if it was ended, or ended itself, before it had one."""
    cpu: float
    """Seconds."""


@dataclass(frozen=True, slots=True)
class _Child(Generic[Key]):
    key: Key
    deadline: float
    answer: int
    """Where it writes."""


class Pool(Generic[Key, Answer]):
    """Iterating gives what is done, and whoever iterates may add more meanwhile."""

    def __init__(self, jobs: int, until: float) -> None:
        """`until` is the monotonic time after which no task is begun."""
        self._jobs = jobs
        self._until = until
        self._waiting: deque[tuple[Key, Callable[[], Answer], float]] = deque()
        self._children: dict[int, _Child[Key]] = {}

    def add(self, key: Key, task: Callable[[], Answer], *, cpu: float, first: bool = False) -> None:
        """`cpu` seconds are what it may use."""
        (self._waiting.appendleft if first else self._waiting.append)((key, task, cpu))

    def __iter__(self) -> Iterator[Done[Key, Answer]]:
        while True:
            while self._waiting and len(self._children) < self._jobs and time.monotonic() < self._until:
                self._start(*self._waiting.popleft())
            if not self._children:
                return
            ended = list(self._ended())
            yield from ended
            if not ended:
                time.sleep(_POLL)

    def _start(self, key: Key, task: Callable[[], Answer], cpu: float) -> None:
        answer = os.memfd_create("answer")
        child = os.fork()
        if child == 0:
            with contextlib.suppress(BaseException):
                os.setsid()
                resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(cpu), math.ceil(cpu)))
                os.pwrite(answer, pickle.dumps(task()), 0)
            os._exit(0)
        self._children[child] = _Child(key, time.monotonic() + cpu * _WALL, answer)

    def _ended(self) -> Iterator[Done[Key, Answer]]:
        for pid, child in list(self._children.items()):
            if time.monotonic() > child.deadline:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(pid, signal.SIGKILL)
            ended, _, used = os.wait4(pid, os.WNOHANG)
            if ended:
                del self._children[pid]
                said = os.pread(child.answer, os.fstat(child.answer).st_size, 0)
                os.close(child.answer)
                yield Done(child.key, pickle.loads(said) if said else None, used.ru_utime + used.ru_stime)
