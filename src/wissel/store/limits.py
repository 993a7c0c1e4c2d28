"""Limits that hold over all replicas: the meters of `core.limits`, kept in Redis.

One script draws all charges or none, by the server's clock; the same script
settles. A request waits for one round trip and never longer than the deadline.
A charge that was refused is refused here for as long as it cannot fit, up to a
second, so a caller that hammers does not reach Redis.

While Redis is away one request in `RETRY_SECONDS` finds out whether it is back,
and the others do at once what `on_store_failure` says. Settlements wait until
it is; what a crashed replica had estimated stands.
"""

import asyncio
import secrets
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from time import monotonic, time
from typing import Final, Literal

import structlog

from wissel.core.limits import (
    LEASE_US,
    RETRY_CONCURRENT_US,
    Charge,
    Drawn,
    Exceeded,
    MeterReading,
    Meters,
    Unchecked,
    Used,
    draw,
    is_spent,
    settle,
    settlement,
    spared,
)
from wissel.core.snapshot import OnStoreFailure
from wissel.errors import StoreError
from wissel.store.batch import Batch
from wissel.store.connection import RedisConnection, Script, connected
from wissel.store.health import RedisHealth, UnwellError
from wissel.store.keys import Keys

log = structlog.get_logger(__name__)

DEADLINE: Final = 0.1
"""Seconds that a request waits for its limits."""

FAILURES_TO_LOSE: Final = 3
"""Draws in a row that fail until Redis counts as lost; one late answer is that request's own affair."""

RETRY_SECONDS: Final = 1.0
"""Between two questions whether a lost Redis is back."""

HOT_SECONDS: Final = 1.0
"""For how long at most a refusal is given without asking: others may put back what they had reserved."""

CENSUS_SECONDS: Final = 5.0
"""Between two times that a replica is counted."""

MOST_HOT: Final = 10_000
MOST_METERS: Final = 100_000
"""Meters that a process without Redis keeps; beyond that those that are full again are forgotten."""
MOST_UNSETTLED: Final = 50_000
"""Settlements that wait for Redis; beyond that the oldest estimates stand."""

DOUBT_SECONDS: Final = 60.0
"""For which a settlement that Redis has confirmed is kept: where a failover loses it, its place would stay taken."""

_BATCH: Final = 64
"""Settlements that travel together: as many as a busy second needs, and no more than Redis does in a millisecond."""

