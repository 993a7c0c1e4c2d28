"""What the replicas of one installation share, through Redis.

Each replica counts what its requests came to, follows the rollouts' records,
and offers to be their controller. Nothing here is waited for by a request: the
request path knows only the splits of the snapshot that `apply` makes.
"""

import asyncio
import secrets
import socket
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from time import time
from types import MappingProxyType
from typing import Final

import aiohttp
import structlog

from wissel.core.access import ANONYMOUS
from wissel.core.decision import Routed
from wissel.core.feedback import Feedback, ScoreAnswer
from wissel.core.lesson import Taught
from wissel.core.outcome import Ended, Outcome, failed_attempt
from wissel.core.request import question
from wissel.core.rollouts import arms
from wissel.core.rollouts.callers import SHARE
from wissel.core.rollouts.evidence import sub_bucket
from wissel.core.rollouts.measures import FEEDBACK, observe
from wissel.core.rollouts.rollout import Progress, Rollout
from wissel.core.rollouts.spec import Delivery
from wissel.core.rollouts.witnesses import Witnesses
from wissel.core.snapshot import Model, Snapshot
from wissel.core.split import Split, dealt, is_of_another_arm
from wissel.core.tier import Learning
from wissel.errors import StoreError
from wissel.rollouts.controller import TICK, Controller
from wissel.rollouts.experiments import Experiments
from wissel.runtime.background import beside
from wissel.store.audit import Audit
from wissel.store.base import Absent, AlreadyGiven, Answered, Record, Scope, Served, Unknown
from wissel.store.connection import RedisConnection
from wissel.store.counters import Counters
from wissel.store.feedback import FeedbackStore
from wissel.store.health import RedisHealth
from wissel.store.keys import Keys
from wissel.store.lease import Lease
from wissel.store.lessons import LessonStore
from wissel.store.looks import Looks
from wissel.store.memory import ReplicaMemory
from wissel.store.recorder import FLUSH_INTERVAL, Recorder
from wissel.store.records import POLL_INTERVAL, Follower, Records
from wissel.store.tally import Ticket
from wissel.telemetry.gauges import StoreHealth

UNKNOWN_SECONDS: Final = 2.5
"""For which feedback waits on what it speaks of; two flushes of a replica are less."""
UNKNOWN_TRIES: Final = 10

NOTHING_LEARNS: Final[Mapping[str, Learning]] = MappingProxyType({})

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Intervals:
    """Seconds between two rounds of what a replica does without being asked."""

    tick: float = TICK
    """Of the controller."""
    poll: float = POLL_INTERVAL
    """For what the records say."""
    flush: float = FLUSH_INTERVAL
    """Of what was counted."""


DEFAULT_INTERVALS: Final = Intervals()


