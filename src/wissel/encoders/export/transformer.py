# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownParameterType=false, reportMissingTypeStubs=false
"""A folder of weights as sentence-transformers or transformers have it, turned into what serving reads.

config.json, modules.json, 1_Pooling -> Architecture: which layers, how tokens become one vector, what stands in front
weights -> one ONNX graph from token ids to a unit vector and a wording, its layers fused -> int8
ordinary texts, read by both -> is the order of neighbours the same? -> else some of the weights stay, or all
                             -> do all vectors lie in one direction? -> the centre that is taken away
"""

import dataclasses
import json
import logging
import shutil
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from wissel.encoders.base import Vectors, unit
from wissel.encoders.cache import CARD_FILE
from wissel.encoders.export.quantising import narrowing, quantise
from wissel.encoders.onnx import MODEL_FILE, TOKENIZER_FILE, Network
from wissel.encoders.ordinary import known_languages, ordinary_texts
from wissel.encoders.transformer import CENTRE_FILE, ModelCard, Precision, Transformer
from wissel.errors import ModelError

if TYPE_CHECKING:
    import torch

Pooling = Literal["mean", "cls"]

KINDS = ("bert", "xlm-roberta", "roberta", "mpnet", "distilbert", "new")
"""Of transformers' models those that were tried or are built alike; "new" is GTE's own."""

CROWDED = 0.4
"""The mean cosine of texts from which vectors are centred: E5's lie between 0.7 and 1, MiniLM's around 0.03."""

NEIGHBOURS = 5
MIN_KEPT = 0.8
"""Of each text's five nearest others so many must be the same after quantisation. MPNet keeps 67 % of them in int8,
83 % with its narrowing products spared."""

INSTALL = 'install it with: pip install "wissel[torch]"'


@dataclass(frozen=True, slots=True)
class Architecture:
    """How a folder's weights are to be read."""

    name: str
    kind: str
    pooling: Pooling
    prefix: str
    tokens: int

    @classmethod
    def read(cls, source: Path, *, pooling: Pooling | None = None, prefix: str | None = None) -> "Architecture":
        """What the files say; `pooling` and `prefix` where they say nothing, or otherwise. Raises ModelError."""
        config = _json(source / "config.json")
        kind = str(config.get("model_type"))
        if kind not in KINDS:
            raise ModelError(f'"{source}" is a model of the kind "{kind}"; should be one of {", ".join(KINDS)}')
        kept = 2 if kind in {"xlm-roberta", "roberta", "mpnet"} else 0
        limits = [config.get("max_position_embeddings", 512) - kept]
        limits += [size for size in [_json(source / "sentence_bert_config.json", {}).get("max_seq_length")] if size]
        return cls(
            source.resolve().name,
            kind,
            pooling or _pooling(source),
            _prefix(source) if prefix is None else prefix,
            min(limits),
        )


def export(source: Path, target: Path, recipe: Architecture) -> ModelCard:
    """Writes graph, tokenizer and card. Raises ModelError where something is missing or nothing keeps the order."""
    _copy_tokenizer(source, target)
    original = load_original(source, recipe)
    traced, fused = target / "traced.onnx", target / "fused.onnx"
    _trace(original, traced)
    _fuse(original, traced, fused)
    width = int(cast("Any", original).width)
    card = ModelCard(recipe.name, width, width, recipe.tokens, recipe.prefix)
    (target / CARD_FILE).write_text(json.dumps(dataclasses.asdict(card)))
    texts = [each.text for each in ordinary_texts()]
    wanted = _read_original(original, Transformer(*_parts(target, card, fused)), texts)
    kept: dict[Precision, float] = {}
    for precision, write in _ladder(fused, target / MODEL_FILE).items():
        write()
        card = dataclasses.replace(card, precision=precision)
        found = _vectors(target, card, texts)
        kept[precision] = kept_neighbours(wanted, found)
        if kept[precision] >= MIN_KEPT:
            break
    else:
        told = ", ".join(f"{precision}: {share:.0%}" for precision, share in kept.items())
        raise ModelError(
            f'the export of "{source}" differs from its weights: too few of five neighbours stay ({told}), '
            f"should be {MIN_KEPT:.0%}"
        )
    for file in (traced, fused):
        file.unlink()
    if _crowding(found) > CROWDED:
        centre = found.mean(axis=0)
        np.save(target / CENTRE_FILE, centre.astype(np.float32))
        card, found = dataclasses.replace(card, centred=True), unit(found - centre)
    card = dataclasses.replace(card, languages=known_languages(found))
    (target / CARD_FILE).write_text(json.dumps(dataclasses.asdict(card), indent=1) + "\n")
    return card


