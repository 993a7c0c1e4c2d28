"""What a model's answer says about itself, in the words of all APIs: tokens, ends, errors, and when its words came.

Each API has a function that tells its own format's bodies and events to a
`Findings`; what they all say in one way is read here.
"""

from collections.abc import Mapping
from typing import Final, Literal

from wissel.apis.shapes import Json, object_of
from wissel.core.outcome import Usage

_MAX_COUNT: Final = 2**53
_MAX_CHOICES: Final = 1024
_MAX_NAME: Final = 256

Count = Literal["input", "output", "cached", "reasoning", "cache_read", "cache_written"]
"""What is counted: `cached` is within the input, what is read from a cache and written there stands beside it."""

Places = Mapping[Count, tuple[str, ...]]
"""Where a format's usage tells each count: the members on the way to it."""


class Findings:
    """What was learned from a body so far."""

    __slots__ = ("_counts", "_finished", "chunks", "ended", "error", "first_at", "last_at", "model", "unread")

    def __init__(self) -> None:
        self._counts: dict[Count, int] = {}
        self._finished: dict[int, str] = {}
        self.model = ""
        self.error = ""
        self.ended = False
        """Whether the body said that nothing follows."""
        self.unread = ""
        """Why some of the body was not read: `encoding`, `malformed` or `too_large`."""
        self.chunks = 0
        self.first_at: float | None = None
        """When the first chunk with output came."""
        self.last_at = 0.0

    @property
    def usage(self) -> Usage | None:
        """Later counts stand for earlier ones: providers send them as running totals."""
        if not self._counts:
            return None
        counts = self._counts.get
        beside = counts("cache_read", 0) + counts("cache_written", 0)
        return Usage(
            counts("input", 0) + beside,
            counts("output", 0),
            counts("cached", 0) + counts("cache_read", 0),
            counts("reasoning", 0),
        )

    @property
    def finish_reasons(self) -> tuple[str, ...]:
        """In the order of the choices."""
        return tuple(self._finished[index] for index in sorted(self._finished))

    def take(self, said: Json, places: Places) -> None:
        """What all formats say in one way: who answered, an error, and the usage, whose counts stand at `places`."""
        if not self.model and isinstance(model := said.get("model"), str):
            self.model = model[:_MAX_NAME]
        if error := said.get("error"):
            self._fail(object_of(error))
        elif said.get("type") == "error":
            self._fail(said)
        if usage := object_of(said.get("usage")):
            self._count(usage, places)

    def finish(self, reason: object, index: int = 0) -> None:
        """A choice ended, if `reason` is one."""
        if isinstance(reason, str) and (index in self._finished or len(self._finished) < _MAX_CHOICES):
            self._finished[index] = reason[:_MAX_NAME]

    def tick(self, now: float) -> None:
        """A chunk with output came."""
        self.chunks += 1
        if self.first_at is None:
            self.first_at = now
        self.last_at = now

    def _fail(self, error: Json) -> None:
        named = (error.get(name) for name in ("type", "code"))
        self.error = next((name[:_MAX_NAME] for name in named if isinstance(name, str) and name != "error"), "error")

    def _count(self, usage: Json, places: Places) -> None:
        for count, (*way, name) in places.items():
            inner = usage
            for step in way:
                inner = object_of(inner.get(step))
            value = inner.get(name)
            if type(value) is int and 0 <= value < _MAX_COUNT:
                self._counts[count] = value
