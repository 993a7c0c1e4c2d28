"""A small write, now and then, so that it is known what Redis is also while nobody needs it.

Two keys: that of the records and that of the limits, which lie with different nodes of a cluster.
"""

import asyncio
from typing import Final

from wissel.errors import StoreError
from wissel.store.connection import RedisConnection, Script
from wissel.store.health import RedisHealth
from wissel.store.keys import Keys

INTERVAL: Final = 5.0
HURRY: Final = 1.0
"""Seconds between two tries while something is wrong."""

# KEYS: what to touch. A script, as everything that matters is one.
_TOUCH: Final = Script("return redis.call('SET', KEYS[1], '1', 'PX', 60000)")


class StoreProbe:
    """Of one process."""

    def __init__(self, connection: RedisConnection, keys: Keys, health: RedisHealth) -> None:
        self._connection = connection
        self._keys = keys
        self._health = health

    async def run(self) -> None:
        """For ever; `health` hears of everything that goes wrong."""
        while True:
            await self.touch()
            await asyncio.sleep(INTERVAL if self._health.state == "ok" else HURRY)

    async def touch(self) -> None:
        """Write once."""
        try:
            for key in self._keys.touched:
                await self._connection.call(_TOUCH, [key], [])
        except StoreError:
            return
        if self._connection.is_one_server:
            self._health.whole()
        self._health.tell()
