"""Cheap first: only what a classifier is not sure of goes on to a dearer one.

    scores of the first stage -> sure enough? -> they are the answer
                              -> else the next stage, while time and budget last

How sure scores are is how far they would have to move for another answer. The
dearer stages get a share of all requests and no more, so a flood of unclear
ones cannot become their whole load. A stage that is late or fails costs
nothing but its own answer: the one before it stands.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from heapq import nlargest

from wissel.classifiers.base import Classifier
from wissel.classifiers.margins import certainty
from wissel.core.intent import OTHER, Scores
from wissel.core.request import Conversation
from wissel.errors import WorldError

BURST = 16.0
"""So many requests may go on in a row after a time without any."""


@dataclass(slots=True)
class EscalationBudget:
    """A share of requests, spent one by one; what is not spent is kept up to `BURST`."""

    share: float
    _left: float = BURST

    def earn(self) -> None:
        """A request came."""
        self._left = min(BURST, self._left + self.share)

    def spend(self) -> bool:
        """True if this request may go on, which is then counted."""
        if self.share <= 0 or self._left < 1:
            return False
        self._left -= 1
        return True


@dataclass(frozen=True, slots=True)
class CascadeStage:
    """A classifier whose answer counts if it is sure by `margin`; of the last stage that does not matter."""

    classifier: Classifier
    margin: float
    budget: EscalationBudget = field(default_factory=lambda: EscalationBudget(1.0))


def certainty_of(scores: Scores) -> float:
    """How far the scores are from another answer; 0 where there are none, and less where only staying gave it."""
    if not scores.by_route:
        return 0.0
    best, next_best, *_ = *nlargest(2, scores.by_route.values()), float("-inf")
    # A router model that says "other" does so by a score, not for want of one.
    said_other = scores.by_route.get(OTHER) == best
    # Margins are learned from single messages; that a route stays says nothing of how well the last one was read. Taken
    # for certainty, it cost 0.2 to 2.4 points of the turns of SGD, six draws of 10 and 20 examples, and 0.2 at most so.
    return certainty(best, next_best, 0.0 if said_other else scores.threshold) - scores.staying


class Cascade:
    """A `Classifier` out of others."""

    def __init__(self, stages: Sequence[CascadeStage], *, timeout: float) -> None:
        """`timeout` are the seconds for all stages together; what is reached by then is the answer."""
        self._stages = tuple(stages)
        self._timeout = timeout
        self.escalated = [0] * len(self._stages)
        """How many requests each stage was asked about, those of the first aside that were remembered."""

    def recall(self, conversation: Conversation) -> Scores | None:
        """The answer if it is known; an unsure one whose dearer answer is not known is not."""
        for stage in self._stages:
            scores = stage.classifier.recall(conversation)
            if scores is None or stage is self._stages[-1] or certainty_of(scores) >= stage.margin:
                return scores
        return None

    async def classify(self, conversation: Conversation) -> Scores:
        """The answer of the last stage that was asked. Raises what the first stage raises."""
        deadline = asyncio.get_running_loop().time() + self._timeout
        first, *dearer = self._stages
        self.escalated[0] += 1
        scores = await first.classifier.classify(conversation)
        before = first
        for number, stage in enumerate(dearer, start=1):
            before.budget.earn()
            if certainty_of(scores) >= before.margin or not before.budget.spend():
                return scores
            self.escalated[number] += 1
            try:
                async with asyncio.timeout_at(deadline):
                    scores = await stage.classifier.classify(conversation)
            except (TimeoutError, WorldError) as error:
                # A dearer answer that does not come leaves the cheaper one standing.
                return replace(scores, detail=f"stage {number + 1} gave none: {str(error) or 'no answer in time'}")
            before = stage
        return scores
