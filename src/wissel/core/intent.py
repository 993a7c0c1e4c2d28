"""From a classifier's scores to a route.

A classifier says how well each route matches; it never decides. The choice,
and what happens when there is nothing to choose from, is made here and only
here: the route that the session is pinned to, the best route at or above the
threshold, else the fallback.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

OTHER = "other"
"""The intent of a request that matches no route."""

UNKNOWN = "the encoder knows nothing like what is said: another language, or no language"

IntentReason = Literal["match", "pinned", "other", "not_understood", "late", "failed", "empty"]


@dataclass(frozen=True, slots=True)
class Scores:
    """How well a request matches each route."""

    by_route: Mapping[str, float]
    """Route name to score; higher is better, and comparable with `threshold` only."""
    threshold: float
    """Below it the intent is "other"."""
    classifier: str = ""
    """Which classifier spoke, by its type."""
    confidence: float | None = None
    """The chance that the answer which follows from the scores is right; None where nobody worked it out."""
    staying: float = 0.0
    """What the best route's score owes to the conversation being on that route already."""
    detail: str = ""
    """Who was asked as well and could not say, and why."""
    understood: bool = True
    """Whether what the user says is anything that the classifier knows; if not, the scores mean nothing."""
    script: str = ""
    """In which the last question is written; empty where the classifier does not look."""

    @property
    def ranking(self) -> list[tuple[str, float]]:
        """Best first; ties by name, so that the order of routes never matters."""
        return sorted(self.by_route.items(), key=_by_rank)


@dataclass(frozen=True, slots=True)
class NoScores:
    """The classifier gave no answer; `reason` says why."""

    reason: Literal["late", "failed", "empty"]
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Pinned:
    """Nobody was asked: the request's session has its route."""

    route: str
    header: str
    """What names the session."""


@dataclass(frozen=True, slots=True)
class Intent:
    """The route that a request takes, and why."""

    route: str
    reason: IntentReason
    score: float | None = None
    scores: Mapping[str, float] = field(default_factory=dict[str, float])
    threshold: float | None = None
    classifier: str = ""
    detail: str = ""
    confidence: float | None = None
    """The chance that this is right; None where the classifier does not say."""
    script: str = ""
    """In which the last question is written; empty where nobody looked."""


def choose_route(scores: Scores | NoScores | Pinned, *, fallback: str) -> Intent:
    """The session's route, the best one, or `fallback` where none is good enough or nobody could say."""
    match scores:
        case NoScores(reason, detail):
            return Intent(fallback, reason, detail=detail)
        case Pinned(route, header):
            return Intent(route, "pinned", detail=f"by {header}")
        case Scores(by_route, threshold, classifier, _, detail=detail, understood=False):
            return Intent(
                fallback,
                "not_understood",
                None,
                by_route,
                threshold,
                classifier,
                detail or UNKNOWN,
                script=scores.script,
            )
        case Scores(by_route, threshold, classifier, confidence, detail=detail, script=script):
            # The first of the ranking, without sorting.
            route, score = min(by_route.items(), key=_by_rank, default=(OTHER, float("-inf")))
            if route != OTHER and score >= threshold:
                return Intent(route, "match", score, by_route, threshold, classifier, detail, confidence, script)
            return Intent(fallback, "other", score, by_route, threshold, classifier, detail, confidence, script)


def _by_rank(item: tuple[str, float]) -> tuple[float, str]:
    name, score = item
    return -score, name
