"""Which models rest, over all replicas: what one has met is known to the others a moment later.

Whoever finds out that a model rests, or serves again, tells Redis beside the
request; everybody reads it twice a second. Without a Redis each process knows
what its own requests met. Clocks of replicas may differ by as much as a rest
may be too long or too short.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from time import time
from typing import Any, Final, cast, get_args

import structlog

from wissel.core.cooling import LONGEST_REST, Cooling, Rest
from wissel.core.plan import Why
from wissel.errors import StoreError
from wissel.runtime.background import beside
from wissel.store.connection import RedisConnection, Word, connected
from wissel.store.health import RedisHealth
from wissel.store.keys import Keys

log = structlog.get_logger(__name__)

INTERVAL: Final = 0.5
"""Seconds between two looks at what others have met."""


class SharedCooling:
    """One replica's part in it."""

    def __init__(
        self,
        connection: RedisConnection | None,
        keys: Keys,
        *,
        wall: Callable[[], float] = time,
        interval: float = INTERVAL,
    ) -> None:
        self.cooling = Cooling(self._found)
        self._connection = connection
        self._key = keys.resting
        self._wall = wall
        self._interval = interval
        self._untold: dict[str, Rest | None] = {}

    def _found(self, model: str, rest: Rest | None) -> None:
        if rest is None:
            log.info("model_serves_again", model=model)
        else:
            log.warning("model_rests", model=model, why=rest.why, seconds=round(rest.until - self._wall(), 1))
        if self._connection is not None:
            self._untold[model] = rest

    async def run(self) -> None:
        """Tell and hear, for ever."""
        while self._connection is not None:
            try:
                await self.exchange(self._connection)
            except StoreError as error:
                # Each replica goes on by what it meets itself; the store's own alert tells of the store.
                log.debug("cooling_not_shared", error=str(error))
            await asyncio.sleep(self._interval)

    async def exchange(self, connection: RedisConnection) -> None:
        """Tell what was found out here, and hear what others found out. Raises StoreError."""
        telling = dict(self._untold)
        commands = [command for model, rest in telling.items() for command in self._commands(model, rest)]
        *_, said = await connection.run_all([*commands, ("HGETALL", self._key)])
        for model, rest in telling.items():
            if self._untold.get(model) is rest:
                del self._untold[model]
        self.cooling.heard(_load(said), self._wall())

    def _commands(self, model: str, rest: Rest | None) -> list[tuple[Word, ...]]:
        if rest is None:
            return [("HDEL", self._key, model)]
        told = json.dumps([rest.why, rest.until])
        return [("HSET", self._key, model, told), ("EXPIRE", self._key, int(LONGEST_REST) + 1)]


def _load(said: Any) -> dict[str, Rest]:
    """What another version wrote is passed over."""
    found: dict[str, Rest] = {}
    for model, text in cast("Mapping[str, str]", said).items():
        try:
            why, until = json.loads(text)
            if why in get_args(Why):
                found[model] = Rest(why, float(until))
        except (ValueError, TypeError):
            log.warning("rest_unread", model=model)
    return found


@asynccontextmanager
async def running_cooling(url: str | None, keys: Keys, health: RedisHealth | None = None) -> AsyncGenerator[Cooling]:
    """With its own connection to the Redis at `url`. Raises StoreError for what cannot be a URL."""
    async with connected(url, health=health) as connection:
        shared = SharedCooling(connection, keys)
        async with beside(shared.run()):
            yield shared.cooling
