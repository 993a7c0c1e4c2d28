"""How sure a stage must be to be trusted, learned from the operator's own examples.

    scores -> how far they are from another answer -> certainty
    certainties of the examples, each scored without itself -> how often right, this stage and the next -> margin

What a stage is very sure of is right as often as the dearer stage's answer
would be. Only where one of the two is right and the other wrong does it matter
which of them is asked. Such examples are few, so how often they come as the
stage gets less sure is fitted: counted one by one, a few unlucky ones would
move the margin far.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]

MIN_EXAMPLES = 50
"""Fewer say nothing about the errors, which are rare."""

MARGIN = 0.1
"""Where there are too few examples to learn it."""

MISTRUST = 0.02
"""The share of errors among the answers that are trusted."""

CONCEDED = 0.001
"""Of all messages, what a stage may get wrong more than the one after it. On CLINC150, 10 examples an intent, it costs
0.03 to 0.17 points over eight draws, for messages that were not seen."""

LEAST_ANSWERED = 0.1
"""Of the examples. A stage that is trusted with fewer costs more than it spares: a static one, with 3 % of SGD's turns,
which say little by themselves, and the encoder behind it took 1.05 of the encoder's CPU alone."""

STEPS = 30
PENALTY = 1e-2
"""Of the fit: Newton's steps, and what keeps it finite where nothing happened."""


def certainty(best: float, next_best: float, threshold: float) -> float:
    """How far scores are from another answer, from the two highest and the threshold below which it is "other"."""
    return threshold - best if best < threshold else min(best - threshold, best - next_best)


@dataclass(frozen=True, slots=True)
class Judged:
    """How a stage answers examples, each scored without itself."""

    certainty: Floats
    right: NDArray[np.bool_]


def judge(scores: Floats, truth: NDArray[np.intp], threshold: float) -> Judged:
    """From scores (n, routes) and whose each example is."""
    ahead = (
        np.sort(scores, axis=1)[:, :-3:-1]
        if scores.shape[1] > 1
        else np.pad(scores, ((0, 0), (0, 1)), constant_values=-np.inf)
    )
    return Judged(
        np.array([certainty(best, next_best, threshold) for best, next_best in ahead.tolist()]),
        (scores.argmax(axis=1) == truth) & (scores.max(axis=1, initial=-np.inf) >= threshold),
    )


def learn_margin(stage: Judged) -> float:
    """How sure a stage must be that at most one in fifty of its answers is wrong."""
    if len(stage.right) < MIN_EXAMPLES:
        return MARGIN
    order = np.argsort(-stage.certainty, kind="stable")
    wrong = np.cumsum(~stage.right[order])
    trusted = np.flatnonzero(wrong <= MISTRUST * np.arange(1, len(order) + 1))
    return float(stage.certainty[order[trusted[-1] if len(trusted) else 0]])


def margin_of_share(stage: Judged, share: float) -> float:
    """How sure a stage must be for about this share of messages to go on: those that it is least sure of.

    On CLINC150's test rows, 10 examples an intent, a share of 0.1 gave 0.108 of the messages in scope, 0.05 gave 0.053.
    """
    return float(np.quantile(stage.certainty, share)) if len(stage.right) >= MIN_EXAMPLES else MARGIN


def margin_beside(stage: Judged, dearer: Judged) -> float:
    """How sure a stage must be where a dearer one was asked the same examples.

    As many as possible of its answers are trusted of those that leave the two stages together worse than the dearer
    alone by `CONCEDED` at most; infinite where there are too few examples to tell, or too few answers are trusted.
    """
    if len(stage.right) < MIN_EXAMPLES:
        return float("inf")
    order = np.argsort(-stage.certainty, kind="stable")
    won, lost = stage.right & ~dearer.right, ~stage.right & dearer.right
    gained = np.cumsum((_chance(stage.certainty, won) - _chance(stage.certainty, lost))[order])
    even = np.flatnonzero(gained >= -CONCEDED * len(order))
    margin = float(stage.certainty[order[even[-1]]]) if len(even) else float("inf")
    return margin if np.mean(stage.certainty >= margin) >= LEAST_ANSWERED else float("inf")


def _chance(certainty: Floats, happened: NDArray[np.bool_]) -> Floats:
    """Of what happened to some of the examples, for each of them, by how sure it is: logistic regression."""
    known = np.stack([np.ones_like(certainty), certainty], axis=1)
    weights = np.zeros(2)
    for _ in range(STEPS):
        chance = 1 / (1 + np.exp(-known @ weights))
        bend = known.T @ (known * (chance * (1 - chance))[:, None]) + PENALTY * np.eye(2)
        weights += np.linalg.solve(bend, known.T @ (happened - chance) - PENALTY * weights)
    return 1 / (1 + np.exp(-known @ weights))
