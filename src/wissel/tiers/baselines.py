"""Graders that learn nothing; what a learned one must beat is always printed beside it."""

from typing import ClassVar
from zlib import crc32

import numpy as np

from wissel.tiers.base import Prompts, Settings, Tensors
from wissel.tiers.metrics import Floats

HALF_CHARS = 300
"""A prompt of this length has win rate one half from `LengthGrader`; only its order matters."""


class _Untrained:
    NEEDS_VECTORS: ClassVar[bool] = False

    def tensors(self) -> Tensors:
        return {}

    def settings(self) -> Settings:
        return {}


class RandomGrader(_Untrained):
    """A number without meaning, the same for the same prompt on every replica."""

    KIND: ClassVar[str] = "random"

    def win_rates(self, prompts: Prompts) -> Floats:
        return np.array([crc32(text.encode("utf-8", "surrogatepass")) / 2**32 for text in prompts.texts])


class LengthGrader(_Untrained):
    """Long prompts are hard prompts."""

    KIND: ClassVar[str] = "length"

    def win_rates(self, prompts: Prompts) -> Floats:
        chars = np.array([len(text) for text in prompts.texts], np.float64)
        return chars / (chars + HALF_CHARS)


class _Constant(_Untrained):
    value: ClassVar[float]

    def win_rates(self, prompts: Prompts) -> Floats:
        return np.full(len(prompts), self.value)


class AlwaysStrongGrader(_Constant):
    KIND: ClassVar[str] = "always_strong"
    value: ClassVar[float] = 1.0


class AlwaysWeakGrader(_Constant):
    KIND: ClassVar[str] = "always_weak"
    value: ClassVar[float] = 0.0
