"""The graders of tiers on labels that they never saw: five-fold cross-validation, baselines and oracle beside them.

    python -m tests.bench.cross_validation DATA.jsonl [--router R ...] [--rows N] [--then OTHER.jsonl] [--json]

Every fold's grader learns from the other four alone, its settings chosen
within them. Figures are means over the folds, for win rates of different
graders have no common order; intervals come from a bootstrap over the prompts
of each fold. `--rows` gives the figure for fewer labels; `--then` shows which
share of strong calls a budget gets on what was held out, and after the traffic
has changed at once to the other file.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wissel.classifiers.encoders import load, section_of
from wissel.core.lesson import Lesson, Taught
from wissel.core.tier import Budget, Strength, Tier
from wissel.encoders.base import Vectors, encode_with
from wissel.encoders.weights import MINILM
from wissel.evaluation.tier_report import play
from wissel.tiers.artifact import QUANTILES, TORCH_KINDS, Card
from wissel.tiers.base import Battles, Encode, Progress, Prompts
from wissel.tiers.baselines import AlwaysStrongGrader, AlwaysWeakGrader, LengthGrader, RandomGrader
from wissel.tiers.data import Source, read
from wissel.tiers.grading import calibrated
from wissel.tiers.live import Label, rows_of
from wissel.tiers.metrics import Ends, Figures, Floats, call_performance, figures, oracle
from wissel.tiers.train import Recipe, embedder

FOLDS = 5
AFTER_CHANGE = 500
"""So many requests after a change of traffic are looked at."""
COIN = 0.5
SHARES = (0.2, 0.3, 0.5)
"""Budgets that `--then` plays."""
GRADERS = ("similarity", "factorization", "neighbours", "intent")


@dataclass(frozen=True)
class Result:
    """One grader, cross-validated."""

    figures: Figures
    folds: tuple[float, ...]
    """The APGR of each."""
    seconds: float
    """Of training and predicting, all folds together."""


def folds(count: int, *, seed: int, parts: int = FOLDS) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Rows to learn from and rows to predict."""
    cut = np.array_split(np.random.default_rng(seed).permutation(count), parts)
    for at, held in enumerate(cut):
        yield np.concatenate([part for other, part in enumerate(cut) if other != at]), held


def cross_validate(
    recipe: Recipe,
    battles: Battles,
    *,
    rows: int | None = None,
    parts: int = FOLDS,
    told: Callable[[Battles], Battles] = lambda known: known,
    progress: Progress | None = None,
) -> Result:
    """Means over the folds; with `rows`, each learns from so many of the rows that it may see.

    `told` is what a grader is told of the labels that it may see; it is always measured on the labels themselves.
    """
    began = perf_counter()
    found: list[tuple[Floats, Ends]] = []
    for number, (every, held) in enumerate(folds(len(battles), seed=recipe.seed, parts=parts), start=1):
        # The rows that a fold may see begin with those of the first folds, so a part of them is drawn.
        known = every if rows is None else np.random.default_rng((recipe.seed, number)).permutation(every)[:rows]
        grader = recipe.fit(told(battles.take(known)), progress if recipe.kind in TORCH_KINDS else None)
        test = battles.take(held)
        found.append((grader.win_rates(test.prompts), test.ends))
        if progress is not None:
            apgr, took = call_performance(*found[-1]).apgr, perf_counter() - began
            progress(f"{recipe.kind}: fold {number} of {parts}, APGR {apgr:.3f}, {took:.0f} s so far")
    return _result(found, recipe.seed, began)


def beside(battles: Battles, *, seed: int, parts: int = FOLDS) -> dict[str, Result]:
    """The baselines and the oracle, on the same folds."""
    tests = [battles.take(held) for _, held in folds(len(battles), seed=seed, parts=parts)]
    results: dict[str, Result] = {}
    for kind in (RandomGrader, LengthGrader, AlwaysStrongGrader, AlwaysWeakGrader):
        found = [(kind().win_rates(test.prompts), test.ends) for test in tests]
        results[kind.KIND] = _result(found, seed, perf_counter())
    results["oracle"] = _result([(oracle(test.ends), test.ends) for test in tests], seed, perf_counter())
    return results


def transferred(recipe: Recipe, battles: Battles, other: Battles) -> Result:
    """Learned from all of the one and measured on the other, which nothing was chosen by."""
    began = perf_counter()
    return _result([(recipe.fit(battles).win_rates(other.prompts), other.ends)], recipe.seed, began)


def one_sided(battles: Battles, *, seed: int) -> Battles:
    """As `wissel tier export` would have it, had a coin picked one answer of each prompt and its caller rated it."""
    coin = np.random.default_rng(seed).random(len(battles)) < COIN
    served: list[tuple[Strength, float]] = [
        ("strong", float(strong)) if is_strong else ("weak", float(weak))
        for is_strong, strong, weak in zip(coin, battles.quality_a, battles.quality_b, strict=True)
    ]
    rows = rows_of(
        [
            Label(Taught("", Lesson("", ("", ""), end, 0.5), ok=True, model="", score=score), score)
            for end, score in served
        ]
    )
    columns = (np.array([row[name] for row in rows]) for name in ("strong", "weak", "weight"))
    quality_a, quality_b, weights = columns
    return replace(battles, quality_a=quality_a, quality_b=quality_b, weights=battles.weights * weights)


