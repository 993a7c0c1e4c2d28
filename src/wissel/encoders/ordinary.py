"""Texts that people write anywhere, in sixteen languages, and what is no text at all.

An encoder learns from them what it knows: texts that are near these it
understands, texts that are nearer to nonsense it does not. Every language has
the same ones in the same order, so whether an encoder knows a language shows
without any label: it finds the sentence again in English.
"""

import json
import random
import string
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import chain
from typing import Literal, cast

import numpy as np

from wissel.encoders.base import Vectors, unit

Kind = Literal["requests", "follow_ups", "small_talk"]

PIVOT = "en"
"""The language in which sentences are looked for."""

FOUND = 0.5
"""Of a language's requests, so many must be found again for it to be known; by chance it is one in fourteen."""

SEED = 1
ALPHABETS = ((0x0905, 0x0939), (0x0995, 0x09B9), (0x0B95, 0x0BB9), (0x0C15, 0x0C39), (0x10D0, 0x10F0), (0x1200, 0x1250))
"""Of scripts that none of the sixteen languages has: Devanagari, Bengali, Tamil, Telugu, Georgian, Ethiopic."""

VOWELS = "aeiou"
CONSONANTS = "bcdfghjklmnpqrstvwxyz"
SYLLABLES = [*CONSONANTS, "ny", "ng", "sh", "ch", "mb", "nd", "kw"]


@dataclass(frozen=True, slots=True)
class Ordinary:
    """One text."""

    language: str
    kind: Kind
    text: str


@cache
def ordinary_texts() -> tuple[Ordinary, ...]:
    """By language, then by kind, each language in the same order."""
    written = cast("Mapping[str, Mapping[Kind, Sequence[str]]]", json.loads(_file()))
    return tuple(
        Ordinary(language, kind, text)
        for language, kinds in written.items()
        for kind, texts in kinds.items()
        for text in texts
    )


def _file() -> str:
    return files("wissel.encoders").joinpath("ordinary.json").read_text("utf-8")


@cache
def nonsense() -> tuple[str, ...]:
    """What looks like texts and is none: ordinary ones in a cipher, bytes, letters at random; always the same."""
    rng = random.Random(SEED)
    latin = [each.text for each in ordinary_texts() if each.text.isascii() or each.language in {"de", "fr", "pl", "tr"}]
    return tuple(
        chain(
            (_in_cipher(text, rng) for text in latin for _ in range(2)),
            (_in_script(text, rng, first, last) for first, last in ALPHABETS for text in rng.sample(latin, 40)),
            (b64encode(rng.randbytes(rng.choice((12, 24, 60, 120, 180)))).decode() for _ in range(80)),
            (_at_random(rng, string.ascii_lowercase + "   ") for _ in range(60)),
            (_at_random(rng, string.printable[:94]) for _ in range(60)),
            (_in_syllables(rng) for _ in range(200)),
        )
    )


def _in_cipher(text: str, rng: random.Random) -> str:
    """Each letter stands for another one, vowels for vowels, so that words look like words of some language."""
    key = str.maketrans(VOWELS + CONSONANTS, "".join(rng.choices(VOWELS, k=5)) + "".join(rng.choices(CONSONANTS, k=21)))
    return text.lower().translate(key)


def _in_script(text: str, rng: random.Random, first: int, last: int) -> str:
    key = {ord(letter): chr(rng.randrange(first, last)) for letter in VOWELS + CONSONANTS}
    return text.lower().translate(key)


def _at_random(rng: random.Random, signs: str) -> str:
    return "".join(rng.choices(signs, k=rng.choice((10, 20, 60, 120))))


def _in_syllables(rng: random.Random) -> str:
    def word() -> Iterator[str]:
        for _ in range(rng.randrange(1, 5)):
            yield rng.choice(SYLLABLES) + rng.choice(VOWELS)
        yield rng.choice(("", "", "n", "s", "k"))

    return " ".join("".join(word()) for _ in range(rng.randrange(1, 10)))


def known_languages(vectors: Vectors) -> tuple[str, ...]:
    """Those whose requests are found again in English, by the vectors of the `ordinary_texts`."""
    requests = [(row, each.language) for row, each in enumerate(ordinary_texts()) if each.kind == "requests"]
    own = {language: unit(_centred(vectors[[row for row, name in requests if name == language]]))
           for language in dict.fromkeys(name for _, name in requests)}  # fmt: skip
    order = np.arange(len(own[PIVOT]))
    return tuple(
        language for language, rows in own.items() if ((rows @ own[PIVOT].T).argmax(axis=1) == order).mean() >= FOUND
    )


def _centred(vectors: Vectors) -> Vectors:
    """A language has a direction of its own, which says nothing of the sentences."""
    return vectors - vectors.mean(axis=0)
