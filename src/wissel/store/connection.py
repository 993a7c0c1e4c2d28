"""Commands go to Redis, replies or StoreError come back.

Every call has a deadline and fails at once while Redis is away. What is wrong with Redis is told by `store.health`,
where it is by `store.nodes`. Nothing is sent twice behind the caller's back but what was certainly not done: a script
that Redis has forgotten is sent again with its text, which needs no right but to run scripts.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from hashlib import sha1
from typing import Any, Final

from wissel.errors import StoreError
from wissel.runtime.redis_url import parse
from wissel.store.health import RedisHealth, UnwellError
from wissel.store.nodes import Command, Reply, Word, nodes

DEADLINE: Final = 2.0
"""Seconds that a call may take."""


class Script:
    """A Lua script, named by its digest so that its text travels only once."""

    __slots__ = ("digest", "text")

    def __init__(self, text: str) -> None:
        self.text: Final = text
        self.digest: Final = sha1(text.encode(), usedforsecurity=False).hexdigest()


class RedisConnection:
    """Connections to the Redis of one URL. Nothing is connected before the first call.

    `health` hears what is wrong. Raises StoreError for a URL that cannot be one.
    """

    def __init__(self, url: str, *, deadline: float = DEADLINE, health: RedisHealth | None = None) -> None:
        self._deadline = deadline
        self._health = health
        try:
            read = parse(url)
        except ValueError as error:
            raise StoreError(f"redis: the URL {error}") from error
        self._nodes = nodes(read)
        self.is_one_server: Final = read.kind != "cluster"
        """Whether what one call meets is what every call meets."""

    async def run(self, *command: Word, patience: float = 0.0) -> Any:
        """One command; `patience` are seconds that Redis itself was told to wait before it answers."""
        return _values(await self._ask([command], patience=patience))[0]

    async def run_all(self, commands: Sequence[Command], *, atomic: bool = False) -> list[Any]:
        """Several commands in one round trip; `atomic` ones with nothing in between, and their keys in one slot."""
        return _values(await self._ask(commands, atomic=atomic)) if commands else []

    async def call(self, script: Script, keys: Sequence[str], arguments: Sequence[Word]) -> Any:
        """Run a script; all `keys` must lie in one slot."""
        return _values(await self.call_all(script, [(keys, arguments)]))[0]

    async def call_all(
        self, script: Script, calls: Sequence[tuple[Sequence[str], Sequence[Word]]]
    ) -> list[Any | UnwellError]:
        """Run a script for each (keys, arguments), in one round trip; each has its own answer, or what kept it.

        Raises UnwellError where it is known of none whether it was made.
        """
        words = [(len(keys), *keys, *arguments) for keys, arguments in calls]
        return await self._ask([("EVALSHA", script.digest, *each) for each in words], text=script.text)

    async def _ask(
        self, commands: Sequence[Command], *, atomic: bool = False, patience: float = 0.0, text: str = ""
    ) -> list[Reply]:
        """Replies, the problems among them as UnwellError; `text` is of the script that all of them run."""
        name = str(commands[0][0])
        try:
            async with asyncio.timeout(self._deadline + patience):
                replies = await self._nodes.ask(commands, atomic=atomic)
                lost = [at for at, reply in enumerate(replies) if text and _is_forgotten(reply)]
                if lost:
                    again = [("EVAL", text, *commands[at][2:]) for at in lost]
                    for at, reply in zip(lost, await self._nodes.ask(again, atomic=False), strict=True):
                        replies[at] = reply
        except TimeoutError as error:
            if self._health is not None and self._deadline >= DEADLINE:
                self._health.late()
            raise UnwellError(name, "away", "it was not answered in time") from error
        for reply in replies:
            if isinstance(reply, UnwellError) and self._health is not None:
                self._health.failed(reply.state)
        return replies

    @property
    def breaks(self) -> int:
        """Grows whenever Redis failed or moved: what it confirmed shortly before may be lost."""
        return self._nodes.breaks

    async def close(self) -> None:
        await self._nodes.close()


@asynccontextmanager
async def connected(
    url: str | None, *, deadline: float = DEADLINE, health: RedisHealth | None = None
) -> AsyncGenerator[RedisConnection | None]:
    """A connection for the block, or None where there is no Redis. Raises StoreError for what cannot be a URL."""
    if url is None:
        yield None
        return
    connection = RedisConnection(url, deadline=deadline, health=health)
    try:
        yield connection
    finally:
        await connection.close()


def _is_forgotten(reply: Reply) -> bool:
    return isinstance(reply, UnwellError) and reply.state == "noscript"


def _values(replies: list[Reply]) -> list[Any]:
    """What Redis answered; raises the first problem among it."""
    for reply in replies:
        if isinstance(reply, UnwellError):
            raise reply
    return replies
