"""A tiny encoder that knows words only."""

import zlib
from collections.abc import Sequence

import numpy as np

from wissel.encoders.base import Vectors


class WordEncoder:
    """Texts that share words lie near each other; remembers what it was asked to encode."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []

    def __call__(self, texts: Sequence[str]) -> Vectors:
        self.calls.append(list(texts))
        return np.stack([self._vector(text) for text in texts])

    @property
    def texts(self) -> list[str]:
        return [text for call in self.calls for text in call]

    def _vector(self, text: str) -> Vectors:
        words = text.lower().split() or [""]
        total = sum(np.random.default_rng(zlib.crc32(word.encode())).normal(size=64) for word in words)
        return (total / np.linalg.norm(total)).astype(np.float32)
