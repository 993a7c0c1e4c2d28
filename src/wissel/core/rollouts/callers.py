"""No caller is more than its share of the evidence about an arm.

A caller who sends many requests, each in a session of its own, would else be
the evidence alone. Of what counts in an arm at most so much may be one
caller's; whatever is beyond is served as ever and counted for nobody. It is
known before the outcome is, and bounds each arm alike, so it leans to nothing.

With fewer than `FEWEST` callers there is no such share. A caller counts among
them who sends at least a twentieth of what all but the busiest send: neither a
probe nor a flood changes how many there are.
"""

import math
from collections.abc import Hashable
from typing import Final

from wissel.runtime.bounded import Bounded

SHARE: Final = 0.2
"""Of an arm's evidence, unless the operator says otherwise."""
FEWEST: Final = 5
"""Callers from which on it is held to."""

WEIGHTY: Final = 0.05
MOST_CALLERS: Final = 10_000
MOST_ARMS: Final = 1_000

_RECOUNT: Final = 50
"""Requests after which callers are counted anew, and up to so many whenever one is new."""
_MEMORY: Final = 100_000
"""Requests after which half of what was seen is forgotten."""


class Callers:
    """Who calls, over all splits of one process, and what of each was counted."""

    def __init__(self) -> None:
        self._seen: dict[str, int] = {}
        self._requests = 0
        self._counted: Bounded[Hashable, dict[str, int]] = Bounded(MOST_ARMS)
        """By what it is evidence for: of each caller, and of all under ""."""
        self.count = 0
        """Of those who matter."""

    def met(self, caller: str) -> None:
        """A request came."""
        is_new = caller not in self._seen
        if is_new and len(self._seen) >= MOST_CALLERS:
            return
        self._seen[caller] = self._seen.get(caller, 0) + 1
        self._requests += 1
        if self._requests >= _MEMORY:
            self._requests //= 2
            self._seen = {name: times // 2 for name, times in self._seen.items() if times > 1}
        if (is_new and len(self._seen) <= _RECOUNT) or self._requests % _RECOUNT == 0:
            self._recount()

    def admits(self, arm: Hashable, caller: str, share: float) -> bool:
        """Whether one more of this caller's is evidence about the arm; if so it is counted."""
        counted = self._counted.get(arm)
        if counted is None:
            counted = {"": 0}
            self._counted.put(arm, counted)
        fair = share * counted[""]
        # And what chance adds to a fair share: without it five callers alike would wait for the slowest of them.
        if self.count >= FEWEST and counted.get(caller, 0) > fair + math.sqrt(fair):
            return False
        if caller in counted or len(counted) < MOST_CALLERS:
            counted[caller] = counted.get(caller, 0) + 1
        counted[""] += 1
        return True

    def _recount(self) -> None:
        busiest = max(self._seen.values(), default=0)
        least = WEIGHTY * (sum(self._seen.values()) - busiest)
        self.count = sum(1 for times in self._seen.values() if times >= least)
