"""Every replica's cumulative counters in Redis, and their sum.

A source is one life of one replica. It writes absolute values under a growing
sequence number, so a write that is repeated, late or out of order changes
nothing, and the number that Redis has tells the source what Redis has lost.

A source that is gone is folded: its sums are added to the total in one script
and its entry says so. Its own numbers stay where they are. Should it turn out
to be alive after all, its next write first takes them out of the total again:
so nothing is ever counted twice, nor missing in between.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Literal

from wissel.errors import StoreError
from wissel.store.base import Scope, Tallied
from wissel.store.connection import RedisConnection, Script, Word
from wissel.store.keys import COUNTERS_TTL, Keys
from wissel.store.sums import Vectors, arm_of, merge, vector_of
from wissel.store.tally import CLOSED, KNOWN, MIXED, MOST_KEYS, NO_ARM

Written = Literal["written", "behind", "forgotten"]
"""`behind`: Redis lacks writes that it had confirmed, so everything must be sent again. `forgotten`: the source was
folded so long ago that its own numbers are gone; it must go on as another one."""

GONE_AFTER: Final = 60.0
"""Seconds without a sign of life after which a source is folded."""

FOLDED: Final = "folded"

_AT_ONCE: Final = ("/begun", "/gone", "/served", "/failed")
"""How the names end that are read of everything known, also where the rest is of closed windows."""

_MIXED_FIELD: Final = f"{KNOWN}/{NO_ARM}/{MIXED}"

_KEYS_AT_ONCE: Final = 2_000
_ATTEMPTS: Final = 5

# Vectors are `index:number index:number`. %.17g gives back every double, and integers.
_ADD: Final = """
local function add(total, source, sign)
  local flat = redis.call('HGETALL', source)
  for i = 1, #flat, 2 do
    local kind, name = string.match(flat[i], '^(k)/(.*)$')
    if kind then
      local sums, order = {}, {}
      local function take(text, sign)
        for index, number in string.gmatch(text, '(%d+):(%S+)') do
          if not sums[index] then
            sums[index] = 0
            order[#order + 1] = index
          end
          sums[index] = sums[index] + sign * tonumber(number)
        end
      end
      take(redis.call('HGET', total, name) or '', 1)
      take(flat[i + 1], sign)
      local parts = {}
      for _, index in ipairs(order) do
        if sums[index] ~= 0 then
          parts[#parts + 1] = index .. ':' .. string.format('%.17g', sums[index])
        end
      end
      redis.call('HSET', total, name, table.concat(parts, ' '))
    end
  end
end
local function now()
  local time = redis.call('TIME')
  return tonumber(time[1]) + tonumber(time[2]) / 1000000
end
"""

# KEYS: sources, total, source. ARGV: name, sequence, the confirmed sequence or -1 if this is everything, TTL, fields.
_WRITE: Final = Script(
    _ADD
    + """
local known = redis.call('HGET', KEYS[1], ARGV[1])
local stored = redis.call('HGET', KEYS[3], 'sequence')
if known == 'folded' then
  if not stored then return 'forgotten' end
  add(KEYS[2], KEYS[3], -1)
end
redis.call('HSET', KEYS[1], ARGV[1], string.format('%.6f', now()))
local answer = 'written'
stored = tonumber(stored or '-1')
if stored < tonumber(ARGV[3]) then
  answer = 'behind'
elseif stored < tonumber(ARGV[2]) then
  redis.call('HSET', KEYS[3], 'sequence', ARGV[2])
  for i = 5, #ARGV, 2 do redis.call('HSET', KEYS[3], ARGV[i], ARGV[i + 1]) end
end
for i = 1, 3 do redis.call('EXPIRE', KEYS[i], ARGV[4]) end
return answer
"""
)

# KEYS: sources, total, source. ARGV: name, seconds, TTL.
_FOLD: Final = Script(
    _ADD
    + """
local known = redis.call('HGET', KEYS[1], ARGV[1])
if not known or known == 'folded' or now() - tonumber(known) < tonumber(ARGV[2]) then return 0 end
add(KEYS[2], KEYS[3], 1)
redis.call('HSET', KEYS[1], ARGV[1], 'folded')
redis.call('EXPIRE', KEYS[2], ARGV[3])
return 1
"""
)

# KEYS: keys, met. ARGV: most, TTL, then arm and hash in turns.
_MEET: Final = Script("""
if redis.call('SCARD', KEYS[1]) < tonumber(ARGV[1]) then
  for i = 3, #ARGV, 2 do
    if redis.call('SADD', KEYS[1], ARGV[i + 1]) == 1 then redis.call('HINCRBY', KEYS[2], ARGV[i], 1) end
  end
end
for i = 1, 2 do redis.call('EXPIRE', KEYS[i], ARGV[2]) end
""")


class Counters:
    """The counters of one configuration namespace. Every method raises StoreError while Redis is away."""

    def __init__(self, connection: RedisConnection, keys: Keys, *, gone_after: float = GONE_AFTER) -> None:
        self._connection = connection
        self._keys = keys
        self._gone_after = gone_after

    async def write(
        self, scope: Scope, source: str, sequence: int, fields: Mapping[str, str], *, confirmed: int | None
    ) -> Written:
        """Write fields, which change what is there since the `confirmed` write; None if they are all there are.

        With the sequence confirmed already this is a sign of life, and asks whether Redis still has everything.
        """
        keys = self._keys.scope(scope)
        pairs: list[Word] = [word for pair in fields.items() for word in pair]
        since = -1 if confirmed is None else confirmed
        arguments: list[Word] = [source, sequence, since, COUNTERS_TTL, *pairs]
        return await self._connection.call(_WRITE, [keys.sources, keys.total, keys.source(source)], arguments)

    async def meet(self, scope: Scope, met: Sequence[tuple[str, bytes]]) -> None:
        """Count distinct keys, by (arm, hash); each once, however often and by whomever it is sent."""
        keys = self._keys.scope(scope)
        for at in range(0, len(met), _KEYS_AT_ONCE):
            pairs = [word for pair in met[at : at + _KEYS_AT_ONCE] for word in pair]
            await self._connection.call(_MEET, [keys.keys, keys.met], [MOST_KEYS, COUNTERS_TTL, *pairs])

    async def fold(self, scope: Scope) -> int:
        """Add the sources that are gone to the total; how many were."""
        keys = self._keys.scope(scope)
        sources = _alive(await self._connection.run("HGETALL", keys.sources))
        folded = 0
        for source in sources:
            names = [keys.sources, keys.total, keys.source(source)]
            folded += await self._connection.call(_FOLD, names, [source, self._gone_after, COUNTERS_TTL])
        return folded

    async def read(self, scope: Scope, *, closed: bool = True) -> Tallied:
        """The sums over all replicas: of closed windows, which is evidence, or of all that is known so far."""
        keys = self._keys.scope(scope)
        asked = _alive(await self._connection.run("HGETALL", keys.sources))
        for _ in range(_ATTEMPTS):
            commands = [("HGETALL", name) for name in (keys.sources, keys.total, keys.met)]
            commands += [("HGETALL", keys.source(source)) for source in asked]
            sources, total, met, *replies = await self._connection.run_all(commands, atomic=True)
            counted = dict(zip(asked, replies, strict=True))
            asked = _alive(sources)
            # Those that were folded in between are in the total; one that came must be asked too.
            if counted.keys() >= set(asked):
                return await _tallied(total, met, [counted[source] for source in asked], CLOSED if closed else KNOWN)
        raise StoreError(f'redis: the sources of "{scope.split}" come faster than they can be read')


def _alive(sources: Mapping[str, str]) -> list[str]:
    return sorted(source for source, heard in sources.items() if heard != FOLDED)


async def _tallied(
    total: Mapping[str, str], met: Mapping[str, str], sources: Iterable[Mapping[str, str]], kind: str
) -> Tallied:
    sums: Vectors = {}
    known: Vectors = {}

    def add(name: str, text: str, *, is_asked: bool, is_known: bool) -> None:
        for vectors, wanted in ((sums, is_asked), (known, is_known and name.endswith(_AT_ONCE))):
            if wanted:
                merge(vectors.setdefault(name, {}), vector_of(text))

    try:
        for name, text in total.items():
            add(name, text, is_asked=True, is_known=True)
        for source in sources:
            for field, text in source.items():
                its_kind, _, name = field.partition("/")
                add(name, text, is_asked=its_kind == kind or field == _MIXED_FIELD, is_known=its_kind == KNOWN)
            await asyncio.sleep(0)  # a busy source takes over a millisecond, and requests wait
    except ValueError as error:
        raise StoreError(f"redis: counters cannot be read: {error}") from error
    arms, at_once = _by_arm(sums), _by_arm(known)
    mixed = arms.pop(NO_ARM, {}).get(MIXED, {}).get(0, 0)
    names = {**arms, **at_once, **met}
    return Tallied(
        {arm: arm_of(arms.get(arm, {}), int(met.get(arm, 0)), at_once.get(arm)) for arm in names}, int(mixed)
    )


def _by_arm(sums: Vectors) -> dict[str, Vectors]:
    arms: dict[str, Vectors] = {}
    for name, vector in sums.items():
        arm, _, what = name.rpartition("/")
        arms.setdefault(arm, {})[what] = vector
    return arms