def _ladder(fused: Path, path: Path) -> Mapping[Precision, Callable[[], object]]:
    """What writes the network to `path`, the cheapest to serve first."""
    return {
        "int8": lambda: quantise(fused, path),
        "mixed": lambda: quantise(fused, path, spared=narrowing(fused)),
        "fp32": lambda: shutil.copyfile(fused, path),
    }


def kept_neighbours(wanted: Vectors, found: Vectors) -> float:
    """Of each row's nearest other rows the share that both name."""

    def nearest(vectors: Vectors) -> NDArray[np.intp]:
        cosines = vectors @ vectors.T
        np.fill_diagonal(cosines, -1)
        return np.argpartition(-cosines, NEIGHBOURS, axis=1)[:, :NEIGHBOURS]

    pairs = zip(nearest(wanted).tolist(), nearest(found).tolist(), strict=True)
    return float(np.mean([len({*one} & {*other}) / NEIGHBOURS for one, other in pairs]))


def load_original(source: Path, recipe: Architecture) -> "torch.nn.Module":
    """The weights in PyTorch, float32: token ids and mask, both (n, tokens), to unit vectors and wordings.

    Raises ModelError if torch or transformers is missing, or the folder does not load.
    """
    try:
        # Here and not above: a server that finds the export in the cache must not load a gigabyte of torch.
        import torch  # noqa: PLC0415
        from transformers import AutoModel  # noqa: PLC0415
        from transformers.utils import logging as transformers_logging  # noqa: PLC0415
    except ImportError as error:
        raise ModelError(f"an encoder cannot be exported without {error.name}; {INSTALL}") from error
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()

    class Pooled(torch.nn.Module):
        """As sentence-transformers has it: one vector of the text's tokens, brought to length one."""

        def __init__(self, body: torch.nn.Module) -> None:
            super().__init__()
            self.body = body
            self.width: Any = int(cast("Any", body).config.hidden_size)
            # The earlier layers know the words and not yet their sense, the later ones forget which words they were.
            self.half: Any = int(cast("Any", body).config.num_hidden_layers) // 2

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            layers = self.body(
                input_ids=input_ids, attention_mask=attention_mask, output_hidden_states=True
            ).hidden_states
            weights = attention_mask.unsqueeze(-1).to(layers[-1].dtype)
            mean, wording = ((layers[at] * weights).sum(1) / weights.sum(1) for at in (-1, self.half))
            vector = layers[-1][:, 0] if recipe.pooling == "cls" else mean
            return vector / torch.linalg.vector_norm(vector, dim=-1, keepdim=True), wording

    try:
        # Eager attention is the form that ONNX Runtime's fusion recognises.
        body = AutoModel.from_pretrained(
            source, attn_implementation="eager", add_pooling_layer=False, dtype=torch.float32, local_files_only=True
        )
    except (OSError, ValueError, RuntimeError, TypeError, ImportError) as error:
        raise ModelError(f'no encoder can be read from "{source}": {error}') from error
    return Pooled(body).eval()


def embed_original(original: "torch.nn.Module", ids: Sequence[int]) -> Vectors:
    """What the real weights say for one text's token ids: (dimensions,)."""
    import torch  # noqa: PLC0415 - as above

    tokens = torch.tensor([list(ids)])
    with torch.inference_mode():
        return original(tokens, torch.ones_like(tokens))[0][0].numpy()


def _read_original(original: "torch.nn.Module", reader: Transformer, texts: Sequence[str]) -> Vectors:
    return np.stack([embed_original(original, reader.tokenize(text)) for text in texts])


