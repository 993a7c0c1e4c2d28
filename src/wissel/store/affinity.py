"""Where answers were made, over all replicas: an id becomes its origin, until that is forgotten.

Whoever saw an answer go by knows its origin at once, and tells Redis beside the
request. Whoever does not know an id asks Redis, and waits for it no longer than
for limits. Without a Redis each process knows what it has seen itself.
"""

import asyncio
import json
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from time import monotonic, time
from typing import Any, Final, Protocol

import structlog

from wissel.apis.table import APIS
from wissel.core.affinity import MadeId, Origin, Unreachable, is_id
from wissel.errors import StoreError
from wissel.runtime.background import beside
from wissel.runtime.bounded import Bounded
from wissel.store.connection import RedisConnection, Word, connected
from wissel.store.health import RedisHealth
from wissel.store.keys import Keys
from wissel.telemetry.instruments import Lookup

log = structlog.get_logger(__name__)

DEADLINE: Final = 0.1
"""Seconds that a request waits to know where an answer was made."""

SECOND_LOOK: Final = 0.03
"""Seconds after which an id that Redis does not know is asked for once more: whoever saw it may be telling it now."""

RETRY_SECONDS: Final = 1.0
"""Between two tries to tell a Redis that is away."""

MOST_KNOWN: Final = 65_536
"""Origins that one process knows without asking, about 40 MB."""

MOST_UNTOLD: Final = 65_536
"""Origins that wait for Redis; beyond that the oldest stays known here alone."""

MOST_FIELD: Final = 256
"""Characters of each field that goes to Redis; an origin with a longer one is known here alone."""

MOST_LISTED: Final = 1000
"""Answers of one caller's that are listed, the latest."""

_BATCH: Final = 256

LISTED: Final = frozenset(api.name for api in APIS.values() if api.kept is not None and api.kept.listed is not None)
"""Kinds that are listed by whose they are."""


class LookupCounter(Protocol):
    """Counts what came of asking for an origin."""

    def looked_up(self, result: Lookup, seconds: float) -> None:
        """After `seconds` of waiting."""
        ...


