"""What a win rate adds to a request whose embedding is already there.

    python -m wissel.evaluation.bench_quality [--rows 15000] [--requests 2000]

The labels are made up, since only their number matters. A request's features
are computed from its text, as when serving; the text has 60 words.
"""

import argparse
import gc
import tempfile
from pathlib import Path
from time import perf_counter

import numpy as np

from wissel.quality import artifact
from wissel.quality.artifact import Card
from wissel.quality.base import STRONG, WEAK, Battles, Prompts, QualityRouter
from wissel.quality.factorization import Factorization
from wissel.quality.intent import Intent
from wissel.quality.neighbours import Neighbours
from wissel.quality.similarity import Similarity

DIMENSIONS = 384
FIT_ROWS = 400
"""Enough for the routers whose speed does not depend on the number of labels."""


def made_up(rows: int, rng: np.random.Generator) -> Battles:
    """Labels without meaning, about ten topics."""
    vectors = rng.normal(size=(rows, DIMENSIONS)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    texts = tuple(" ".join(str(word) for word in rng.integers(0, 9999, 60)) for _ in range(rows))
    strong, weak = rng.integers(0, 2, rows).astype(float), rng.integers(0, 2, rows).astype(float)
    topics = tuple(str(at % 10) for at in range(rows))
    a, b = np.zeros(rows, np.intp), np.ones(rows, np.intp)
    return Battles(Prompts(texts, vectors), (STRONG, WEAK), a, b, strong, weak, np.ones(rows), topics)


def percentiles(router: QualityRouter, prompts: Prompts, requests: int) -> tuple[float, float]:
    """p50 and p99 of one win rate, in milliseconds."""
    singles = [prompts.take(np.array([at % len(prompts)])) for at in range(requests)]
    for each in singles[:50]:
        router.win_rates(each)
    gc.disable()
    took: list[float] = []
    for each in singles:
        began = perf_counter()
        router.win_rates(each)
        took.append(1000 * (perf_counter() - began))
    gc.enable()
    low, high = np.percentile(took, (50, 99))
    return float(low), float(high)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure what a win rate adds to a request.")
    parser.add_argument("--rows", type=int, default=15_000, help="labels of similarity and neighbours")
    parser.add_argument("--requests", type=int, default=2_000)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    many = made_up(options.rows, rng)
    few = many.take(np.arange(min(FIT_ROWS, options.rows)))
    asked = made_up(200, rng).prompts
    fits = {"similarity": (Similarity, many), "neighbours": (Neighbours, many)}
    fits |= {"factorization": (Factorization, few), "intent": (Intent, few)}
    for kind, (learned, battles) in fits.items():
        router = learned.fit(battles)
        with tempfile.TemporaryDirectory() as folder:
            artifact.save(Path(folder), router, Card(kind=kind, seed=0, settings=router.settings()))
            loaded, _ = artifact.load(Path(folder))
        p50, p99 = percentiles(loaded, asked, options.requests)
        print(f"{kind:>14}, {len(battles):6} labels: p50 {p50:.3f} ms, p99 {p99:.3f} ms")


if __name__ == "__main__":
    main()
