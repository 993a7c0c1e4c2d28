"""The spine: authenticate -> classify -> grade -> decide.

A router is one snapshot with its classifier, and never changes; a reload makes
another. Most requests need no waiting, so `decide` answers at once where it
can, in the same turn of the event loop that read the request, and only a
classification is awaited, never longer than its deadline.
"""

import asyncio
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field
from time import perf_counter

import structlog

from wissel.classifiers.base import Classifier
from wissel.core.access import Principal
from wissel.core.decision import Decision, Denied, Routed
from wissel.core.identity import identify
from wissel.core.intent import NoScores, Scores
from wissel.core.policy import ByIntent, Named, admit, decide, list_models, pass_through, tier_for
from wissel.core.request import Conversation, Head, Request
from wissel.core.snapshot import Snapshot
from wissel.core.tier import Grading, NoWinRate, Thresholds, Tier, WinRate
from wissel.errors import WorldError
from wissel.quality.serving import Grader
from wissel.telemetry import Telemetry

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Router:
    """Decides requests by one snapshot."""

    snapshot: Snapshot
    classifier: Classifier | None
    """None where no route needs one."""
    deadline: float
    """Seconds that a classification may take."""
    telemetry: Telemetry
    graders: Mapping[str, Grader] = field(default_factory=dict[str, Grader])
    """By tier."""
    thresholds: Thresholds = field(default_factory=Thresholds)
    """Shared by the routers of one process, so that a reload keeps what the tiers have learned of the traffic."""

    def identify(self, head: Head) -> Principal | Denied:
        """Who is calling."""
        return identify(self.snapshot, head.headers)

    def decide(self, subject: Request | Head, caller: Principal, request_id: str) -> Decision | Awaitable[Decision]:
        """The decision, or something to await where a classification has to be waited for."""
        match subject:
            case Head(kind="models"):
                return list_models(self.snapshot, subject, caller)
            case Head():
                return pass_through(self.snapshot, subject, caller)
            case Request():
                return self._decide_call(subject, caller, request_id)

    def served(self, decision: Decision) -> None:
        """The decision became an answer to Envoy: from now on the budget of its tier counts it."""
        if isinstance(decision, Routed) and decision.tier is not None:
            self.thresholds.served(decision.tier)

    def _decide_call(self, request: Request, caller: Principal, request_id: str) -> Decision | Awaitable[Decision]:
        admitted = admit(self.snapshot, request, caller)
        if isinstance(admitted, Denied):
            return admitted
        scores = None
        if isinstance(admitted, ByIntent):
            scores = self._recall(request.conversation)
            if scores is None:
                return self._wait_then_decide(request, caller, admitted, scores, request_id)
        tier = tier_for(self.snapshot, admitted, scores)
        rate = self._recall_rate(tier, request.conversation) if tier else None
        if tier is not None and rate is None:
            return self._wait_then_decide(request, caller, admitted, scores, request_id)
        grading = self._grading(tier, rate)
        return decide(self.snapshot, request, caller, admitted, scores, grading, request_id=request_id)

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

    def _grading(self, tier: Tier | None, rate: WinRate | NoWinRate | None) -> Grading | None:
        return None if tier is None or rate is None else Grading(rate, self.thresholds.of(tier).threshold)

    async def _wait_then_decide(
        self,
        request: Request,
        caller: Principal,
        admitted: Named | ByIntent,
        scores: Scores | NoScores | None,
        request_id: str,
    ) -> Decision:
        if scores is None and isinstance(admitted, ByIntent):
            scores = await self.classify(request.conversation)
        tier = tier_for(self.snapshot, admitted, scores)
        rate = await self._grade(tier, request.conversation) if tier else None
        grading = self._grading(tier, rate)
        return decide(self.snapshot, request, caller, admitted, scores, grading, request_id=request_id)

    async def _grade(self, tier: Tier, conversation: Conversation) -> WinRate | NoWinRate:
        """The win rate; or why there is none, which is never an error: the tier has a fallback."""
        rate = self._recall_rate(tier, conversation)
        if rate is not None:
            return rate
        began = perf_counter()
        try:
            async with asyncio.timeout(tier.deadline):
                rate = await self.graders[tier.name].win_rate(conversation)
        except TimeoutError:
            rate = NoWinRate("late")
        except WorldError as error:
            rate = NoWinRate("failed", str(error))
        except Exception:
            # As with the classifier: whatever is wrong, the fallback is the written answer to it.
            log.exception("grader_failed", tier=tier.name)
            rate = NoWinRate("failed")
        self.telemetry.graded(tier.name, rate, perf_counter() - began)
        return rate

    async def classify(self, conversation: Conversation) -> Scores | NoScores:
        """The scores; or why there are none, which is never an error: intent falls back."""
        assert self.classifier is not None
        began = perf_counter()
        try:
            async with asyncio.timeout(self.deadline):
                scores = await self.classifier.classify(conversation)
        except TimeoutError:
            # A slow classifier costs the caller its intent, never its answer.
            scores = NoScores("late")
        except WorldError as error:
            scores = NoScores("failed", str(error))
        except Exception:
            # Whatever is wrong with a classifier, the fallback is the written answer to it.
            log.exception("classifier_failed")
            scores = NoScores("failed")
        self.telemetry.classified(scores, perf_counter() - began)
        return scores
