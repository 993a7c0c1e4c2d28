"""The spine: authenticate -> limits of the caller -> classify -> grade -> decide -> limits of the model.

A router is one snapshot with its classifier, and never changes; a reload makes
another. Most requests need no waiting, so `decide` answers at once where it
can, in the same turn of the event loop that read the request, and only a
classification and limits are awaited, never longer than their deadlines. What
a request has drawn from limits goes back unless the request goes on.
"""

import asyncio
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field, replace
from time import perf_counter, time
from types import TracebackType
from typing import Protocol

import structlog

from wissel.classifiers.base import Classifier
from wissel.core.access import Principal
from wissel.core.decision import Decision, Denied, Passed, Routed
from wissel.core.identity import TokenCheck, identify
from wissel.core.intent import NoScores, Pinned, Scores
from wissel.core.limits import (
    Charge,
    Drawn,
    Estimate,
    Exceeded,
    Reservation,
    Unchecked,
    Used,
    caller_charges,
    estimate,
    target_charges,
)
from wissel.core.outcome import Outcome
from wissel.core.pin import Pins, pin_of
from wissel.core.policy import ByIntent, Named, admit, decide, list_models, pass_through, tier_for
from wissel.core.refusals import exceeded, uncounted
from wissel.core.request import Conversation, Head, Request
from wissel.core.settlement import used
from wissel.core.snapshot import OnStoreFailure, Snapshot
from wissel.core.tier import Grading, NoWinRate, Thresholds, Tier, WinRate, toss
from wissel.errors import WorldError
from wissel.telemetry.counting import Telemetry
from wissel.telemetry.tracing import Tracing, step, tell_draw, tell_rate, tell_scores
from wissel.tiers.grading import LiveGrader

log = structlog.get_logger(__name__)


class LimitKeeper(Protocol):
    """Keeps count over all replicas."""

    async def draw(
        self, charges: tuple[Charge, ...], *, otherwise: OnStoreFailure
    ) -> Drawn | Exceeded | Unchecked | None:
        """Draw all charges or none; None where nothing was drawn and the request may go on all the same."""
        ...

    def settle(self, drawn: Drawn, used: Used | None) -> None:
        """Put right what was estimated; `used` is None for a request that never went on."""
        ...


class RefusalTeller(Protocol):
    """Tells of refusals."""

    def denied(self, decision: Denied, request_id: str) -> None:
        """A request was refused."""
        ...


