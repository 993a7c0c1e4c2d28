"""The mean gain of the nearest prompts.

The same idea as `similarity` with a hard border: what lies beyond the k nearest
battles has no say. How many neighbours are best depends on the data, so the
battles themselves are asked: each is predicted from the others, and the k that
ranks them best is kept.
"""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from wissel.tiers.base import Battles, Prompts, Settings, Tensors, Vectors
from wissel.tiers.choice import best_of, leave_one_out
from wissel.tiers.metrics import Floats
from wissel.tiers.space import Space

CANDIDATES = (25, 50, 100, 150, 250)


class NeighboursGrader:
    """Compares with every battle that it was given, and hears the `count` nearest."""

    KIND: ClassVar[str] = "neighbours"
    NEEDS_VECTORS: ClassVar[bool] = True

    def __init__(self, space: Space, battles: Vectors, outcomes: Vectors, weights: Vectors, *, count: int) -> None:
        self._space = space
        self._battles = battles
        self._outcomes = outcomes
        self._weights = weights
        self._count = count

    @classmethod
    def fit(cls, battles: Battles, *, seed: int = 0) -> "NeighboursGrader":
        """From battles with the strong model as a."""
        space = Space.for_comparison(battles.prompts)
        vectors = space.project(battles.prompts)
        outcomes, weights = battles.outcomes.astype(np.float32), battles.weights.astype(np.float32)
        usable = [count for count in CANDIDATES if count <= len(battles) // 2] or [max(1, len(battles) // 2)]

        def rank(cosines: Vectors) -> Sequence[Floats]:
            return [nearest_win_rates(cosines, outcomes, weights, count) for count in usable]

        count = best_of(usable, leave_one_out(vectors, battles.ends, rank, seed=seed))
        return cls(space, vectors, outcomes, weights, count=count)

    def win_rates(self, prompts: Prompts) -> Floats:
        cosines = self._space.project(prompts) @ self._battles.T
        return nearest_win_rates(cosines, self._outcomes, self._weights, min(self._count, len(self._outcomes)))

    def tensors(self) -> Tensors:
        learned = {"battles": self._battles, "outcomes": self._outcomes, "weights": self._weights}
        return {**self._space.tensors(), **learned}

    def settings(self) -> Settings:
        return {"count": self._count}

    @classmethod
    def restore(cls, tensors: Tensors, settings: Settings) -> "NeighboursGrader":
        count = int(str(settings["count"]))
        return cls(Space.restore(tensors), tensors["battles"], tensors["outcomes"], tensors["weights"], count=count)


def nearest_win_rates(
    cosines: NDArray[np.float32], outcomes: NDArray[np.float32], weights: NDArray[np.float32], count: int
) -> Floats:
    """(n, battles) -> (n,): the mean outcome of the nearest, weighted by cosine so that few prompts tie."""
    rows = np.argpartition(-cosines, count - 1, axis=1)[:, :count]
    near = np.maximum(np.take_along_axis(cosines, rows, axis=1), 1e-3) * weights[rows]
    return ((near * outcomes[rows]).sum(axis=1) / near.sum(axis=1)).astype(np.float64)