# KEYS: one for each charge; with a draw, last the replicas; with a settlement, last its mark.
# ARGV: one text, since a client pays for each argument; its words are draw or settle, id, microseconds of a lease,
#       of a draw the replica (or -), of a settlement when it was drawn,
#       and for each charge: kind, amount, microseconds of its period, cost.
# A bucket's units are period microseconds of debt that melt by `amount` a microsecond: whole numbers, as in core.
# A Redis that is full, read-only or lacks a right refuses a script's first write that could need room, and none after
# one that was made. So a draw reads everything first, and its first write is one that can be refused: all or nothing.
# A settlement begins with a write that frees, which a full Redis takes, and the rest with it. The census alone is tried
# without caring: it keeps no draw from being refused or made.
SCRIPT: Final = Script(
    """
local words = {}
for word in string.gmatch(ARGV[1], '%S+') do words[#words + 1] = word end
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local drawing, id, lease = words[1] == 'draw', words[2], tonumber(words[3])
local count = #KEYS - 1
local answer = {now, 0}
if drawing then
  if words[4] ~= '-' then
    if type(redis.pcall('ZADD', KEYS[#KEYS], now, words[4])) == 'number' then
      redis.call('ZREMRANGEBYSCORE', KEYS[#KEYS], '-inf', now - 15000000)
      redis.call('PEXPIRE', KEYS[#KEYS], 60000)
    end
    answer[2] = redis.call('ZCARD', KEYS[#KEYS])
  end
elseif redis.call('EXISTS', KEYS[#KEYS]) == 1 then
  return answer
end
local fits, after = true, {}
for i = 1, count do
  local key, at = KEYS[i], i * 4 + 1
  local kind, amount = words[at], tonumber(words[at + 1])
  local period, cost = tonumber(words[at + 2]), tonumber(words[at + 3])
  local free, reset, retry = 0, 0, 0
  if kind == 'concurrent' then
    free = amount - redis.call('ZCOUNT', key, '(' .. string.format('%.0f', now), '+inf')
    if free < cost then retry = RETRY_CONCURRENT end
  else
    local value, since = 0, now
    local stored = redis.call('GET', key)
    if stored then
      local split = string.find(stored, ' ', 1, true)
      value, since = tonumber(string.sub(stored, 1, split - 1)), tonumber(string.sub(stored, split + 1))
    end
    if kind == 'usd' then
      local number = math.floor(now / period)
      if not stored or since ~= number then value = 0 end
      local left = period - now % period
      free = amount - value
      if value > 0 then reset = left end
      if value + cost > amount or value >= amount then retry = left end
      if drawing or cost > 0 or math.floor(tonumber(words[4]) / period) == number then
        after[i] = {math.max(0, value + cost), number, left}
      end
    else
      value = math.max(0, value - math.max(0, now - since) * amount)
      local room = amount * period - value
      free = math.floor(math.max(0, room) / period)
      reset = math.ceil(value / amount)
      if cost * period > room then retry = math.ceil((cost * period - room) / amount) end
      local debt = math.max(0, value + cost * period)
      after[i] = {debt, now, debt / amount}
    end
  end
  if retry > 0 then fits = false end
  answer[i * 3], answer[i * 3 + 1], answer[i * 3 + 2] = math.max(0, free), reset, retry
end
if drawing and not fits then return answer end
if not drawing then
  for i = 1, count do
    if words[i * 4 + 1] == 'concurrent' then redis.call('ZREM', KEYS[i], id) end
  end
  redis.call('DEL', KEYS[#KEYS])
  redis.call('SET', KEYS[#KEYS], '1', 'PX', MARK_MS)
end
for i = 1, count do
  if words[i * 4 + 1] ~= 'concurrent' then
    local to = after[i]
    if to then
      redis.call('SET', KEYS[i], string.format('%.0f %.0f', to[1], to[2]), 'PX', math.ceil(to[3] / 1000) + 1000)
    end
  elseif drawing then
    redis.call('ZADD', KEYS[i], now + lease, id)
    redis.call('ZREMRANGEBYSCORE', KEYS[i], '-inf', now)
    redis.call('PEXPIRE', KEYS[i], math.ceil(lease / 1000) + 1000)
  end
end
return answer
""".replace("RETRY_CONCURRENT", str(RETRY_CONCURRENT_US)).replace("MARK_MS", str(round(2000 * DOUBT_SECONDS)))
)


def spelled(
    verb: Literal["draw", "settle"], drawn_id: str, who_or_when: str, charges: Sequence[Charge], costs: Sequence[int]
) -> str:
    """The script's one argument."""
    each = [f"{one.kind} {one.amount} {one.period_us} {cost}" for one, cost in zip(charges, costs, strict=True)]
    return " ".join([verb, drawn_id, str(LEASE_US), who_or_when, *each])


@dataclass(frozen=True, slots=True)
class _Refused:
    """A charge that did not fit, and until when that is certain."""

    cost: int
    until: float
    """When Redis is asked again."""
    retry: float
    """When it may fit."""
    reset: float
    free: int


