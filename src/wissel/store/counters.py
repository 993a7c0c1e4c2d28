"""What all replicas counted, as one sum in Redis that every write adds to.

A source is one life of one replica. It numbers what it counts in pieces, and a
write brings all pieces since the one that it knows Redis to have. The script
takes them only if that is so, and answers with what Redis has: a write that is
repeated or late changes nothing, and one that was lost, here or there, is seen
and sent again. So a look reads one sum, however many replicas there are.

What a source knows and has not closed yet is kept beside the sum, as one text:
only how much was begun and served is summed of it too, which every look reads. A
source that is gone is folded: its text is added, in one script, and its entry
says so. Should it turn out to be alive after all, its next write first takes it
out again.

A write costs Redis a step for each number in it, so numbers that are equal are
one: `c/ARM/error,latency.n/17` counts for both. Mostly all that is observed of
requests was observed of each of them.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final

from wissel.errors import StoreError
from wissel.store.base import Scope, Tallied
from wissel.store.connection import RedisConnection, Script, Word
from wissel.store.keys import COUNTERS_TTL, Keys
from wissel.store.sums import Vectors, arm_of, number_of
from wissel.store.tally import CLOSED, MIXED, MOST_KEYS, NO_ARM

ABSENT: Final = -1
"""The piece that Redis has of a source that it has never heard of."""

GONE_AFTER: Final = 60.0
"""Seconds without a sign of life after which a source is folded."""

FORGOTTEN_AFTER: Final = COUNTERS_TTL
"""Seconds after which the entry of a source that was folded is dropped; what it counted stays in the sum."""

FOLDED: Final = "folded"

_AT_ONCE: Final = ("begun", "gone", "served", "failed")
"""The vectors that are read of everything known, also where the rest is of closed windows."""

_COUNT: Final = ".n"

_KEYS_AT_ONCE: Final = 2_000
_FIELDS_AT_ONCE: Final = 1_000
"""Between two chances for requests that wait."""

# Redis adds integers itself. %.17g gives back every double.
_CHANGE: Final = """
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
local function change(field, amount)
  if string.find(field, '%.[tq]/%d+$') then
    local sum = tonumber(redis.call('HGET', KEYS[2], field) or '0') + tonumber(amount)
    redis.call('HSET', KEYS[2], field, string.format('%.17g', sum))
  else
    redis.call('HINCRBY', KEYS[2], field, amount)
  end
end
local function open(text, sign)
  for field, amount in string.gmatch(text or '', '(%S+) (%S+)') do
    if sign < 0 then amount = string.sub(amount, 1, 1) == '-' and string.sub(amount, 2) or '-' .. amount end
    change('c/' .. field, amount)
  end
end
local held = redis.call('HGET', KEYS[1], ARGV[1])
local known, heard, folded = string.match(held or '', '^(%S+) (%S+) ?(%S*)$')
known, folded = tonumber(known or '-1'), folded == 'folded'
"""

# KEYS: sources, counts, open. ARGV: source, the piece that Redis has, the last one of these, TTL, what is open, then
# field and amount in turns. Where one of sources and counts was evicted, what the other says is worth nothing.
_WRITE: Final = Script(
    _CHANGE
    + """
if redis.call('EXISTS', KEYS[1]) ~= redis.call('EXISTS', KEYS[2]) then
  redis.call('DEL', KEYS[1], KEYS[2], KEYS[3])
  known, folded = -1, false
end
if known ~= tonumber(ARGV[2]) then return known end
if folded then open(redis.call('HGET', KEYS[3], ARGV[1]), -1) end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3] .. string.format(' %.3f', now))
redis.call('HSET', KEYS[2], 'heard', string.format('%.3f', now))
if ARGV[5] == '' then
  redis.call('HDEL', KEYS[3], ARGV[1])
else
  redis.call('HSET', KEYS[3], ARGV[1], ARGV[5])
end
for i = 6, #ARGV, 2 do change(ARGV[i], ARGV[i + 1]) end
for i = 1, 3 do redis.call('EXPIRE', KEYS[i], ARGV[4]) end
return tonumber(ARGV[3])
"""
)

# KEYS: sources, counts, open. ARGV: source, seconds until it is folded, seconds until it is forgotten.
_FOLD: Final = Script(
    _CHANGE
    + """
if not held then return 0 end
local silent = now - tonumber(heard)
if folded then
  if silent > tonumber(ARGV[3]) then
    redis.call('HDEL', KEYS[1], ARGV[1])
    redis.call('HDEL', KEYS[3], ARGV[1])
  end
  return 0
