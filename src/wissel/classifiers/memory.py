"""What a router model said lately: a retry, or the next call of a tool loop, asks the same again."""

from threading import Lock

from wissel.core.intent import Scores
from wissel.core.request import Turn
from wissel.runtime.bounded import Bounded

REMEMBERED = 1024


class AnswerMemory:
    """The scores of the conversations seen last; safe to use from several threads."""

    def __init__(self, size: int = REMEMBERED) -> None:
        self._scores: Bounded[tuple[Turn, ...], Scores] = Bounded(size)
        self._lock = Lock()

    def recall(self, turns: tuple[Turn, ...]) -> Scores | None:
        with self._lock:
            return self._scores.get(turns)

    def keep(self, turns: tuple[Turn, ...], scores: Scores) -> None:
        with self._lock:
            self._scores.put(turns, scores)
