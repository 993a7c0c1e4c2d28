"""The space in which prompts are compared: what a prompt is about, and how much work it looks.

A prompt's embedding and its standardised features become one vector. Centring
matters: raw embeddings share one large direction, and without its removal
matrix factorization on GSM8K ranks worse than chance.
"""

from dataclasses import dataclass

import numpy as np

from wissel.quality.base import Prompts, Tensors, Vectors
from wissel.quality.features import features

FEATURE_WEIGHT = 0.2
"""Of one standard deviation of a feature, beside an embedding of length one; 0.1 to 0.3 do equally well on GSM8K."""

FEATURE_LIMIT = 3.0
"""In standard deviations: a prompt unlike any that was learned from is not pulled out of all measure by its length."""


@dataclass(frozen=True)
class Space:
    """Learned from the prompts that are trained on."""

    centre: Vectors
    """(dimensions,): the mean embedding; zeros where embeddings are compared as they are."""
    feature_mean: Vectors
    """(15,)"""
    feature_deviation: Vectors
    """(15,)"""

    @classmethod
    def fit(cls, prompts: Prompts, *, centred: bool) -> "Space":
        seen = features(prompts.texts)
        mean: Vectors = prompts.vectors.mean(axis=0)
        return cls(
            mean if centred else np.zeros_like(mean),
            seen.mean(axis=0).astype(np.float32),
            (seen.std(axis=0) + 1e-6).astype(np.float32),
        )

    def project(self, prompts: Prompts) -> Vectors:
        """(n, dimensions + 15): one unit vector a prompt."""
        deviations = (features(prompts.texts) - self.feature_mean) / self.feature_deviation
        measured = FEATURE_WEIGHT * np.clip(deviations, -FEATURE_LIMIT, FEATURE_LIMIT)
        joined = np.hstack([prompts.vectors - self.centre, measured.astype(np.float32)])
        return joined / np.linalg.norm(joined, axis=1, keepdims=True)

    def tensors(self) -> Tensors:
        return {"centre": self.centre, "feature_mean": self.feature_mean, "feature_deviation": self.feature_deviation}

    @classmethod
    def restore(cls, tensors: Tensors) -> "Space":
        return cls(tensors["centre"], tensors["feature_mean"], tensors["feature_deviation"])
