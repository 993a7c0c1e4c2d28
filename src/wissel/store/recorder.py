"""What requests came to is counted in memory, and brought to Redis beside the request path.

A request costs a few microseconds and never waits: tallies count, and one task
writes what changed every `flush_interval`. While Redis is away they go on
counting, and write it later; what Redis had confirmed and lost all the same is
sent again. SIGKILL of this process loses what came since the last flush, no more.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from itertools import count
from math import inf
from time import perf_counter
from typing import Final

import structlog

from wissel.core.rollouts.callers import SHARE, Callers
from wissel.core.rollouts.measures import Observed
from wissel.errors import StoreError
from wissel.runtime.bounded import Bounded
from wissel.store.base import Answered, Scope, Served
from wissel.store.counters import ABSENT, FORGOTTEN_AFTER, Counters
from wissel.store.feedback import FeedbackStore
from wissel.store.sums import Vectors, difference, merged
from wissel.store.tally import CLOSED, KNOWN, MIXED, PATIENCE, Tally, Ticket

log = structlog.get_logger(__name__)

FLUSH_INTERVAL: Final = 1.0

LONGEST_BACKOFF: Final = 5.0
"""Seconds between two tries at most, while Redis is away."""

FOLD_INTERVAL: Final = 30.0

IDLE_AFTER: Final = 600.0
"""Seconds without a request after which a scope is no longer held in memory."""

MOST_SERVED: Final = 100_000
"""Requests that wait to be remembered; beyond that the oldest cannot be given feedback."""

SIGN_OF_LIFE: Final = 5.0
"""Seconds after which a scope without news asks whether Redis still has what it had."""

KEPT_SECONDS: Final = 120.0
"""For which changes are kept that Redis has confirmed: a disk or a replica that takes over may be so far behind."""

_ATTEMPTS: Final = 4
"""To agree with Redis on what it has; two are enough unless it loses more meanwhile."""

_SERVED_AT_ONCE: Final = 1_000


class Recorder:
    """Counts for one replica. `source` names this life of it, and no other ever: `REPLICA.BOOT`."""

    def __init__(
        self,
        counters: Counters,
        feedback: FeedbackStore,
        source: str,
        *,
        flush_interval: float = FLUSH_INTERVAL,
        patience: float = PATIENCE,
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        self._counters = counters
        self._feedback = feedback
        self._source = source
        self._flush_interval = flush_interval
        self._patience = patience
        self._clock = clock
        self._numbers = count()
        self._deliveries: dict[Scope, _Delivery] = {}
        self.callers: Final = Callers()
        self._served: Bounded[str, Answered] = Bounded(MOST_SERVED)
        self._unremembered = 0
        self._folded_at = clock()
        self._flushed_at = clock()
        self.failures = 0
        """Flushes that Redis did not take."""

    @property
    def lag(self) -> float:
        """Seconds since Redis last took everything, or since the start."""
        return self._clock() - self._flushed_at

    def began(self, scope: Scope, arm: str, key: str, caller: str = "", share: float = SHARE) -> Ticket:
        """A request was dealt to `arm` by its targeting key (reason `split`); no other is evidence.

        Of `caller` at most a `share` of the arm's evidence is counted.
        """
        self.callers.met(caller)
        return self._delivery(scope).tally.began(arm, key, caller, share)

    def mixed(self, scope: Scope) -> None:
        """Another arm serves a request than the one that its key was dealt to, so it is no evidence for either."""
        self._delivery(scope).tally.mixed()

    def remember(self, request_id: str, answered: Answered) -> None:
        """What served a request, so that feedback on it finds its way."""
        self._unremembered += not self._served.put(request_id, answered)

    async def remember_now(self, request_id: str) -> None:
        """Bring what served a request to Redis without waiting for the next flush. Raises StoreError."""
        answered = self._served.peek(request_id)
        if answered is not None:
            await self._feedback.remember([(request_id, answered)])

    def told(
        self, served: Served, observed: Mapping[Observed, float], caller: str | None = None, share: float = SHARE
    ) -> None:
        """What is said of a request after its end, such as a score of feedback; of a rate in [0, 1].

        Of one caller's sayings at most a `share` counts; who operates wissel, None, is no caller.
        """
        if not served.is_counted:
            return
        if caller is None or self.callers.admits(("told", served.scope, served.arm), caller, share):
            self._delivery(served.scope).tally.told(served, observed)

    async def run(self) -> None:
        """Flush until cancelled, whatever happens."""
        waiting = self._flush_interval
        while True:
            await asyncio.sleep(waiting)
            try:
                await self.flush()
            except StoreError as error:
                self.failures += 1
                waiting = min(2 * waiting, max(LONGEST_BACKOFF, self._flush_interval))
                log.warning("flush_failed", problem=str(error), retry_in=waiting)
            except Exception:
                # A bug here must not end the counting: the next flush writes the same sums.
                self.failures += 1
                log.exception("flush_failed")
            else:
                waiting = self._flush_interval

    async def flush(self) -> None:
        """Bring everything that is known to Redis; raises StoreError with nothing lost."""
        for scope, delivery in list(self._deliveries.items()):
            tally = delivery.tally
            if delivery.is_forgotten:
                log.error("counters_lost", split=scope.split, why="redis was away for days")
                self._deliveries.pop(scope)
                continue
            tally.close()
            await delivery.deliver(self._counters)
            # What comes later for a scope that was let go is counted by another delivery, under another name.
            if tally.is_idle and delivery.is_done and self._clock() - tally.used_at > IDLE_AFTER:
                self._deliveries.pop(scope)
        await self._write_served()
        self._flushed_at = self._clock()
        if self._clock() - self._folded_at >= FOLD_INTERVAL:
            self._folded_at = self._clock()
            for scope in list(self._deliveries):
                await self._counters.fold(scope, every=FOLD_INTERVAL)

    async def close(self, *, within: float = 3.0) -> None:
        """The last flush, after the last request; what Redis does not take within so many seconds is lost, and said."""
        for delivery in self._deliveries.values():
            delivery.tally.close(last=True)
        try:
            async with asyncio.timeout(within):
                await self.flush()
        except (StoreError, TimeoutError) as error:
            log.warning("counters_lost", problem=str(error), scopes=len(self._deliveries))

    def _delivery(self, scope: Scope) -> "_Delivery":
        delivery = self._deliveries.get(scope)
        if delivery is None:
            tally = Tally(scope, self._clock, patience=self._patience, callers=self.callers)
            delivery = self._deliveries[scope] = _Delivery(tally, f"{self._source}.{next(self._numbers)}", self._clock)
        return delivery

    async def _write_served(self) -> None:
        while batch := self._served.oldest(_SERVED_AT_ONCE):
            await self._feedback.remember(batch)
            for request_id, _ in batch:
                self._served.drop(request_id)
        if self._unremembered:
            log.warning("requests_not_remembered", requests=self._unremembered)
            self._unremembered = 0


class _Delivery:
    """How far one tally has come on its way to Redis."""

    def __init__(self, tally: Tally, source: str, clock: Callable[[], float]) -> None:
        self.tally: Final = tally
        self._source = source
        self._clock = clock
        self._pieces: deque[tuple[int, float, Vectors]] = deque()
        """The latest changes: number, when, and what. Those that Redis has too are kept a while: it may lose them."""
        self._upto = 0
        """The number of the latest."""
        self._confirmed = ABSENT
        """Of the latest that Redis has."""
        self._heard_at = -inf
        """When Redis last said so."""
        self._counted: Vectors = {}
        """All that is in pieces so far."""
        self._elsewhere: Vectors = {}
        """Of that, what was counted under an older name, or lost for good."""
        self._keys: list[bytes] = []

    @property
    def is_done(self) -> bool:
        return (self._confirmed == self._upto or not self._upto) and not self._keys

    @property
    def is_forgotten(self) -> bool:
        """Whether Redis may have dropped the entry, so that what it has can no longer be known."""
        return self._confirmed != ABSENT and self._clock() - self._heard_at > FORGOTTEN_AFTER / 2

    async def deliver(self, counters: Counters) -> None:
        """Write what changed; without a change, ask now and then whether what was written is still there."""
        self._take()
        is_silent = self._clock() - self._heard_at >= SIGN_OF_LIFE
        if self._upto and (self._confirmed != self._upto or is_silent):
            await self._write(counters)
        self._keys += self.tally.fresh_keys()
        if self._keys:
            keys = self._keys[:]
            await counters.meet(self.tally.scope, [(self.tally.met[key], key) for key in keys])
            del self._keys[: len(keys)]

    def _take(self) -> None:
        """Make a piece of what the tally counted since the last one."""
        now = self.tally.vectors(self.tally.changed())
        piece = difference(now, self._counted)
        if piece:
            self._upto += 1
            self._pieces.append((self._upto, self._clock(), piece))
            self._counted |= now

    async def _write(self, counters: Counters) -> None:
        for _ in range(_ATTEMPTS):
            known = await counters.write(
                self.tally.scope,
                self._source,
                self._since(self._confirmed),
                since=self._confirmed,
                upto=self._upto,
                still_open=_open(self._counted),
            )
            if known == self._upto:
                self._confirmed, self._heard_at = known, self._clock()
                while self._pieces and self._pieces[0][1] < self._heard_at - KEPT_SECONDS:
                    self._pieces.popleft()
                return
            await self._agree(counters, known)

    async def _agree(self, counters: Counters, known: int) -> None:
        """Go on from the piece that Redis has."""
        oldest = self._pieces[0][0] - 1 if self._pieces else self._upto
        if known > self._confirmed:
            # Only the answer was lost.
            self._confirmed = known
            return
        log.warning("redis_lost_writes", split=self.tally.scope.split, source=self._source, known=known)
        # What Redis has lost of the numbers it has lost of the keys too.
        self._keys = list(self.tally.met)
        if known != ABSENT and known < oldest:
            # It has come back as it was long ago: what lies between is not kept by anybody.
            log.error("counters_lost", split=self.tally.scope.split, source=self._source, pieces=oldest - known)
            # The old name has nothing open any more: what is, the new one has.
            await counters.write(self.tally.scope, self._source, {}, since=known, upto=known)
            self._elsewhere = difference(self._counted, merged(what for _, _, what in self._pieces))
            self._source += "'"
            self._confirmed = ABSENT
        else:
            self._confirmed = known

    def _since(self, confirmed: int) -> Vectors:
        if confirmed == ABSENT:
            return difference(self._counted, self._elsewhere)
        return merged(what for number, _, what in self._pieces if number > confirmed)


def _open(counted: Vectors) -> Vectors:
    """What is known beyond what is closed, by `ARM/VECTOR`."""
    known = {name.partition("/")[2]: vector for name, vector in counted.items() if name.startswith(f"{KNOWN}/")}
    closed = {name.partition("/")[2]: vector for name, vector in counted.items() if name.startswith(f"{CLOSED}/")}
    # These are read of what is known anyway, or belong to no arm.
    never_closed = ("/begun", "/gone", f"/{MIXED}")
    return {name: rest for name, rest in difference(known, closed).items() if not name.endswith(never_closed)}