class Origins:
    """The origins as one replica knows them."""

    def __init__(
        self,
        connection: RedisConnection | None,
        keys: Keys,
        counter: LookupCounter,
        *,
        wall: Callable[[], float] = time,
        retry: float = RETRY_SECONDS,
    ) -> None:
        self._connection = connection
        self._keys = keys
        self._counter = counter
        self._wall = wall
        self._retry = retry
        self._known: Bounded[MadeId, Origin] = Bounded(MOST_KNOWN)
        self._untold: deque[tuple[MadeId, Origin | str]] = deque(maxlen=MOST_UNTOLD)
        """What to remember; or to forget, with whose it was."""
        self._woken = asyncio.Event()

    def recall(self, made: MadeId) -> Origin | None:
        """What this process knows itself."""
        origin = self._known.get(made)
        if origin is None or origin.until <= self._wall():
            return None
        self._counter.looked_up("here", 0.0)
        return origin

    async def find(self, made: MadeId) -> Origin | Unreachable | None:
        """What any replica knows; None where none does."""
        began = monotonic()
        origin = await self._asked(self._connection, made) if self._connection and is_id(made.id) else None
        result: Lookup = "found"
        match origin:
            case Unreachable():
                result = "unavailable"
            case None:
                result = "unknown"
            case Origin():
                self._known.put(made, origin)
        self._counter.looked_up(result, monotonic() - began)
        return origin

    def keep(self, made: MadeId, origin: Origin) -> None:
        """Known here from now on, and to the others as soon as Redis has it."""
        self._known.put(made, origin)
        fields = (origin.model, origin.cluster, origin.route, origin.owner, origin.thread)
        if self._connection is None or not is_id(made.id) or any(len(field) > MOST_FIELD for field in fields):
            return
        self._untold.append((made, origin))
        self._woken.set()

    def drop(self, made: MadeId, owner: str) -> None:
        """Forgotten here from now on, and by Redis as soon as it hears of it."""
        self._known.drop(made)
        if self._connection is not None:
            self._untold.append((made, owner))
            self._woken.set()

    async def made_for(self, kind: str, owner: str) -> Mapping[MadeId, Origin] | Unreachable:
        """The latest of one caller's, as any replica knows them."""
        if self._connection is None:
            # The whole of what one process may know, once for each list: some milliseconds.
            known = self._known.oldest(MOST_KNOWN)
            mine = [(made, origin) for made, origin in known if made.kind == kind and origin.owner == owner]
            return dict(mine[-MOST_LISTED:])
        try:
            async with asyncio.timeout(DEADLINE):
                names = await self._connection.run("ZREVRANGE", self._keys.answers(kind, owner), 0, MOST_LISTED - 1)
                made = [MadeId(kind, name) for name in names]
                texts = await self._connection.run_all([("GET", self._keys.origin(each)) for each in made])
        except (TimeoutError, StoreError):
            return Unreachable()
        found = {each: _load(text) for each, text in zip(made, texts, strict=True) if text is not None}
        return {each: origin for each, origin in found.items() if origin is not None}

    async def run(self) -> None:
        """Tell Redis, for ever."""
        while True:
            await self._woken.wait()
            if not await self.flush():
                await asyncio.sleep(self._retry)

    async def flush(self) -> bool:
        """Tell Redis what waits; False if it is away."""
        self._woken.clear()
        while self._untold and self._connection is not None:
            batch = [self._untold.popleft() for _ in range(min(_BATCH, len(self._untold)))]
            try:
                await self._connection.run_all([command for each in batch for command in self._commands(*each)])
            except (StoreError, asyncio.CancelledError) as error:
                # To tell one twice changes nothing.
                self._untold.extendleft(reversed(batch))
                self._woken.set()
                if not isinstance(error, StoreError):
                    raise
                log.warning("origins_not_told", error=str(error), waiting=len(self._untold))
                return False
        return True

    def _commands(self, made: MadeId, origin: Origin | str) -> Iterator[tuple[Word, ...]]:
        if isinstance(origin, str):
            yield "DEL", self._keys.origin(made)
            if made.kind in LISTED:
                yield "ZREM", self._keys.answers(made.kind, origin), made.id
            return
        left = int(origin.until - self._wall())
        if left < 1:
            return
        yield "SET", self._keys.origin(made), _dump(origin), "EX", left
        if made.kind in LISTED:
            answers = self._keys.answers(made.kind, origin.owner)
            yield "ZADD", answers, int(origin.at), made.id
            yield "ZREMRANGEBYRANK", answers, 0, -1 - MOST_LISTED
            yield "EXPIRE", answers, left

    async def _asked(self, connection: RedisConnection, made: MadeId) -> Origin | Unreachable | None:
        try:
            async with asyncio.timeout(DEADLINE):
                for pause in (0.0, SECOND_LOOK):
                    await asyncio.sleep(pause)
                    text = await connection.run("GET", self._keys.origin(made))
                    if text is not None:
                        return _load(text)
        except (TimeoutError, StoreError):
            return Unreachable()
        return None


def _dump(origin: Origin) -> str:
    times = int(origin.at), int(origin.until)
    fields = [origin.model, origin.cluster, origin.route, origin.owner, origin.thread, *times]
    return json.dumps(fields, separators=(",", ":"))


def _load(text: str) -> Origin | None:
    """None for what another version wrote: nobody here knows what it means."""
    try:
        fields: list[Any] = json.loads(text)
        *texts, at, until = fields
        model, cluster, route, owner, thread = map(str, texts)
        return Origin(model, cluster, route, owner, thread, float(at), float(until))
    except (ValueError, TypeError) as error:
        log.warning("origin_unread", error=repr(error))
        return None


@asynccontextmanager
async def running_affinity(
    url: str | None, keys: Keys, counter: LookupCounter, health: RedisHealth | None = None
) -> AsyncGenerator[Origins]:
    """With its own connections to the Redis at `url`. Raises StoreError for what cannot be a URL."""
    async with AsyncExitStack() as stack:
        connection = await stack.enter_async_context(connected(url, health=health))
        affinity = Origins(connection, keys, counter)
        stack.push_async_callback(affinity.flush)
        await stack.enter_async_context(beside(affinity.run()))
        yield affinity
