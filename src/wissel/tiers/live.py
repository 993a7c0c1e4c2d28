"""Answers whose end a coin chose, as labels that graders learn from.

An answer shows how one end did and nothing of the other. A fair coin mends
that: let `y` be the score of the end that served and `b` the mean score. The
row says that the end that served had `y` and the other one `b`, so its gain is
`y - b` where the strong end served and `b - y` where the weak one did. Over the
coin the mean gain of a prompt is

    1/2 (y_strong - b) + 1/2 (b - y_weak) = 1/2 (y_strong - y_weak)

half the true one, whatever `b` is; `b` only makes the rows less noisy. This is
inverse propensity weighting with propensities that are all one half (Horvitz
and Thompson 1952) and the mean as control variate. So graders order prompts as
they would with both answers graded, and APGR, CPT and budgets, which are of the
order alone, are estimated without bias; only win rates lie half as far from one
half as they should.

What it rests on: that whether a caller gives a score depends on the prompt but
not on the end that answered. Each end's rows have the same total weight, which
mends an end whose answers are rated more often all over; more often on some
prompts only, nothing mends.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Literal

import numpy as np

from wissel.core.lesson import Taught
from wissel.core.tier import Strength
from wissel.tiers.base import STRONG, WEAK
from wissel.tiers.metrics import Ends, figures

By = Literal["feedback", "outcome"]
"""What an answer is judged by: the caller's score, or whether there was an answer at all."""

SEED = 0
SURE = 1.96
"""Standard errors of a 95 % interval."""
UNEVEN = 3.0
"""Standard errors beyond which the ends are said to be rated unequally often."""
LEAST = 100
"""Labels of each end, from which the order of the win rates is measured."""


@dataclass(frozen=True)
class Label:
    """One answer and its score between 0 and 1."""

    taught: Taught
    score: float

    @property
    def end(self) -> Strength:
        return self.taught.lesson.end


def labels_of(lessons: Sequence[Taught], by: By) -> list[Label]:
    """Feedback says nothing of answers that nobody rated; the outcome speaks of every answer."""
    if by == "outcome":
        return [Label(each, float(each.ok)) for each in lessons]
    return [Label(each, each.score) for each in lessons if each.score is not None]


def rows_of(labels: Sequence[Label]) -> list[dict[str, Any]]:
    """Rows for `wissel tier train`; without a prompt where none was kept. Both ends must be among the labels."""
    means = {end: fmean(_scores(labels, end)) for end in (STRONG, WEAK)}
    typical = (means[STRONG] + means[WEAK]) / 2
    weights = {end: len(labels) / (2 * len(_scores(labels, end))) for end in (STRONG, WEAK)}
    return [_row(each, typical, weights[each.end]) for each in labels]


def _row(label: Label, typical: float, weight: float) -> dict[str, Any]:
    taught, lesson = label.taught, label.taught.lesson
    strong, weak = (label.score, typical) if label.end == STRONG else (typical, label.score)
    return {
        **({"prompt": lesson.prompt} if lesson.prompt else {}),
        STRONG: round(strong, 6),
        WEAK: round(weak, 6),
        "weight": round(weight, 6),
        **({"route": taught.route} if taught.route else {}),
        "served": label.end,
        "model": taught.model,
        "win_rate": round(lesson.win_rate, 6),
        "at": round(taught.at, 3),
        "request_id": taught.request_id,
    }


@dataclass(frozen=True)
class Side:
    """One end, over the requests that a coin sent there."""

    explored: int
    labelled: int
    mean: float | None
    """Of its scores; None without any."""


@dataclass(frozen=True)
class Summary:
    """What the labels say before anything is trained."""

    strong: Side
    weak: Side
    gain: float | None
    """How much better the strong end does on average; None without labels of both ends."""
    interval: tuple[float, float] | None
    """Of the gain, 95 %."""
    apgr: float | None
    """Of the grader that served, by the win rates that it gave; None with fewer than 100 labels of an end."""
    apgr_interval: tuple[float, float] | None
    warnings: tuple[str, ...]


def summarize(lessons: Sequence[Taught], labels: Sequence[Label]) -> Summary:
    """The ends compared, and the grader that served measured; prompts are not needed."""
    sides = {end: _side(lessons, labels, end) for end in (STRONG, WEAK)}
    gain, interval = _gain(labels)
    apgr, apgr_interval = (
        _apgr(labels) if gain and min(each.labelled for each in sides.values()) >= LEAST else (None, None)
    )
    warnings = [*_uneven(sides[STRONG], sides[WEAK])]
    if interval is not None and interval[0] <= 0:
        warnings.append("the strong end is not known to be better, so there is little that a grader could learn")
    return Summary(sides[STRONG], sides[WEAK], gain, interval, apgr, apgr_interval, tuple(warnings))


def _side(lessons: Sequence[Taught], labels: Sequence[Label], end: str) -> Side:
    scores = _scores(labels, end)
    return Side(sum(each.lesson.end == end for each in lessons), len(scores), fmean(scores) if scores else None)


def _scores(labels: Sequence[Label], end: str) -> list[float]:
    return [each.score for each in labels if each.end == end]


def _gain(labels: Sequence[Label]) -> tuple[float | None, tuple[float, float] | None]:
    strong, weak = (np.array(_scores(labels, end)) for end in (STRONG, WEAK))
    if min(len(strong), len(weak)) < 2:
        return None, None
    gain = float(strong.mean() - weak.mean())
    error = math.sqrt(strong.var(ddof=1) / len(strong) + weak.var(ddof=1) / len(weak))
    return gain, (gain - SURE * error, gain + SURE * error)


def _apgr(labels: Sequence[Label]) -> tuple[float | None, tuple[float, float] | None]:
    rows = rows_of(labels)
    ends = Ends(*(np.array([row[end] for row in rows]) for end in (STRONG, WEAK)))
    if ends.gap <= 0:
        return None, None
    found = figures([(np.array([row["win_rate"] for row in rows]), ends)], seed=SEED)
    return found.apgr, found.interval


def _uneven(strong: Side, weak: Side) -> list[str]:
    """Whether one end's answers are labelled more often than chance allows: a two-proportion z-test."""
    asked, told = strong.explored + weak.explored, strong.labelled + weak.labelled
    if not strong.explored or not weak.explored or told in {0, asked}:
        return []
    share = told / asked
    error = math.sqrt(share * (1 - share) * (1 / strong.explored + 1 / weak.explored))
    rates = strong.labelled / strong.explored, weak.labelled / weak.explored
    if abs(rates[0] - rates[1]) <= UNEVEN * error:
        return []
    shown = [f"{100 * rate:.1f} %" for rate in rates]
    told = f"callers rate {shown[0]} of the strong end's answers and {shown[1]} of the weak one's"
    return [f"{told}: if who rates depends on the prompt as well, these labels mislead"]
