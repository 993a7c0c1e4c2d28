# pyright: reportUnknownVariableType=false, reportUnknownMemberType=false, reportUnknownArgumentType=false
"""The space in which prompts are compared: what a prompt is about, and how much work it looks.

A prompt's embedding and its standardised features become one vector. Where a
grader learns weights, embeddings are centred: raw ones share one large
direction, and without its removal matrix factorization on GSM8K ranks worse
than chance. Where a prompt is compared with every label, 96 of the 384
dimensions remain, the principal ones: the ranking is as good, and 15,000
labels fit into a processor's cache.
"""

from dataclasses import dataclass

import numpy as np

from wissel.tiers.base import Prompts, Tensors, Vectors
from wissel.tiers.features import features

FEATURE_WEIGHT = 0.2
"""Of one standard deviation of a feature, beside an embedding of length one; 0.1 to 0.3 do equally well on GSM8K."""

KEPT = 96
"""Dimensions for comparison; 64 to 384 rank equally well on MMLU and GSM8K."""

FEATURE_LIMIT = 3.0
"""In standard deviations: a prompt unlike any that was learned from is not pulled out of all measure by its length."""


@dataclass(frozen=True)
class Space:
    """Learned from the prompts that are trained on."""

    centre: Vectors
    """(dimensions,): the mean embedding; zeros where embeddings are compared as they are."""
    axes: Vectors
    """(dimensions, kept): what is left of an embedding, orthonormal columns."""
    feature_mean: Vectors
    """(15,)"""
    feature_deviation: Vectors
    """(15,)"""

    @classmethod
    def for_weights(cls, prompts: Prompts) -> "Space":
        """Centred, with every dimension."""
        mean: Vectors = prompts.vectors.mean(axis=0)
        return cls._with(prompts, mean, np.eye(len(mean), dtype=np.float32))

    @classmethod
    def for_comparison(cls, prompts: Prompts) -> "Space":
        """Not centred, with the principal dimensions."""
        vectors = prompts.vectors
        _, axes = np.linalg.eigh((vectors.T @ vectors).astype(np.float64))
        return cls._with(prompts, np.zeros(vectors.shape[1], dtype=np.float32), axes[:, -KEPT:].astype(np.float32))

    @classmethod
    def _with(cls, prompts: Prompts, centre: Vectors, axes: Vectors) -> "Space":
        seen = features(prompts.texts)
        return cls(
            centre,
            axes,
            seen.mean(axis=0).astype(np.float32),
            (seen.std(axis=0) + 1e-6).astype(np.float32),
        )

    def project(self, prompts: Prompts) -> Vectors:
        """(n, kept + 15): one unit vector a prompt."""
        deviations = (features(prompts.texts) - self.feature_mean) / self.feature_deviation
        measured = FEATURE_WEIGHT * np.clip(deviations, -FEATURE_LIMIT, FEATURE_LIMIT)
        joined = np.hstack([(prompts.vectors - self.centre) @ self.axes, measured.astype(np.float32)])
        return joined / np.linalg.norm(joined, axis=1, keepdims=True)

    def tensors(self) -> Tensors:
        return {
            "centre": self.centre,
            "axes": np.ascontiguousarray(self.axes),
            "feature_mean": self.feature_mean,
            "feature_deviation": self.feature_deviation,
        }

    @classmethod
    def restore(cls, tensors: Tensors) -> "Space":
        return cls(tensors["centre"], tensors["axes"], tensors["feature_mean"], tensors["feature_deviation"])
