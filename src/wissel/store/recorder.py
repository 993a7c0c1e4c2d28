"""What requests came to is counted in memory, and brought to Redis beside the request path.

A request costs a few microseconds and never waits: tallies count, and one task
writes them every `flush_interval`. While Redis is away they go on counting,
and later write the same cumulative numbers; if Redis came back without some of
what it had confirmed, everything is sent again. SIGKILL of this process loses
what came since the last flush, no more.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from time import perf_counter
from typing import Final

import structlog

from wissel.core.rollouts.callers import SHARE, Callers
from wissel.core.rollouts.measures import Observed
from wissel.errors import StoreError
from wissel.runtime.bounded import Bounded
from wissel.store.base import Answered, Scope, Served
from wissel.store.counters import Counters
from wissel.store.feedback import FeedbackStore
from wissel.store.tally import PATIENCE, Part, Tally, Ticket

log = structlog.get_logger(__name__)

FLUSH_INTERVAL: Final = 1.0

LONGEST_BACKOFF: Final = 5.0
"""Seconds between two tries at most, while Redis is away."""

FOLD_INTERVAL: Final = 30.0

IDLE_AFTER: Final = 600.0
"""Seconds without a request after which a scope is no longer held in memory."""

MOST_SERVED: Final = 100_000
"""Requests that wait to be remembered; beyond that the oldest cannot be given feedback."""

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
                await self._counters.fold(scope)

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
            delivery = self._deliveries[scope] = _Delivery(tally, f"{self._source}.{next(self._numbers)}")
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

    def __init__(self, tally: Tally, source: str) -> None:
        self.tally: Final = tally
        self._source = source
        self._sequence = 0
        """Of the latest write that was tried."""
        self._confirmed: int | None = None
        """Of the latest that Redis has; None if it is not known to have any."""
        self._parts: set[Part] = set()
        """What changed since that."""
        self._keys: list[bytes] = []

    @property
    def is_done(self) -> bool:
        return not self._parts and not self._keys

    async def deliver(self, counters: Counters) -> None:
        """Write what changed; without a change, ask whether what was written is still there."""
        await self._write(counters)
        self._keys += self.tally.fresh_keys()
        if self._keys:
            keys = self._keys[:]
            await counters.meet(self.tally.scope, self._arms_of(keys))
            del self._keys[: len(keys)]

    async def _write(self, counters: Counters) -> None:
        tally = self.tally
        self._parts |= tally.changed()
        if not self._parts and self._confirmed is None:
            return
        sending = self._parts
        if sending:
            self._sequence += 1
        self._parts = set()
        try:
            fields = tally.fields(sending)
            answer = await counters.write(tally.scope, self._source, self._sequence, fields, confirmed=self._confirmed)
        except BaseException:
            self._parts |= sending
            raise
        match answer:
            case "written":
                self._confirmed = self._sequence
            case "behind":
                log.warning("redis_lost_writes", split=tally.scope.split, source=self._source)
                self._confirmed = None
                self._parts = tally.everything()
                self._keys = list(tally.met)
                await self._write(counters)
            case "forgotten":
                log.warning("counters_forgotten", split=tally.scope.split, source=self._source)
                tally.restart()
                self._source += "'"
                self._sequence, self._confirmed = 0, None

    def _arms_of(self, keys: Sequence[bytes]) -> list[tuple[str, bytes]]:
        return [(self.tally.met[key], key) for key in keys]
