# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownParameterType=false, reportMissingTypeStubs=false
"""The multilingual Universal Sentence Encoder, from the two files of its package to what serving reads.

    sp.model      -> a tokenizer: unigrams, and how their text is made even
    weights.npz   -> table.npy, a row of bytes for each token, read by mmap
                  -> model.onnx, int8: (tokens, 512) and which token belongs to which window -> a unit vector a window

The network looks at most five tokens around each token and then adds the tokens
up (Yang et al. 2020, the CNN), so any number of windows of a text cost little
more than the text: what was found for each token is added up once more.
"""

import struct
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

from wissel.encoders.export.quantising import quantise
from wissel.encoders.onnx import MODEL_FILE, TOKENIZER_FILE
from wissel.encoders.universal import SCALES_FILE, TABLE_FILE, WIDTH
from wissel.errors import ModelError

if TYPE_CHECKING:
    import torch

CHUNKS = 17
"""The package's table is cut in so many, token by token in turn, each with a scale of its own."""

BRANCHES = ((2, 0), (3, 1), (5, 2))
"""Of the network: how many tokens each looks at, and how many of them stand before its own."""

BRANCH_WIDTH = 256


def export(source: Path, target: Path) -> None:
    """Writes the four files. Raises ModelError if torch or onnx is missing, or the files are not what they seem."""
    weights = _read(source / "weights.npz")
    table = np.empty((CHUNKS * len(weights["q1"]), WIDTH), np.uint8)
    for chunk in range(CHUNKS):
        table[chunk::CHUNKS] = weights[f"q{chunk + 1}"]
    np.save(target / TABLE_FILE, table)
    np.save(target / SCALES_FILE, np.stack([weights["scale"], weights["lo"]]).astype(np.float32))
    tokenizer_of((source / "sp.model").read_bytes()).save(str(target / TOKENIZER_FILE))
    traced = target / "traced.onnx"
    _trace(load_original(source), traced)
    quantise(traced, target / MODEL_FILE, only=["MatMul"])
    traced.unlink()


def tokenizer_of(model: bytes) -> Tokenizer:
    """The `tokenizers` of a SentencePiece model of unigrams, which is a protobuf message.

    Fields, by sentencepiece_model.proto: 1 a piece (1 its text, 2 its score), 3 the normalizer (2 its table).
    """
    pieces: list[tuple[str, float]] = []
    table = b""
    for number, value in _fields(model):
        if number == 1:
            piece = dict(_fields(value))
            pieces.append((piece[1].decode(), struct.unpack("<f", piece[2])[0] if 2 in piece else 0.0))
        elif number == 3:
            table = dict(_fields(value))[2]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=0, byte_fallback=False))
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.Precompiled(table),
            normalizers.Strip(left=True, right=True),
            normalizers.Replace(Regex(" {2,}"), " "),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always", split=True)
    return tokenizer


def load_original(source: Path) -> "torch.nn.Module":
    """The network in PyTorch, float32: tokens' embeddings (n, 512) and windows (k, n) to unit vectors (k, 512)."""
    try:
        import torch  # noqa: PLC0415 - a server that finds the export in the cache must not load it
    except ImportError as error:
        raise ModelError(f"the encoder cannot be exported without {error.name}") from error
    layer_norm = torch.nn.functional.layer_norm
    weights = dict(_read(source / "weights.npz"))
    eps = float(weights["eps"])

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            # Buffers: constants would not be quantised.
            for name, value in weights.items():
                if not name.startswith("q") and value.ndim:
                    self.register_buffer(name, _tensor(value))
            for name in ("proj", "proj_b", "ln_g", "ln_b"):
                whole = np.concatenate([weights[f"{name}{width}"] for width, _ in BRANCHES], axis=-1)
                self.register_buffer(f"{name}_all", _tensor(whole))

        def forward(self, tokens: torch.Tensor, windows: torch.Tensor) -> torch.Tensor:
            own = self.get_buffer
            branches = layer_norm(
                tokens @ own("proj_all") + own("proj_b_all"), (3 * BRANCH_WIDTH,), own("ln_g_all"), own("ln_b_all"), eps
            )
            found = [tokens]
            for at, (width, before) in enumerate(BRANCHES):
                branch = branches[:, at * BRANCH_WIDTH : (at + 1) * BRANCH_WIDTH]
                found.append(self._look_around(self._look_around(branch, 1, width, before), 2, width, before))
            each = layer_norm(torch.cat(found, 1), (WIDTH + 3 * BRANCH_WIDTH,), own("ln_g"), own("ln_b"), eps)
            count = windows.sum(1, keepdim=True)
            mean = ((windows @ each) @ own("cnn_W") + count * own("cnn_b")) / torch.sqrt(count)
            first = torch.relu(mean @ own("d0"))
            second = torch.relu(mean @ own("p1") + first @ own("d1"))
            third = torch.relu(second @ own("d2"))
            last = torch.tanh(second @ own("p3") + third @ own("d3"))
            return last / torch.linalg.vector_norm(last, dim=-1, keepdim=True)

        def _look_around(self, tokens: torch.Tensor, stage: int, width: int, before: int) -> torch.Tensor:
            """Each token with its neighbours, nothing beyond the ends, and itself added."""
            ends = (torch.zeros(before, BRANCH_WIDTH), torch.zeros(width - 1 - before, BRANCH_WIDTH))
            padded = torch.cat([ends[0], tokens, ends[1]])
            seen = torch.cat([padded[at : padded.shape[0] - (width - 1 - at)] for at in range(width)], 1)
            weight, bias = self.get_buffer(f"w{stage}_{width}"), self.get_buffer(f"b{stage}_{width}")
            return torch.relu(seen @ weight + bias) + tokens

    return Network().eval()


def _tensor(value: NDArray[np.generic]) -> "torch.Tensor":
    import torch  # noqa: PLC0415 - as above

    return torch.from_numpy(np.ascontiguousarray(value, np.float32))


def _trace(original: "torch.nn.Module", path: Path) -> None:
    import torch  # noqa: PLC0415 - as above

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracing exporter is on its way out, and says so
        torch.onnx.export(
            original,
            (torch.rand(9, WIDTH), torch.ones(2, 9)),
            path,
            dynamo=False,
            opset_version=17,
            input_names=["tokens", "windows"],
            output_names=["vectors"],
            dynamic_axes={"tokens": {0: "n"}, "windows": {0: "k", 1: "n"}, "vectors": {0: "k"}},
        )


def _read(path: Path) -> Mapping[str, NDArray[np.generic]]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError) as error:
        raise ModelError(f'the weights "{path}" cannot be read: {error}') from error


def _fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    """A protobuf message's fields that have a length or four bytes; others are passed over."""
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7

    while at < len(message):
        key = varint()
        match key & 7:
            case 0:
                varint()
                continue
            case 1:
                at += 8
                continue
            case 5:
                size = 4
            case _:
                size = varint()
        yield key >> 3, message[at : at + size]
        at += size
