"""Rollout records: read, and changed by compare-and-set together with their line in the audit trail.

A change names the version it was made from, and the controller also the token
of its lease. One script checks both, writes the record and tells the trail, so
there is no change without its reason, and a controller that was paused while
another took over changes nothing.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Final

import structlog

from wissel.core.rollouts import record
from wissel.core.rollouts.rollout import Rollout
from wissel.errors import StoreError
from wissel.store.audit import words_of
from wissel.store.base import Absent, AuditEntry, Conflict, Fenced, NotRead, Record
from wissel.store.connection import RedisConnection, Script, Word
from wissel.store.keys import AUDIT_LENGTH, Keys

log = structlog.get_logger(__name__)

POLL_INTERVAL: Final = 0.5
"""Seconds between two looks at the versions: what bounds a rollback's way to every replica.

Polling, not publish/subscribe: a message that is lost with a connection would leave a replica on the canary.
"""

# KEYS: versions, record, fence, audit. ARGV: name, expected version, token or "", JSON, length, the words of entries.
_PUT: Final = Script("""
if ARGV[3] ~= '' and ARGV[3] ~= (redis.call('GET', KEYS[3]) or '') then return -1 end
local version = tonumber(redis.call('HGET', KEYS[1], ARGV[1]) or '0')
if version ~= tonumber(ARGV[2]) then return 0 end
redis.call('SET', KEYS[2], ARGV[4])
redis.call('HSET', KEYS[1], ARGV[1], version + 1)
for i = 6, #ARGV, 10 do
  redis.call('XADD', KEYS[4], 'MAXLEN', '~', ARGV[5], '*', unpack(ARGV, i, i + 9))
end
return version + 1
""")


class Records:
    """The rollout records of one configuration namespace. Every method raises StoreError while Redis is away."""

    def __init__(self, connection: RedisConnection, keys: Keys) -> None:
        self._connection = connection
        self._keys = keys

    async def get(self, name: str) -> Record | Absent:
        """Also StoreError for a record that cannot be read."""
        versions, text = await self._connection.run_all(
            [("HGETALL", self._keys.versions), ("GET", self._keys.record(name))], atomic=True
        )
        if text is None or name not in versions:
            return Absent(int(versions.get(name, 0)))
        return Record(_load(name, text), int(versions[name]))

    async def put(
        self, rollout: Rollout, *, version: int, entries: Sequence[AuditEntry] = (), token: int | None = None
    ) -> Record | Conflict | Fenced:
        """Replace the record of this `version` (0: there must never have been one), and tell the audit trail.

        The controller gives its lease's `token`. After a StoreError it is not known whether the change was made.
        """
        names = [self._keys.versions, self._keys.record(rollout.name), self._keys.fence, self._keys.audit]
        text = json.dumps(record.dump(rollout), separators=(",", ":"))
        arguments: list[Word] = [rollout.name, version, "" if token is None else token, text, AUDIT_LENGTH]
        for entry in entries:
            arguments += words_of(entry)
        written = await self._connection.call(_PUT, names, arguments)
        match written:
            case -1:
                return Fenced()
            case 0:
                return Conflict()
            case _:
                return Record(rollout, written)

    async def versions(self) -> Mapping[str, int]:
        """Of every record by name."""
        found = await self._connection.run("HGETALL", self._keys.versions)
        return {name: int(version) for name, version in found.items()}


class Follower:
    """Keeps the latest state of every record at hand, also while Redis is away."""

    def __init__(self, records: Records, *, interval: float = POLL_INTERVAL) -> None:
        self._records = records
        self._interval = interval
        self._states: dict[str, NotRead | Absent | Record] | None = None

    def state(self, name: str) -> NotRead | Absent | Record:
        """As it was read last."""
        if self._states is None:
            return NotRead()
        return self._states.get(name, Absent())

    async def changes(self) -> AsyncGenerator[frozenset[str]]:
        """The names whose state changed, as soon as it is seen; the first time all there are, even if none.

        Also where a record went missing. While Redis is away nothing changes; a record that cannot be read keeps its
        last state, and is tried again.
        """
        while True:
            try:
                changed = await self.refresh()
            except StoreError as error:
                log.warning("records_not_read", problem=str(error))
            else:
                if changed is not None:
                    yield changed
            await asyncio.sleep(self._interval)

    async def refresh(self) -> frozenset[str] | None:
        """Look once: what changed, or None if nothing did; StoreError while Redis is away."""
        is_first = self._states is None
        known = self._states or {}
        versions = await self._records.versions()
        states: dict[str, NotRead | Absent | Record] = {}
        changed: set[str] = set()
        for name in versions.keys() | known.keys():
            before = known.get(name)
            if isinstance(before, Record) and before.version == versions.get(name):
                states[name] = before
                continue
            try:
                states[name] = await self._records.get(name)
            except StoreError as error:
                # One record that cannot be read keeps no other from being rolled back.
                log.warning("record_not_read", rollout=name, problem=str(error))
                states[name] = before or NotRead()
            if states[name] not in (before, NotRead()):
                changed.add(name)
        self._states = states
        return frozenset(changed) if changed or is_first else None


def _load(name: str, text: str) -> Rollout:
    try:
        return record.load(json.loads(text))
    except (ValueError, AttributeError) as error:
        raise StoreError(f'redis: the record of rollout "{name}" is no JSON object: {error}') from error
