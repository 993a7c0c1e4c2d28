"""What an encoder is to the rest of wissel: texts to vectors whose cosines say how alike the texts are.

    a text -> itself and, where it is long, its windows -> a unit vector each, and their wording

A long text that is squeezed into one vector hides what it asks: a question
behind a pasted log is a twentieth of it. So an encoder reads a long text as a
whole and by windows, the places where a question would stand, and whoever
compares takes the window that tells most.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
"""(n, dimensions): one unit vector a row."""

Encode = Callable[[Sequence[str]], Vectors]
"""Texts to unit vectors, in the order of the texts; blocks, and may be called from any thread."""

MAX_CHARS = 4096
"""Of a text so much is read from its beginning, and so much of its end where it is longer: cost has a bound."""


@dataclass(frozen=True, slots=True, eq=False)
class TextReading:
    """What an encoder makes of one text."""

    texts: tuple[str, ...]
    """The text itself; then of a long one its windows, in order."""
    vectors: Vectors
    """(len(texts), dimensions)"""
    wordings: Vectors
    """(len(texts), any number, none where the encoder tells nothing of it): how each is put. Their cosines mean little,
    for all texts lie in one direction; a fitted head tells more by them."""


Read = Callable[[Sequence[str]], Sequence[TextReading]]
"""Texts to readings, in the order of the texts; blocks, and may be called from any thread."""


class Encoder(Protocol):
    """Loaded and ready; safe to share between threads."""

    @property
    def name(self) -> str:
        """What reports and metrics call it."""
        ...

    @property
    def dimensions(self) -> int:
        """Of a vector."""
        ...

    def read(self, texts: Sequence[str]) -> list[TextReading]:
        """Raises ModelError if the runtime fails, and OverloadError or UpstreamError where it is somewhere else."""
        ...


def encode_with(read: Read) -> Encode:
    """Whole texts to their vectors."""

    def encode(texts: Sequence[str]) -> Vectors:
        return np.stack([reading.vectors[0] for reading in read(texts)])

    return encode


def read_with(encode: Encode) -> Read:
    """Whole texts, of which nothing is known but their vectors."""
    nothing = np.empty((1, 0), np.float32)

    def read(texts: Sequence[str]) -> list[TextReading]:
        vectors = encode(texts)
        return [TextReading((text,), vectors[row : row + 1], nothing) for row, text in enumerate(texts)]

    return read


def unit(vectors: NDArray[np.floating]) -> Vectors:
    """Each row brought to length one."""
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True).clip(1e-12)).astype(np.float32)
