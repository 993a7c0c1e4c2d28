"""What an encoder finds out about itself from texts whose kind is known.

    ordinary texts and nonsense -> vectors -> a line between what it understands and what it does not
    ordinary texts              -> vectors -> a line between turns that ask something and turns that follow up

Both are questions of their own, not scores among routes: "yes, go on" is like
no route, and so is a text in a language that the encoder was never shown, but
the first changes nothing and the second cannot be routed. Nothing here knows
any route, so it is learned once for an encoder and kept beside it.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from wissel.encoders.base import Encode, Vectors
from wissel.encoders.logistic import Floats, Line, fit_line
from wissel.encoders.onnx import load_array
from wissel.encoders.ordinary import known_languages, nonsense, ordinary_texts
from wissel.encoders.script import scripts_of, share_outside

KNOWLEDGE_FILE = "knowledge.npz"

STRANGE_LOOSENESS = 5.0
STRANGE_LOGIT = 1.5
"""From which a text is called not understood. Chosen on CLINC150's validation rows, SGD's turns and an application's
messages in sixteen languages, of which 0 to 2 % are, 0.6 on average, and on Hindi and Swahili sentences of our own."""

FOLLOW_LOOSENESS = 10.0

FOREIGN_SHARE = 0.5
"""Of a text's letters: if so many are of scripts that none of the known languages is written in, it is not read."""


@dataclass(frozen=True)
class Knowledge:
    """Of one encoder."""

    languages: tuple[str, ...]
    """That it knows, of those that `ordinary_texts` have."""
    strange: Line
    follows: Line

    @classmethod
    def learn(cls, encode: Encode, *, languages: Sequence[str] = ()) -> "Knowledge":
        """Encodes two thousand short texts; `languages` are known beforehand, or found out."""
        ordinary = ordinary_texts()
        vectors = encode([each.text for each in ordinary])
        known = tuple(languages) or known_languages(vectors)
        rows = np.array([each.language in known for each in ordinary])
        asks = np.array([each.kind == "requests" for each in ordinary])
        vectors, asks = vectors[rows], asks[rows]
        odd = encode(nonsense())
        strange = fit_line(
            np.vstack([vectors, odd]), np.arange(len(vectors) + len(odd)) >= len(vectors), looseness=STRANGE_LOOSENESS
        )
        return cls(known, strange, fit_line(vectors, ~asks, looseness=FOLLOW_LOOSENESS))

    @functools.cached_property
    def scripts(self) -> frozenset[str]:
        return scripts_of(self.languages)

    def understands(self, text: str, vector: Vectors) -> bool:
        """Whether a text whose vector is (dimensions,) is one of those that the encoder knows."""
        if share_outside(text, self.scripts) >= FOREIGN_SHARE:
            return False
        return float(self.strange.logits(vector[None])[0]) < STRANGE_LOGIT

    def newness(self, vectors: Vectors) -> Floats:
        """How likely each turn asks something new, from 0 to 1: (n, dimensions) -> (n,)."""
        return 1 / (1 + np.exp(self.follows.logits(vectors).clip(-60, 60)))

    def save(self, path: Path) -> None:
        np.savez(
            path,
            languages=np.array(self.languages),
            strange=np.append(self.strange.weights, self.strange.bias).astype(np.float32),
            follows=np.append(self.follows.weights, self.follows.bias).astype(np.float32),
        )

    @classmethod
    def load(cls, path: Path) -> "Knowledge":
        """Raises ModelError."""
        found = load_array(path)
        strange, follows = (Line(found[name][:-1], float(found[name][-1])) for name in ("strange", "follows"))
        return cls(tuple(found["languages"].tolist()), strange, follows)
