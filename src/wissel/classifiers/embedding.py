"""The route whose phrases a conversation resembles most.

Turns become unit vectors, and a matcher compares them with the routes. What is
asked is rarely in the last turn alone ("any other ones?"), so a query is the
weighted mean of the last few turns; and a conversation stays on its route
unless another one is clearly better. Whether a turn asks anything new is a
question of its own, which the encoder's knowledge answers: one that does not
keeps the route, however little it resembles it. Nothing is stored: every
replica works it out from the conversation alike. A turn is read alone, once,
and remembered, so a conversation that goes on costs one new question and one
new answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from wissel.classifiers.calibration import confidence
from wissel.classifiers.exchanges import DialogueExchange, exchanges_of, queries_of, texts_of
from wissel.classifiers.margins import Judged, judge
from wissel.classifiers.matching import Matcher
from wissel.core.intent import Scores
from wissel.core.request import Conversation
from wissel.encoders.base import TextReading, Vectors
from wissel.encoders.knowledge import Knowledge
from wissel.encoders.script import script_of
from wissel.runtime.bounded import Bounded

TYPE = "embedding"

ANSWERS = 1024
"""So many conversations' scores are remembered, the oldest forgotten first: 50 MB at most, were all of them long. A new
configuration remembers none."""

DETAILS = 1024
"""So many texts' details are remembered, 5 MB; they would take as long as the rest of the scoring."""

BUDGET = 1024
"""Tokens of a conversation that are read, unless the operator says otherwise."""

STAY_MARGIN = 0.125
"""Another route must be better than the present one by this much."""

ALONE_WEIGHT = 0.7
"""Of a question by itself beside the one in its context, where one route leads by `ALONE_LEAD` or more; less, where
it leads by less or asks nothing new. "It doesn't work" is clear wherever it is said, "the second one" never is."""

ALONE_LEAD = 0.2

FOLLOWS = 0.5
"""A turn whose newness is below this follows up. Of follow-ups that it was not taught 98 % are, of requests 1 %, and of
SGD's changes of domain 4 %."""

ASKS = 0.9
"""A turn that is like no route follows up, unless its newness is above this."""

SAID_LEAD = 0.25
"""A turn that fits one route by so much more than any other asks for it, however short: "it does not work" where an
example says so, "thanks, bye" where a route is described by that."""

TELLING = 0.6
"""A follow-up keeps all scores as they were, unless the answer before it scores so much of what the best did before:
"yes" to "shall I book the hotel, too?" is about hotels. On SGD, and on runs of follow-ups in ten languages behind
CLINC150's validation rows: 90.2 and 70.0 % right, 93 to 100 % of the routes kept; with 0.8 89.1, 67.8 and 94 to 100."""

WINDOW_LEAD = 0.05
"""By which a window must fit a route better than the whole text fits any. On two draws of MMLU's questions and of
CLINC150's validation rows beside 220 tokens of something else: 66.2 and 67.3 % of the texts of one subject, 83 and 77 %
of the requests before and behind; by the best window always 64.1 and 66.5, 77 and 80 %."""