class Limiter:
    """The limits as one replica meets them; without a connection its own meters are all there are."""

    def __init__(
        self,
        connection: RedisConnection | None,
        keys: Keys,
        replica: str,
        *,
        clock: Callable[[], float] = monotonic,
        wall: Callable[[], float] = time,
        retry: float = RETRY_SECONDS,
    ) -> None:
        self._batch = Batch(connection, SCRIPT, deadline=DEADLINE) if connection else None
        # On their way by themselves: nobody waits for a settlement, and no draw should wait behind one.
        self._settling = Batch(connection, SCRIPT, deadline=DEADLINE) if connection else None
        self._keys = keys
        self._replica = replica
        self._clock = clock
        self._wall = wall
        self._retry = retry
        self._hot: dict[tuple[str, ...], _Refused] = {}
        self._meters: Meters = {}
        self._last_charge: dict[tuple[str, ...], Charge] = {}
        self._forget_beyond = MOST_METERS
        self._unsettled: deque[tuple[Drawn, Used | None]] = deque(maxlen=MOST_UNSETTLED)
        self._connection = connection
        self._settled: deque[tuple[float, Drawn, Used | None]] = deque(maxlen=MOST_UNSETTLED)
        """Those that Redis has confirmed lately."""
        self._breaks = 0
        """Of the connection, after which those were sent again."""
        self._woken = asyncio.Event()
        self._failures = 0
        self._retry_at = 0.0
        self._census_at = 0.0
        self.replicas = 1
        """How many were there when Redis last answered."""
        self.is_lost = False

    async def draw(
        self, charges: tuple[Charge, ...], *, otherwise: OnStoreFailure
    ) -> Drawn | Exceeded | Unchecked | None:
        """Draw all charges or none; None where nothing was drawn and the request may go on all the same."""
        if self._batch is None:
            return self._draw_here(charges)
        if (hot := self._known_to_exceed(charges)) is not None:
            return hot
        if not self.is_lost or self._clock() >= self._retry_at:
            try:
                # One request asks; should Redis be away, the others must not wait for that too.
                self._retry_at = self._clock() + self._retry
                return await self._draw_there(self._batch, charges)
            except StoreError as error:
                self._failures += 1
                if not self.is_lost and self._failures >= FAILURES_TO_LOSE:
                    log.warning("limits_without_store", error=str(error), otherwise=otherwise)
                    self.is_lost = True
        match otherwise:
            case "local":
                return self._draw_here(tuple(spared(charge, self.replicas) for charge in charges))
            case "permit":
                return None
            case "forbid":
                return Unchecked()

    def settle(self, drawn: Drawn, used: Used | None) -> None:
        """Put right what was estimated, soon; `used` is None for a request that never went on."""
        for charge in drawn.charges:
            self._hot.pop(charge.key, None)
        if drawn.is_local:
            settle(self._meters, drawn, used, now_us=self._now_us())
        elif used is None or any(charge.kind == "concurrent" or settlement(charge, used) for charge in drawn.charges):
            self._unsettled.append((drawn, used))
            self._woken.set()

    async def run(self) -> None:
        """Bring settlements to Redis, for ever."""
        while True:
            try:
                async with asyncio.timeout(self._retry):
                    await self._woken.wait()
            except TimeoutError:
                await self._look()
            self._doubt()
            if not await self.flush():
                await asyncio.sleep(self._retry)

    async def close(self) -> None:
        """Settle what can be settled, and stop."""
        await self.flush()
        for batch in (self._batch, self._settling):
            if batch is not None:
                await batch.close()

    async def _look(self) -> None:
        """With nobody asking, find out whether Redis has moved since it confirmed what it may have lost by that."""
        if self._settled and self._connection is not None:
            with suppress(StoreError):
                await self._connection.run("EXISTS", self._keys.replicas)

    def _doubt(self) -> None:
        """After Redis failed or moved, settle again what it may have lost; what it has left its mark."""
        breaks = self._connection.breaks if self._connection else 0
        now = self._clock()
        while self._settled and now - self._settled[0][0] > DOUBT_SECONDS:
            self._settled.popleft()
        if breaks != self._breaks:
            self._breaks = breaks
            self._unsettled.extend((drawn, used) for _, drawn, used in self._settled)
            self._settled.clear()

    async def flush(self) -> bool:
        """Settle what waits; False if Redis is away."""
        self._woken.clear()
        while self._unsettled and self._batch is not None and self._settling is not None:
            batch = [self._unsettled.popleft() for _ in range(min(_BATCH, len(self._unsettled)))]
            # What nobody knows to be drawn goes the way of the draws: it must not overtake its own.
            ways = [self._settling if drawn.at_us else self._batch for drawn, _ in batch]
            settling = (self._settle_there(way, *each) for way, each in zip(ways, batch, strict=True))
            failed = [
                each
                for each, problem in zip(batch, await asyncio.gather(*settling), strict=True)
                if problem is not None and not self._is_in_vain(problem)
            ]
            if failed:
                # One that did arrive left its mark, so each may be sent again.
                self._unsettled.extendleft(reversed(failed))
                self._woken.set()
                return False
        return True

    async def _draw_there(self, batch: Batch, charges: tuple[Charge, ...]) -> Drawn | Exceeded:
        drawn_id = secrets.token_hex(12)
        now = self._clock()
        is_counted = now >= self._census_at
        names = [*(self._keys.meter(charge.key) for charge in charges), self._keys.replicas]
        asked = spelled(
            "draw", drawn_id, self._replica if is_counted else "-", charges, [each.cost for each in charges]
        )
        try:
            answer: list[int] = await batch.call(names, [asked])
        except (UnwellError, asyncio.CancelledError) as error:
            # Also where the caller left meanwhile: what may have been drawn for it, all or a part, goes back.
            if not isinstance(error, UnwellError) or error.state in {"away", "noperm"}:
                self._free_places(charges, drawn_id)
            raise
        if is_counted:
            self.replicas = max(1, answer[1])
            self._census_at = now + CENSUS_SECONDS
        readings = tuple(MeterReading(*answer[at : at + 3]) for at in range(2, len(answer), 3))
        if not any(reading.retry_us for reading in readings):
            # Only a draw that was made shows that Redis takes changes.
            if self.is_lost:
                log.info("limits_with_store_again")
            self.is_lost, self._failures = False, 0
            return Drawn(charges, drawn_id, answer[0])
        exceeded = Exceeded(charges, readings)
        self._remember(exceeded)
        return exceeded

    async def _settle_there(self, batch: Batch, drawn: Drawn, used: Used | None) -> UnwellError | None:
        """What kept it from being settled."""
        names = [*(self._keys.meter(charge.key) for charge in drawn.charges), self._keys.settled(drawn.id)]
        owed = [settlement(charge, used) for charge in drawn.charges]
        try:
            await batch.call(names, [spelled("settle", drawn.id, str(drawn.at_us), drawn.charges, owed)])
        except UnwellError as error:
            return error
        self._settled.append((self._clock(), drawn, used))
        return None

    @staticmethod
    def _is_in_vain(problem: UnwellError) -> bool:
        """Whether it will be refused however often it is tried, and must keep no other waiting."""
        if problem.state == "refused":
            log.warning("limits_not_settled", error=str(problem))
            return True
        return False

    def _free_places(self, charges: tuple[Charge, ...], drawn_id: str) -> None:
        """Nobody knows whether a draw without an answer was made; a place can be freed without knowing."""
        places = tuple(charge for charge in charges if charge.kind == "concurrent")
        if places:
            self._unsettled.append((Drawn(places, drawn_id, 0), None))
            self._woken.set()

    def _known_to_exceed(self, charges: tuple[Charge, ...]) -> Exceeded | None:
        now = self._clock()
        found: list[tuple[Charge, MeterReading]] = []
        for charge in charges:
            known = self._hot.get(charge.key)
            if known is None or charge.cost < known.cost:
                continue
            if known.until <= now:
                del self._hot[charge.key]
                continue
            wait, reset = (max(1, round((then - now) * 1_000_000)) for then in (known.retry, known.reset))
            found.append((charge, MeterReading(known.free, max(wait, reset), wait)))
        if not found:
            return None
        hot_charges, readings = zip(*found, strict=True)
        return Exceeded(hot_charges, readings)

    def _remember(self, exceeded: Exceeded) -> None:
        now = self._clock()
        if len(self._hot) >= MOST_HOT:
            self._hot = {key: known for key, known in self._hot.items() if known.until > now}
        for charge, reading in zip(exceeded.charges, exceeded.readings, strict=True):
            if reading.retry_us and charge.kind != "concurrent" and len(self._hot) < MOST_HOT:
                retry = now + reading.retry_us / 1_000_000
                reset = now + reading.reset_us / 1_000_000
                until = min(retry, now + HOT_SECONDS)
                self._hot[charge.key] = _Refused(charge.cost, until, retry, reset, reading.free)

    def _draw_here(self, charges: tuple[Charge, ...]) -> Drawn | Exceeded:
        now_us = self._now_us()
        found = draw(self._meters, charges, id=secrets.token_hex(12), now_us=now_us)
        if isinstance(found, Exceeded):
            return found
        self._last_charge.update((charge.key, charge) for charge in charges)
        if len(self._meters) > self._forget_beyond:
            self._forget(now_us)
        return replace(found, is_local=True)

    def _forget(self, now_us: int) -> None:
        """Drop meters that are full again; the work for it is spread over as many draws as there are meters."""
        for key, charge in list(self._last_charge.items()):
            if is_spent(self._meters[key], charge, now_us):
                del self._meters[key], self._last_charge[key]
        self._forget_beyond = max(MOST_METERS, 2 * len(self._meters))

    def _now_us(self) -> int:
        return int(self._wall() * 1_000_000)


@asynccontextmanager
async def running_limiter(
    url: str | None, keys: Keys, replica: str, health: RedisHealth | None = None
) -> AsyncGenerator[Limiter]:
    """A limiter with its own connections to the Redis at `url`. Raises StoreError for what cannot be a URL."""
    async with AsyncExitStack() as stack:
        connection = await stack.enter_async_context(connected(url, deadline=DEADLINE, health=health))
        limiter = Limiter(connection, keys, replica)
        stack.push_async_callback(limiter.close)
        settling = asyncio.create_task(limiter.run())
        stack.callback(settling.cancel)
        yield limiter
