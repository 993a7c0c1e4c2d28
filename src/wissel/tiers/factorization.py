"""Matrix factorization: models and prompts in one space of hidden factors.

RouteLLM (arXiv 2406.18665, section 4.1) scores a model M on a prompt q by
`δ(M, q) = w₂ᵀ (v_M ⊙ (W₁ᵀ v_q + b))`, and `P(A beats B | q) = σ(δ(A, q) - δ(B, q))`.
Every model has a vector, so battles between any models teach it what prompts
are hard. What differs from the paper: the prompt's vector is centred and has
features beside its embedding, a tie is half a win instead of thrown away, and
training stops when held-out battles say so.

For one pair of models the difference is linear in the prompt, so the pair is
folded into one vector when a grader is made, and a win rate costs one dot product.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from wissel.errors import ConfigError
from wissel.tiers.base import STRONG, WEAK, Battles, Progress, Prompts, Settings, Tensors, Vectors
from wissel.tiers.metrics import Floats
from wissel.tiers.space import Space

FACTORS = 128
"""The paper's."""
BATCH = 64
RATE = 1e-3
DECAY = 3e-3
EPOCHS = 40
PATIENCE = 4
"""Epochs without a better validation loss, after which the best ones' parameters stand."""
HELD_OUT = 0.1


@dataclass
class _Parameters:
    """As in the formula; (models, factors), (inputs, factors), (factors,), (factors,)."""

    models: Floats
    prompts: Floats
    bias: Floats
    mix: Floats

    @classmethod
    def random(cls, models: int, inputs: int, rng: np.random.Generator) -> "_Parameters":
        return cls(
            rng.normal(0, 0.1, (models, FACTORS)),
            rng.normal(0, inputs**-0.5, (inputs, FACTORS)),
            np.zeros(FACTORS),
            rng.normal(0, 0.1, FACTORS),
        )

    def all(self) -> tuple[Floats, ...]:
        return self.models, self.prompts, self.bias, self.mix

    def copy(self) -> "_Parameters":
        return _Parameters(*(each.copy() for each in self.all()))

    def logits(self, inputs: Floats, battles: Battles) -> Floats:
        hidden = inputs @ self.prompts + self.bias
        return (hidden * (self.models[battles.a] - self.models[battles.b])) @ self.mix

    def gradients(self, inputs: Floats, battles: Battles) -> tuple[Floats, ...]:
        """Of the mean cross-entropy, in the order of `all`."""
        hidden = inputs @ self.prompts + self.bias
        difference = self.models[battles.a] - self.models[battles.b]
        error = _sigmoid((hidden * difference) @ self.mix) - battles.outcomes
        error *= battles.weights / battles.weights.sum()
        towards_difference = error[:, None] * hidden * self.mix
        towards_hidden = error[:, None] * difference * self.mix
        models = np.zeros_like(self.models)
        np.add.at(models, battles.a, towards_difference)
        np.add.at(models, battles.b, -towards_difference)
        return models, inputs.T @ towards_hidden, towards_hidden.sum(axis=0), (hidden * difference).T @ error


@dataclass
class _Moments:
    """Adam's running means of one array's gradients and of their squares."""

    first: Floats
    second: Floats

    def step(self, value: Floats, gradient: Floats, count: int) -> None:
        """Moves `value` in place, for the `count`-th time."""
        self.first += 0.1 * (gradient - self.first)
        self.second += 0.001 * (gradient**2 - self.second)
        towards = (self.first / (1 - 0.9**count)) / (np.sqrt(self.second / (1 - 0.999**count)) + 1e-8)
        value -= RATE * (towards + DECAY * value)