@dataclass(frozen=True, slots=True)
class Router:
    """Decides requests by one snapshot."""

    snapshot: Snapshot
    classifier: Classifier | None
    """None where no route needs one."""
    deadline: float
    """Seconds that a classification may take."""
    telemetry: Telemetry
    graders: Mapping[str, LiveGrader] = field(default_factory=dict[str, LiveGrader])
    """By tier."""
    thresholds: Thresholds = field(default_factory=Thresholds)
    """Shared by the routers of one process, so that a reload keeps what the tiers have learned of the traffic."""
    pins: Pins = field(default_factory=Pins)
    """Shared by the routers of one process, so that a reload keeps the routes of sessions."""
    limiter: LimitKeeper | None = None
    """None where nothing is to be counted."""
    tokens: TokenCheck | None = None
    """None where no issuer of tokens is configured."""
    denials: RefusalTeller | None = None
    """None where nobody is told."""
    tracing: Tracing = field(default_factory=Tracing)
    explores: bool = True
    """Whether tiers that learn leave their share of requests to a coin."""

    def uncounted(self) -> "Router":
        """The same decisions, drawing nothing from any limit, told to nobody and left to no coin."""
        return replace(self, limiter=None, denials=None, explores=False)

    def identify(self, head: Head) -> Principal | Denied:
        """Who is calling."""
        return identify(self.snapshot, head, now=time(), tokens=self.tokens)

    def decide(self, subject: Request | Head, caller: Principal, request_id: str) -> Decision | Awaitable[Decision]:
        """The decision, or something to await where a classification has to be waited for."""
        match subject:
            case Head(kind="models"):
                return list_models(self.snapshot, subject, caller, now=time())
            case Head():
                passed = pass_through(self.snapshot, subject, caller, now=time())
                return passed if isinstance(passed, Denied) else self._pass_within_limits(subject, passed)
            case Request():
                return self._decide_call(subject, caller, request_id)

    def served(self, decision: Decision) -> None:
        """The decision became an answer to Envoy: the budget of its tier counts it, and its session is on its route."""
        if not isinstance(decision, Routed):
            return
        if decision.tier is not None:
            self.thresholds.served(decision.tier)
        if decision.pin is not None:
            self.pins.keep(decision.pin, decision.route, self.snapshot.routes, time())

    def refused(self, decision: Denied, request_id: str) -> None:
        """A refusal was sent."""
        if self.denials is not None:
            self.denials.denied(decision, request_id)

    def settle(self, decision: Decision | None, outcome: Outcome | None) -> None:
        """A decided request is over: put right what was estimated for it."""
        if self.limiter is not None and isinstance(decision, Routed | Passed) and decision.reserved is not None:
            came_to = used(decision.reserved, outcome)
            for drawn in decision.reserved.drawn:
                self.limiter.settle(drawn, came_to)

    def _decide_call(self, request: Request, caller: Principal, request_id: str) -> Decision | Awaitable[Decision]:
        now = time()
        with step("authorize"):
            admitted = admit(self.snapshot, request, caller, now=now)
        if isinstance(admitted, Denied):
            return admitted
        if self.limiter is None or not self.snapshot.limits:
            return self._decide_admitted(request, caller, admitted, request_id, now)
        return self._decide_within_limits(self.limiter, request, caller, admitted, request_id, now)

    def _decide_admitted(
        self, request: Request, caller: Principal, admitted: Named | ByIntent, request_id: str, now: float
    ) -> Routed | Denied | Awaitable[Routed | Denied]:
        scores = None
        if isinstance(admitted, ByIntent):
            scores = self._pinned(request, caller, now) or self._recall(request.conversation)
            if scores is None:
                return self._wait_then_decide(request, caller, admitted, scores, request_id, now)
        tier = tier_for(self.snapshot, admitted, scores)
        rate = self._recall_rate(tier, request.conversation) if tier else None
        if tier is not None and rate is None:
            return self._wait_then_decide(request, caller, admitted, scores, request_id, now)
        grading = self._grading(tier, rate, request_id)
        with step("authorize"):
            return decide(self.snapshot, request, caller, admitted, scores, grading, request_id=request_id, now=now)

    async def _decide_within_limits(
        self,
        limiter: LimitKeeper,
        request: Request,
        caller: Principal,
        admitted: Named | ByIntent,
        request_id: str,
        now: float,
    ) -> Decision:
        use = estimate(request)
        holding = _Holding(limiter, self.snapshot, caller, self.telemetry)
        with holding:
            charges = caller_charges(self.snapshot.limits, caller, request.headers, use)
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
            return replace(decision, reserved=Reservation(holding.keep(), use, decision.model))

    def _pass_within_limits(self, head: Head, passed: Passed) -> Decision | Awaitable[Decision]:
        if self.limiter is None or not self.snapshot.limits:
            return passed
        return self._draw_then_pass(self.limiter, head, passed)

    async def _draw_then_pass(self, limiter: LimitKeeper, head: Head, passed: Passed) -> Decision:
        holding = _Holding(limiter, self.snapshot, passed.principal, self.telemetry)
        with holding:
            charges = caller_charges(self.snapshot.limits, passed.principal, head.headers, Estimate())
            if denied := await holding.draw(charges):
                return denied
            return replace(passed, reserved=Reservation(holding.keep(), Estimate()))

    def _pinned(self, request: Request, caller: Principal, now: float) -> Pinned | None:
        pin = pin_of(self.snapshot.pin, request, caller)
        route = self.pins.route(pin, self.snapshot.routes, now) if pin else None
        return Pinned(route, pin.policy.header) if pin and route else None

    def _recall(self, conversation: Conversation) -> Scores | NoScores | None:
        if self.classifier is None or not conversation.last_user:
            return NoScores("empty")
        try:
            return self.classifier.recall(conversation)
        except Exception:
            log.exception("classifier_failed")
            return NoScores("failed")

    def _recall_rate(self, tier: Tier, conversation: Conversation) -> WinRate | NoWinRate | None:
        if not conversation.last_user.strip():
            return NoWinRate("empty")
        try:
            return self.graders[tier.name].recall(conversation)
        except Exception:
            log.exception("grader_failed", tier=tier.name)
            return NoWinRate("failed")

    def _grading(self, tier: Tier | None, rate: WinRate | NoWinRate | None, request_id: str) -> Grading | None:
        if tier is None or rate is None:
            return None
        return Grading(rate, self.thresholds.of(tier).threshold, toss(tier, request_id) if self.explores else None)

    async def _wait_then_decide(
        self,
        request: Request,
        caller: Principal,
        admitted: Named | ByIntent,
        scores: Scores | NoScores | Pinned | None,
        request_id: str,
        now: float,
    ) -> Routed | Denied:
        if scores is None and isinstance(admitted, ByIntent):
            scores = await self.classify(request.conversation)
        tier = tier_for(self.snapshot, admitted, scores)
        rate = await self._grade(tier, request.conversation) if tier else None
        grading = self._grading(tier, rate, request_id)
        with step("authorize"):
            return decide(self.snapshot, request, caller, admitted, scores, grading, request_id=request_id, now=now)

    async def _grade(self, tier: Tier, conversation: Conversation) -> WinRate | NoWinRate:
        """The win rate; or why there is none, which is never an error: the tier has a fallback."""
        rate = self._recall_rate(tier, conversation)
        if rate is not None:
            return rate
        began = perf_counter()
        with step("grade") as span:
            rate = await self._win_rate(tier, conversation)
            tell_rate(span, tier, rate)
        self.telemetry.graded(tier.name, rate, perf_counter() - began)
        return rate

    async def _win_rate(self, tier: Tier, conversation: Conversation) -> WinRate | NoWinRate:
        try:
            async with asyncio.timeout(tier.deadline):
                return await self.graders[tier.name].win_rate(conversation)
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
        self.telemetry.classified(scores, perf_counter() - began)
        return scores

    async def _scores(self, conversation: Conversation) -> Scores | NoScores:
        assert self.classifier is not None
        try:
            async with asyncio.timeout(self.deadline):
                return await self.classifier.classify(conversation)
        except TimeoutError:
            # A slow classifier costs the caller its intent, never its answer.
            return NoScores("late")
        except WorldError as error:
            return NoScores("failed", str(error))
        except Exception:
            # Whatever is wrong with a classifier, the fallback is the written answer to it.
            log.exception("classifier_failed")
            return NoScores("failed")


class _Holding:
    """What one request has drawn so far; at the end of the block it goes back, unless it is kept."""

    def __init__(self, limiter: LimitKeeper, snapshot: Snapshot, caller: Principal, telemetry: Telemetry) -> None:
        self._limiter = limiter
        self._telemetry = telemetry
        self._snapshot = snapshot
        self._caller = caller
        self._drawn: list[Drawn] = []

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for drawn in self._drawn:
            self._limiter.settle(drawn, None)

    async def draw(self, charges: tuple[Charge, ...]) -> Denied | None:
        """Draw all charges, or say why not."""
        if not charges:
            return None
        began = perf_counter()
        with step("limit") as span:
            found = await self._limiter.draw(charges, otherwise=self._snapshot.on_store_failure)
            tell_draw(span, charges, found)
        self._telemetry.drew(found, perf_counter() - began)
        match found:
            case Drawn():
                self._drawn.append(found)
            case Exceeded():
                return exceeded(found, self._caller, self._snapshot.revision)
            case Unchecked():
                return uncounted(self._caller, self._snapshot.revision)
            case None:
                pass
        return None

    def keep(self) -> tuple[Drawn, ...]:
        """Everything drawn is the decision's now."""
        kept, self._drawn = tuple(self._drawn), []
        return kept
