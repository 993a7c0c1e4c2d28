# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
"""Commands go to Redis, replies or StoreError come back.

The one place that knows redis-py. Every call has a deadline and fails at once
while Redis is away; the pool connects anew for the next call. Nothing is sent
twice behind the caller's back: whether a command may be repeated only its
caller knows.
"""

import asyncio
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from hashlib import sha1
from typing import Any, Final

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError

from wissel.errors import StoreError

Word = str | bytes | int | float
"""One argument of a command."""

DEADLINE: Final = 2.0
"""Seconds that a call may take."""

_MOST_CONNECTIONS: Final = 32


class Script:
    """A Lua script, named by its digest so that its text travels only once."""

    __slots__ = ("digest", "text")

    def __init__(self, text: str) -> None:
        self.text: Final = text
        self.digest: Final = sha1(text.encode(), usedforsecurity=False).hexdigest()


class RedisConnection:
    """A pool of connections to one Redis. Nothing is connected before the first call.

    Raises StoreError for a URL that cannot be one.
    """

    def __init__(self, url: str, *, deadline: float = DEADLINE) -> None:
        self._deadline = deadline
        try:
            pool = BlockingConnectionPool.from_url(
                url,
                max_connections=_MOST_CONNECTIONS,
                timeout=None,  # who waits for a connection waits until the call's own deadline
                decode_responses=True,
                protocol=2,
                retry=Retry(NoBackoff(), 0),
                # Its own timeout is `asyncio.wait_for`, which in Python 3.11 may swallow a cancellation.
                socket_timeout=None,
            )
        except ValueError as error:
            raise StoreError(f"redis: {error}") from error
        self._redis: Redis = Redis.from_pool(pool)

    async def run(self, *command: Word, patience: float = 0.0) -> Any:
        """One command; `patience` are seconds that Redis itself was told to wait before it answers."""
        with _translated(command[0]):
            async with asyncio.timeout(self._deadline + patience):
                return await self._redis.execute_command(*command)

    async def run_all(self, commands: Sequence[Sequence[Word]], *, atomic: bool = False) -> list[Any]:
        """Several commands in one round trip; `atomic` ones with nothing in between, and their keys in one slot."""
        if not commands:
            return []
        with _translated(commands[0][0]):
            async with asyncio.timeout(self._deadline), self._redis.pipeline(transaction=atomic) as pipeline:
                for command in commands:
                    pipeline.execute_command(*command)
                return await pipeline.execute()

    async def call(self, script: Script, keys: Sequence[str], arguments: Sequence[Word]) -> Any:
        """Run a script; all `keys` must lie in one slot."""
        words = (len(keys), *keys, *arguments)
        with _translated("EVALSHA"):
            async with asyncio.timeout(self._deadline):
                try:
                    return await self._redis.execute_command("EVALSHA", script.digest, *words)
                except NoScriptError:
                    return await self._redis.execute_command("EVAL", script.text, *words)

    async def close(self) -> None:
        await self._redis.aclose()


@contextmanager
def _translated(command: Word) -> Generator[None]:
    try:
        yield
    except TimeoutError as error:
        raise StoreError(f"redis: {command} was not answered in time") from error
    except (RedisError, OSError) as error:
        raise StoreError(f"redis: {command}: {error}") from error
