"""What can be read off a prompt without a model: how long it is and what it is made of.

Embeddings see what a prompt is about and hardly how much work it is; these
numbers do the opposite. On GSM8K, in domain, they are worth as much as the
embedding, and outside the domain of the labels they are what is left.
"""

import re
from collections.abc import Sequence

import numpy as np

from wissel.tiers.metrics import Floats

_NUMBER = re.compile(r"\d[\d,.]*")
_WORD = re.compile(r"[^\W\d_]+")
_SENTENCE = re.compile(r"[.!?]+(?:\s|$)")

NAMES = (
    "chars",
    "words",
    "numbers",
    "sentences",
    "lines",
    "signs",
    "capitals",
    "questions",
    "commas",
    "word_length",
    "distinct_words",
    "digits_share",
    "capitals_share",
    "signs_share",
    "largest_number",
)
"""The columns, in order: counts as logarithms first, then means and shares."""


def features(texts: Sequence[str]) -> Floats:
    """(n, 15): one prompt a row; neither centred nor scaled."""
    return np.array([_row(text) for text in texts], np.float64).reshape(len(texts), len(NAMES))


def _row(text: str) -> list[float]:
    words = _WORD.findall(text)
    numbers = _NUMBER.findall(text)
    count = max(1, len(text))
    capitals = sum(map(str.isupper, text))
    signs = sum(not (sign.isalnum() or sign.isspace()) for sign in text)
    counts = (
        len(text),
        len(words),
        len(numbers),
        len(_SENTENCE.findall(text)),
        text.count("\n"),
        signs,
        sum(word[0].isupper() for word in words),
        text.count("?"),
        text.count(","),
    )
    largest = max((_value(number) for number in numbers), default=0.0)
    return [
        *np.log1p(counts),
        sum(map(len, words)) / max(1, len(words)),
        len({word.lower() for word in words}) / max(1, len(words)),
        sum(map(str.isdigit, text)) / count,
        capitals / count,
        signs / count,
        np.log1p(largest),
    ]


def _value(number: str) -> float:
    """As far as nine digits: a longer number is a name, not an amount."""
    digits = re.sub(r"\D", "", number.split(".", maxsplit=1)[0])[:9]
    return float(digits or 0)
