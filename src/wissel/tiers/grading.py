"""Win rates on the request path.

Only the last thing the user said is graded: that is what graders learn from,
in RouteLLM as here. A grader that reads embeddings shares them with the
classifier of intents, which has usually just asked for the same text; then
nothing is waited for, and a win rate costs less than a millisecond.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from wissel.config.model import Tier as Section
from wissel.core.request import Conversation, Turn, question
from wissel.core.snapshot import Snapshot
from wissel.core.tier import Budget, Tier, WinRate
from wissel.errors import ModelError, WorldError
from wissel.tiers.artifact import TORCH_KINDS, Card, baseline, load, read_card
from wissel.tiers.base import Grader, Prompts, Vectors

STEP_OF_SPREAD = 0.3
"""How far one request moves a threshold, in quartile distances of the win rates: after traffic has changed at once
from MMLU to GSM8K, the first 500 requests are within two points of their share, and MMLU alone keeps its PGR."""

WAITING_LIMIT = 64
"""So many prompts may wait for a grader that computes in a thread of its own."""


_HELLO = Conversation((Turn("user", "hello"),))


class LiveGrader(Protocol):
    """A grader as live traffic asks it: a request at a time, in the event loop."""

    def recall(self, conversation: Conversation) -> WinRate | None:
        """The win rate if it is known without waiting; never blocks."""
        ...

    async def win_rate(self, conversation: Conversation) -> WinRate:
        """The win rate. Raises `WorldError` if it cannot say; the caller sets the deadline and may cancel."""
        ...


class Embedder(Protocol):
    """The encoder that the classifier uses, with its memory."""

    def recall(self, texts: Sequence[str]) -> Vectors | None: ...

    async def encode(self, texts: Sequence[str]) -> Vectors: ...


class EmbeddingGrader:
    """A grader that reads embeddings, in the turn of the event loop that has them."""

    def __init__(self, grader: Grader, embedder: Embedder) -> None:
        self._grader = grader
        self._embedder = embedder

    def recall(self, conversation: Conversation) -> WinRate | None:
        text = question(conversation.last_user)
        vectors = self._embedder.recall([text])
        return None if vectors is None else self._rate(text, vectors)

    async def win_rate(self, conversation: Conversation) -> WinRate:
        text = question(conversation.last_user)
        return self._rate(text, await self._embedder.encode([text]))

    def _rate(self, text: str, vectors: Vectors) -> WinRate:
        return WinRate(float(self._grader.win_rates(Prompts((text,), vectors))[0]), self._grader.KIND)


class TextGrader:
    """A baseline: it reads the text alone, and is done before anyone could wait."""

    def __init__(self, grader: Grader) -> None:
        self._grader = grader

    def recall(self, conversation: Conversation) -> WinRate:
        prompts = Prompts.without_vectors([question(conversation.last_user)])
        return WinRate(float(self._grader.win_rates(prompts)[0]), self._grader.KIND)

    async def win_rate(self, conversation: Conversation) -> WinRate:
        return self.recall(conversation)


class ThreadGrader:
    """A torch grader, in one thread of its own; torch uses several cores by itself."""

    def __init__(self, grader: Grader) -> None:
        self._grader = TextGrader(grader)
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="grade")
        self._waiting = 0

    def recall(self, conversation: Conversation) -> None:
        del conversation  # nothing is remembered

    async def win_rate(self, conversation: Conversation) -> WinRate:
        if self._waiting >= WAITING_LIMIT:
            raise WorldError(f"{WAITING_LIMIT} prompts wait for the grader already")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, self._grader.recall, conversation)
        finally:
            self._waiting -= 1


class Graders:
    """Makes the graders of a configuration's tiers; each grader is read from disk again, so a new one is seen."""

    def __init__(self, embedder: Callable[[], Awaitable[Embedder]]) -> None:
        self._embedder = embedder
        """Asked only if some grader reads embeddings."""

    async def build(
        self, sections: Iterable[Section], snapshot: Snapshot
    ) -> tuple[dict[str, LiveGrader], dict[str, Tier]]:
        """By tier: its grader, and the tier as its grader's card calibrates it. Raises ModelError."""
        graders: dict[str, LiveGrader] = {}
        tiers: dict[str, Tier] = {}
        for section in sections:
            grader, card = await asyncio.to_thread(_read, section)
            graders[section.name] = await self._grader(grader)
            await _try(section, graders[section.name])
            tiers[section.name] = (
                calibrated(snapshot.tiers[section.name], card) if card else snapshot.tiers[section.name]
            )
        return graders, tiers

    async def _grader(self, grader: Grader) -> LiveGrader:
        if grader.NEEDS_VECTORS:
            return EmbeddingGrader(grader, await self._embedder())
        return ThreadGrader(grader) if grader.KIND in TORCH_KINDS else TextGrader(grader)


async def _try(section: Section, grader: LiveGrader) -> None:
    """Ask once before traffic does: a grader of other embeddings would fail on every request. Raises ModelError."""
    try:
        found = (await grader.win_rate(_HELLO)).value
    except Exception as error:
        raise ModelError(
            f'the grader in "{section.grader.path}" gives no win rate: {error}; it may have learned from other '
            "embeddings than this version makes, so train it again"
        ) from error
    if not 0 <= found <= 1:
        raise ModelError(f'the grader in "{section.grader.path}" gives the win rate {found}; train it again')


def grader_problems(sections: Sequence[Section]) -> list[str]:
    """What is wrong with the folders that tiers name; the graders themselves are not loaded."""
    problems: list[str] = []
    for at, section in enumerate(sections):
        try:
            _card(section)
        except ModelError as error:
            problems.append(f"tiers[{at}].grader.path: {error}")
    return problems


def _read(section: Section) -> tuple[Grader, Card | None]:
    if _card(section) is None or section.grader.path is None:
        return baseline(section.grader.type), None
    return load(Path(section.grader.path))


def _card(section: Section) -> Card | None:
    """None for a grader that learns nothing. Raises ModelError."""
    if section.grader.path is None:
        return None
    card = read_card(Path(section.grader.path))
    if card.kind != section.grader.type:
        raise ModelError(
            f'the grader in "{section.grader.path}" is of type {card.kind}, '
            f"and the configuration says {section.grader.type}"
        )
    return card


def calibrated(tier: Tier, card: Card) -> Tier:
    """The tier with its budget's threshold begun where the card says, and moved on the card's scale."""
    if not isinstance(tier.policy, Budget) or not card.quantiles:
        return tier
    budget = tier.policy
    start = min(max(card.threshold(budget.share), budget.lowest), budget.highest)
    step = max(STEP_OF_SPREAD * card.spread, 1e-6)
    return replace(tier, policy=replace(budget, start=start, step=step))
