"""The loop that moves rollouts: evidence -> analyse -> advance -> save.

Every replica runs it, and the one that holds the lease acts. What a rollout
should do next is decided in `core.rollout`, and where it stands is kept in
Redis: a controller that dies in the middle of a step is followed by another
that goes on from the same record. With Redis away nothing moves.

What people do to a rollout goes the same way, by compare-and-set and without
the lease, so an abort never waits for a controller.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

import aiohttp
import structlog

from wissel.core.rollouts import rollout as rollouts
from wissel.core.rollouts.analysis import Verdict, unlooked
from wissel.core.rollouts.evidence import Arm
from wissel.core.rollouts.rollout import Move, Refused, Rollout
from wissel.core.rollouts.spec import FULL_WEIGHT, Delivery
from wissel.errors import StoreError
from wissel.rollouts.measurements import Measurements, scope_of
from wissel.rollouts.webhooks import Webhooks
from wissel.store.audit import Audit, entry_of, subject_of
from wissel.store.base import Absent, AuditEntry, Conflict, Fenced, Record
from wissel.store.counters import Counters
from wissel.store.lease import Lease
from wissel.store.memory import ReplicaMemory
from wissel.store.records import Records

log = structlog.get_logger(__name__)

TICK: Final = 0.5
"""Seconds between two looks at every rollout; a guard can act no sooner."""

SAVE_INTERVAL: Final = 5.0
"""Seconds after which a rollout that only let time pass is saved all the same."""

Verb = Literal["promote", "promote_full", "pause", "resume", "abort", "retry", "undo"]


class UnknownRolloutError(Exception):
    """The configuration has no rollout of this name."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a rollout stands, for people."""

    delivery: Delivery
    rollout: Rollout | None
    """None where its record was not read or never begun."""
    note: str
    """What is wrong with the record; empty if nothing is."""
    verdict: Verdict | None
    """Of the latest look, which is the one that the rollout went by; None where nothing is measured."""
    arms: Mapping[str, Arm]
    """All that is known of the step so far, open windows included."""
    mixed: int = 0
    """Requests of it that another arm served than the one they were assigned to; no arm counts them."""


