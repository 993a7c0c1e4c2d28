"""Arch-Router: a small language model that is told the routes in words and names the one that fits.

    Conversation -> trimmed turns -> prompt -> tokens -> (one forward pass, shared) -> Scores

The answer is the one that the model card's greedy `generate()` gives; what is
added is how sure the model was of each route. Inference runs off the event
loop, in one thread; requests that come while it is busy go together into its
next pass. PyTorch is loaded only when `load_model` is called.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Generic, Literal, TypeVar

from wissel.classifiers.arch_prompt import PROFILES, Profile, ProfileName
from wissel.classifiers.memory import AnswerMemory
from wissel.classifiers.odds import with_leader
from wissel.classifiers.trie import fold
from wissel.core.intent import OTHER, Scores
from wissel.core.request import Conversation, Turn
from wissel.core.snapshot import Route
from wissel.errors import ModelError

if TYPE_CHECKING:
    from wissel.classifiers.arch_model import ArchModel, Device, Dtype, Judgement

CLASSIFIER = "arch_router"
WAITING = 256
"""Requests in the queue; more could not be answered before any deadline."""

Outcome = Literal["route", "other", "strayed"]


class ArchRouter:
    """A `Classifier` for one set of routes."""

    def __init__(
        self,
        routes: Iterable[Route],
        model: "ArchModel",
        *,
        profile: ProfileName = "arch_router",
        budget: int | None = None,
        threshold: float = 0.0,
    ) -> None:
        """Computes what all prompts for `routes` begin with, which takes as long as a request without cache.

        `budget` are the tokens of template and conversation, by the profile's estimate where None. The model says
        "other" itself, so a `threshold` is needed only to doubt its unsure answers.
        """
        self._routes = tuple(routes)
        self._model = model
        self._profile: Profile = PROFILES[profile]
        self._budget = budget
        self._threshold = threshold
        answers = self._profile.answers(self._routes)
        self._names = tuple(answers)
        try:
            self.trie = fold([model.encode(answer) for answer in answers.values()])
        except ValueError as error:
            raise ModelError(f"the model cannot tell the routes {', '.join(self._names)} apart: {error}") from error
        self.prefix = model.read_prefix(_common_prefix(*(self._encode((probe,)) for probe in _PROBES)))
        """What every prompt begins with, computed."""
        self._memory = AnswerMemory()
        self._queue = Gatherer(self._judge, weigh=self._weigh, limit=model.tokens_per_pass, waiting=WAITING)
        self.outcomes: Counter[Outcome] = Counter()
        """How often a route, or "other", was chosen; and how often a free model would have written something else."""

    def recall(self, conversation: Conversation) -> Scores | None:
        turns = self._profile.trim(conversation, self._budget)
        if not turns or not self._routes:
            return Scores({OTHER: 1.0}, self._threshold, CLASSIFIER)
        return self._memory.recall(turns)

    async def classify(self, conversation: Conversation) -> Scores:
        if scores := self.recall(conversation):
            return scores
        return await self._queue.submit(self._profile.trim(conversation, self._budget))

    def _encode(self, turns: tuple[Turn, ...]) -> list[int]:
        return self._model.encode_prompt(self._profile.prompt(self._routes, turns))

    def _weigh(self, turns: tuple[Turn, ...]) -> int:
        """About how many tokens `turns` add to a pass; the text is tokenized only where it does not hold up others."""
        said = sum(len(turn.text) for turn in turns)
        return (said + len(self._profile.after_conversation)) // 4 + len(self.trie.tokens)

    def _judge(self, batch: Sequence[tuple[Turn, ...]]) -> list[Scores]:
        judgements = self._model.choose([self._encode(turns) for turns in batch], self.prefix, self.trie)
        return [self._learn(turns, judgement) for turns, judgement in zip(batch, judgements, strict=True)]

    def _learn(self, turns: tuple[Turn, ...], judgement: "Judgement") -> Scores:
        answer = self._names[judgement.choice.greedy]
        probabilities = dict(zip(self._names, judgement.choice.probabilities, strict=True))
        scores = Scores(with_leader(probabilities, answer), self._threshold, CLASSIFIER)
        self.outcomes["other" if answer == OTHER else "route"] += 1
        self.outcomes["strayed"] += judgement.strayed
        self._memory.keep(turns, scores)
        return scores


def load_model(source: str, device: "Device" = "auto", dtype: "Dtype" = "auto") -> "ArchModel":
    """The weights at the local path or hub id `source`, for any set of routes; blocks.

    Raises ModelError where the model cannot be had or used, or PyTorch is not installed.
    """
    try:
        from wissel.classifiers import arch_model  # noqa: PLC0415  torch is loaded only where it is configured
    except ImportError as error:
        raise ModelError(f'arch_router needs PyTorch: install "wissel[torch]" ({error})') from error
    return arch_model.load(source, device, dtype)


_PROBES = (Turn("user", "a"), Turn("assistant", "é"), Turn("user", '"'))
"""Any different conversations: what their prompts share, they share with all."""


def _common_prefix(first: list[int], *others: list[int]) -> list[int]:
    length = next(
        (i for i, tokens in enumerate(zip(first, *others, strict=False)) if len(set(tokens)) > 1),
        min(len(first), *map(len, others)),
    )
    return first[:length]


Item = TypeVar("Item")
Result = TypeVar("Result")


class Gatherer(Generic[Item, Result]):
    """Runs a blocking function, in a thread of its own, over whatever has gathered while it last ran."""

    def __init__(
        self,
        run: Callable[[Sequence[Item]], Sequence[Result]],
        *,
        weigh: Callable[[Item], int],
        limit: int,
        waiting: int,
    ) -> None:
        """`limit` is the weight of one run, `waiting` the number of items in the queue."""
        self._run = run
        self._weigh = weigh
        self._limit = limit
        self._most = waiting
        self._waiting: deque[tuple[Item, asyncio.Future[Result]]] = deque()
        self._running = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="classify")

    async def submit(self, item: Item) -> Result:
        """The result for `item`. Raises ModelError where the queue is full; a cancelled item is not run."""
        if len(self._waiting) >= self._most:
            raise ModelError(f"{self._most} requests wait for the model already")
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        entry = (item, future)
        self._waiting.append(entry)
        self._next()
        try:
            return await future
        except asyncio.CancelledError:
            with suppress(ValueError):
                self._waiting.remove(entry)
            raise

    def _next(self) -> None:
        if self._running or not (batch := self._gather()):
            return
        self._running = True
        items = [item for item, _ in batch]
        done = asyncio.get_running_loop().run_in_executor(self._thread, self._run, items)
        done.add_done_callback(partial(self._deliver, [future for _, future in batch]))

    def _gather(self) -> list[tuple[Item, asyncio.Future[Result]]]:
        batch: list[tuple[Item, asyncio.Future[Result]]] = []
        room = self._limit
        while self._waiting:
            item, future = self._waiting[0]
            if future.done():
                self._waiting.popleft()
                continue
            room -= self._weigh(item)
            if batch and room < 0:
                break
            batch.append(self._waiting.popleft())
        return batch

    def _deliver(self, futures: Sequence[asyncio.Future[Result]], done: "asyncio.Future[Sequence[Result]]") -> None:
        self._running = False
        if done.cancelled():
            for future in futures:
                future.cancel()
        elif error := done.exception():
            for future in futures:
                if not future.done():
                    future.set_exception(error)
        else:
            for future, result in zip(futures, done.result(), strict=True):
                if not future.done():
                    future.set_result(result)
        self._next()
