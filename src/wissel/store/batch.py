"""Calls of one script by many requests at once, in few round trips.

What is asked while a round trip is under way goes out together with the next,
so a burst costs one connection and a caller waits for two round trips at most.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any, Final

from wissel.errors import StoreError
from wissel.store.connection import RedisConnection, Script, Word

MOST_TOGETHER: Final = 256


class Batch:
    """Calls of `script`; each waits for `deadline` seconds at most."""

    def __init__(self, connection: RedisConnection, script: Script, *, deadline: float) -> None:
        self._connection = connection
        self._script = script
        self._deadline = deadline
        self._waiting: deque[tuple[list[Word], asyncio.Future[Any]]] = deque()
        self._sender: asyncio.Task[None] | None = None
        self._is_loaded = False

    async def call(self, names: Sequence[str], words: Sequence[Word]) -> Any:
        """The script's answer. Raises StoreError; after the deadline what was asked may still happen."""
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append((["EVALSHA", self._script.digest, len(names), *names, *words], answer))
        if self._sender is None:
            self._sender = asyncio.create_task(self._send())
        try:
            async with asyncio.timeout(self._deadline):
                return await answer
        except TimeoutError as error:
            raise StoreError("redis: a script was not answered in time") from error

    async def close(self) -> None:
        if self._sender is not None:
            self._sender.cancel()
            await asyncio.wait([self._sender])

    async def _send(self) -> None:
        try:
            while self._waiting:
                # Who has stopped waiting, cancelled its future; what it wanted is not done any more.
                together = [self._waiting.popleft() for _ in range(min(MOST_TOGETHER, len(self._waiting)))]
                asked = [(command, answer) for command, answer in together if not answer.done()]
                await self._ask(asked)
        finally:
            self._sender = None

    async def _ask(self, asked: list[tuple[list[Word], asyncio.Future[Any]]]) -> None:
        try:
            answers = await self._answers([command for command, _ in asked])
        except StoreError as error:
            self._is_loaded = False
            for _, answer in asked:
                if not answer.done():
                    answer.set_exception(StoreError(str(error)))
            return
        for (_, answer), found in zip(asked, answers, strict=True):
            if not answer.done():
                answer.set_result(found)

    async def _answers(self, commands: list[list[Word]]) -> list[Any]:
        if not self._is_loaded:
            await self._connection.run("SCRIPT", "LOAD", self._script.text)
            self._is_loaded = True
        try:
            return await self._connection.run_all(commands)
        except StoreError as error:
            if "NOSCRIPT" not in str(error):
                raise
        # Redis has forgotten the script, so none of the calls was made.
        await self._connection.run("SCRIPT", "LOAD", self._script.text)
        return await self._connection.run_all(commands)
