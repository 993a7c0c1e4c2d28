"""Every figure of docs/benchmarks.md about strong or weak: what a win rate adds to a request, and how good it is.

    python -m tests.bench.tiers [--mmlu FILE] [--gsm8k FILE] [--encoder] [--json]

What is added is measured on a request whose embedding is already there. The
labels are made up then, since only their number matters; a request's features
are computed from its text, as when serving, and the text has 60 words.

How good the graders are is measured on RouteLLM's own labels, rows of
`{prompt, strong, weak}`, by five-fold cross-validation with the baselines on
the same folds (`cross_validation`): all labels, 1,500 drawn from each fold's, all of
them one-sided as `wissel tier export` has them, and learned from one file to be
measured on the other. Budgets are played through the tier that serves: on what
was held out, and after the traffic has changed at once to the other file.
`--encoder` takes minutes a fold.
"""

import argparse
import gc
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from tests.bench.cross_validation import (
    AFTER_CHANGE,
    FOLDS,
    SHARES,
    Result,
    beside,
    cached,
    change_of_traffic,
    cross_validate,
    one_sided,
    transferred,
)

from wissel.classifiers.encoders import load, section_of
from wissel.encoders.base import encode_with
from wissel.encoders.weights import MINILM
from wissel.tiers import artifact
from wissel.tiers.artifact import Card
from wissel.tiers.base import STRONG, WEAK, Battles, Grader, Progress, Prompts
from wissel.tiers.data import Source, read
from wissel.tiers.factorization import FactorizationGrader
from wissel.tiers.intent import IntentGrader
from wissel.tiers.neighbours import NeighboursGrader
from wissel.tiers.similarity import SimilarityGrader
from wissel.tiers.train import Recipe, embedder

DIMENSIONS = 384
FIT_ROWS = 400
"""Enough for the graders whose speed does not depend on the number of labels."""

LEARNED = ("similarity", "factorization", "neighbours")
FEW = 1500
"""As many labels of the domain as the paper had."""

SPANS = ("before", "before_fixed", "after", "after_fixed")
"""What is told of a change of traffic."""

Results = Mapping[str, Result]


