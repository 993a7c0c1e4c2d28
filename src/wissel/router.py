"""The spine: authenticate -> classify -> decide.

A router is one snapshot with its classifier, and never changes; a reload makes
another. Most requests need no waiting, so `decide` answers at once where it
can, in the same turn of the event loop that read the request, and only a
classification is awaited, never longer than its deadline.
"""

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass, field
from time import perf_counter

import structlog

from wissel.classifiers.base import Classifier
from wissel.core.access import Principal
from wissel.core.decision import Decision, Denied
from wissel.core.identity import identify
from wissel.core.intent import NoScores, Scores
from wissel.core.policy import ByIntent, Named, admit, decide, list_models, pass_through
from wissel.core.request import Conversation, Head, Request
from wissel.core.snapshot import Snapshot
from wissel.errors import WorldError
from wissel.telemetry import Telemetry
from wissel.tracing import Tracing, step, tell_scores

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
    tracing: Tracing = field(default_factory=Tracing)

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

    def _decide_call(self, request: Request, caller: Principal, request_id: str) -> Decision | Awaitable[Decision]:
        with step("authorize"):
            admitted = admit(self.snapshot, request, caller)
            match admitted:
                case Denied():
                    return admitted
                case Named():
                    return decide(self.snapshot, request, caller, admitted, request_id=request_id)
                case ByIntent():
                    pass
        scores = self._recall(request.conversation)
        if scores is None:
            return self._classify_then_decide(request, caller, admitted, request_id)
        return self._decide_by(scores, request, caller, admitted, request_id)

    def _recall(self, conversation: Conversation) -> Scores | NoScores | None:
        if self.classifier is None or not conversation.last_user:
            return NoScores("empty")
        try:
            return self.classifier.recall(conversation)
        except Exception:
            log.exception("classifier_failed")
            return NoScores("failed")

    async def _classify_then_decide(
        self, request: Request, caller: Principal, admitted: ByIntent, request_id: str
    ) -> Decision:
        scores = await self.classify(request.conversation)
        return self._decide_by(scores, request, caller, admitted, request_id)

    def _decide_by(
        self, scores: Scores | NoScores, request: Request, caller: Principal, admitted: ByIntent, request_id: str
    ) -> Decision:
        with step("authorize"):
            return decide(self.snapshot, request, caller, admitted, scores, request_id=request_id)

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
