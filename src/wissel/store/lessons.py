"""What tiers learn from, on its way to Redis and back: a stream a tier, short-lived and bounded.

A lesson is written when its request is over, its score as another line when the
caller gives one; reading puts the two together by the request's id. A request
never waits: lines gather in memory and one task brings them to Redis. Lines are
cut off at the age and the number that the tier's configuration says, whether or
not new ones come; with nobody left to cut, the whole stream expires.
"""

import asyncio
import json
from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from time import monotonic
from typing import Any, Final

import structlog

from wissel.core.lesson import Lesson, Taught
from wissel.core.tier import Learning
from wissel.errors import StoreError
from wissel.store.connection import RedisConnection, Word
from wissel.store.keys import Keys

log = structlog.get_logger(__name__)

FLUSH_INTERVAL: Final = 1.0
CUT_INTERVAL: Final = 60.0
"""Seconds between two looks for lines that are too old."""

LONGEST_BACKOFF: Final = 5.0

MOST_WAITING: Final = 10_000
"""Lines that wait to be written, while Redis is away; beyond that the oldest are lost, and that is said."""

_AT_ONCE: Final = 500
_PAGE: Final = 1000

_LESSON: Final = "lesson"
_SCORE: Final = "score"


class LessonStore:
    """The lessons of one configuration namespace, as one replica writes and anybody reads them."""

    def __init__(self, connection: RedisConnection, keys: Keys) -> None:
        self._connection = connection
        self._keys = keys
        self._learning: Mapping[str, Learning] = {}
        self._waiting: deque[tuple[str, str, str]] = deque()
        """(tier, kind, JSON) of each line."""
        self._lost = 0
        self._cut_at = monotonic()

    def use(self, learning: Mapping[str, Learning]) -> None:
        """Keep lessons of these tiers from now on, by name."""
        self._learning = learning

    def learns(self, tier: str) -> bool:
        """Whether scores on this tier's answers are welcome."""
        return tier in self._learning

    def add(self, taught: Taught) -> None:
        """A request that may teach something is over."""
        self._put(taught.lesson.tier, _LESSON, _fields(taught))

    def scored(self, tier: str, request_id: str, score: float) -> None:
        """The caller of a kept request has said what it thinks."""
        self._put(tier, _SCORE, {"id": request_id, "score": score})

    async def run(self, *, interval: float = FLUSH_INTERVAL) -> None:
        """Write until cancelled, whatever happens."""
        waiting = interval
        while True:
            await asyncio.sleep(waiting)
            try:
                await self.flush()
                if monotonic() - self._cut_at >= CUT_INTERVAL:
                    await self.cut()
            except StoreError as error:
                waiting = min(2 * waiting, LONGEST_BACKOFF)
                log.warning("lessons_not_written", problem=str(error), waiting=len(self._waiting))
            except Exception:
                # A bug here must not end the replica's other work; what waits is tried again.
                log.exception("lessons_not_written")
            else:
                waiting = interval

    async def flush(self) -> None:
        """Bring what waits to Redis. After a StoreError some may be there already; reading takes each once."""
        while batch := [self._waiting.popleft() for _ in range(min(_AT_ONCE, len(self._waiting)))]:
            try:
                await self._connection.run_all([command for line in batch for command in self._write(*line)])
            except BaseException:
                self._waiting.extendleft(reversed(batch))
                raise
        if self._lost:
            log.warning("lessons_lost", lines=self._lost)
            self._lost = 0

    async def cut(self) -> None:
        """Take away what is too old. Raises StoreError."""
        self._cut_at = monotonic()
        if not self._learning:
            return
        seconds, _ = await self._connection.run("TIME")
        await self._connection.run_all(
            [
                ("XTRIM", self._keys.lessons(tier), "MINID", round(1000 * (int(seconds) - learning.keep)))
                for tier, learning in self._learning.items()
            ]
        )

    async def close(self, *, within: float = 3.0) -> None:
        """The last flush; what Redis does not take within so many seconds is lost, and said."""
        try:
            async with asyncio.timeout(within):
                await self.flush()
        except (StoreError, TimeoutError) as error:
            log.warning("lessons_lost", lines=len(self._waiting), problem=str(error))

    async def read(self, tier: str) -> list[Taught]:
        """Everything that is kept of a tier, the oldest first, with the scores given by now. Raises StoreError."""
        found: dict[str, Taught] = {}
        scores: dict[str, float] = {}
        start = "-"
        while page := await self._connection.run("XRANGE", self._keys.lessons(tier), start, "+", "COUNT", _PAGE):
            for line, words in page:
                _take(tier, line, words, found, scores)
            start = f"({page[-1][0]}"
        return [replace(each, score=scores.get(request_id)) for request_id, each in found.items()]

    def _put(self, tier: str, kind: str, fields: Mapping[str, Any]) -> None:
        self._waiting.append((tier, kind, json.dumps(fields, separators=(",", ":"))))
        if len(self._waiting) > MOST_WAITING:
            self._waiting.popleft()
            self._lost += 1

    def _write(self, tier: str, kind: str, text: str) -> list[tuple[Word, ...]]:
        learning = self._learning.get(tier)
        if learning is None:
            return []  # the tier stopped learning while this waited
        name = self._keys.lessons(tier)
        # A score may come on each of them.
        most = 2 * learning.most
        return [("XADD", name, "MAXLEN", "~", most, "*", kind, text), ("EXPIRE", name, max(1, round(learning.keep)))]


def _fields(taught: Taught) -> dict[str, Any]:
    lesson = taught.lesson
    return {
        "id": taught.request_id,
        "ends": list(lesson.ends),
        "end": lesson.end,
        "win_rate": lesson.win_rate,
        "ok": taught.ok,
        "model": taught.model,
        "route": taught.route,
        "prompt": lesson.prompt,
    }


def _take(tier: str, line: str, words: Mapping[str, str], found: dict[str, Taught], scores: dict[str, float]) -> None:
    """One line of the stream; what was written twice counts once."""
    try:
        if _SCORE in words:
            told: dict[str, Any] = json.loads(words[_SCORE])
            scores.setdefault(told["id"], float(told["score"]))
            return
        read: dict[str, Any] = json.loads(words[_LESSON])
        strong, weak = read["ends"]
        lesson = Lesson(tier, (strong, weak), read["end"], float(read["win_rate"]), read["prompt"])
        at = int(line.partition("-")[0]) / 1000
        taught = Taught(read["id"], lesson, bool(read["ok"]), read["model"], read["route"], at=at)
        found.setdefault(taught.request_id, taught)
    except (KeyError, ValueError, TypeError) as error:
        raise StoreError(f'redis: line "{line}" of the lessons of "{tier}" cannot be read: {error!r}') from error
