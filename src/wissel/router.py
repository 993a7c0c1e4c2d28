"""The spine: authenticate -> limits of requests -> of tokens -> classify -> grade -> decide -> limits of the model.

A router is one snapshot with those that it asks, and never changes; a reload
makes another. Most requests need no waiting, so `decide` answers at once where it
can, in the same turn of the event loop that read the request, and only a
classification and limits are awaited, never longer than their deadlines. What
a request has drawn from limits goes back unless the request goes on, except
that it was made.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from time import perf_counter, time
from typing import Protocol

import structlog

from wissel.classifiers.base import Classifier
from wissel.core.access import ANONYMOUS, Principal
from wissel.core.affinity import MadeId, Origin, OriginKeeper, Unreachable, owner_of
from wissel.core.cooling import Cooling
from wissel.core.decision import Decision, Denied, Kept, ListedAnswers, Passed, Routed
from wissel.core.identity import TokenCheck, identify
from wissel.core.intent import NoScores, Pinned, Scores
from wissel.core.limits import (
    Charge,
    Drawn,
    Estimate,
    Reservation,
    entry_charges,
    estimate,
    target_charges,
    token_charges,
)
from wissel.core.origin import go_on, list_answers, revisit
from wissel.core.outcome import Outcome
from wissel.core.pin import Pin, Pins
from wissel.core.policy import ByIntent, Chosen, Named, admit, choose, decide, list_models, pass_through
from wissel.core.refusals import origin_unavailable
from wissel.core.request import Conversation, Head, Request
from wissel.core.settlement import used
from wissel.core.snapshot import Model, Snapshot
from wissel.core.tier import Grading, NoWinRate, Thresholds, Tier, WinRate, toss
from wissel.errors import WorldError
from wissel.runtime.asking import asking_for
from wissel.store.holding import Holding, LimitKeeper
from wissel.telemetry.counting import Telemetry
from wissel.telemetry.tracing import Tracing, step, tell_rate, tell_scores
from wissel.tiers.grading import LiveGrader

log = structlog.get_logger(__name__)

_Answer = Decision | Awaitable[Decision]


class RefusalTeller(Protocol):
    """Tells of refusals."""

    def denied(self, decision: Denied, request_id: str) -> None:
        """A request was refused."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Advisers:
    """Who is asked about a request, as one configuration says; a decision needs their answers and never waits long."""

    classifier: Classifier | None = None
    """None where no route needs one."""
    deadline: float = 0.15
    """Seconds that a classification may take."""
    graders: Mapping[str, LiveGrader] = field(default_factory=dict[str, LiveGrader])
    """By tier."""
    tokens: TokenCheck | None = None
    """None where no issuer of tokens is configured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedParts:
    """What the routers of one process have in common, so that a reload loses nothing of it."""

    telemetry: Telemetry = field(default_factory=Telemetry)
    tracing: Tracing = field(default_factory=Tracing)
    thresholds: Thresholds = field(default_factory=Thresholds)
    """Of tiers: what they have learned of the traffic."""
    pins: Pins = field(default_factory=Pins)
    """Of sessions: their routes."""
    cooling: Cooling = field(default_factory=Cooling)
    """Of models: which rest."""
    limiter: LimitKeeper | None = None
    """None where nothing is to be counted."""
    affinity: OriginKeeper | None = None
    """None where nothing is remembered."""
    denials: RefusalTeller | None = None
    """None where nobody is told."""


@dataclass(frozen=True, slots=True)
class Router:
    """Decides requests by one snapshot."""

    snapshot: Snapshot
    advisers: Advisers = field(default_factory=Advisers)
    shared: SharedParts = field(default_factory=SharedParts)
    explores: bool = True
    """Whether tiers that learn leave their share of requests to a coin."""

    def uncounted(self) -> "Router":
        """The same decisions, drawing nothing from any limit, told to nobody and left to no coin."""
        return replace(self, shared=replace(self.shared, limiter=None, denials=None), explores=False)

    def identify(self, head: Head) -> Principal | Denied:
        """Who is calling."""
        return identify(self.snapshot, head, now=time(), tokens=self.advisers.tokens)

    def enter(
        self, head: Head, caller: Principal
    ) -> tuple[Drawn, ...] | Denied | Awaitable[tuple[Drawn, ...] | Denied]:
        """Draw what the request costs whatever its body says; what was drawn goes to `decide` and to `settle`."""
        limiter = self.shared.limiter
        if limiter is None or head.kind not in {"llm", "kept", "other"}:
            return ()
        charges = entry_charges(self.snapshot.limits, caller, head.headers)
        return self._enter(limiter, caller, charges) if charges else ()

    def decide(
        self, subject: Request | Head, caller: Principal, request_id: str, drawn: tuple[Drawn, ...] = ()
    ) -> Decision | Awaitable[Decision]:
        """The decision, or something to await where a classification or a limit is; `drawn` becomes part of it."""
        match subject:
            case Head(kind="models"):
                return list_models(self.snapshot, subject, caller, now=time())
            case Head(kind="kept", about=None):
                return self._list(subject, caller)
            case Head(about=MadeId() as about):
                return self._follow(about, None, caller, partial(self._revisit, subject, caller, drawn))
            case Head():
                passed = pass_through(self.snapshot, subject, caller, now=time())
                return passed if isinstance(passed, Denied) else replace(passed, reserved=_reserved(drawn))
            case Request():
                return self._decide_call(subject, caller, request_id, drawn)

    def served(self, decision: Decision) -> None:
        """The decision became an answer to Envoy: its tier's budget counts it, its session is on its route, and a model
        whose rest is over is tried by it."""
        if not isinstance(decision, Routed):
            return
        self.shared.cooling.asked(decision.model.name, decision.at, self.snapshot.health)
        if decision.tier is not None:
            self.shared.thresholds.served(decision.tier)
        if decision.pin is not None:
            self.shared.pins.keep(decision.pin, decision.route, self.snapshot.routes, time())

    def made(self, made: MadeId, decision: Decision | None, fallback: Model | None = None) -> None:
        """The answer to a routed request is called so, and its caller has it kept; `fallback` made it, if one did."""
        if self.shared.affinity is None or not isinstance(decision, Routed):
            return
        model, now = fallback or decision.model, time()
        owner, thread, until = owner_of(decision.principal), decision.thread or "", now + self.snapshot.keep_origins
        self.shared.affinity.keep(made, Origin(model.name, model.cluster, decision.route, owner, thread, now, until))

    def unmade(self, made: MadeId, decision: Decision | None) -> None:
        """The server that kept it has deleted it for its caller."""
        if self.shared.affinity is not None and isinstance(decision, Kept):
            self.shared.affinity.drop(made, owner_of(decision.principal))

    def refused(self, decision: Denied, request_id: str) -> None:
        """A refusal was sent."""
        if self.shared.denials is not None:
            self.shared.denials.denied(decision, request_id)

    def settle(self, decision: Decision | None, outcome: Outcome | None, drawn: tuple[Drawn, ...] = ()) -> None:
        """A request is over: put right what was estimated for it; `drawn` is what it entered with.

        Models that failed it may rest from now on.
        """
        if isinstance(decision, Routed) and outcome is not None:
            self.shared.cooling.ended(decision, outcome, self.snapshot, time())
        limiter = self.shared.limiter
        if limiter is None:
            return
        came_to = None
        if isinstance(decision, Routed | Passed | Kept) and decision.reserved is not None:
            served = decision.served_after(outcome.attempts) if isinstance(decision, Routed) and outcome else None
            drawn, came_to = decision.reserved.drawn, used(decision.reserved, outcome, served)
        for each in drawn:
            limiter.settle(each, came_to)

    async def _enter(
        self, limiter: LimitKeeper, caller: Principal, charges: tuple[Charge, ...]
    ) -> tuple[Drawn, ...] | Denied:
        holding = Holding(limiter, self.snapshot, caller, self.shared.telemetry)
        with holding:
            return await holding.draw(charges) or holding.keep()

    def _decide_call(
        self, request: Request, caller: Principal, request_id: str, drawn: tuple[Drawn, ...]
    ) -> Decision | Awaitable[Decision]:
        now = time()
        with step("authorize"):
            admitted = admit(self.snapshot, request, caller, now=now)
        if isinstance(admitted, Denied):
            return admitted
        if request.previous is None:
            return self._decide_limited(request, caller, admitted, request_id, now, drawn)
        then = partial(self._go_on, request, caller, admitted, request_id, now, drawn)
        return self._follow(request.previous, request.goes_on_by, caller, then)

    def _go_on(
        self,
        request: Request,
        caller: Principal,
        admitted: Named | ByIntent,
        request_id: str,
        now: float,
        drawn: tuple[Drawn, ...],
        origin: Origin | None,
    ) -> Decision | Awaitable[Decision]:
        with step("authorize"):
            led = go_on(self.snapshot, request, caller, admitted, origin, request_id=request_id, now=now)
        match led:
            case Request():
                return self._decide_limited(led, caller, admitted, request_id, now, drawn)
            case Routed():
                return self._decide_limited(request, caller, led, request_id, now, drawn)
            case Denied():
                return led

    def _revisit(self, head: Head, caller: Principal, drawn: tuple[Drawn, ...], origin: Origin | None) -> Kept | Denied:
        found = revisit(self.snapshot, head, caller, origin, now=time())
        return found if isinstance(found, Denied) else replace(found, reserved=_reserved(drawn))

    async def _list(self, head: Head, caller: Principal) -> ListedAnswers | Denied:
        affinity, kind = self.shared.affinity, head.api or ""
        with step("affinity"):
            found = await affinity.made_for(kind, owner_of(caller)) if affinity is not None else dict[MadeId, Origin]()
        if isinstance(found, Unreachable):
            return origin_unavailable(None, caller, self.snapshot.revision)
        return list_answers(self.snapshot, head, caller, found, now=time())

    def _follow(
        self, made: MadeId, param: str | None, caller: Principal, then: Callable[[Origin | None], _Answer]
    ) -> _Answer:
        """Decide by where something was made; `param` is the member that names it."""
        affinity = self.shared.affinity
        known = affinity.recall(made) if affinity is not None else None
        if affinity is None or known is not None:
            return then(known)
        return self._find(affinity, made, param, caller, then)

    async def _find(
        self,
        affinity: OriginKeeper,
        made: MadeId,
        param: str | None,
        caller: Principal,
        then: Callable[[Origin | None], _Answer],
    ) -> Decision:
        with step("affinity"):
            origin = await affinity.find(made)
        if isinstance(origin, Unreachable):
            return origin_unavailable(param, caller, self.snapshot.revision)
        decision = then(origin)
        return decision if isinstance(decision, Decision) else await decision

    def _decide_limited(
        self,
        request: Request,
        caller: Principal,
        admitted: Named | ByIntent | Routed,
        request_id: str,
        now: float,
        drawn: tuple[Drawn, ...],
    ) -> Decision | Awaitable[Decision]:
        limiter = self.shared.limiter
        if limiter is None or not self.snapshot.limits:
            return self._decide_admitted(request, caller, admitted, request_id, now)
        return self._decide_within_limits(limiter, request, caller, admitted, request_id, now, drawn)

    def _decide_admitted(
        self, request: Request, caller: Principal, admitted: Named | ByIntent | Routed, request_id: str, now: float
    ) -> Routed | Denied | Awaitable[Routed | Denied]:
        if isinstance(admitted, Routed):
            return admitted
        said = (
            self.snapshot.harness.spoken_only(request.conversation) if self._reads(admitted) else request.conversation
        )
        aim = self._aim(admitted, said, now)
        tier = self.snapshot.tiers.get(aim.target) if aim is not None else None
        rate = self._recall_rate(tier, said) if tier else None
        if aim is None or (tier is not None and rate is None):
            return self._wait_then_decide(request, said, caller, aim or admitted, request_id, now)
        grading = self._grading(tier, rate, request_id)
        return self._decide_by(request, caller, aim, grading, request_id, now)

    def _decide_by(
        self,
        request: Request,
        caller: Principal,
        aim: Named | Chosen,
        grading: Grading | None,
        request_id: str,
        now: float,
    ) -> Routed | Denied:
        resting = self.shared.cooling.resting(now)
        with step("authorize"):
            return decide(self.snapshot, request, caller, aim, grading, request_id=request_id, now=now, resting=resting)

    async def _decide_within_limits(
        self,
        limiter: LimitKeeper,
        request: Request,
        caller: Principal,
        admitted: Named | ByIntent | Routed,
        request_id: str,
        now: float,
        entered: tuple[Drawn, ...],
    ) -> Decision:
        use = estimate(request, self.snapshot.default_output_tokens)
        holding = Holding(limiter, self.snapshot, caller, self.shared.telemetry)
        with holding:
            charges = token_charges(self.snapshot.limits, caller, request.headers, use)
            if denied := await holding.draw(charges):
                return denied
            answer = self._decide_admitted(request, caller, admitted, request_id, now)
            decision = answer if isinstance(answer, Routed | Denied) else await answer
            if isinstance(decision, Denied):
                return decision
            charges = target_charges(
                self.snapshot.limits, caller, request.headers, use, model=decision.model, route=decision.route
            )
            if denied := await holding.draw(charges):
                return replace(denied, route=decision.route, intent=decision.intent)
            return replace(decision, reserved=Reservation((*entered, *holding.keep()), use, decision.model))

    def _reads(self, admitted: Named | ByIntent) -> bool:
        """Whether what was said decides anything."""
        return isinstance(admitted, ByIntent) or admitted.target in self.snapshot.tiers

    def _aim(self, admitted: Named | ByIntent, conversation: Conversation, now: float) -> Named | Chosen | None:
        """What the request goes to, as far as that is known without waiting."""
        if isinstance(admitted, Named):
            return admitted
        scores = self._pinned(admitted.pin, now) or self._recall(conversation)
        return None if scores is None else choose(self.snapshot, admitted, scores)

    def _pinned(self, pin: Pin | None, now: float) -> Pinned | None:
        route = self.shared.pins.route(pin, self.snapshot.routes, now) if pin else None
        return Pinned(route, pin.policy.header) if pin and route else None

    def _recall(self, conversation: Conversation) -> Scores | NoScores | None:
        classifier = self.advisers.classifier
        if classifier is None or not conversation.last_user:
            return NoScores("empty")
        try:
            return classifier.recall(conversation)
        except Exception:
            log.exception("classifier_failed")
            return NoScores("failed")

    def _recall_rate(self, tier: Tier, conversation: Conversation) -> WinRate | NoWinRate | None:
        if not conversation.last_user.strip():
            return NoWinRate("empty")
        try:
            return self.advisers.graders[tier.name].recall(conversation)
        except Exception:
            log.exception("grader_failed", tier=tier.name)
            return NoWinRate("failed")

    def _grading(self, tier: Tier | None, rate: WinRate | NoWinRate | None, request_id: str) -> Grading | None:
        if tier is None or rate is None:
            return None
        threshold = self.shared.thresholds.of(tier).threshold
        return Grading(rate, threshold, toss(tier, request_id) if self.explores else None)

    async def _wait_then_decide(
        self,
        request: Request,
        said: Conversation,
        caller: Principal,
        aim: Named | ByIntent | Chosen,
        request_id: str,
        now: float,
    ) -> Routed | Denied:
        with asking_for("" if caller is ANONYMOUS else caller.id):
            if isinstance(aim, ByIntent):
                aim = choose(self.snapshot, aim, await self.classify(said))
            tier = self.snapshot.tiers.get(aim.target)
            rate = await self._grade(tier, said) if tier else None
        grading = self._grading(tier, rate, request_id)
        return self._decide_by(request, caller, aim, grading, request_id, now)

    async def _grade(self, tier: Tier, conversation: Conversation) -> WinRate | NoWinRate:
        """The win rate; or why there is none, which is never an error: the tier has a fallback."""
        rate = self._recall_rate(tier, conversation)
        if rate is not None:
            return rate
        began = perf_counter()
        with step("grade") as span:
            rate = await self._win_rate(tier, conversation)
            tell_rate(span, tier, rate)
        self.shared.telemetry.graded(tier.name, rate, perf_counter() - began)
        return rate

    async def _win_rate(self, tier: Tier, conversation: Conversation) -> WinRate | NoWinRate:
        try:
            async with asyncio.timeout(tier.deadline):
                return await self.advisers.graders[tier.name].win_rate(conversation)
        except TimeoutError:
            return NoWinRate("late")
        except WorldError as error:
            return NoWinRate("failed", str(error))
        except Exception:
            # As with the classifier: whatever is wrong, the fallback is the written answer to it.
            log.exception("grader_failed", tier=tier.name)
            return NoWinRate("failed")

    async def classify(self, conversation: Conversation) -> Scores | NoScores:
        """The scores; or why there are none, which is never an error: intent falls back."""
        began = perf_counter()
        with step("classify") as span:
            scores = await self._scores(conversation)
            tell_scores(span, scores)
        self.shared.telemetry.classified(scores, perf_counter() - began)
        return scores

    async def _scores(self, conversation: Conversation) -> Scores | NoScores:
        classifier = self.advisers.classifier
        assert classifier is not None
        try:
            async with asyncio.timeout(self.advisers.deadline):
                return await classifier.classify(conversation)
        except TimeoutError:
            # A slow classifier costs the caller its intent, never its answer.
            return NoScores("late")
        except WorldError as error:
            return NoScores("failed", str(error))
        except Exception:
            # Whatever is wrong with a classifier, the fallback is the written answer to it.
            log.exception("classifier_failed")
            return NoScores("failed")


def _reserved(drawn: tuple[Drawn, ...]) -> Reservation | None:
    """Of a request that is no call: it uses no tokens."""
    return Reservation(drawn, Estimate()) if drawn else None
