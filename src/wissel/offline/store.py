"""The store as commands use it: they reach the same Redis as the replicas do, by the configuration.

An embedded server is joined while it runs, and started for the moment where not.
"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from wissel.config import Config, compile_rollouts, redis_url
from wissel.errors import ConfigError, StoreError
from wissel.store.audit import Audit
from wissel.store.base import Record
from wissel.store.connection import RedisConnection
from wissel.store.embedded import joined_redis
from wissel.store.health import UnwellError, problem_of
from wissel.store.keys import Keys
from wissel.store.lessons import LessonStore
from wissel.store.managed_keys import ManagedKeys
from wissel.store.records import Records

_REDIS_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class Store:
    """The store as commands use it."""

    keys: ManagedKeys
    audit: Audit
    lessons: LessonStore


@asynccontextmanager
async def opened_store(config: Config, data: Path) -> AsyncGenerator[Store]:
    """The configuration's store; `data` is where an embedded one lives. Raises ConfigError and StoreError."""
    url = redis_url(config)
    if url is None:
        raise ConfigError(["redis: missing; managed keys, the audit trail and what tiers learn are kept there"])
    if url == "embedded":
        async with joined_redis(data) as joined, _connected(joined, config.namespace) as store:
            yield store
        return
    async with _connected(url, config.namespace) as store:
        yield store


@asynccontextmanager
async def _connected(url: str, namespace: str) -> AsyncGenerator[Store]:
    connection = RedisConnection(url)
    names = Keys(namespace)
    try:
        yield Store(ManagedKeys(connection, names), Audit(connection, names), LessonStore(connection, names))
    finally:
        await connection.close()


async def store_notes(config: Config) -> list[str]:
    """What is right and should be done all the same, as far as redis says so; and what redis is, if it is not well."""
    if config.redis == "embedded" or (url := redis_url(config)) is None:
        return []
    notes: list[str] = []
    connection = RedisConnection(url, deadline=_REDIS_SECONDS)
    try:
        names = Keys(config.namespace)
        await connection.run_all([("EXISTS", key) for key in names.touched])
        records = Records(connection, names)
        for spec in (delivery.spec for delivery in compile_rollouts(config)):
            match await records.get(spec.name):
                case Record(rollout) if rollout.is_promoted and rollout.revision == spec.revision:
                    notes.append(
                        f'rollout "{spec.name}" is promoted: make "{spec.canary}" its stable model, or point what '
                        "names it there and remove it; until then only its record in redis keeps it at 100 %"
                    )
                case _:
                    pass
    except StoreError as error:
        why = problem_of(error.state) if isinstance(error, UnwellError) else str(error)
        notes.append(f"redis was asked, and what is kept there is not known: {why}")
    finally:
        await connection.close()
    return notes
