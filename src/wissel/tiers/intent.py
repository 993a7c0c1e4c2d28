# pyright: reportUnknownVariableType=false, reportUnknownMemberType=false, reportUnknownArgumentType=false
"""The mean gain of the topic: what intent routing and cost routing share.

Prompts of one topic (a route, a subject) are about equally hard, so the topic
is worth nearly as much as the best learned grader, and is learned from few
labels. Topics are told apart by a linear discriminant: Gaussians with one
common covariance, in closed form. The win rate is the mean over what the
prompt may be about, so a prompt between two topics is taken for both.
"""

from typing import ClassVar

import numpy as np

from wissel.errors import ConfigError
from wissel.tiers.base import Battles, Prompts, Settings, Tensors, Vectors
from wissel.tiers.metrics import Floats

SHRINKAGE = 0.3
"""How far the covariance is drawn towards a ball; topics with few prompts need it."""

PRIOR_BATTLES = 10.0
"""A topic's mean is drawn towards the mean of all as if by so many battles more."""


class IntentGrader:
    """Knows the mean outcome of each topic, and which topic a prompt may have."""

    KIND: ClassVar[str] = "intent"
    NEEDS_VECTORS: ClassVar[bool] = True

    def __init__(self, directions: Vectors, offsets: Vectors, means: Vectors, topics: tuple[str, ...]) -> None:
        self._directions = directions
        self._offsets = offsets
        self._means = means
        self._topics = topics

    @classmethod
    def fit(cls, battles: Battles, *, seed: int = 0) -> "IntentGrader":
        """From battles with the strong model as a; raises ConfigError if their topics are not told."""
        del seed  # nothing here is left to chance
        topics = tuple(sorted(set(battles.topics)))
        if len(topics) < 2 or "" in topics:
            raise ConfigError(['--data: the grader "intent" needs the topic of every prompt, as "route" or "subject"'])
        index = {topic: at for at, topic in enumerate(topics)}
        labels = np.array([index[topic] for topic in battles.topics])
        vectors = battles.prompts.vectors.astype(np.float64)
        weights = np.bincount(labels, battles.weights)
        one_hot = np.eye(len(topics))[labels] * battles.weights[:, None]
        centres = one_hot.T @ vectors / weights[:, None]
        within = vectors - centres[labels]
        covariance = (within * battles.weights[:, None]).T @ within / battles.weights.sum()
        size = vectors.shape[1]
        ball = np.eye(size) * np.trace(covariance) / size
        directions: Floats = np.linalg.solve((1 - SHRINKAGE) * covariance + SHRINKAGE * ball, centres.T)
        offsets: Floats = np.log(weights / weights.sum()) - 0.5 * (centres * directions.T).sum(axis=1)
        overall = np.average(battles.outcomes, weights=battles.weights)
        wins = np.bincount(labels, battles.weights * battles.outcomes)
        means = (wins + PRIOR_BATTLES * overall) / (weights + PRIOR_BATTLES)
        return cls(directions.astype(np.float32), offsets.astype(np.float32), means.astype(np.float32), topics)

    def win_rates(self, prompts: Prompts) -> Floats:
        logits = prompts.vectors @ self._directions + self._offsets
        likely = np.exp(logits - logits.max(axis=1, keepdims=True))
        return (likely @ self._means / likely.sum(axis=1)).astype(np.float64)

    def tensors(self) -> Tensors:
        return {"directions": self._directions, "offsets": self._offsets, "means": self._means}

    def settings(self) -> Settings:
        return {"topics": list(self._topics)}

    @classmethod
    def restore(cls, tensors: Tensors, settings: Settings) -> "IntentGrader":
        topics = settings["topics"]
        assert isinstance(topics, list)
        return cls(tensors["directions"], tensors["offsets"], tensors["means"], tuple(topics))
