"""Encoders of BERT's kind: text to unit vectors, on the CPU, in a millisecond or two.

ONNX Runtime runs the int8 model that `export` made. A text is encoded alone,
never beside others: dynamic quantisation finds one scale for a whole tensor,
so companions in a batch would move each other's vectors (to a cosine of 0.96
with the vector of the text alone, measured), and one request's route would
depend on who else was asking. It costs little: on one core a batch of 16
encodes no more than 1.2 times as many short texts a second. Several cores are
used by encoding in several threads, which `batching` does.

Their cost grows faster than the text, and what they are asked stands at an end
of it. So of a long text the head and the tail are read apart, each as a window,
and the whole is what lies between the two.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from tokenizers import Tokenizer

from wissel.encoders.base import MAX_CHARS, TextReading, Vectors, unit
from wissel.encoders.cache import CARD_FILE
from wissel.encoders.onnx import Network, load_array, load_tokenizer, readable
from wissel.encoders.windows import Span, windows_of
from wissel.errors import ModelError

CENTRE_FILE = "centre.npy"

Precision = Literal["int8", "mixed", "fp32"]
"""Of an export's weights; mixed are int8 but for the products that it would hurt."""

TOKENS = 64
"""Of a text so many are read, its ends' marks included. Of CLINC150's and SGD's one in ten thousand has more."""

HEAD_SHARE = 0.5
TAIL_SHARE = 0.36
"""Of them, in a text that has windows: the head's, and each other's."""


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What an export says of itself."""

    name: str
    dimensions: int
    wording: int
    """The width of a wording."""
    tokens: int
    """That the network was made for."""
    prefix: str = ""
    """Stands before every text."""
    centred: bool = False
    """Whether its vectors crowd in one direction, which is taken away."""
    precision: Precision = "int8"
    languages: tuple[str, ...] = ()
    """Of the ordinary texts' languages those whose sentences it finds again in English."""

    @classmethod
    def read(cls, folder: Path) -> "ModelCard":
        """Raises ModelError."""
        try:
            found = cast("dict[str, Any]", json.loads((folder / CARD_FILE).read_text("utf-8")))
            languages = tuple(map(str, found.pop("languages")))
            return cls(languages=languages, **found)
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise ModelError(
                f'no exported encoder in "{folder}": {error}; make one with: wissel encoder export FOLDER'
            ) from error


class Transformer:
    """The loaded model; safe to share between threads."""

    def __init__(self, network: Network, tokenizer: Tokenizer, card: ModelCard, centre: Vectors, tokens: int) -> None:
        """`centre` is (dimensions,), taken from every vector; of a text `tokens` are read."""
        self.network = network
        self.tokenizer = tokenizer
        self._centre = centre
        self.card = card
        ids = tokenizer.encode("").ids
        self._before, self._after = ids[:-1], ids[-1:]
        self._prefixed = len(tokenizer.encode(card.prefix.rstrip(), add_special_tokens=False).ids)
        self._room = min(tokens, card.tokens) - len(ids) - self._prefixed

    @classmethod
    def load(cls, folder: Path, *, threads: int = 1, tokens: int = TOKENS) -> "Transformer":
        """Reads an export; `threads` work on one text together. Raises ModelError if it is missing or damaged."""
        card = ModelCard.read(folder)
        centre = load_array(folder / CENTRE_FILE) if card.centred else np.zeros(card.dimensions, np.float32)
        return cls(Network.load(folder, threads=threads), load_tokenizer(folder), card, centre, tokens)

    @property
    def name(self) -> str:
        return self.card.name

    @property
    def dimensions(self) -> int:
        return self.card.dimensions

    @property
    def languages(self) -> tuple[str, ...]:
        return self.card.languages

    def read(self, texts: Sequence[str]) -> list[TextReading]:
        """Raises ModelError if the runtime fails."""
        return [self.read_windows(text, windows_of(text)) for text in texts]

    def read_windows(self, text: str, windows: Sequence[Span]) -> TextReading:
        """The windows one by one, and for the whole their mean."""
        parts = [text[begin:end] for begin, end in windows] or [text[:MAX_CHARS]]
        last = len(parts) - 1
        share = {0: 1.0} if not last else {0: HEAD_SHARE, last: TAIL_SHARE}
        read = [self._run(self.tokenize(part, share.get(at, TAIL_SHARE))) for at, part in enumerate(parts)]
        vectors, wordings = (np.stack(rows) for rows in zip(*read, strict=True))
        if not last:
            return TextReading((text,), vectors, wordings)
        whole = unit(vectors[[0, last]].sum(axis=0))
        wording = wordings[[0, last]].mean(axis=0)
        return TextReading((text, *parts), np.vstack([whole, vectors]), np.vstack([wording, wordings]))

    def tokenize(self, text: str, share: float = 1.0) -> list[int]:
        """The token ids that the model reads, at most this share of all that it may."""
        # Together, for where a space begins a word the prefix's own last one would be a word of nothing.
        ids = self.tokenizer.encode(self.card.prefix + readable(text), add_special_tokens=False).ids
        return [*self._before, *ids[: self._prefixed + int(share * self._room)], *self._after]

    def read_tokens(self) -> tuple[list[str], Vectors]:
        """Every token, at its id, and the vector of each alone; takes as long as 30,000 short texts."""
        ids = self.tokenizer.get_vocab()
        vectors = np.empty((len(ids), self.dimensions), np.float32)
        for token in ids.values():
            vectors[token] = self._run([*self._before, token, *self._after])[0]
        return sorted(ids, key=ids.__getitem__), vectors

    def _run(self, ids: Sequence[int]) -> list[Vectors]:
        """The vector and the wording."""
        tokens = np.array([ids], np.int64)
        vector, *wording = self.network.run(input_ids=tokens, attention_mask=np.ones_like(tokens))
        own = unit(vector[0] - self._centre) if self.card.centred else vector[0]
        return [own, wording[0][0] if wording else np.empty(0, np.float32)]