class ConversationReader(Protocol):
    """An encoder as the event loop meets it."""

    def recall(self, texts: Sequence[str]) -> Sequence[TextReading] | None:
        """The readings of all texts if that needs no waiting."""
        ...

    async def read(self, texts: Sequence[str]) -> Sequence[TextReading]:
        """The readings. Raises `WorldError`."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class _Text:
    """What is known of one text."""

    vector: Vectors
    """(dimensions,), as a whole."""
    detail: Vectors
    """What the matcher reads of it beside."""
    alone: NDArray[np.floating]
    """Its scores by itself, (routes,), by the window that tells most."""
    newness: float
    """How likely it asks something new; 0 for one that is not understood."""
    understood: bool


class EmbeddingClassifier:
    """Scores are a matcher's; the route that the conversation is on already has `STAY_MARGIN` added to its own.

    A conversation in which the user said nothing gets no scores, so its intent is "other".
    """

    def __init__(
        self,
        reader: ConversationReader,
        matcher: Matcher,
        *,
        threshold: float | Literal["auto"] = "auto",
        knowledge: Knowledge | None = None,
        budget: int = BUDGET,
        name: str = TYPE,
    ) -> None:
        """`name` signs its scores; without `knowledge` every turn is understood and asks something."""
        self._reader = reader
        self._matcher = matcher
        self._knowledge = knowledge
        self._budget = budget
        self._name = name
        self._answered: Bounded[tuple[DialogueExchange, ...], Scores] = Bounded(ANSWERS)
        self._texts: Bounded[str, _Text] = Bounded(DETAILS)
        self.threshold = matcher.lessons.threshold if threshold == "auto" else threshold

    @property
    def judged(self) -> Judged:
        """How it answers the examples."""
        return judge(self._matcher.lessons.scores, self._matcher.lessons.truth, self.threshold)

    def recall(self, conversation: Conversation) -> Scores | None:
        """The scores, if every turn that matters was read lately."""
        exchanges = exchanges_of(conversation, budget=self._budget)
        if (known := self._known(exchanges)) is not None:
            return known
        texts = texts_of(exchanges)
        readings = self._reader.recall(texts)
        return None if readings is None else self._remember(exchanges, self._score(exchanges, texts, readings))

    async def classify(self, conversation: Conversation) -> Scores:
        """The scores. Raises OverloadError if too many others wait, ModelError if the model fails."""
        exchanges = exchanges_of(conversation, budget=self._budget)
        if (known := self._known(exchanges)) is not None:
            return known
        texts = texts_of(exchanges)
        return self._remember(exchanges, self._score(exchanges, texts, await self._reader.read(texts)))

    def _known(self, exchanges: tuple[DialogueExchange, ...]) -> Scores | None:
        """The scores that need no vectors."""
        return self._answered.get(exchanges) if exchanges else Scores({}, self.threshold, self._name)

    def _remember(self, exchanges: tuple[DialogueExchange, ...], scores: Scores) -> Scores:
        self._answered.put(exchanges, scores)
        return scores

    def _score(
        self, exchanges: tuple[DialogueExchange, ...], texts: Sequence[str], readings: Sequence[TextReading]
    ) -> Scores:
        """The scores of the last query, after the route was followed through those before it."""
        told = self._tell(texts, readings)
        questions = [told[exchange.question] for exchange in exchanges]
        scores = self._matcher.scores(
            queries_of(exchanges, {text: each.vector for text, each in told.items()}),
            queries_of(exchanges, {text: each.detail for text, each in told.items()}),
        )
        if not exchanges[0].answer:
            scores[0] = questions[0].alone
        staying = 0.0
        for row, question in enumerate(questions[1:], start=1):
            clear = question.newness * _clearness(question.alone)
            scores[row] += clear * (question.alone - scores[row])
            if self._follows(question) and not self._tells(told.get(exchanges[row].answer), scores[row - 1]):
                scores[row] = scores[row - 1]
            else:
                staying = self._stay(scores[row - 1], scores[row], 1 - clear)
        by_route = dict(zip(self._matcher.phrases.names, scores[-1].tolist(), strict=True))
        sure = confidence(scores[-1], self.threshold, self._matcher.lessons.temperature)
        understood = any(each.understood for each in questions)
        script = script_of(exchanges[-1].question)
        return Scores(by_route, self.threshold, self._name, sure, staying, understood=understood, script=script)

    def _follows(self, question: _Text) -> bool:
        """Whether a question goes on with what was asked before it."""
        unlike = question.alone.max() < self._matcher.lessons.threshold
        return question.newness < FOLLOWS or (unlike and question.newness < ASKS)

    def _tells(self, answer: _Text | None, before: NDArray[np.floating]) -> bool:
        """Whether the assistant's words speak of a route, nearly as clearly as what set the present one did."""
        least = max(self._matcher.lessons.threshold, TELLING * float(before.max()))
        return answer is not None and answer.newness >= FOLLOWS and float(answer.alone.max()) >= least

    def _stay(self, before: NDArray[np.floating], after: NDArray[np.floating], vague: float) -> float:
        """Adds to the present route's score what it has for being the present one; says how much, if it is the best."""
        present = int(before.argmax())
        if before[present] < self.threshold:
            return 0.0
        after[present] += vague * STAY_MARGIN
        return vague * STAY_MARGIN if after.argmax() == present else 0.0

    def _tell(self, texts: Sequence[str], readings: Sequence[TextReading]) -> dict[str, _Text]:
        """What each text says by itself; remembered, for it would take as long as the rest."""
        told = {
            text: self._texts.get(text) or self._look_at(reading) for text, reading in zip(texts, readings, strict=True)
        }
        for text, each in told.items():
            self._texts.put(text, each)
        return told

    def _look_at(self, reading: TextReading) -> _Text:
        details = self._matcher.details(reading.texts, reading.wordings)
        scores = self._matcher.scores(reading.vectors, details)
        if self._knowledge is None:
            return _Text(reading.vectors[0], details[0], _best_of(scores), 1.0, understood=True)
        known = [self._knowledge.understands(*each) for each in zip(reading.texts, reading.vectors, strict=True)]
        # A question in front of bytes is understood, whatever the whole looks like.
        scores = scores[known] if any(known) and len(known) > 1 else scores
        best = _best_of(scores)
        newness = 1.0
        if len(known) == 1 and _lead(best) < SAID_LEAD:
            newness = float(self._knowledge.newness(reading.vectors[:1])[0])
        return _Text(reading.vectors[0], details[0], best, newness if any(known) else 0.0, understood=any(known))


def _best_of(scores: NDArray[np.floating]) -> NDArray[np.floating]:
    """Of a text as a whole and of its windows, (n, routes), one row: (routes,).

    The windows count where one of them fits a route clearly better than the whole fits any: there is a question beside
    a paste. A text of one subject is best told by all of it.
    """
    whole, windows = scores[0], scores[1:]
    if not len(windows):
        return whole
    if windows.max() > whole.max() + WINDOW_LEAD:
        return windows.max(axis=0)
    return (whole + windows.mean(axis=0)) / 2


def _clearness(alone: NDArray[np.floating]) -> float:
    """How much a question counts by itself, from its scores, (routes,): from 0 to `ALONE_WEIGHT`."""
    return ALONE_WEIGHT * min(1.0, _lead(alone) / ALONE_LEAD)


def _lead(scores: NDArray[np.floating]) -> float:
    """Of the best score over the next, (routes,); 0 where there is but one."""
    if len(scores) < 2:
        return 0.0
    second, first = np.partition(scores, -2)[-2:]
    return float(first - second)
