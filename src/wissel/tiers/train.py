"""Labels to a grader on disk, with figures on labels that it never saw.

A fifth of every file is held out. The grader learns from the rest and is
measured on that fifth, the baselines beside it; where several files are given,
also one that learned from the first file alone, which shows what the others
(the paper's augmentation) add. Then, unless that would cost minutes, the
grader that is kept learns from everything.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wissel.errors import ConfigError
from wissel.tiers import artifact
from wissel.tiers.artifact import TORCH_KINDS, Card
from wissel.tiers.base import STRONG, WEAK, Battles, Encode, Grader, Progress, Prompts, join
from wissel.tiers.baselines import LengthGrader, RandomGrader
from wissel.tiers.data import Source, read
from wissel.tiers.factorization import FactorizationGrader
from wissel.tiers.finetune import Schooling, finetuned
from wissel.tiers.intent import IntentGrader
from wissel.tiers.metrics import Ends, Figures, Floats, figures
from wissel.tiers.neighbours import NeighboursGrader
from wissel.tiers.similarity import SimilarityGrader

HELD_OUT = 0.2
MIN_ROWS = 20
"""Fewer labels of the pair teach nothing that could be measured."""

RESAMPLES = 200
"""For the intervals on the card."""


@dataclass(frozen=True)
class Recipe:
    """Which grader, for which pair, and from where its torch weights begin."""

    kind: str
    strong: tuple[str, ...] = (STRONG,)
    weak: tuple[str, ...] = (WEAK,)
    seed: int = 0
    base: Path | None = None
    """Of `encoder` and `causal`: a folder in the form of transformers."""
    epochs: int | None = None
    """Of `encoder` and `causal`; their own default if None."""
    limit_s: float = float("inf")
    """Of `encoder` and `causal`: training stops at the first look at the validation loss after so many seconds."""

    @property
    def needs_vectors(self) -> bool:
        return self.kind in {each.KIND for each in artifact.LEARNED}

    def fit(self, battles: Battles, progress: Progress | None = None) -> Grader:
        """A grader that learned from these. Raises ConfigError for battles that teach nothing of the pair."""
        pair = battles.between(self.strong, self.weak)
        if len(pair) < MIN_ROWS or pair.ends.gap == 0:
            problem = (
                f"--data: {len(pair)} rows compare {_names(self.strong)} with {_names(self.weak)}; "
                f"a grader needs at least {MIN_ROWS}, and a difference between the two"
            )
            raise ConfigError([problem])
        match self.kind:
            case "similarity":
                return SimilarityGrader.fit(pair, seed=self.seed)
            case "neighbours":
                return NeighboursGrader.fit(pair, seed=self.seed)
            case "intent":
                return IntentGrader.fit(pair)
            case "factorization":
                return FactorizationGrader.fit(
                    battles, seed=self.seed, strong=self.strong, weak=self.weak, progress=progress
                )
            case "encoder" | "causal":
                return self._fit_torch(pair, progress)
            case _:
                return artifact.baseline(self.kind)

    def _fit_torch(self, pair: Battles, progress: Progress | None) -> Grader:
        if self.base is None:
            raise ConfigError([f'--base: the grader "{self.kind}" needs the folder of a model to begin with'])
        base, plan = self.base, Schooling(self.seed, self.epochs, self.limit_s, progress)
        if self.kind == "encoder":
            from wissel.tiers.encoder import EncoderGrader  # noqa: PLC0415 - brings torch

            return finetuned(lambda: EncoderGrader(base), pair, plan)
        from wissel.tiers.causal import CausalGrader  # noqa: PLC0415 - brings torch

        return finetuned(lambda: CausalGrader(base), pair, plan)


def train(
    recipe: Recipe, sources: Sequence[Source], out: Path, *, encode: Encode, progress: Progress | None = None
) -> Card:
    """Learns, measures, and writes the grader to the folder `out`. Raises ConfigError and ModelError."""
    artifact.claim(out)
    embed = embedder(encode if recipe.needs_vectors else None)
    parts = [read(source, embed) for source in sources]
    rng = np.random.default_rng(recipe.seed)
    splits = [_split(part, rng) for part in parts]
    known = join([rest for rest, _ in splits])
    grader = recipe.fit(known, progress)
    tests = {
        source.path.name: held.between(recipe.strong, recipe.weak)
        for source, (_, held) in zip(sources, splits, strict=True)
    }
    is_quick = recipe.kind not in TORCH_KINDS
    first = recipe.fit(splits[0][0]) if is_quick and len(sources) > 1 and _teaches(splits[0][0], recipe) else None
    validation, win_rates = _validate(grader, first, tests, recipe.seed)
    if is_quick:
        grader = recipe.fit(join(parts))
    card = Card(
        kind=recipe.kind,
        seed=recipe.seed,
        data=tuple(_described(source, part) for source, part in zip(sources, parts, strict=True)),
        validation=validation,
        quantiles=tuple(np.quantile(win_rates, np.linspace(0, 1, artifact.QUANTILES)).round(6).tolist()),
        settings=grader.settings() if isinstance(grader, artifact.ArrayGrader) else {},
        versions=artifact.versions(),
    )
    artifact.save(out, grader, card)
    return card


def embedder(encode: Encode | None) -> Callable[[Iterable[str]], Prompts]:
    """How prompts get their vectors; without `encode` they have none."""
    return Prompts.without_vectors if encode is None else lambda texts: Prompts.embed(texts, encode)


def with_baselines(graders: Mapping[str, Floats], prompts: Prompts, ends: Ends, seed: int) -> dict[str, Figures]:
    """The figures of win rates, and of those that every grader must beat."""
    known = {each.KIND: each().win_rates(prompts) for each in (LengthGrader, RandomGrader)}
    return {
        name: figures([(win_rates, ends)], seed=seed, resamples=RESAMPLES)
        for name, win_rates in {**graders, **known}.items()
    }


def _validate(
    grader: Grader, first: Grader | None, tests: Mapping[str, Battles], seed: int
) -> tuple[dict[str, Any], Floats]:
    """The figures by file, and all win rates on what was held out."""
    validation: dict[str, Any] = {}
    seen: list[Floats] = []
    for name, held in tests.items():
        if not len(held):
            continue
        rates = {"grader": grader.win_rates(held.prompts)}
        seen.append(rates["grader"])
        if first is not None:
            rates["first_file_only"] = first.win_rates(held.prompts)
        if held.ends.gap > 0:
            found = with_baselines(rates, held.prompts, held.ends, seed)
            validation[name] = {"rows": len(held), **{key: each.as_json() for key, each in found.items()}}
    return validation, np.concatenate(seen)


def _split(part: Battles, rng: np.random.Generator) -> tuple[Battles, Battles]:
    """What is learned from, and what is held out; prompts that occur twice stay on one side."""
    texts = sorted(set(part.prompts.texts))
    held_texts: set[str] = {texts[at] for at in rng.permutation(len(texts))[: max(1, round(HELD_OUT * len(texts)))]}
    is_held = np.array([text in held_texts for text in part.prompts.texts])
    return part.take(np.flatnonzero(~is_held)), part.take(np.flatnonzero(is_held))


def _teaches(battles: Battles, recipe: Recipe) -> bool:
    pair = battles.between(recipe.strong, recipe.weak)
    return len(pair) >= MIN_ROWS and pair.ends.gap != 0


def _described(source: Source, part: Battles) -> dict[str, Any]:
    return {"file": source.path.name, "sha256": source.digest(), "rows": len(part), "weight": source.weight}


def _names(side: tuple[str, ...]) -> str:
    return " or ".join(f'"{name}"' for name in side)
