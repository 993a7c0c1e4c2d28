"""The words of a text as a vector, beside what the encoder makes of it.

    text -> words and pairs of words, rare ones heavier -> signed hashing -> unit vector

A sentence encoder knows what a message is about and blurs which words say it;
where routes lie close together ("freeze my account", "is my account frozen")
the words decide. Hashing (Weinberger et al. 2009) keeps the vector short
whatever the vocabulary. Only a fitted head reads it.
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
from zlib import crc32

import numpy as np

from wissel.encoders.base import Vectors

WIDTH = 768
MOST_WORDS = 64
"""Of a text; what is asked stands at its beginning."""

_WORD = re.compile(r"\w+")


class Words:
    """Knows how rare each word is among the routes' phrases."""

    def __init__(self, phrases: Iterable[str]) -> None:
        phrases = list(phrases)
        counts = Counter(gram for phrase in phrases for gram in set(_grams(phrase)))
        self._unseen = math.log(1 + len(phrases)) + 1
        self._known = {gram: _place(gram, self._unseen - math.log(1 + count)) for gram, count in counts.items()}

    def vectors(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors, (n, WIDTH)."""
        vectors = np.zeros((len(texts), WIDTH), np.float32)
        for row, text in zip(vectors, texts, strict=True):
            totals: dict[int, float] = {}
            for gram in dict.fromkeys(_grams(text)):
                column, weight = self._known.get(gram) or _place(gram, self._unseen)
                totals[column] = totals.get(column, 0.0) + weight
            length = math.hypot(*totals.values())
            if length:
                row[list(totals)] = [total / length for total in totals.values()]
            else:
                # Without a word, or where hashes cancel out, any one direction is as good as another.
                row[0] = 1
        return vectors


def _place(gram: str, weight: float) -> tuple[int, float]:
    """Where a word or pair counts, and for how much."""
    code = crc32(gram.encode("utf-8", "replace"))
    return (code >> 1) % WIDTH, weight if code & 1 else -weight


def _grams(text: str) -> list[str]:
    words = _WORD.findall(text.lower())[:MOST_WORDS]
    return words + [f"{one} {two}" for one, two in pairwise(words)]
