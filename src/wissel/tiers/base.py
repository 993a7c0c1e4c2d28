"""What a grader is, and what it learns from."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from wissel.tiers.metrics import Ends, Floats

Vectors = NDArray[np.float32]
"""(n, dimensions): one unit vector a row."""

Encode = Callable[[Sequence[str]], Vectors]
"""Texts to unit vectors, in the order of the texts."""

Progress = Callable[[str], None]
"""Told in a line how far something is that takes minutes."""

Tensors = Mapping[str, NDArray[np.float32]]
Settings = Mapping[str, float | int | str | list[str]]

STRONG = "strong"
WEAK = "weak"
"""What the two models are called in data that says how both did instead of naming them."""


@dataclass(frozen=True)
class Prompts:
    """What is asked, as text and as the embedding that intent is found by."""

    texts: tuple[str, ...]
    vectors: Vectors
    """(n, dimensions); dimensions may be 0 for graders that read only texts."""

    @classmethod
    def embed(cls, texts: Iterable[str], encode: Encode) -> "Prompts":
        found = tuple(texts)
        return cls(found, encode(found))

    @classmethod
    def without_vectors(cls, texts: Iterable[str]) -> "Prompts":
        found = tuple(texts)
        return cls(found, np.empty((len(found), 0), np.float32))

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, rows: NDArray[np.intp]) -> "Prompts":
        return Prompts(tuple(self.texts[row] for row in _listed(rows)), self.vectors[rows])


class Grader(Protocol):
    """Predicts P(strong wins) + P(tie) / 2; one that learns has `fit` beside it."""

    KIND: ClassVar[str]
    NEEDS_VECTORS: ClassVar[bool]

    def win_rates(self, prompts: Prompts) -> Floats:
        """(n,), each between 0 and 1; blocks, and may be called from any thread."""
        ...


@dataclass(frozen=True)
class Battles:
    """Pairs of models on prompts, and how both did."""

    prompts: Prompts
    models: tuple[str, ...]
    a: NDArray[np.intp]
    """(n,): index into `models`."""
    b: NDArray[np.intp]
    quality_a: Floats
    """(n,), between 0 and 1; for a battle that was won, lost or tied 1, 0 or 0.5, and b the rest."""
    quality_b: Floats
    weights: Floats
    """(n,): how often each counts."""
    topics: tuple[str, ...]
    """What each prompt is about, for the grader `intent`; empty where nobody said."""

    def __len__(self) -> int:
        return len(self.prompts)

    @property
    def outcomes(self) -> Floats:
        """(n,): the win rate of a that was seen; a tie is one half."""
        return (1 + self.quality_a - self.quality_b) / 2

    @property
    def ends(self) -> Ends:
        """With a as the strong model."""
        return Ends(self.quality_a, self.quality_b)

    def take(self, rows: NDArray[np.intp]) -> "Battles":
        return Battles(
            self.prompts.take(rows),
            self.models,
            self.a[rows],
            self.b[rows],
            self.quality_a[rows],
            self.quality_b[rows],
            self.weights[rows],
            tuple(self.topics[row] for row in _listed(rows)),
        )

    def between(self, strong: Iterable[str] = (STRONG,), weak: Iterable[str] = (WEAK,)) -> "Battles":
        """Those between the two sides, the strong one as a. Several models on a side stand for one, as in the paper."""
        is_strong, is_weak = (np.array([model in set(side) for model in self.models]) for side in (strong, weak))
        straight = is_strong[self.a] & is_weak[self.b]
        turned = is_weak[self.a] & is_strong[self.b]
        oriented = replace(
            self,
            a=np.where(turned, self.b, self.a),
            b=np.where(turned, self.a, self.b),
            quality_a=np.where(turned, self.quality_b, self.quality_a),
            quality_b=np.where(turned, self.quality_a, self.quality_b),
        )
        return oriented.take(np.flatnonzero(straight | turned))


def _listed(rows: NDArray[np.intp]) -> list[int]:
    return rows.tolist()


def join(parts: Sequence[Battles]) -> Battles:
    """All of them, one after the other."""
    models = tuple(dict.fromkeys(name for part in parts for name in part.models))
    index = {name: at for at, name in enumerate(models)}
    moved = [np.array([index[name] for name in part.models], np.intp) for part in parts]
    return Battles(
        Prompts(
            tuple(text for part in parts for text in part.prompts.texts),
            np.concatenate([part.prompts.vectors for part in parts]),
        ),
        models,
        np.concatenate([each[part.a] for each, part in zip(moved, parts, strict=True)]),
        np.concatenate([each[part.b] for each, part in zip(moved, parts, strict=True)]),
        np.concatenate([part.quality_a for part in parts]),
        np.concatenate([part.quality_b for part in parts]),
        np.concatenate([part.weights for part in parts]),
        tuple(topic for part in parts for topic in part.topics),
    )
