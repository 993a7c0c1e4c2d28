"""Calls of one script by many requests at once, in few round trips.

What is asked while a round trip is under way goes out together with the next,
so a burst costs one connection and a caller waits for two round trips at most.
Each call has an answer of its own: one that Redis refuses takes no other with it.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any, Final

from wissel.errors import StoreError
from wissel.store.connection import RedisConnection, Script, Word
from wissel.store.health import UnwellError

MOST_TOGETHER: Final = 256

_Call = tuple[Sequence[str], Sequence[Word]]


class Batch:
    """Calls of `script`; each waits for `deadline` seconds at most."""

    def __init__(self, connection: RedisConnection, script: Script, *, deadline: float) -> None:
        self._connection = connection
        self._script = script
        self._deadline = deadline
        self._waiting: deque[tuple[_Call, asyncio.Future[Any]]] = deque()
        self._sender: asyncio.Task[None] | None = None

    async def call(self, names: Sequence[str], words: Sequence[Word]) -> Any:
        """The script's answer. Raises UnwellError; after the deadline what was asked may still happen."""
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append(((names, words), answer))
        if self._sender is None:
            self._sender = asyncio.create_task(self._send())
        try:
            async with asyncio.timeout(self._deadline):
                return await answer
        except TimeoutError as error:
            raise UnwellError("EVALSHA", "away", "it was not answered in time") from error

    async def close(self) -> None:
        if self._sender is not None:
            self._sender.cancel()
            await asyncio.wait([self._sender])

    async def _send(self) -> None:
        try:
            while self._waiting:
                # Who has stopped waiting, cancelled its future; what it wanted is not done any more.
                together = [self._waiting.popleft() for _ in range(min(MOST_TOGETHER, len(self._waiting)))]
                await self._ask([(call, answer) for call, answer in together if not answer.done()])
        finally:
            self._sender = None

    async def _ask(self, asked: list[tuple[_Call, asyncio.Future[Any]]]) -> None:
        if not asked:
            return
        try:
            answers = await self._connection.call_all(self._script, [call for call, _ in asked])
        except StoreError as error:
            answers = [error] * len(asked)
        for (_, answer), found in zip(asked, answers, strict=True):
            if answer.done():
                continue
            if isinstance(found, StoreError):
                answer.set_exception(found)
            else:
                answer.set_result(found)
