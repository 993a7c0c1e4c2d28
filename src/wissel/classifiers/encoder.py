# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
"""Text to unit vectors, on the CPU, in a millisecond or two.

ONNX Runtime runs the int8 model that `export` made. A text is encoded alone,
never beside others: dynamic quantisation finds one scale for a whole tensor,
so companions in a batch would move each other's vectors (to a cosine of 0.96
with the vector of the text alone, measured), and one request's route would
depend on who else was asking. It costs little: on one core a batch of 16
encodes no more than 1.2 times as many short texts a second. Several cores are
used by encoding in several threads, which `batching` does.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from tokenizers import Tokenizer

from wissel.errors import ModelError

Vectors = NDArray[np.float32]
"""(n, dimensions): one unit vector a row."""

Encode = Callable[[Sequence[str]], Vectors]
"""Texts to unit vectors, in the order of the texts; blocks, and may be called from any thread."""

MODEL_FILE = "model.onnx"
TOKENIZER_FILE = "tokenizer.json"
DIMENSIONS = 384
"""Of a sentence, and of its wording."""

MAX_TOKENS = 256
"""What the model was trained to read; the rest of a text is not seen."""

MAX_CHARS = 16 * MAX_TOKENS
"""A text is cut here before it is tokenized, or a megabyte would be read for its first 256 tokens."""


class Encoder:
    """The loaded model; safe to share between threads."""

    def __init__(self, session: onnxruntime.InferenceSession, tokenizer: Tokenizer) -> None:
        self._session = session
        self._tokenizer = tokenizer

    @classmethod
    def load(cls, folder: Path, *, threads: int = 1) -> "Encoder":
        """Reads an export; `threads` work on one text together, which helps long texts only.

        Raises ModelError if it is missing or damaged.
        """
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3  # errors; they also come as exceptions
        # Threads that spin between texts would take the cores from the event loop.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            tokenizer = Tokenizer.from_file(str(folder / TOKENIZER_FILE))
            session = onnxruntime.InferenceSession(
                folder / MODEL_FILE,
                options,
                providers=["CPUExecutionProvider"],
                # It would undo what `export` left apart because it is faster so.
                disabled_optimizers=["SkipLayerNormFusion"],
            )
        except Exception as error:  # both libraries raise bare Exception subclasses of their own
            raise ModelError(
                f'the embedding model in "{folder}" does not load: {error}; '
                "delete the folder and run: python -m wissel.classifiers.export"
            ) from error
        tokenizer.no_padding()
        tokenizer.enable_truncation(MAX_TOKENS)
        return cls(session, tokenizer)

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors, (n, 384) and float32. Raises ModelError if the runtime fails."""
        return self.read(texts)[:, :DIMENSIONS]

    def read(self, texts: Sequence[str]) -> Vectors:
        """The same, and beside each vector the text's wording as the model has it half way: (n, 768).

        Cosines of wordings mean little, for all texts lie in one direction; a fitted head tells more by them.
        Raises ModelError if the runtime fails.
        """
        vectors = np.empty((len(texts), 2 * DIMENSIONS), np.float32)
        for row, text in enumerate(texts):
            vectors[row, :DIMENSIONS], vectors[row, DIMENSIONS:] = self._run(self.tokenize(text))
        return vectors

    def read_tokens(self) -> tuple[list[str], Vectors]:
        """Every token, at its id, and the vector of each alone; takes as long as 30,000 short texts."""
        ids = self._tokenizer.get_vocab()
        vectors = np.empty((len(ids), DIMENSIONS), np.float32)
        for token in ids.values():
            vectors[token] = self._run(np.array([[ids["[CLS]"], token, ids["[SEP]"]]], np.int64))[0]
        return sorted(ids, key=ids.__getitem__), vectors

    def tokenize(self, text: str) -> NDArray[np.int64]:
        """The token ids that the model reads, at most 256, as a batch of one: (1, tokens)."""
        # A lone surrogate, which JSON can carry, is no text to the tokenizer.
        readable = text[:MAX_CHARS].encode("utf-8", "replace").decode("utf-8")
        return np.array([self._tokenizer.encode(readable).ids], np.int64)

    def _run(self, ids: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        try:
            outputs = self._session.run(None, {"input_ids": ids, "attention_mask": np.ones_like(ids)})
        except Exception as error:  # onnxruntime's own exceptions have no common base but this
            raise ModelError(f"the embedding model failed on a text of {ids.shape[1]} tokens: {error}") from error
        sentence, wording = cast("list[NDArray[Any]]", outputs)
        return sentence[0], wording[0]
