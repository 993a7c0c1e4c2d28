# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
"""Text to unit vectors by looking its tokens up: fifty microseconds where the encoder takes two milliseconds.

    text -> tokens -> a row of a table each -> their mean, of length one

The table is distilled from the encoder (see `export.distil`). It knows words
and no order, so it is right less often; but what it is sure of is nearly
always right, and a cascade needs no more of its first stage.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from wissel.classifiers.encoder import MAX_CHARS, MAX_TOKENS, TOKENIZER_FILE, Vectors
from wissel.errors import ModelError

TABLE_FILE = "static.npy"
TABLE_WIDTH = 256


class StaticEncoder:
    """The loaded table; safe to share between threads."""

    def __init__(self, table: NDArray[np.floating], tokenizer: Tokenizer) -> None:
        self._table = table
        self._tokenizer = tokenizer

    @classmethod
    def load(cls, folder: Path) -> "StaticEncoder":
        """Reads an export. Raises ModelError if it is missing or damaged."""
        try:
            tokenizer = Tokenizer.from_file(str(folder / TOKENIZER_FILE))
            table = np.load(folder / TABLE_FILE)
        except Exception as error:  # tokenizers raises bare Exceptions
            raise ModelError(
                f'the static embedding in "{folder}" does not load: {error}; '
                "delete the folder and run: python -m wissel.classifiers.export"
            ) from error
        tokenizer.no_padding()
        tokenizer.enable_truncation(MAX_TOKENS)
        return cls(table, tokenizer)

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors, (n, TABLE_WIDTH) and float32."""
        vectors = np.empty((len(texts), self._table.shape[1]), np.float32)
        for number, text in enumerate(texts):
            readable = text[:MAX_CHARS].encode("utf-8", "replace").decode("utf-8")
            ids: list[int] = self._tokenizer.encode(readable, add_special_tokens=False).ids
            # A text without a token is a blank, which is the first of them.
            mean = self._table[ids or [0]].mean(axis=0, dtype=np.float32)
            vectors[number] = mean / np.linalg.norm(mean)
        return vectors


class Immediate:
    """Vectors in the turn of the event loop that asks for them: a thread would take longer to start."""

    def __init__(self, encoder: StaticEncoder) -> None:
        self._encode = encoder.encode

    def recall(self, texts: Sequence[str]) -> Vectors:
        return self._encode(texts)

    async def encode(self, texts: Sequence[str]) -> Vectors:
        return self._encode(texts)
