"""What of a conversation is read, and what was asked at each question given what came before it.

turns -> the last questions, the first, and the longest between -> texts -> readings -> queries, one a question
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from wissel.core.request import Conversation
from wissel.encoders.base import Vectors, unit

QUERY_EXCHANGES = 3
"""So many of the last questions make a query."""

DECAY = 0.4
"""The weight of an exchange beside the one after it."""

ANSWER_WEIGHT = 0.5
"""Of the assistant's words beside the user's."""

FULL_CHARS = 60
"""A turn shorter than this weighs less: "sure, that is great" says nothing about the intent."""

ANSWER_CHARS = 300
"""Of an answer its beginning is enough."""

RECENT = 8
"""So many of the last questions are read, with the answers before them."""

EARLIER = 12
"""And of those before them the first and the longest, so many together: what set the route is among them, however many
short turns have followed it."""

BYTES_PER_TOKEN = 4


@dataclass(frozen=True, slots=True)
class DialogueExchange:
    """A question, and the answer that came before it."""

    question: str
    answer: str = ""


def exchanges_of(conversation: Conversation, *, budget: int) -> tuple[DialogueExchange, ...]:
    """Those that are read, oldest first; of several answers before a question the last one counts.

    Of the questions before the last the newest are read, while `budget` tokens last.
    """
    exchanges: list[DialogueExchange] = []
    answer = ""
    for turn in conversation.turns:
        text = turn.text.strip()
        if turn.role == "assistant" and text:
            answer = text[:ANSWER_CHARS]
        elif turn.role == "user" and text:
            exchanges.append(DialogueExchange(text, answer))
            answer = ""
    earlier = exchanges[:-RECENT]
    if len(earlier) > EARLIER:
        sizes = [(len(each.question.encode("utf-8", "replace")), at) for at, each in enumerate(earlier)]
        longest = [at for _, at in sorted(sizes[1:], reverse=True)]
        earlier = [earlier[at] for at in sorted([0, *longest[: EARLIER - 1]])]
    read = [*(DialogueExchange(each.question) for each in earlier), *exchanges[-RECENT:]]
    return _within(budget, read)


def _within(budget: int, exchanges: Sequence[DialogueExchange]) -> tuple[DialogueExchange, ...]:
    kept: list[DialogueExchange] = []
    for exchange in reversed(exchanges):
        budget -= _cost(exchange.question) + _cost(exchange.answer)
        if kept and budget < 0:
            break
        kept.append(exchange)
    return tuple(reversed(kept))


MOST_TOKENS = 256
"""That a text of any length costs."""


def _cost(text: str) -> int:
    """Tokens, roughly; those that mark the ends count where there is a text."""
    size = len(text.encode("utf-8", "replace")) if len(text) < MOST_TOKENS * BYTES_PER_TOKEN else len(text)
    return min(MOST_TOKENS, 2 + size // BYTES_PER_TOKEN) if text else 0


def texts_of(exchanges: Iterable[DialogueExchange]) -> list[str]:
    """All that must be read, the newest first."""
    texts = [text for exchange in exchanges for text in (exchange.answer, exchange.question) if text]
    return list(dict.fromkeys(reversed(texts)))


def queries_of(exchanges: Sequence[DialogueExchange], vector_of: Mapping[str, Vectors]) -> Vectors:
    """What was asked at each question, given what came before it: one unit vector a row, oldest first."""
    width = len(vector_of[exchanges[0].question])
    spoken = np.zeros((len(exchanges), width), np.float32)
    for row, exchange in enumerate(exchanges):
        for text, weight in ((exchange.question, 1.0), (exchange.answer, ANSWER_WEIGHT)):
            if text:
                spoken[row] += weight * min(1.0, len(text) / FULL_CHARS) * vector_of[text]
    queries = spoken.copy()
    for age in range(1, min(QUERY_EXCHANGES, len(exchanges))):
        queries[age:] += DECAY**age * spoken[:-age]
    return unit(queries)
