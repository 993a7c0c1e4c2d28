"""The encoders whose weights come as packages: made once, kept in the cache.

package -> files with the known SHA-256 -> folder in the cache with graph, tokenizer and card
                                        -> beside it what the encoder knows, and the table of the static encoder
"""

import dataclasses
import importlib.util
import tempfile
import zipfile
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from wissel.encoders import weights
from wissel.encoders.base import Encoder, Vectors, encode_with
from wissel.encoders.bridge import Bridge
from wissel.encoders.cache import make
from wissel.encoders.export import transformer, universal
from wissel.encoders.joint import Joint
from wissel.encoders.knowledge import KNOWLEDGE_FILE, Knowledge
from wissel.encoders.static import STATIC_FILE, STATIC_WIDTH
from wissel.encoders.transformer import Transformer
from wissel.encoders.universal import LANGUAGES, Universal
from wissel.errors import ModelError

RARITY = 1e-4
"""How soon a frequent token stops to count (Arora et al. 2017, their `a`)."""


def export_minilm(target: Path) -> None:
    """With the table for the static encoder. Raises ModelError."""
    source = weights.MINILM.find() / "model"
    recipe = dataclasses.replace(transformer.Architecture.read(source), name="minilm")
    transformer.export(source, target, recipe)
    encoder = Transformer.load(target)
    np.save(target / STATIC_FILE, distil(*encoder.read_tokens()))


def export_use(target: Path) -> None:
    """Raises ModelError."""
    universal.export(weights.USE.find() / "resources", target)


def export_mpnet(target: Path) -> None:
    """Raises ModelError."""
    with mpnet_source() as source:
        recipe = dataclasses.replace(transformer.Architecture.read(source), name="mpnet")
        transformer.export(source, target, recipe)


def mpnet_folder() -> Path:
    """Where MPNet's export lies, or will."""
    return weights.MINILM.folder.parent / f"all-mpnet-base-v2-{weights.MPNET_SHA256[:12]}-v1"


@contextmanager
def mpnet_source() -> Generator[Path]:
    """The folder inside the zip that the packages' files are parts of."""
    with tempfile.TemporaryDirectory() as scratch:
        whole = Path(scratch) / "whole.zip"
        with whole.open("wb") as file:
            for module in weights.MPNET_PARTS:
                spec = importlib.util.find_spec(module)
                parts = sorted(Path((spec.submodule_search_locations or [""])[0]).glob("input/*.zip.*")) if spec else []
                if len(parts) != 1:
                    raise ModelError(
                        f'the weights of all-mpnet-base-v2 are missing: no package "{module}"; install them with: '
                        f"{weights.MPNET_INSTALL}"
                    )
                file.write(parts[0].read_bytes())
        try:
            with zipfile.ZipFile(whole) as archive:
                archive.extractall(scratch)
        except zipfile.BadZipFile as error:
            raise ModelError(f"the parts of all-mpnet-base-v2 make no zip file: {error}") from error
        whole.unlink()
        found = next(iter(Path(scratch).rglob("model.safetensors")), Path(scratch) / "model.safetensors")
        weights.verify(found, weights.MPNET_SHA256, weights.MPNET_INSTALL)
        yield found.parent


@dataclasses.dataclass(frozen=True, slots=True)
class Part:
    """An export that others are made of."""

    folder: Callable[[], Path]
    fill: Callable[[Path], None]


PARTS: Final = {
    "minilm": Part(lambda: weights.MINILM.folder, export_minilm),
    "use": Part(lambda: weights.USE.folder, export_use),
    "mpnet": Part(mpnet_folder, export_mpnet),
}

MADE_OF: Final = {"joint": ("minilm", "use"), "minilm": ("minilm",), "use": ("use",), "strong": ("mpnet", "use")}
"""The encoders by name, and their parts. The strong one is the second stage of `strong`, whose first one is joint."""


def knowledge_folder(name: str) -> Path:
    """Where what the encoder knows lies, or will."""
    parts = "+".join(PARTS[part].folder().name.rsplit("-", 2)[0] for part in MADE_OF[name])
    hashes = "-".join(PARTS[part].folder().name.rsplit("-", 2)[1][:6] for part in MADE_OF[name])
    return weights.MINILM.folder.parent / f"known-by-{parts}-{hashes}-v{KNOWLEDGE_VERSION}"


KNOWLEDGE_VERSION = 3


def is_made(name: str) -> bool:
    return knowledge_folder(name).is_dir() and all(PARTS[part].folder().is_dir() for part in MADE_OF[name])


def export(name: str) -> list[Path]:
    """All that the encoder needs, made where it is missing. Raises ModelError."""
    folders = [make(PARTS[part].folder(), PARTS[part].fill) for part in MADE_OF[name]]
    return [*folders, make(knowledge_folder(name), lambda target: _learn(name, target))]


def load(name: str, *, threads: int = 1) -> Encoder:
    """The encoder, from exports that are there. Raises ModelError."""
    first, *more = MADE_OF[name]
    if first == "use":
        return Universal.load(PARTS["use"].folder(), threads=threads)
    body = Transformer.load(PARTS[first].folder(), threads=threads)
    if not more:
        return body
    # Only MiniLM has a bridge: it was learned on its vectors.
    bridge = Bridge.load() if first == "minilm" else None
    return Joint(body, Universal.load(PARTS["use"].folder(), threads=threads), bridge)


def load_knowledge(name: str) -> Knowledge:
    """Raises ModelError."""
    return Knowledge.load(knowledge_folder(name) / KNOWLEDGE_FILE)


def _learn(name: str, target: Path) -> None:
    languages = LANGUAGES if "use" in MADE_OF[name] else ()
    Knowledge.learn(encode_with(load(name).read), languages=languages).save(target / KNOWLEDGE_FILE)


def distil(vocabulary: list[str], vectors: Vectors) -> NDArray[np.float16]:
    """What each token means by itself, (tokens, STATIC_WIDTH), rare ones heavier: the mean over a text is its vector.

    As model2vec does it: of the tokens' own vectors the directions in which they differ most, and a weight by how
    often a token of its rank occurs. BERT's vocabulary is in order of frequency after its first, unused rows.
    """
    vectors = vectors - vectors.mean(axis=0)
    _, directions = np.linalg.eigh(vectors.T @ vectors)
    rank = np.maximum(1, np.arange(len(vocabulary)) - vocabulary.index("!") + 1)
    frequency = 1 / (rank + 1)
    weight = RARITY / (RARITY + frequency / frequency.sum())
    return (weight[:, None] * (vectors @ directions[:, : -STATIC_WIDTH - 1 : -1])).astype(np.float16)
