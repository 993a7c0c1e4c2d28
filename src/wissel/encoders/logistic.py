"""Logistic regression, and the method that finds its weights."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]

STEPS = 60
MEMORY = 8
"""Of the quasi-Newton method: iterations, and pairs that it remembers."""


@dataclass(frozen=True)
class Line:
    """What parts vectors in two."""

    weights: NDArray[np.float32]
    """(dimensions,)"""
    bias: float

    def logits(self, vectors: Floats) -> Floats:
        """Of each row, above 0 where it rather belongs: (n, dimensions) -> (n,)."""
        return vectors @ self.weights + self.bias


def fit_line(vectors: NDArray[np.float32], belongs: NDArray[np.bool_], *, looseness: float) -> Line:
    """From rows (n, dimensions); `looseness` is the inverse of the penalty on weights, as C of other libraries."""
    sign: NDArray[np.float32] = (2 * belongs - 1).astype(np.float32)

    def loss(point: Floats) -> tuple[float, Floats]:
        margin = sign * (vectors @ point[:-1] + point[-1])
        surprise: NDArray[np.float32] = np.logaddexp(0, -margin)
        value = float(surprise.sum()) + float(point[:-1] @ point[:-1]) / (2 * looseness)
        pull = -sign / (1 + np.exp(margin.clip(-60, 60)))
        return value, np.append(vectors.T @ pull + point[:-1] / looseness, pull.sum()).astype(np.float32)

    width = int(vectors.shape[1])
    point = minimize(loss, np.zeros((width + 1,), np.float32))
    return Line(point[:-1].astype(np.float32), float(point[-1]))


def minimize(loss: Callable[[Floats], tuple[float, Floats]], start: Floats) -> Floats:
    """L-BFGS with backtracking (Nocedal and Wright, algorithms 7.4 and 3.1), for a smooth convex `loss`."""
    point, (value, slope) = start, loss(start)
    pairs: list[tuple[Floats, Floats]] = []
    for _ in range(STEPS):
        step = -_times_inverse_hessian(slope, pairs)
        size = 1.0 if pairs else 1.0 / max(float(np.linalg.norm(slope)), 1e-12)
        descent = float(step @ slope)
        while True:
            there = point + np.float32(size) * step
            new_value, new_slope = loss(there)
            if new_value <= value + 1e-4 * size * descent:
                break
            size /= 2
            if size < 1e-6:
                return point
        moved, turned = there - point, new_slope - slope
        if float(moved @ turned) > 0:
            pairs = [*pairs, (moved, turned)][-MEMORY:]
        done = value - new_value < 1e-5 * max(value, 1e-3)
        point, value, slope = there, new_value, new_slope
        if done:
            break
    return point


def _times_inverse_hessian(slope: Floats, pairs: Sequence[tuple[Floats, Floats]]) -> Floats:
    """The two loops of L-BFGS."""
    found = slope.copy()
    used: list[float] = []
    for moved, turned in reversed(pairs):
        used.append(float(moved @ found) / float(moved @ turned))
        found -= np.float32(used[-1]) * turned
    if pairs:
        moved, turned = pairs[-1]
        found *= np.float32(float(moved @ turned) / float(turned @ turned))
    for moved, turned in pairs:
        back = float(turned @ found) / float(moved @ turned)
        found += np.float32(used.pop() - back) * moved
    return found
