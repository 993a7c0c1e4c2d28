"""Refusals that nobody explains become the operator's fault once enough callers have met them.

That a provider has not what was asked for may be one caller's invention. Where
several get the same answer, and none of them named what is missing, it is the
model that the operator named. Each process knows of its own requests only.
"""

from typing import Final

from wissel.runtime.bounded import Bounded

ENOUGH: Final = 3
"""Callers who must have met it."""

MOST_ARMS: Final = 1_000


class Witnesses:
    """Who met refusals that name nothing of theirs, by arm."""

    def __init__(self) -> None:
        self._met: Bounded[object, set[str]] = Bounded(MOST_ARMS)

    def are_enough(self, arm: object, caller: str) -> bool:
        """Another refusal: whether callers enough have met one by now, this one among them."""
        met = self._met.get(arm) or set()
        if len(met) < ENOUGH:
            met.add(caller)
            self._met.put(arm, met)
        return len(met) >= ENOUGH
