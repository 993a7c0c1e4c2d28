"""What a model's answer says about itself, in the words of all APIs: tokens, ends, errors, and when its words came.

Each API has a function that tells its own format's bodies and events to a
`Findings`; what they all say in one way is read here.
"""

from typing import Final

from wissel.apis.shapes import Json, object_of
from wissel.apis.usage import CONVENTIONS, Convention, ToldUsage
from wissel.core.affinity import is_id
from wissel.core.outcome import Usage
from wissel.core.request import BYTES_PER_TOKEN

_MAX_CHOICES: Final = 1024
_MAX_NAME: Final = 256


class Findings:
    """What was learned from a body so far."""

    __slots__ = (
        "_counts",
        "_finished",
        "chunks",
        "ended",
        "error",
        "first_at",
        "id",
        "last_at",
        "model",
        "pending_bytes",
        "seen_bytes",
        "unread",
    )

    def __init__(self) -> None:
        self._counts = ToldUsage()
        self._finished: dict[int, str] = {}
        self.model = ""
        self.id = ""
        """By which it can be asked for later."""
        self.error = ""
        self.ended = False
        """Whether the body said that nothing follows."""
        self.unread = ""
        """Why some of the body was not read: `encoding` or `malformed`."""
        self.seen_bytes = 0
        """Of the answer's words."""
        self.pending_bytes = 0
        """Of what came and is not understood before more of it does."""
        self.chunks = 0
        self.first_at: float | None = None
        """When the first chunk with output came."""
        self.last_at = 0.0

    @property
    def usage(self) -> Usage | None:
        """None where it was not told."""
        return self._counts.usage

    @property
    def seen_tokens(self) -> int:
        """Of the output, about as many as its words are, and one a chunk at least."""
        return max(self.chunks, -(-(self.seen_bytes + self.pending_bytes) // BYTES_PER_TOKEN))

    @property
    def finish_reasons(self) -> tuple[str, ...]:
        """In the order of the choices."""
        return tuple(self._finished[index] for index in sorted(self._finished))

    def take(self, said: Json, conventions: tuple[Convention, ...] = CONVENTIONS, *, has_counted: bool = False) -> None:
        """What all formats say in one way: who answered, an error, and the usage, which may have been a guess."""
        if not self.model and isinstance(model := said.get("model"), str):
            self.model = model[:_MAX_NAME]
        if error := said.get("error"):
            self._fail(object_of(error))
        elif said.get("type") == "error":
            self._fail(said)
        self._counts.take(said, conventions, has_counted=has_counted)

    def name(self, said_id: object) -> None:
        """What it is called, if that can be followed; the first name stands."""
        if not self.id and isinstance(said_id, str) and is_id(said_id):
            self.id = said_id

    def finish(self, reason: object, index: int = 0) -> None:
        """A choice ended, if `reason` is one."""
        if isinstance(reason, str) and (index in self._finished or len(self._finished) < _MAX_CHOICES):
            self._finished[index] = reason[:_MAX_NAME]

    def tick(self, now: float, words: int) -> None:
        """A chunk with so many bytes of output came."""
        self.chunks += 1
        self.seen_bytes += words
        if self.first_at is None:
            self.first_at = now
        self.last_at = now

    def _fail(self, error: Json) -> None:
        named = (error.get(name) for name in ("type", "code"))
        self.error = next((name[:_MAX_NAME] for name in named if isinstance(name, str) and name != "error"), "error")
