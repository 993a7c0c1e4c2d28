"""What a classifier is to the rest of wissel."""

from typing import Protocol

from wissel.core.intent import Scores
from wissel.core.request import Conversation


class Classifier(Protocol):
    """Says how well each route matches a conversation; one is built per snapshot."""

    def recall(self, conversation: Conversation) -> Scores | None:
        """The scores if they are known without waiting, from a cache; never blocks."""
        ...

    async def classify(self, conversation: Conversation) -> Scores:
        """The scores. Raises `WorldError` if it cannot say; the caller sets the deadline and may cancel."""
        ...