def _vectors(target: Path, card: ModelCard, texts: Sequence[str]) -> Vectors:
    (target / CARD_FILE).write_text(json.dumps(dataclasses.asdict(card)))
    return np.stack([reading.vectors[0] for reading in Transformer.load(target).read(texts)])


def _parts(target: Path, card: ModelCard, model: Path) -> tuple[Network, Tokenizer, ModelCard, Vectors, int]:
    """Of a transformer whose graph is not quantised yet."""
    shutil.copyfile(model, target / MODEL_FILE)
    found = Transformer.load(target)
    return found.network, found.tokenizer, card, np.zeros(card.dimensions, np.float32), card.tokens


def _crowding(vectors: Vectors) -> float:
    """The mean cosine of different rows."""
    total = vectors.sum(axis=0)
    count = len(vectors)
    return float((total @ total - count) / (count * (count - 1)))


def _trace(original: "torch.nn.Module", path: Path) -> None:
    import torch  # noqa: PLC0415 - as above

    ids = torch.arange(1000, 1018).reshape(2, 9)
    names, outputs = ["input_ids", "attention_mask"], ["vector", "wording"]
    axes = {0: "batch", 1: "length"}
    with warnings.catch_warnings():
        # The tracing exporter is on its way out, and says so; but of the two it is the one whose graph
        # ONNX Runtime fuses into whole attention layers. What it traced is checked above, and torch is pinned.
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


def _fuse(original: "torch.nn.Module", traced: Path, path: Path) -> None:
    try:
        from onnxruntime.transformers.fusion_options import FusionOptions  # noqa: PLC0415 - as above
        from onnxruntime.transformers.optimizer import optimize_model  # noqa: PLC0415
    except ImportError as error:
        raise ModelError(f"an encoder cannot be exported without {error.name}; {INSTALL}") from error
    fusions = FusionOptions("bert")
    # Adding and normalising as one operator takes twice as long as the two, which use the processor's vectors.
    fusions.enable_skip_layer_norm = False
    config = cast("Any", original).body.config
    logging.getLogger("fusion_base").setLevel(logging.ERROR)
    # opt_level 0: only the fusions, or what suits this processor would be written into the file.
    optimize_model(
        str(traced),
        model_type="bert",
        num_heads=config.num_attention_heads,
        hidden_size=config.hidden_size,
        optimization_options=fusions,
        opt_level=0,
    ).save_model_to_file(str(path))


def _copy_tokenizer(source: Path, target: Path) -> None:
    if not (source / TOKENIZER_FILE).is_file():
        raise ModelError(f'"{source}" should have a {TOKENIZER_FILE}, the file of the fast tokenizer')
    shutil.copyfile(source / TOKENIZER_FILE, target / TOKENIZER_FILE)


def _pooling(source: Path) -> Pooling:
    modules = [str(each.get("type", "")).rsplit(".", 1)[-1] for each in _json(source / "modules.json", [])]
    if strange := {*modules} - {"Transformer", "Pooling", "Normalize"}:
        raise ModelError(f'"{source}" has a module of the kind "{min(strange)}", which cannot be exported')
    said = _json(source / "1_Pooling" / "config.json", {"pooling_mode_mean_tokens": True})
    modes = [name for name, on in said.items() if name.startswith("pooling_mode") and on is True]
    match modes or [said.get("pooling_mode")]:
        case ["pooling_mode_cls_token"] | ["cls"]:
            return "cls"
        case ["pooling_mode_mean_tokens"] | ["mean"]:
            return "mean"
        case _:
            raise ModelError(f'"{source}" pools by {", ".join(map(str, modes))}; should be mean or cls')


def _prefix(source: Path) -> str:
    """Of a question, as sentence-transformers says it."""
    said = _json(source / "config_sentence_transformers.json", {})
    prompts = cast("Mapping[str, str]", said.get("prompts") or {})
    return prompts.get(str(said.get("default_prompt_name")), prompts.get("query", ""))


def _json(path: Path, otherwise: Any = None) -> Any:  # whatever stands in the file
    if not path.is_file() and otherwise is not None:
        return otherwise
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f'"{path}" cannot be read: {error}') from error
