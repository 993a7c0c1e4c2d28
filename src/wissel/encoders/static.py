# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
"""Text to unit vectors by looking its tokens up: fifty microseconds where the encoder takes two milliseconds.

    text -> words -> tokens -> a row of a table each -> their mean, of length one

The table is distilled from the encoder (see `export.packaged.distil`). It knows words
and no order, so what is made of it (see `imitation`) is right less often; but
where that is sure it is nearly always right, and a cascade needs no more of its
first stage.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from wissel.encoders.base import MAX_CHARS, TextReading, Vectors, read_with
from wissel.encoders.onnx import TOKENIZER_FILE
from wissel.errors import ModelError

STATIC_FILE = "static.npy"
STATIC_WIDTH = 256

WORDS = 32768
"""So many words' tokens are remembered, those not met for longest forgotten first: people use few words. 13 MB, and
never more than 50, which is what as many strings of signs take."""

WORD_CHARS = 32
"""A longer word is tokenized each time."""


class StaticEncoder:
    """The loaded table; safe to share between threads."""

    def __init__(self, table: NDArray[np.floating], tokenizer: Tokenizer) -> None:
        self._table = table
        self._tokenizer = tokenizer
        self._known = lru_cache(WORDS)(self._tokens)

    @classmethod
    def load(cls, folder: Path) -> "StaticEncoder":
        """Reads an export. Raises ModelError if it is missing or damaged."""
        try:
            tokenizer = Tokenizer.from_file(str(folder / TOKENIZER_FILE))
            table = np.load(folder / STATIC_FILE)
        except Exception as error:  # tokenizers raises bare Exceptions
            raise ModelError(
                f'the static embedding in "{folder}" does not load: {error}; '
                "delete the folder and run: wissel encoder export"
            ) from error
        tokenizer.no_padding()
        tokenizer.no_truncation()
        return cls(table, tokenizer)

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors, (n, STATIC_WIDTH) and float32."""
        vectors = np.empty((len(texts), self._table.shape[1]), np.float32)
        for number, text in enumerate(texts):
            # No token reaches over a space, so a text's tokens are those of its words.
            words = text[:MAX_CHARS].split(" ")
            ids = [
                token for word in words for token in (self._known if len(word) <= WORD_CHARS else self._tokens)(word)
            ]
            # A text without a token is a blank, which is the first of them.
            total = np.add.reduce(self._table.take(ids or [0], axis=0), axis=0, dtype=np.float32)
            vectors[number] = total / math.sqrt(total @ total)
        return vectors

    def _tokens(self, word: str) -> tuple[int, ...]:
        readable = word.encode("utf-8", "replace").decode("utf-8")
        return tuple(self._tokenizer.encode(readable, add_special_tokens=False).ids)


class Immediate:
    """Readings in the turn of the event loop that asks for them: a thread would take longer to start."""

    def __init__(self, encoder: StaticEncoder) -> None:
        self._read = read_with(encoder.encode)

    def recall(self, texts: Sequence[str]) -> Sequence[TextReading]:
        return self._read(texts)

    async def read(self, texts: Sequence[str]) -> Sequence[TextReading]:
        return self._read(texts)
