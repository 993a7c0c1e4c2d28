"""Who changed what, when, why and on what evidence: a stream that is only ever added to.

Changes of rollouts get here in the same script that makes them (`records`);
`Audit.add` is for everything else.
"""

import json
from collections.abc import AsyncGenerator, Mapping
from typing import Any, Final

from wissel.core.rollouts import record
from wissel.core.rollouts.rollout import Event, Rollout
from wissel.errors import StoreError
from wissel.store.base import AuditEntry
from wissel.store.connection import RedisConnection, Word
from wissel.store.keys import AUDIT_LENGTH, Keys

_PAGE: Final = 200
MOST_CHARACTERS: Final = 16_384
"""Of one field of a line: evidence takes some thousand, and nothing that a caller wrote comes near."""
_BLOCK_SECONDS: Final = 5.0


def subject_of(rollout: str) -> str:
    """How the trail names a rollout."""
    return f"rollout/{rollout}"


def entry_of(rollout: Rollout, event: Event) -> AuditEntry:
    """What happened to a rollout, with its evidence."""
    detail = {
        "revision": rollout.revision,
        "attempt": rollout.attempt,
        "phase": rollout.phase,
        "step": event.step,
        "weight": event.weight,
        "verdict": record.encode(event.verdict),
    }
    return AuditEntry(subject_of(rollout.name), event.kind, event.by, event.reason, detail)


def words_of(entry: AuditEntry) -> list[Word]:
    """The ten words that XADD takes."""
    detail = json.dumps(entry.detail, separators=(",", ":"))
    words = ("subject", entry.subject, "kind", entry.kind, "by", entry.by, "reason", entry.reason, "detail", detail)
    # What callers wrote may hold bytes that are no text; and Redis keeps every line.
    return [word[:MOST_CHARACTERS].encode("utf-8", "backslashreplace").decode() for word in words]


class Audit:
    """The audit trail of one configuration namespace. Every method raises StoreError while Redis is away."""

    def __init__(self, connection: RedisConnection, keys: Keys) -> None:
        self._connection = connection
        self._keys = keys

    async def add(self, entry: AuditEntry) -> None:
        """Write one line; after a StoreError it may be there all the same."""
        await self._connection.run("XADD", self._keys.audit, "MAXLEN", "~", AUDIT_LENGTH, "*", *words_of(entry))

    async def latest(self, limit: int, *, subject: str = "", before: str = "") -> list[AuditEntry]:
        """Up to `limit` lines, the newest first: of one subject if given, and older than the line `before`."""
        found: list[AuditEntry] = []
        end = f"({before}" if before else "+"
        while len(found) < limit:
            page = await self._connection.run("XREVRANGE", self._keys.audit, end, "-", "COUNT", _PAGE)
            entries = [_entry(*line) for line in page]
            found += [entry for entry in entries if subject in {"", entry.subject}]
            if len(page) < _PAGE:
                break
            end = f"({entries[-1].id}"
        return found[:limit]

    async def follow(self, after: str = "$") -> AsyncGenerator[AuditEntry]:
        """Lines as they are written, from the one after the line `after` on; "0" begins with the oldest."""
        if after == "$":
            newest = await self.latest(1)
            after = newest[0].id if newest else "0"
        while True:
            wait = round(_BLOCK_SECONDS * 1000)
            command = ("XREAD", "COUNT", _PAGE, "BLOCK", wait, "STREAMS", self._keys.audit, after)
            streams: list[Any] = await self._connection.run(*command, patience=_BLOCK_SECONDS) or []
            for _, lines in streams:
                for line in lines:
                    entry = _entry(*line)
                    yield entry
                    after = entry.id


def _entry(line: str, words: Mapping[str, str]) -> AuditEntry:
    try:
        detail: dict[str, Any] = json.loads(words["detail"])
        at = int(line.partition("-")[0]) / 1000
        return AuditEntry(words["subject"], words["kind"], words["by"], words["reason"], detail, line, at)
    except (KeyError, ValueError) as error:
        raise StoreError(f'redis: line "{line}" of the audit trail cannot be read: {error!r}') from error
