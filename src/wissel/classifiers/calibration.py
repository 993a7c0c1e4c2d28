"""From scores to the chance that their answer is right, learned from the operator's own examples.

    scores and threshold, over a temperature -> softmax over the routes and "other" -> confidence

"Other" takes part as a route that always scores the threshold, so the answer
is the likeliest of them. The temperature is the one under which the examples,
each scored by what was learned without it, are least surprising (Guo et al.
2017); few examples move it little from what is usual.
"""

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]

USUAL = 0.05
"""The temperature without examples."""

USUAL_WEIGHT = 20
"""As many examples' worth of it."""

TRIED = np.geomspace(0.005, 0.5, 47)


def learn_temperature(scores: Floats, truth: NDArray[np.intp], threshold: float) -> float:
    """From scores (n, routes) and whose each row is."""
    if not len(truth):
        return USUAL
    own = np.arange(len(truth)), truth
    surprise = [float(-np.log(_odds(scores, threshold, each)[own].clip(1e-12)).mean()) for each in TRIED]
    fitted = np.log(TRIED[int(np.argmin(surprise))])
    weight = len(truth) / (len(truth) + USUAL_WEIGHT)
    return float(np.exp(weight * fitted + (1 - weight) * np.log(USUAL)))


def confidence(scores: Floats, threshold: float, temperature: float) -> float:
    """The chance that the answer of one row of scores, (routes,), is right."""
    best = float(scores.max())
    answer = max(best, threshold)
    # Over the odds of the answer, whichever it is.
    routes = float(np.exp((scores - answer) / temperature).sum())
    return 1 / (routes + math.exp((threshold - answer) / temperature))


def _odds(scores: Floats, threshold: float, temperature: float) -> Floats:
    """The probability of each route, (n, routes); what is missing to one is that of "other"."""
    top = np.maximum(scores.max(axis=1, keepdims=True), threshold)
    odds = np.exp((scores - top) / temperature)
    return odds / (odds.sum(axis=1, keepdims=True) + np.exp((threshold - top) / temperature))