class Controller:
    """Runs the rollouts of one configuration namespace. `now` is the time in seconds since the epoch."""

    def __init__(
        self,
        records: Records,
        counters: Counters,
        audit: Audit,
        lease: Lease,
        memory: ReplicaMemory,
        session: aiohttp.ClientSession,
        *,
        now: Callable[[], float],
        interval: float = TICK,
    ) -> None:
        self._records = records
        self._counters = counters
        self._audit = audit
        self._lease = lease
        self._memory = memory
        self._measurements = Measurements(counters, session)
        self._webhooks = Webhooks(session)
        self._now = now
        self._interval = interval
        self._deliveries: dict[str, Delivery] = {}

    def use(self, deliveries: tuple[Delivery, ...]) -> None:
        """Run these rollouts from now on."""
        self._deliveries = {each.spec.name: each for each in deliveries}

    async def run(self) -> None:
        """Tick until cancelled; whatever Redis or a webhook does, the next tick comes."""
        while True:
            try:
                await self.tick()
            except StoreError as error:
                log.warning("controller_cannot_act", problem=str(error))
            except Exception:
                log.exception("controller_failed")
            await asyncio.sleep(self._interval)

    async def tick(self) -> None:
        """One look at every rollout, if this replica holds the lease. Raises StoreError while Redis is away."""
        token = await self._lease.take() if self._deliveries else None
        if token is None:
            return
        # Side by side: a Prometheus that hangs for one rollout keeps no other from being rolled back.
        await asyncio.gather(*(self._tick_alone(delivery, token) for delivery in tuple(self._deliveries.values())))

    async def close(self) -> None:
        """Let another replica act at once."""
        self._webhooks.close()
        try:
            await self._lease.release()
        except StoreError as error:
            log.warning("lease_not_released", problem=str(error))

    async def _tick_alone(self, delivery: Delivery, token: int) -> None:
        try:
            await self._tick(delivery, token)
        except StoreError as error:
            log.warning("rollout_not_moved", rollout=delivery.spec.name, problem=str(error))
        except Exception:
            log.exception("rollout_not_moved", rollout=delivery.spec.name)

    async def _tick(self, delivery: Delivery, token: int) -> None:
        spec, now = delivery.spec, self._now()
        match await self._records.get(spec.name):
            case Absent(version):
                move = self._begun(delivery, version, now)
            case Record(rollout, version):
                evidence = None
                if rollouts.is_look_due(rollout, spec, now):
                    evidence = await self._measurements.evidence(delivery, rollout)
                confirmed = await self._confirmed(delivery, rollout, now)
                move = rollouts.advance(rollout, spec, evidence, now, confirmed=confirmed)
                if not (move.events or move.verdict) and now - rollout.at < SAVE_INTERVAL:
                    self._memory.saw(rollout)
                    return
        await self._save(delivery, move, version, token)

    def _begun(self, delivery: Delivery, version: int, now: float) -> Move:
        """A rollout without a record: new, or its record, once at `version`, was lost."""
        spec, known = delivery.spec, self._memory.recall(delivery.spec.name)
        if known is not None and known.revision != spec.revision:
            known = None
        if known is None and not version:
            return rollouts.begin(spec, now)
        log.error("record_lost", rollout=spec.name, known=known is not None and known.phase)
        if known is not None and known.is_over:
            return rollouts.restore(known, now)
        # Every attempt began with a change of the record, so none was numbered higher than its version.
        attempt = max(known.attempt if known else 0, version) + 1
        return rollouts.begin(spec, now, attempt=attempt, lost=True)

    async def _save(self, delivery: Delivery, move: Move, version: int, token: int) -> None:
        entries = [entry_of(move.rollout, event) for event in move.events]
        written = await self._records.put(move.rollout, version=version, entries=entries, token=token)
        if not isinstance(written, Record):
            # A human was quicker, or another controller took over: the next tick sees what they did.
            return
        self._memory.saw(written.rollout)
        self._tell(delivery, move)

    # People.

    async def standings(self) -> list[Standing]:
        """Every rollout, in the order of the file. Raises StoreError."""
        return [await self.standing(name) for name in self._deliveries]

    async def standing(self, name: str) -> Standing:
        """Raises UnknownRolloutError and StoreError."""
        delivery = self._delivery(name)
        found = await self._records.get(name)
        if isinstance(found, Absent):
            return Standing(delivery, None, "it has no record yet: serving stable only", None, {})
        rollout = found.rollout
        if rollout.revision != delivery.spec.revision:
            return Standing(delivery, rollout, "its record is of another revision: starting over", None, {})
        known = await self._counters.read(scope_of(rollout), closed=False)
        verdict, analysis = rollout.verdict, delivery.spec.analysis
        if verdict is None and analysis is not None and 0 < rollout.weight < FULL_WEIGHT:
            verdict = unlooked(analysis)
        return Standing(delivery, rollout, "", verdict, known.arms, known.mixed)

    async def history(self, name: str, limit: int = 100) -> list[AuditEntry]:
        """Its lines of the audit trail, the newest first. Raises UnknownRolloutError and StoreError."""
        self._delivery(name)
        return await self._audit.latest(limit, subject=subject_of(name))

    async def act(self, name: str, verb: Verb, *, by: str) -> Rollout | Refused:
        """What a person does to a rollout. Raises UnknownRolloutError and StoreError."""
        delivery = self._delivery(name)
        while True:
            found = await self._records.get(name)
            if isinstance(found, Absent):
                return Refused("it has not begun yet")
            if found.rollout.revision != delivery.spec.revision:
                return Refused("its configuration has just changed: it is starting over")
            move = _moved(found.rollout, delivery, verb, self._now(), by)
            if isinstance(move, Refused):
                return move
            if not move.events:
                return move.rollout
            entries = [entry_of(move.rollout, event) for event in move.events]
            match await self._records.put(move.rollout, version=found.version, entries=entries):
                case Record(rollout):
                    self._tell(delivery, move)
                    return rollout
                case Conflict() | Fenced():
                    continue

    def _delivery(self, name: str) -> Delivery:
        if name not in self._deliveries:
            raise UnknownRolloutError(name)
        return self._deliveries[name]

    async def _confirmed(self, delivery: Delivery, rollout: Rollout, now: float) -> bool:
        """Whether the last move is allowed.

        A look in this very tick may bring it within reach; it is asked for in the next one.
        """
        if not delivery.spec.confirm_promotion:
            return True
        return rollouts.awaits_confirmation(rollout, delivery.spec) and await self._webhooks.confirm(
            delivery, rollout, now
        )

    def _tell(self, delivery: Delivery, move: Move) -> None:
        for event in move.events:
            log.info(
                "rollout", name=delivery.spec.name, event_kind=event.kind, reason=event.reason, weight=event.weight
            )
        self._webhooks.tell(delivery, move)


def _moved(rollout: Rollout, delivery: Delivery, verb: Verb, now: float, by: str) -> Move | Refused:
    spec = delivery.spec
    match verb:
        case "promote":
            return rollouts.promote(rollout, spec, now, by=by)
        case "promote_full":
            return rollouts.promote(rollout, spec, now, by=by, full=True)
        case "pause":
            return rollouts.pause(rollout, now, by=by)
        case "resume":
            return rollouts.resume(rollout, now, by=by)
        case "abort":
            return rollouts.abort(rollout, now, by=by)
        case "retry":
            return rollouts.retry(rollout, spec, now, by=by)
        case "undo":
            return rollouts.undo(rollout, now, by=by)
