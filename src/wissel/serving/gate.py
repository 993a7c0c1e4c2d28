"""What stands before every decision and is not in the file: limits, keys, origins of answers, models that rest.

Replicas share it through Redis. Without one, limits count in this process
alone, refusals are told in the log, and there are no managed keys.
"""

import secrets
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import structlog

from wissel.core.cooling import Cooling
from wissel.core.snapshot import ManagedKey
from wissel.errors import StoreError
from wissel.identity.tokens import KeySets
from wissel.runtime.background import beside
from wissel.store.affinity import LookupCounter, Origins, running_affinity
from wissel.store.audit import Audit
from wissel.store.base import AuditEntry
from wissel.store.connection import RedisConnection
from wissel.store.cooling import running_cooling
from wissel.store.denials import Denials
from wissel.store.health import RedisHealth
from wissel.store.keys import Keys
from wissel.store.limits import Limiter, running_limiter
from wissel.store.managed_keys import ManagedKeys
from wissel.store.probe import StoreProbe

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Gate:
    """The parts that every router of one process shares."""

    key_sets: KeySets
    limiter: Limiter
    affinity: Origins
    cooling: Cooling
    denials: Denials
    audit: Audit | None
    """None without a store."""

    async def note(self, kind: str, reason: str) -> None:
        """Tell the audit trail about the configuration; the log has the same line."""
        if self.audit is None:
            return
        try:
            await self.audit.add(AuditEntry("config", kind, "file", reason))
        except StoreError as error:
            log.warning("audit_not_written", error=str(error))


@asynccontextmanager
async def running_gate(
    url: str | None,
    namespace: str,
    publish: Callable[[Mapping[str, ManagedKey]], None],
    counter: LookupCounter,
    health: RedisHealth | None = None,
) -> AsyncGenerator[Gate]:
    """Everything runs while the block does; `publish` is called with the managed keys whenever they change.

    `health` is told what Redis is.
    """
    names = Keys(namespace)
    health = health or RedisHealth()
    async with AsyncExitStack() as stack:
        limiter = await stack.enter_async_context(running_limiter(url, names, secrets.token_hex(8), health))
        affinity = await stack.enter_async_context(running_affinity(url, names, counter, health))
        cooling = await stack.enter_async_context(running_cooling(url, names, health))
        key_sets = KeySets()
        stack.push_async_callback(key_sets.close)
        audit = None
        if url is not None:
            connection = RedisConnection(url, health=health)
            stack.push_async_callback(connection.close)
            audit = Audit(connection, names)
            probe = StoreProbe(connection, names, health)
            await stack.enter_async_context(beside(ManagedKeys(connection, names).follow(publish), probe.run()))
        denials = Denials(audit)
        await stack.enter_async_context(beside(denials.run()))
        yield Gate(key_sets, limiter, affinity, cooling, denials, audit)