end
if silent < tonumber(ARGV[2]) then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], held .. ' folded')
open(redis.call('HGET', KEYS[3], ARGV[1]), 1)
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
        self, scope: Scope, source: str, pieces: Vectors, *, since: int, upto: int, still_open: Vectors | None = None
    ) -> int:
        """Add the pieces after `since` up to `upto`, summed: the last piece that Redis has of the source then.

        `upto` if they were added, now or before; anything else says that Redis does not have `since`, and nothing was
        added. Without pieces this is a sign of life, and asks whether Redis still has everything. `still_open` is what
        the source knows beyond what it has closed, by `ARM/VECTOR`.
        """
        keys = self._keys.scope(scope)
        words = " ".join(f"{field} {amount}" for field, amount in _fields(still_open or {}))
        arguments: list[Word] = [source, since, upto, COUNTERS_TTL, words]
        summed = {name: vector for name, vector in pieces.items() if _is_summed(name)}
        arguments += [word for pair in _fields(summed) for word in pair]
        return await self._connection.call(_WRITE, [keys.sources, keys.counts, keys.open], arguments)

    async def meet(self, scope: Scope, met: Sequence[tuple[str, bytes]]) -> None:
        """Count distinct keys, by (arm, hash); each once, however often and by whomever it is sent."""
        keys = self._keys.scope(scope)
        for at in range(0, len(met), _KEYS_AT_ONCE):
            pairs = [word for pair in met[at : at + _KEYS_AT_ONCE] for word in pair]
            await self._connection.call(_MEET, [keys.keys, keys.met], [MOST_KEYS, COUNTERS_TTL, *pairs])

    async def fold(self, scope: Scope, *, every: float = 0.0) -> int:
        """Take what sources that are gone had not closed for evidence; of how many. At most one replica `every` s."""
        keys = self._keys.scope(scope)
        if every and not await self._connection.run("SET", keys.folding, "1", "NX", "PX", round(every * 1000)):
            return 0
        sources: Mapping[str, str] = await self._connection.run("HGETALL", keys.sources)
        seconds, micros = await self._connection.run("TIME")
        now = int(seconds) + int(micros) / 1e6
        silent = [name for name, held in sources.items() if _is_due(held, now, self._gone_after)]
        names = [keys.sources, keys.counts, keys.open]
        return sum(
            [await self._connection.call(_FOLD, names, [each, self._gone_after, FORGOTTEN_AFTER]) for each in silent]
        )

    async def read(self, scope: Scope, *, closed: bool = True) -> Tallied:
        """The sums over all replicas: of closed windows, which is evidence, or of all that is known so far."""
        keys = self._keys.scope(scope)
        names = [keys.counts, keys.met, *([] if closed else [keys.open, keys.sources])]
        counts, met, *more = await self._connection.run_all([("HGETALL", name) for name in names], atomic=True)
        fields = list(counts.items())
        if more:
            still_open, sources = more
            words = (text.split(" ") for name, text in still_open.items() if not sources.get(name, "").endswith(FOLDED))
            fields += [
                (f"{CLOSED}/{field}", amount)
                for each in words
                for field, amount in zip(each[::2], each[1::2], strict=True)
            ]
        return await _tallied(fields, met)


def _is_due(held: str, now: float, gone_after: float) -> bool:
    """Whether a look at the source by the script may change anything."""
    _, heard, *folded = held.split(" ")
    return now - float(heard) >= (FORGOTTEN_AFTER if folded else gone_after)


def _is_summed(name: str) -> bool:
    kind, _, rest = name.partition("/")
    return kind == CLOSED or rest.rpartition("/")[2] in (*_AT_ONCE, MIXED)


def _fields(vectors: Vectors) -> list[tuple[str, str]]:
    """(field, amount) of each number; counts of observations that are equal are one."""
    found: list[tuple[str, str]] = []
    alike: dict[tuple[str, int, float], list[str]] = {}
    for name, vector in vectors.items():
        place, _, what = name.rpartition("/")
        if what.endswith(_COUNT):
            for index, number in vector.items():
                alike.setdefault((place, index, number), []).append(what.removesuffix(_COUNT))
        else:
            found += [(f"{name}/{index}", repr(number)) for index, number in vector.items()]
    found += [
        (f"{place}/{','.join(sorted(what))}{_COUNT}/{index}", repr(number))
        for (place, index, number), what in alike.items()
    ]
    return found


async def _tallied(fields: Sequence[tuple[str, str]], met: Mapping[str, str]) -> Tallied:
    sums: dict[str, Vectors] = {}
    at_once: dict[str, Vectors] = {}
    mixed = 0
    try:
        for at, (field, text) in enumerate(fields):
            if at % _FIELDS_AT_ONCE == 0:
                await asyncio.sleep(0)
            kind, slash, rest = field.partition("/")
            if not slash:
                continue
            rest, _, index = rest.rpartition("/")
            arm, _, what = rest.rpartition("/")
            if what == MIXED and arm == NO_ARM:
                mixed = int(text)
                continue
            vectors = (sums if kind == CLOSED else at_once).setdefault(arm, {})
            names, dot, suffix = what.rpartition(".")
            for name in names.split(","):
                vector = vectors.setdefault(f"{name}{dot}{suffix}", {})
                vector[int(index)] = vector.get(int(index), 0) + number_of(text)
    except ValueError as error:
        raise StoreError(f"redis: counters cannot be read: {error}") from error
    arms = {**sums, **at_once, **met}
    return Tallied({arm: arm_of(sums.get(arm, {}), int(met.get(arm, 0)), at_once.get(arm)) for arm in arms}, mixed)
