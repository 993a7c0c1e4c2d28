# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
"""ONNX Runtime and tokenizers, as encoders use them."""

from pathlib import Path
from typing import Any, cast

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from tokenizers import Tokenizer

from wissel.errors import ModelError

MODEL_FILE = "model.onnx"
TOKENIZER_FILE = "tokenizer.json"


class Network:
    """A loaded graph; safe to share between threads."""

    def __init__(self, session: onnxruntime.InferenceSession) -> None:
        self._session = session

    @classmethod
    def load(cls, folder: Path, *, threads: int = 1) -> "Network":
        """The graph of an export; `threads` work on one text together, which helps long texts only.

        Raises ModelError if it is missing or damaged.
        """
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3  # errors; they also come as exceptions
        # Threads that spin between texts would take the cores from the event loop.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            session = onnxruntime.InferenceSession(
                folder / MODEL_FILE,
                options,
                providers=["CPUExecutionProvider"],
                # It would undo what the export left apart because it is faster so.
                disabled_optimizers=["SkipLayerNormFusion"],
            )
        except Exception as error:  # the library raises bare Exception subclasses of its own
            raise _damaged(folder, error) from error
        return cls(session)

    def run(self, **inputs: NDArray[Any]) -> list[NDArray[Any]]:
        """The graph's outputs. Raises ModelError if the runtime fails."""
        try:
            return cast("list[NDArray[Any]]", self._session.run(None, inputs))
        except Exception as error:  # as above
            shapes = ", ".join(f"{name} {value.shape}" for name, value in inputs.items())
            raise ModelError(f"the encoder failed on {shapes}: {error}") from error


def load_tokenizer(folder: Path) -> Tokenizer:
    """An export's, without padding and truncation. Raises ModelError if it is missing or damaged."""
    try:
        tokenizer = Tokenizer.from_file(str(folder / TOKENIZER_FILE))
    except Exception as error:  # tokenizers raises bare Exceptions
        raise _damaged(folder, error) from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def load_array(path: Path, *, mapped: bool = False) -> NDArray[Any]:
    """An array of an export; `mapped`, it stays in the file and only what is looked up is read."""
    try:
        return np.load(path, mmap_mode="r" if mapped else None, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise _damaged(path.parent, error) from error


def readable(text: str) -> str:
    """A lone surrogate, which JSON can carry, is no text to a tokenizer."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _damaged(folder: Path, error: Exception) -> ModelError:
    return ModelError(
        f'the encoder in "{folder}" does not load: {error}; delete the folder and run: wissel encoder export'
    )
