"""The multilingual Universal Sentence Encoder: one vector space for sixteen languages, cheap on long texts.

text -> tokens -> a row of the table each -> the network, once -> the text and every window of it, added up apart
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from wissel.encoders.base import MAX_CHARS, TextReading, Vectors
from wissel.encoders.onnx import Network, load_array, load_tokenizer, readable
from wissel.encoders.windows import Span, windows_of

TABLE_FILE = "table.npy"
SCALES_FILE = "scales.npy"
WIDTH = 512
"""Of a token's embedding and of a text's vector."""

TOKENS = 254
"""Of a text so many are read; of a longer one half of them from its end."""

BEGIN, END = 1, 2
"""The tokens that mark a text's ends."""

LANGUAGES = ("ar", "de", "en", "es", "fr", "it", "ja", "ko", "nl", "pl", "pt", "ru", "th", "tr", "zh", "zh-TW")
"""That it was trained on (Yang et al. 2020)."""


class Universal:
    """The loaded model; safe to share between threads."""

    name = "use"
    dimensions = WIDTH
    languages = LANGUAGES

    def __init__(self, network: Network, tokenizer: Tokenizer, table: NDArray[np.uint8], scales: Vectors) -> None:
        """`table` has a row of bytes for each token, whose scale and least value, (2, 17), go by its id modulo 17."""
        self._network = network
        self._tokenizer = tokenizer
        self._table = table
        self._scale, self._least = scales

    @classmethod
    def load(cls, folder: Path, *, threads: int = 1) -> "Universal":
        """Reads an export. Raises ModelError if it is missing or damaged."""
        table: NDArray[Any] = load_array(folder / TABLE_FILE, mapped=True)
        scales: NDArray[Any] = load_array(folder / SCALES_FILE)
        return cls(Network.load(folder, threads=threads), load_tokenizer(folder), table, scales)

    def read(self, texts: Sequence[str]) -> list[TextReading]:
        """Raises ModelError if the runtime fails."""
        return [self.read_windows(text, windows_of(text)) for text in texts]

    def read_windows(self, text: str, windows: Sequence[Span]) -> TextReading:
        """All in one pass."""
        spans = [(0, len(text)), *windows]
        parts = tuple(text[begin:end] for begin, end in spans)
        ids, places = self._tokenize(text)
        members = np.ones((len(spans), len(ids)), np.float32)
        if windows:
            self._mark(members, spans, places)
        [vectors] = self._network.run(tokens=self._embed(ids), windows=members)
        return TextReading(parts, vectors, np.empty((len(parts), 0), np.float32))

    @staticmethod
    def _mark(members: Vectors, spans: Sequence[Span], places: Sequence[Span]) -> None:
        """Which tokens, (spans, tokens), stand in which span; those that mark the ends in all."""
        middles = np.array([(begin + end) / 2 for begin, end in places], np.float64)
        for row, (begin, end) in enumerate(spans):
            members[row, 1:-1] = (middles >= begin) & (middles <= end)

    def _tokenize(self, text: str) -> tuple[NDArray[np.int64], list[Span]]:
        """The ids that are read, with the marks of both ends, and where each but the marks stands in the text."""
        if len(text) <= 2 * MAX_CHARS:
            ids, places = self._pieces(text, 0)
        else:
            ids, places = self._pieces(text[:MAX_CHARS], 0)
            tail_ids, tail_places = self._pieces(text[-MAX_CHARS:], len(text) - MAX_CHARS)
            ids, places = ids + tail_ids, places + tail_places
        if len(ids) > TOKENS:
            half = TOKENS // 2
            ids, places = ids[:half] + ids[-half:], places[:half] + places[-half:]
        return np.array([BEGIN, *ids, END], np.int64), places

    def _pieces(self, text: str, begin: int) -> tuple[list[int], list[Span]]:
        found = self._tokenizer.encode(readable(text), add_special_tokens=False)
        return found.ids, [(begin + start, begin + end) for start, end in found.offsets]

    def _embed(self, ids: NDArray[np.int64]) -> Vectors:
        chunk = ids % len(self._scale)
        return self._table[ids].astype(np.float32) * self._scale[chunk, None] + self._least[chunk, None]