@dataclass(frozen=True)
class Change:
    """What a budget got, before and after the traffic changed; the fixed threshold beside the moving one."""

    target: float
    before: float
    before_fixed: float
    after: float
    """Of the first 500 requests of the other traffic."""
    after_fixed: float
    settled: float
    """Of the second half of those 500."""


def change_of_traffic(recipe: Recipe, battles: Battles, other: Prompts, share: float) -> list[Change]:
    """One a fold: calibrated on a tenth of what the grader may see, then the held-out prompts, then the others."""
    found: list[Change] = []
    for known, held in folds(len(battles), seed=recipe.seed):
        calibration, rest = np.split(known, [len(known) // 10])
        grader = recipe.fit(battles.take(rest))
        quantiles = np.quantile(grader.win_rates(battles.prompts.take(calibration)), np.linspace(0, 1, QUANTILES))
        card = Card(recipe.kind, recipe.seed, quantiles=tuple(quantiles.tolist()))
        shuffled = np.random.default_rng(recipe.seed).permutation(len(other))[:AFTER_CHANGE]
        first, second = (grader.win_rates(each) for each in (battles.prompts.take(held), other.take(shuffled)))
        tier = calibrated(Tier("replay", "strong", "weak", Budget(share, 0.5, 0.01)), card)
        ends = np.array(play(tier, np.concatenate([first, second])))
        after = ends[len(first) :]
        threshold = card.threshold(share)
        found.append(
            Change(
                target=share,
                before=float(ends[: len(first)].mean()),
                before_fixed=float((first >= threshold).mean()),
                after=float(after.mean()),
                after_fixed=float((second >= threshold).mean()),
                settled=float(after[len(after) // 2 :].mean()),
            )
        )
    return found


def _result(found: list[tuple[Floats, Ends]], seed: int, began: float) -> Result:
    each = tuple(call_performance(win_rates, ends).apgr for win_rates, ends in found)
    return Result(figures(found, seed=seed), each, perf_counter() - began)


def cached(encode: Encode, folder: Path | None = None) -> Encode:
    """Remembers the vectors of a whole file's texts between runs, in a temporary folder unless told otherwise."""
    place = folder or Path(tempfile.gettempdir()) / "wissel-embeddings"

    def remembered(texts: Any) -> Vectors:
        name = sha256("\0".join(texts).encode("utf-8", "surrogatepass")).hexdigest()[:16]
        path = place / f"{name}.npy"
        if path.is_file():
            found: Vectors = np.load(path, allow_pickle=False)
            return found
        vectors = encode(texts)
        place.mkdir(parents=True, exist_ok=True)
        np.save(path, vectors, allow_pickle=False)
        return vectors

    return remembered


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.cross_validation", description="Cross-validate the graders of tiers."
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--router", dest="graders", action="append", choices=(*GRADERS, *TORCH_KINDS))
    parser.add_argument("--rows", type=int, help="learn from so many rows only")
    parser.add_argument("--then", type=Path, help="other traffic, for the shares of budgets")
    parser.add_argument("--folds", type=int, default=FOLDS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--base", type=Path, help="the model that `encoder` or `causal` begins with")
    parser.add_argument("--limit", type=float, default=float("inf"), help="seconds of training a fold, torch graders")
    parser.add_argument("--progress", action="store_true", help="say on stderr how far it is")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    encode = cached(encode_with(load(section_of("joint"))[0].read))
    battles = read(Source(options.data), embedder(encode)).between()
    has_topics = all(battles.topics)
    kinds = options.graders or [kind for kind in GRADERS if kind != "intent" or has_topics]
    if options.then is not None:
        other = read(Source(options.then), embedder(encode)).prompts
        for kind in kinds:
            for share in SHARES:
                _print_changes(kind, change_of_traffic(Recipe(kind, seed=options.seed), battles, other, share))
        return
    told = partial(print, file=sys.stderr) if options.progress else None
    results = beside(battles, seed=options.seed, parts=options.folds)
    for kind in kinds:
        base = options.base or (MINILM.find() / "model" if kind == "encoder" else None)
        recipe = Recipe(kind, seed=options.seed, base=base, limit_s=options.limit)
        results[kind] = cross_validate(recipe, battles, rows=options.rows, parts=options.folds, progress=told)
    if options.json:
        print(json.dumps({name: {**each.figures.as_json(), "folds": each.folds} for name, each in results.items()}))
        return
    print(f"{options.data.name}: {len(battles)} prompts, {options.folds} folds, {options.rows or 'all other'} labels")
    for name, each in results.items():
        low, high = each.figures.interval
        cpt = " / ".join(f"{100 * share:.1f}" for share in each.figures.cpt.values())
        print(
            f"{name:>14}  APGR {each.figures.apgr:.3f} [{low:.3f}, {high:.3f}]  ten bins "
            f"{each.figures.apgr_ten_bins:.3f}  CPT 20/50/80 {cpt}  folds {min(each.folds):.3f} to "
            f"{max(each.folds):.3f}  {each.seconds:.1f} s"
        )


def _print_changes(kind: str, changes: list[Change]) -> None:
    def span(name: str) -> str:
        values = [100 * getattr(each, name) for each in changes]
        return f"{min(values):.1f} to {max(values):.1f}"

    print(
        f"{kind:>14}  target {100 * changes[0].target:.0f} %: held {span('before')} (fixed {span('before_fixed')}); "
        f"after the change {span('after')}, settled {span('settled')} (fixed {span('after_fixed')})"
    )


if __name__ == "__main__":
    main()