class FactorizationGrader:
    """Serves one pair; `models` tells which others it could."""

    KIND: ClassVar[str] = "factorization"
    NEEDS_VECTORS: ClassVar[bool] = True

    def __init__(
        self,
        space: Space,
        parameters: tuple[Vectors, Vectors, Vectors, Vectors],
        models: tuple[str, ...],
        *,
        strong: Iterable[str] = (STRONG,),
        weak: Iterable[str] = (WEAK,),
    ) -> None:
        self.models = models
        self._space = space
        self._parameters = parameters
        self._strong, self._weak = list(strong), list(weak)
        vectors, prompts, bias, mix = parameters
        difference = _mean_of(vectors, models, self._strong) - _mean_of(vectors, models, self._weak)
        self._direction = prompts @ (difference * mix)
        self._offset = float(bias @ (difference * mix))

    @classmethod
    def fit(
        cls,
        battles: Battles,
        *,
        seed: int = 0,
        strong: Iterable[str] = (STRONG,),
        weak: Iterable[str] = (WEAK,),
        progress: Progress | None = None,
    ) -> "FactorizationGrader":
        """From battles between any models; those of the pair must be among them."""
        space = Space.for_weights(battles.prompts)
        inputs = space.project(battles.prompts).astype(np.float64)
        rng = np.random.default_rng(seed)
        best = _descend(inputs, battles, rng, progress)
        found = tuple(each.astype(np.float32) for each in best.all())
        return cls(space, (found[0], found[1], found[2], found[3]), battles.models, strong=strong, weak=weak)

    def win_rates(self, prompts: Prompts) -> Floats:
        return _sigmoid((self._space.project(prompts) @ self._direction + self._offset).astype(np.float64))

    def tensors(self) -> Tensors:
        names = ("models", "prompts", "bias", "mix")
        return {**self._space.tensors(), **dict(zip(names, self._parameters, strict=True))}

    def settings(self) -> Settings:
        return {"models": list(self.models), "strong": self._strong, "weak": self._weak}

    @classmethod
    def restore(cls, tensors: Tensors, settings: Settings) -> "FactorizationGrader":
        names: dict[str, list[str]] = {key: each for key, each in settings.items() if isinstance(each, list)}
        parameters = (tensors["models"], tensors["prompts"], tensors["bias"], tensors["mix"])
        return cls(
            Space.restore(tensors),
            parameters,
            tuple(names["models"]),
            strong=names["strong"],
            weak=names["weak"],
        )


def _descend(inputs: Floats, battles: Battles, rng: np.random.Generator, progress: Progress | None) -> _Parameters:
    """Adam with decoupled weight decay on mini-batches, until held-out battles are predicted no better."""
    order = rng.permutation(len(battles))
    held, rest = np.split(order, [int(HELD_OUT * len(battles))])
    parameters = _Parameters.random(len(battles.models), inputs.shape[1], rng)
    moments_of = [_Moments(np.zeros_like(each), np.zeros_like(each)) for each in parameters.all()]
    best, best_loss, since, step = parameters.copy(), np.inf, 0, 0
    for epoch in range(EPOCHS):
        rng.shuffle(rest)
        for batch in np.array_split(rest, max(1, len(rest) // BATCH)):
            step += 1
            gradients = parameters.gradients(inputs[batch], battles.take(batch))
            for value, gradient, moments in zip(parameters.all(), gradients, moments_of, strict=True):
                moments.step(value, gradient, step)
        loss = _loss(parameters.logits(inputs[held], battles.take(held)), battles.take(held)) if len(held) else 0.0
        if progress is not None:
            progress(f"epoch {epoch + 1} of at most {EPOCHS}: validation loss {loss:.4f}")
        if loss < best_loss:
            best, best_loss, since = parameters.copy(), loss, 0
        elif (since := since + 1) >= PATIENCE:
            break
    return best


def _loss(logits: Floats, battles: Battles) -> float:
    each = np.logaddexp(0, logits) - battles.outcomes * logits
    return float((each * battles.weights).sum() / battles.weights.sum())


def _sigmoid(logits: Floats) -> Floats:
    return 0.5 * (1 + np.tanh(logits / 2))


def _mean_of(vectors: Vectors, models: tuple[str, ...], names: list[str]) -> Vectors:
    """Several models on one side stand as their mean."""
    if missing := [name for name in names if name not in models]:
        raise ConfigError([f'--data: no battle is about the model "{missing[0]}"; those known are {", ".join(models)}'])
    mean: Vectors = vectors[[models.index(name) for name in names]].mean(axis=0)
    return mean
