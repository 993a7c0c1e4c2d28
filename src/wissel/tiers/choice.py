"""Choosing a setting by the training data alone: each battle is predicted from all others."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from wissel.tiers.base import Vectors
from wissel.tiers.metrics import Ends, Floats, call_performance

T = TypeVar("T")

QUERIES = 2000
"""So many battles are predicted; more make no better choice, and their cosines with all others must fit in memory."""


def leave_one_out(
    vectors: Vectors, ends: Ends, rank: Callable[[Vectors], Sequence[Floats]], *, seed: int
) -> list[float]:
    """The APGR of each of the win rates that `rank` gives for cosines, (queries, battles); nobody sees itself."""
    rows = np.random.default_rng(seed).permutation(len(vectors))[:QUERIES]
    cosines = vectors[rows] @ vectors.T
    cosines[np.arange(len(rows)), rows] = -1.0
    asked = ends.take(rows)
    if asked.gap == 0:
        raise ValueError("both models did equally well on what is to be learned from, so there is nothing to learn")
    return [call_performance(win_rates, asked).apgr for win_rates in rank(cosines)]


def best_of(candidates: Sequence[T], scores: Sequence[float]) -> T:
    return candidates[int(np.argmax(scores))]