def made_up(rows: int, rng: np.random.Generator) -> Battles:
    """Labels without meaning, about ten topics."""
    vectors = rng.normal(size=(rows, DIMENSIONS)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    texts = tuple(" ".join(str(word) for word in rng.integers(0, 9999, 60)) for _ in range(rows))
    strong, weak = rng.integers(0, 2, rows).astype(float), rng.integers(0, 2, rows).astype(float)
    topics = tuple(str(at % 10) for at in range(rows))
    a, b = np.zeros(rows, np.intp), np.ones(rows, np.intp)
    return Battles(Prompts(texts, vectors), (STRONG, WEAK), a, b, strong, weak, np.ones(rows), topics)


def percentiles(grader: Grader, prompts: Prompts, requests: int) -> tuple[float, float]:
    """p50 and p99 of one win rate, in milliseconds."""
    singles = [prompts.take(np.array([at % len(prompts)])) for at in range(requests)]
    for each in singles[:50]:
        grader.win_rates(each)
    gc.disable()
    took: list[float] = []
    for each in singles:
        began = perf_counter()
        grader.win_rates(each)
        took.append(1000 * (perf_counter() - began))
    gc.enable()
    low, high = np.percentile(took, (50, 99))
    return float(low), float(high)


def speeds(rows: int, requests: int) -> dict[str, dict[str, float]]:
    """By grader, milliseconds; as it is read from disk again."""
    rng = np.random.default_rng(0)
    many = made_up(rows, rng)
    few = many.take(np.arange(min(FIT_ROWS, rows)))
    asked = made_up(200, rng).prompts
    fits = {"similarity": (SimilarityGrader, many), "neighbours": (NeighboursGrader, many)}
    fits |= {"factorization": (FactorizationGrader, few), "intent": (IntentGrader, few)}
    found: dict[str, dict[str, float]] = {}
    for kind, (learned, battles) in fits.items():
        grader = learned.fit(battles)
        with tempfile.TemporaryDirectory() as folder:
            artifact.save(Path(folder), grader, Card(kind=kind, seed=0, settings=grader.settings()))
            loaded, _ = artifact.load(Path(folder))
        p50, p99 = percentiles(loaded, asked, requests)
        found[kind] = {"labels": len(battles), "p50": round(p50, 3), "p99": round(p99, 3)}
    return found


def tables(files: Mapping[str, Battles], *, encoder: bool, progress: Progress, few: int = FEW) -> dict[str, Results]:
    """By protocol in words, the figures of each grader."""
    found: dict[str, Results] = {}
    for name, battles in files.items():
        kinds = (*LEARNED, *(["intent"] if all(battles.topics) else []), *(["encoder"] if encoder else []))
        validate = partial(cross_validate, battles=battles, progress=progress)
        known = len(battles) * (FOLDS - 1) // FOLDS
        all_labels = {kind: validate(recipe(kind)) for kind in kinds}
        found[f"{name}, five-fold, {known:,} labels"] = beside(battles, seed=0) | all_labels
        if known > 2 * few:
            some = {kind: validate(recipe(kind), rows=few) for kind in LEARNED}
            found[f"{name}, five-fold, {few:,} labels"] = some
            told = partial(one_sided, seed=0)
            found[f"{name}, five-fold, {known:,} one-sided labels"] = {
                kind: validate(recipe(kind), told=told) for kind in LEARNED
            }
    if len(files) == 2:
        (first, learned), (second, other) = files.items()
        length = {"length": transferred(recipe("length"), learned, other)}
        moved = {kind: transferred(recipe(kind), learned, other) for kind in LEARNED}
        found[f"{second}, learned from {len(learned):,} labels of {first}"] = length | moved
    return found


def recipe(kind: str) -> Recipe:
    return Recipe(kind, base=MINILM.find() / "model" if kind == "encoder" else None)


def budgets(battles: Battles, other: Prompts) -> list[dict[str, Any]]:
    """For each grader and share, the least and the most that the folds realised."""
    found: list[dict[str, Any]] = []
    for kind in LEARNED:
        for share in SHARES:
            changes = [asdict(each) for each in change_of_traffic(recipe(kind), battles, other, share)]
            spans = {name: [min(each[name] for each in changes), max(each[name] for each in changes)] for name in SPANS}
            found.append({"grader": kind, "target": share, **spans})
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.tiers",
        description="Measure what a win rate adds to a request, and how good it is.",
    )
    parser.add_argument("--rows", type=int, default=15_000, help="labels of similarity and neighbours, for the speed")
    parser.add_argument("--requests", type=int, default=2_000)
    parser.add_argument("--mmlu", type=Path, help="labels of MMLU")
    parser.add_argument("--gsm8k", type=Path, help="labels of GSM8K")
    parser.add_argument("--encoder", action="store_true", help="the fine-tuned encoder as well")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    progress = partial(print, file=sys.stderr)
    speed = speeds(options.rows, options.requests)
    named = {"MMLU": options.mmlu, "GSM8K": options.gsm8k}
    encode = cached(encode_with(load(section_of("joint"))[0].read))
    files = {name: read(Source(path), embedder(encode)).between() for name, path in named.items() if path}
    measured = tables(files, encoder=options.encoder, progress=progress)
    held = budgets(files["MMLU"], files["GSM8K"].prompts) if len(files) == 2 else []
    if options.json:
        print(json.dumps({"speed": speed, "tables": _as_json(measured), "budgets": held}))
        return
    print("\n".join(lines(speed, measured, held)))


def lines(
    speed: Mapping[str, Mapping[str, float]], measured: Mapping[str, Results], held: Sequence[Mapping[str, Any]]
) -> Iterator[str]:
    """All of it for people."""
    for kind, each in speed.items():
        yield f"{kind:>14}, {each['labels']:6} labels: p50 {each['p50']:.3f} ms, p99 {each['p99']:.3f} ms"
    for title, results in measured.items():
        yield f"\n{title}"
        yield from (f"{kind:>14}  {_line(each)}" for kind, each in results.items())
    for each in held:
        before, before_fixed, after, after_fixed = (_span(each[name]) for name in SPANS)
        yield f"{each['grader']:>14}  budget {100 * each['target']:.0f} %: MMLU {before} (fixed {before_fixed})"
        yield f"{'':>14}  then the first {AFTER_CHANGE} of GSM8K: {after} (fixed {after_fixed})"


def _span(ends: tuple[float, float]) -> str:
    return f"{100 * ends[0]:.1f} to {100 * ends[1]:.1f} %"


def _line(result: Result) -> str:
    each = result.figures
    cpt = " / ".join(f"{100 * share:.1f}" for share in each.cpt.values())
    saving = " / ".join(f"{times:.2f}" for times in each.saving.values())
    return (
        f"APGR {each.apgr:.3f} [{each.interval[0]:.3f}, {each.interval[1]:.3f}]  ten bins {each.apgr_ten_bins:.3f}  "
        f"CPT 20/50/80 {cpt}  saving {saving}  folds {min(result.folds):.3f} to {max(result.folds):.3f}  "
        f"{result.seconds:.0f} s"
    )


def _as_json(measured: Mapping[str, Results]) -> dict[str, Any]:
    return {
        title: {kind: {**each.figures.as_json(), "folds": each.folds} for kind, each in results.items()}
        for title, results in measured.items()
    }


if __name__ == "__main__":
    main()
