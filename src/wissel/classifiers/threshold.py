"""Below which score a request belongs to no route, learned from the routes' own phrases.

An example is what a user's message looks like, so each example, scored
against its own route without itself, is one guess at how a message that
belongs here will score. The threshold lies at the lower end of these guesses,
where about one in a hundred would be lost. Names and descriptions are no
guesses: they resemble each other more than any message resembles them. A
config with few or no examples therefore leans on a prior.

The constants come from CLINC150, examples from its training rows and messages
from its validation rows, over 5 to 150 intents with 0 to 20 examples each.
Against routes that have a name only, messages score 0.46; the prior's spread is
the one under which 1.6 % of the messages are lost among five such routes.
"""

import numpy as np
from numpy.typing import NDArray

from wissel.encoders.base import Vectors

BEST_SHARE = 0.25
"""Of the nearest phrase in a score; the rest is the centroid's."""

PRIOR_MEAN = 0.46
PRIOR_SD = 0.155
PRIOR_WEIGHT = 20
"""As many examples' worth of guesses."""

DEVIATIONS = 2.15
"""Below the mean: 1.6 % of a normal distribution lie there, but these have a lighter left tail."""

LOST_SHARE = 0.015
MIN_FOR_QUANTILE = 50
"""So many guesses show their own lower end, which is better than a normal distribution's where they are mixed."""

MIN_OTHERS = 2
"""An example is a guess if its route has so many other phrases; against a name alone it would score too low."""


def blend(best: NDArray[np.floating], centroid: NDArray[np.floating]) -> NDArray[np.floating]:
    """A score from the cosine with a route's nearest phrase and that with the mean of its phrases.

    Together they are right more often than either: the centroid alone misses what a route's one odd example says.
    """
    return BEST_SHARE * best + (1 - BEST_SHARE) * centroid


def centroid_of(vectors: Vectors) -> NDArray[np.float32]:
    """The direction of the mean: (n, dimensions) -> (dimensions,)."""
    mean = vectors.mean(axis=0)
    return mean / np.linalg.norm(mean)


def threshold_from(guesses: NDArray[np.floating]) -> float:
    """The score at or above which a message is taken to belong to its best route.

    From the scores of examples with their own routes, each without itself.
    """
    weight = PRIOR_WEIGHT + len(guesses)
    mean = (PRIOR_WEIGHT * PRIOR_MEAN + guesses.sum()) / weight
    prior_variance = PRIOR_SD**2 + (PRIOR_MEAN - mean) ** 2
    variance = (PRIOR_WEIGHT * prior_variance + ((guesses - mean) ** 2).sum()) / weight
    threshold = mean - DEVIATIONS * variance**0.5
    if len(guesses) >= MIN_FOR_QUANTILE:
        threshold = min(threshold, np.quantile(guesses, LOST_SHARE))
    return float(threshold)


def without_themselves(
    vectors: Vectors, starts: NDArray[np.intp], owners: NDArray[np.intp], rows: NDArray[np.intp]
) -> NDArray[np.floating]:
    """The scores, (len(rows), routes), of phrases as if they were messages, each left out of its own route.

    A route's phrases begin at its `starts`; the own route of each of `rows` has another phrase.
    """
    sums = np.add.reduceat(vectors, starts, axis=0)
    centroids = sums / np.linalg.norm(sums, axis=1, keepdims=True)
    scores = np.empty((len(rows), len(starts)), np.float32)
    for begin in range(0, len(rows), 256):  # all pairs at once would take a gigabyte for 15,000 phrases
        some = rows[begin : begin + 256]
        asked, at = vectors[some], np.arange(len(some))
        similar = asked @ vectors.T
        similar[at, some] = -1
        centroid = asked @ centroids.T
        others = sums[owners[some]] - asked
        centroid[at, owners[some]] = (others * asked).sum(axis=1) / np.linalg.norm(others, axis=1)
        scores[begin : begin + 256] = blend(np.maximum.reduceat(similar, starts, axis=1), centroid)
    return scores
