"""Two encoders as one, whose cosine is the mean of theirs.

What one blurs the other tells apart: MiniLM knows English well, the Universal
Sentence Encoder knows sixteen languages, and together they know conversations
better than either.
"""

from collections.abc import Sequence

import numpy as np

from wissel.encoders.base import TextReading, Vectors
from wissel.encoders.bridge import Bridge
from wissel.encoders.transformer import Transformer
from wissel.encoders.universal import Universal
from wissel.encoders.windows import windows_of

WEIGHT = np.float32(0.5**0.5)
"""Of each vector: squared, each has half of a cosine."""


class Joint:
    """A transformer, which says how texts are put as well, and the universal encoder."""

    def __init__(self, transformer: Transformer, universal: Universal, bridge: Bridge | None = None) -> None:
        """`bridge` says what the transformer would say of languages that it does not know."""
        self._bridge = bridge
        self._transformer = transformer
        self._universal = universal
        self.name = f"{transformer.name}+{universal.name}"
        self.dimensions = transformer.dimensions + universal.dimensions
        self.languages = universal.languages

    def read(self, texts: Sequence[str]) -> list[TextReading]:
        """Raises ModelError if the runtime fails."""
        return [self._read(text) for text in texts]

    def _read(self, text: str) -> TextReading:
        windows = windows_of(text)
        one = self._transformer.read_windows(text, windows)
        other = self._universal.read_windows(text, windows)
        own, wordings = one.vectors, one.wordings
        if self._bridge is not None:
            own, wordings = self._bridge.cross(own, wordings, other.vectors)
        vectors: Vectors = WEIGHT * np.hstack([own, other.vectors])
        return TextReading(one.texts, vectors, wordings)