class Fleet:
    """One replica's part in it."""

    def __init__(
        self,
        connection: RedisConnection,
        namespace: str,
        session: aiohttp.ClientSession,
        data: Path,
        intervals: Intervals = DEFAULT_INTERVALS,
    ) -> None:
        keys = Keys(namespace)
        # Names this life of this replica, and no other ever.
        life = f"{socket.gethostname()}.{secrets.token_hex(6)}"
        self.counters = Counters(connection, keys)
        self.feedback = FeedbackStore(connection, keys)
        self.audit = Audit(connection, keys)
        self.recorder = Recorder(self.counters, self.feedback, life, flush_interval=intervals.flush)
        self.lessons = LessonStore(connection, keys)
        records = Records(connection, keys)
        self.follower = Follower(records, interval=intervals.poll)
        lease = Lease(connection, keys, life)
        self._memory = ReplicaMemory(namespace, data)
        self.controller = Controller(
            records, self.counters, self.audit, lease, self._memory, session, now=time, interval=intervals.tick
        )
        self.experiments = Experiments(self.counters, Looks(connection, keys))
        self._deliveries: tuple[Delivery, ...] = ()
        self._models: Mapping[str, Model] = {}
        self._witnesses = Witnesses()
        self._shares: Mapping[str, float] = {}
        """Of the evidence of each split that may be one caller's."""

    def use(
        self,
        deliveries: tuple[Delivery, ...],
        splits: tuple[Split, ...] = (),
        learning: Mapping[str, Learning] = NOTHING_LEARNS,
        models: Mapping[str, Model] | None = None,
    ) -> None:
        """Run these rollouts from now on, read these plain splits as experiments, and let these tiers learn."""
        self.experiments.use(splits)
        self._shares = {each.spec.name: each.caller_share for each in deliveries}
        self._shares |= {each.name: each.caller_share for each in splits}
        self.lessons.use(learning)
        self._deliveries = deliveries
        self._models = models or {}
        self.controller.use(deliveries)
        self._remember()

    def apply(self, snapshot: Snapshot) -> Snapshot:
        """The snapshot with every rollout where its record says that it stands."""
        return snapshot.with_splits(
            {
                each.spec.name: arms.apply(snapshot.splits[each.spec.name], self._serving(each), each)
                for each in self._deliveries
            }
        )

    def _serving(self, delivery: Delivery) -> Rollout | None:
        """Where requests should take the rollout to stand; None for stable only."""
        name = delivery.spec.name
        match self.follower.state(name):
            case Record(rollout):
                return rollout
            case Absent():
                # What everybody is served is not taken away because a database was.
                known = self._memory.recall(name)
                return known if known is not None and known.is_promoted else None
            case _:
                return None

    def progress(self) -> list[Progress]:
        """Where every rollout stands, as far as this replica knows without asking."""
        return [Progress(each.spec, self._serving(each)) for each in self._deliveries]

    def store_health(self) -> StoreHealth:
        """How far behind Redis is."""
        return StoreHealth(self.recorder.lag, self.recorder.failures)

    def began(self, decision: Routed, request_id: str) -> Ended | None:
        """Count a request for its arm, and keep what its tier may learn; only what its key dealt out is evidence."""
        found = self._dealt(decision)
        learns = decision.tier is not None and self.lessons.learns(decision.tier.tier)
        if found is None and not learns:
            return None
        self._remember_answer(request_id, decision, found.served if isinstance(found, Ticket) else found)
        if not isinstance(found, Ticket):
            return partial(self._learn, decision, request_id) if learns else None
        return partial(self._ended, found, self._models, decision, request_id)

    def _dealt(self, decision: Routed) -> Ticket | Served | None:
        """The ticket of a request that is evidence; of another that a split served, which arm that was."""
        split, key = decision.split, decision.key
        if split is None or key is None:
            return None
        scope = Scope(split.name, split.revision, split.attempt, split.step)
        if decision.reason == "split":
            caller = decision.principal.id
            return self.recorder.began(scope, decision.variant, key.value, caller, split.caller_share)
        # Whom a header or a lack of access puts somewhere is left out wherever its key would have put it.
        if dealt(split, key).name != decision.variant:
            self.recorder.mixed(scope)
        return Served(scope, decision.variant, sub_bucket(key.value), is_counted=False)

    def _remember_answer(self, request_id: str, decision: Routed, served: Served | None) -> None:
        self.recorder.remember(request_id, Answered(served, decision.lesson.tier if decision.lesson else ""))

    def _ended(
        self,
        ticket: Ticket,
        models: Mapping[str, Model],
        decision: Routed,
        request_id: str,
        outcome: Outcome | None,
    ) -> None:
        """`models` are those of the configuration that the request began under."""
        self._learn(decision, request_id, outcome)
        if outcome is not None and decision.failed(outcome):
            # The arm that was dealt failed, or rests because it did; who then served is no arm's merit.
            ticket.observed.update(observe(failed_attempt(outcome)))
            ticket.ended()
            self.recorder.mixed(ticket.served.scope)
            self._remember_answer(request_id, decision, replace(ticket.served, is_counted=False))
        elif outcome is None or not outcome.is_evidence:
            ticket.dropped()
        elif decision.rested or _served_by_another_arm(decision, models, outcome):
            ticket.mixed()
            self._remember_answer(request_id, decision, replace(ticket.served, is_counted=False))
        else:
            if outcome.fault == "unexplained" and self._witnesses.are_enough(
                (ticket.served.scope, ticket.arm), _caller(decision)
            ):
                outcome = replace(outcome, fault="operator")
            ticket.observed.update(observe(outcome))
            ticket.ended()

    def _learn(self, decision: Routed, request_id: str, outcome: Outcome | None) -> None:
        lesson = decision.lesson
        if lesson is None or outcome is None:
            return
        failed = decision.failed(outcome)
        if failed or (outcome.is_evidence and not decision.rested):
            lesson = replace(lesson, prompt=question(lesson.prompt))
            ok = not failed and not outcome.is_error and not outcome.is_refusal
            self.lessons.add(Taught(request_id, lesson, ok, decision.chosen, decision.route))

    async def score(self, feedback: Feedback, caller: str | None = None) -> ScoreAnswer:
        """Count a score for the arm that served the request, once, and for the tier that learns from it.

        `caller` is who gives it; None for who operates wissel.
        """
        try:
            answered = await self._accepted(feedback)
        except StoreError as error:
            log.warning("feedback_not_taken", problem=str(error))
            return "store_away"
        match answered:
            case Answered(served, tier):
                if served is not None:
                    share = self._shares.get(served.scope.split, SHARE)
                    self.recorder.told(served, {FEEDBACK.name: feedback.score}, caller, share)
                if tier:
                    self.lessons.scored(tier, feedback.request_id, feedback.score)
                return "accepted"
            case AlreadyGiven():
                return "already_given"
            case Unknown():
                return "request_not_found"

    async def _accepted(self, feedback: Feedback) -> Answered | AlreadyGiven | Unknown:
        """A score may come sooner than what served its request was written, here or by another replica."""
        await self.recorder.remember_now(feedback.request_id)
        for _ in range(UNKNOWN_TRIES):
            answered = await self.feedback.accept(feedback.request_id, feedback.score)
            if not isinstance(answered, Unknown):
                return answered
            await asyncio.sleep(UNKNOWN_SECONDS / UNKNOWN_TRIES)
        return Unknown()

    async def run(self, on_change: Callable[[], None]) -> None:
        """Count, follow and control until cancelled; `on_change` is called whenever `apply` would say something new."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.recorder.run())
            tasks.create_task(self.lessons.run())
            tasks.create_task(self.controller.run())
            tasks.create_task(self.experiments.run())
            tasks.create_task(self._memory.run())
            tasks.create_task(self._follow(on_change))

    async def first_look(self) -> None:
        """Read every record once, so that serving begins where the rollouts stand; without Redis with stable only."""
        try:
            await self.follower.refresh()
        except StoreError as error:
            log.warning("records_not_read", problem=str(error))

    async def _follow(self, on_change: Callable[[], None]) -> None:
        async for _ in self.follower.changes():
            self._remember()
            on_change()

    def _remember(self) -> None:
        for each in self._deliveries:
            if isinstance(state := self.follower.state(each.spec.name), Record):
                self._memory.saw(state.rollout)

    async def close(self) -> None:
        await self.controller.close()
        await self.recorder.close()
        await self.lessons.close()
        await self._memory.flush()


def _caller(decision: Routed) -> str:
    """Who asked, as far as callers are told apart."""
    if decision.principal is ANONYMOUS and decision.key is not None:
        return decision.key.value
    return decision.principal.id


def _served_by_another_arm(decision: Routed, models: Mapping[str, Model], outcome: Outcome) -> bool:
    """Whether the answer names the model of another arm than the one that was asked."""
    assert decision.split is not None
    others = {models[each.model].upstream_model for each in decision.split.variants if each.model in models}
    return is_of_another_arm(outcome.response_model, decision.model.upstream_model, others)


@asynccontextmanager
async def running_fleet(
    url: str,
    namespace: str,
    on_change: Callable[[], None],
    *,
    data: Path,
    intervals: Intervals = DEFAULT_INTERVALS,
    health: RedisHealth | None = None,
) -> AsyncGenerator[Fleet]:
    """A replica's part while the block runs; at its end what was counted is written. StoreError for a bad URL.

    `health` is told what Redis is. In the folder `data` it notes what it must still know should Redis come back empty.
    """
    async with AsyncExitStack() as stack:
        connection = RedisConnection(url, health=health)
        stack.push_async_callback(connection.close)
        session = await stack.enter_async_context(aiohttp.ClientSession(trust_env=True))
        fleet = Fleet(connection, namespace, session, data, intervals)
        stack.push_async_callback(fleet.close)
        await fleet.first_look()
        await stack.enter_async_context(beside(fleet.run(on_change)))
        yield fleet
