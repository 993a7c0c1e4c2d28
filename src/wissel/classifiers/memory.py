"""What a router model said lately: a retry, or the next call of a tool loop, asks the same again."""

from collections import OrderedDict
from threading import Lock

from wissel.core.intent import Scores
from wissel.core.request import Turn

REMEMBERED = 1024


class Memory:
    """The scores of the conversations seen last; safe to use from several threads."""

    def __init__(self, size: int = REMEMBERED) -> None:
        self._scores: OrderedDict[tuple[Turn, ...], Scores] = OrderedDict()
        self._size = size
        self._lock = Lock()

    def recall(self, turns: tuple[Turn, ...]) -> Scores | None:
        with self._lock:
            scores = self._scores.get(turns)
            if scores is not None:
                self._scores.move_to_end(turns)
            return scores

    def keep(self, turns: tuple[Turn, ...], scores: Scores) -> None:
        with self._lock:
            self._scores[turns] = scores
            self._scores.move_to_end(turns)
            while len(self._scores) > self._size:
                self._scores.popitem(last=False)
