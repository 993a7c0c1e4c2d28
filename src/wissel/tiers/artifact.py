# pyright: reportUnknownVariableType=false
"""A trained grader on disk: safetensors, and a card that people can read. Never pickle.

card.json            what it is, what it learned from, how well it does, its settings
grader.safetensors   its arrays; the torch graders have folders of their own beside the card
"""

import json
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from wissel.errors import ModelError
from wissel.tiers.base import Grader, Settings, Tensors
from wissel.tiers.baselines import AlwaysStrongGrader, AlwaysWeakGrader, LengthGrader, RandomGrader
from wissel.tiers.factorization import FactorizationGrader
from wissel.tiers.intent import IntentGrader
from wissel.tiers.metrics import Floats
from wissel.tiers.neighbours import NeighboursGrader
from wissel.tiers.similarity import SimilarityGrader

CARD_FILE = "card.json"
TENSORS_FILE = "grader.safetensors"
FORMAT = 1
LIBRARIES = ("wissel", "numpy", "torch", "transformers")

BASELINES = (RandomGrader, LengthGrader, AlwaysStrongGrader, AlwaysWeakGrader)
LEARNED = (SimilarityGrader, FactorizationGrader, NeighboursGrader, IntentGrader)
TORCH_KINDS = ("encoder", "causal")
KINDS = (*(each.KIND for each in LEARNED), *TORCH_KINDS, *(each.KIND for each in BASELINES))

QUANTILES = 201
"""So many points of the distribution of win rates are kept, for calibration."""


@runtime_checkable
class ArrayGrader(Protocol):
    """A grader that is a few arrays."""

    def tensors(self) -> Tensors:
        """What it has learned; with `settings` all that `restore` needs."""
        ...

    def settings(self) -> Settings: ...


@runtime_checkable
class FolderGrader(Protocol):
    """A grader that writes files of its own."""

    def save(self, folder: Path) -> None: ...


@dataclass(frozen=True)
class Card:
    """What is known of a trained grader."""

    kind: str
    seed: int
    data: tuple[Mapping[str, Any], ...] = ()
    """Each file's name, SHA-256, rows and weight."""
    validation: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Figures on labels that were held out, by file, the baselines beside them."""
    quantiles: tuple[float, ...] = ()
    """Of the win rates on labels that were held out, 0 to 1 in equal steps."""
    settings: Settings = field(default_factory=dict[str, Any])
    versions: Mapping[str, str] = field(default_factory=dict[str, str])
    format: int = FORMAT

    def threshold(self, strong_share: float) -> float:
        """The win rate at or above which this share of the held-out prompts lies."""
        return threshold_for(np.array(self.quantiles), strong_share)

    @property
    def spread(self) -> float:
        """Between the quartiles of the win rates: the scale on which a threshold moves."""
        low, high = np.quantile(self.quantiles, (0.25, 0.75))
        return float(high - low)


def threshold_for(win_rates: Floats, strong_share: float) -> float:
    """The (1 - share) quantile, as RouteLLM's `calibrate_threshold`."""
    return float(np.quantile(win_rates, 1 - strong_share))


def versions() -> dict[str, str]:
    """Of Python and of the libraries that are installed."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def save(folder: Path, grader: Grader, card: Card) -> None:
    """Writes both; raises ModelError if the folder cannot be written."""
    settings: Settings = grader.settings() if isinstance(grader, ArrayGrader) else {}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if isinstance(grader, FolderGrader):
            grader.save(folder)
        elif isinstance(grader, ArrayGrader) and (tensors := grader.tensors()):
            save_file({name: np.ascontiguousarray(array) for name, array in tensors.items()}, folder / TENSORS_FILE)
        text = json.dumps({**asdict(card), "settings": dict(settings)}, indent=2, ensure_ascii=False)
        (folder / CARD_FILE).write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise ModelError(f'the grader cannot be written to "{folder}": {error.strerror}') from error


def claim(folder: Path) -> None:
    """Make the folder that a grader will be saved to, before hours go into it. Raises ModelError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ModelError(f'the grader cannot be written to "{folder}": {error.strerror}') from error


def read_card(folder: Path) -> Card:
    """Raises ModelError."""
    try:
        read: dict[str, Any] = json.loads((folder / CARD_FILE).read_text(encoding="utf-8"))
        listed: dict[str, Any] = {name: tuple(read[name]) for name in ("data", "quantiles")}
        card = Card(**{**read, **listed})
    except OSError as error:
        raise ModelError(f'no grader is in "{folder}": {CARD_FILE} cannot be read: {error.strerror}') from error
    except KeyError as error:
        raise ModelError(f'"{folder / CARD_FILE}" is no card of a grader: it has no "{error.args[0]}"') from error
    except (ValueError, TypeError) as error:
        raise ModelError(f'"{folder / CARD_FILE}" is no card of a grader: {error}') from error
    if card.format != FORMAT:
        raise ModelError(f'"{folder}" has format {card.format}, and this version reads {FORMAT}; train it again')
    return card


def load(folder: Path) -> tuple[Grader, Card]:
    """What `save` wrote. Raises ModelError."""
    card = read_card(folder)
    for learned in LEARNED:
        if card.kind == learned.KIND:
            try:
                return learned.restore(load_file(folder / TENSORS_FILE), card.settings), card
            except (OSError, SafetensorError, KeyError, ValueError) as error:
                raise ModelError(f'the grader in "{folder}" cannot be read: {error}') from error
    if card.kind == "encoder":
        from wissel.tiers.encoder import EncoderGrader  # noqa: PLC0415 - brings torch

        return EncoderGrader.load(folder), card
    if card.kind == "causal":
        from wissel.tiers.causal import CausalGrader  # noqa: PLC0415 - brings torch

        return CausalGrader.load(folder), card
    return baseline(card.kind), card


def baseline(kind: str) -> Grader:
    """A grader that learns nothing. Raises ModelError for any other kind."""
    for each in BASELINES:
        if kind == each.KIND:
            return each()
    raise ModelError(f'no grader is called "{kind}"; it should be one of {", ".join(KINDS)}')
