"""API keys that are made, rotated and revoked while serving.

Redis holds a key's hash, never its secret: that is shown once, when it is made.
Every change is one transaction with its line in the audit trail and a new
version; each replica looks at the version every second, so a revocation is
effective everywhere within two. A Redis that comes back empty has revoked all.
"""

import asyncio
import json
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any, Final

import structlog

from wissel.core.access import Principal
from wissel.core.identity import MANAGED_PREFIX
from wissel.core.snapshot import ManagedKey
from wissel.errors import StoreError
from wissel.store.audit import words_of
from wissel.store.base import AuditEntry
from wissel.store.connection import RedisConnection, Word
from wissel.store.keys import AUDIT_LENGTH, Keys

log = structlog.get_logger(__name__)

POLL_SECONDS: Final = 1.0
"""Between two looks at the version."""

_ALPHABET: Final = "abcdefghijkmnpqrstuvwxyz23456789"
_ID_LENGTH: Final = 10


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """A managed key as it is kept."""

    key: ManagedKey
    created: float
    """Unix time."""
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])
    """Whatever the operator notes about it."""


class ManagedKeys:
    """The managed keys of one configuration namespace. Every method raises StoreError while Redis is away."""

    def __init__(self, connection: RedisConnection, keys: Keys) -> None:
        self._connection = connection
        self._keys = keys

    async def create(
        self,
        principal: Principal,
        *,
        by: str,
        now: float,
        expires: float | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> tuple[KeyRecord, str]:
        """A new key, and its secret, which nobody will ever read here again."""
        public_id = "".join(secrets.choice(_ALPHABET) for _ in range(_ID_LENGTH))
        secret, digest = _new_secret(public_id)
        record = KeyRecord(ManagedKey(public_id, principal, digest, expires), now, metadata or {})
        await self._put(record, "created", by, f"for {principal.id}")
        return record, secret

    async def rotate(self, public_id: str, *, by: str, now: float, grace: float) -> tuple[KeyRecord, str] | None:
        """A new secret for the key; the old one is taken for `grace` seconds more. None if there is no such key."""
        found = await self.get(public_id)
        if found is None:
            return None
        secret, digest = _new_secret(public_id)
        key = replace(found.key, sha256=digest, previous_sha256=found.key.sha256, previous_until=now + grace)
        record = replace(found, key=key)
        await self._put(record, "rotated", by, f"the old secret is taken for {grace:g} seconds more")
        return record, secret

    async def revoke(self, public_id: str, *, by: str, reason: str) -> bool:
        """No replica takes the key any more, two seconds from now. False if there is no such key."""
        if await self.get(public_id) is None:
            return False
        await self._change(["HDEL", self._keys.managed, public_id], public_id, "revoked", by, reason)
        return True

    async def get(self, public_id: str) -> KeyRecord | None:
        raw = await self._connection.run("HGET", self._keys.managed, public_id)
        return None if raw is None else _record(public_id, raw)

    async def all(self) -> list[KeyRecord]:
        """The oldest first."""
        raw: Mapping[str, str] = await self._connection.run("HGETALL", self._keys.managed)
        return sorted((_record(*item) for item in raw.items()), key=lambda each: (each.created, each.key.id))

    async def version(self) -> str:
        """Another one after every change."""
        return await self._connection.run("GET", self._keys.managed_version) or ""

    async def follow(self, publish: Callable[[Mapping[str, ManagedKey]], None], *, poll: float = POLL_SECONDS) -> None:
        """Hand out the keys as they are now, and whenever they change, for ever."""
        seen: str | None = None
        while True:
            try:
                version = await self.version()
                if version != seen:
                    publish({record.key.id: record.key for record in await self.all()})
                    seen = version
            except StoreError as error:
                log.warning("managed_keys_not_read", error=str(error))
            await asyncio.sleep(poll)

    async def _put(self, record: KeyRecord, kind: str, by: str, reason: str) -> None:
        await self._change(["HSET", self._keys.managed, record.key.id, _json(record)], record.key.id, kind, by, reason)

    async def _change(self, command: list[Word], public_id: str, kind: str, by: str, reason: str) -> None:
        entry = AuditEntry(f"key/{public_id}", kind, by, reason)
        await self._connection.run_all(
            [
                command,
                ["INCR", self._keys.managed_version],
                ["XADD", self._keys.audit, "MAXLEN", "~", AUDIT_LENGTH, "*", *words_of(entry)],
            ],
            atomic=True,
        )


def _new_secret(public_id: str) -> tuple[str, str]:
    """The secret and its hash."""
    secret = f"{MANAGED_PREFIX}{public_id}-{secrets.token_hex(24)}"
    return secret, sha256(secret.encode()).hexdigest()


def _json(record: KeyRecord) -> str:
    key = record.key
    return json.dumps(
        {
            "principal": key.principal.id,
            "groups": sorted(key.principal.groups),
            "sha256": key.sha256,
            "expires": key.expires,
            "previous_sha256": key.previous_sha256,
            "previous_until": key.previous_until,
            "created": record.created,
            "metadata": dict(record.metadata),
        },
        separators=(",", ":"),
    )


def _record(public_id: str, raw: str) -> KeyRecord:
    try:
        found: dict[str, Any] = json.loads(raw)
        key = ManagedKey(
            id=public_id,
            principal=Principal(found["principal"], frozenset(found["groups"])),
            sha256=found["sha256"],
            expires=found["expires"],
            previous_sha256=found["previous_sha256"],
            previous_until=found["previous_until"],
        )
        return KeyRecord(key, found["created"], found["metadata"])
    except (KeyError, ValueError, TypeError) as error:
        raise StoreError(f'redis: the managed key "{public_id}" cannot be read: {error!r}') from error
