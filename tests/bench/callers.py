"""What one caller's scores do to a healthy canary, played many times: `python -m tests.bench.callers`.

Nine callers score every answer alike, four of five well. A tenth sends ten times
as much as all of them, each request in a session of its own, and scores
whatever the canary answers with 0 and whatever stable answers with 1. Shown is
how often the canary was taken back within 2,000 scores of its own, and after
how many, with and without the bound on a caller's share, by the decrease that
is allowed: one caller can shift a rate by no more than its share.
"""

import argparse
import math
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from wissel.core.rollouts.analysis import Analysis, look
from wissel.core.rollouts.callers import SHARE, Callers
from wissel.core.rollouts.evidence import Arm, Evidence, Sample
from wissel.core.rollouts.metrics import AnalysisSpec, Comparison

SEED = 20_261_127
HONEST = 9
GOOD = 0.8
FLOOD = 10.0
HORIZON = 2_000
BEFORE = 1_000
"""Requests that the process has seen before the rollout begins: who calls is known by then."""
LOOK = 100
"""Scores of both arms between two looks."""


@dataclass(frozen=True, slots=True)
class Played:
    rolled_back: bool
    scores: int
    """Counted of the canary's, until then."""
    part: float
    """Of them, the flood's."""


def play(*, share: float, allowed: float, flood: float, rng: np.random.Generator) -> Played:
    """One rollout at equal weights."""
    spec = AnalysisSpec((Comparison("feedback", "decrease", allowed),), interval=30.0, display=False)
    callers = Callers()
    weights = np.array([1.0] * HONEST + [flood * HONEST])
    for caller in rng.choice(HONEST + 1, p=weights / weights.sum(), size=BEFORE):
        callers.met(str(caller))
    analysis = Analysis()
    counts, goods, floods = [0, 0], [0, 0], 0
    while counts[0] < HORIZON:
        counted = sum(counts) + LOOK
        while sum(counts) < counted:
            caller, arm = int(rng.choice(HONEST + 1, p=weights / weights.sum())), int(rng.integers(2))
            callers.met(str(caller))
            if not callers.admits(arm, str(caller), share):
                continue
            is_flood = caller == HONEST
            counts[arm] += 1
            goods[arm] += int(arm == 1 if is_flood else rng.random() < GOOD)
            floods += is_flood and arm == 0
        arms = [
            Arm(n, 0, n, {"error": Sample((n,), (0,), 0), "feedback": Sample((n,), (good,), good)})
            for n, good in zip(counts, goods, strict=True)
        ]
        analysis, verdict = look(analysis, spec, Evidence("r1", 1, 0, arms[0], arms[1], 0.5))
        if verdict.judgement == "fail":
            return Played(True, counts[0], floods / counts[0])
    return Played(False, counts[0], floods / counts[0])


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.callers", description=__doc__)
    parser.add_argument("--rollouts", type=int, default=1000, help="of each row")
    rollouts = parser.parse_args(arguments).rollouts
    write = sys.stdout.write
    write("| caller_share | allowed_decrease | the flood | taken back | median scores | the flood's part |\n")
    write("|---|---|---|---|---|---|\n")
    holds = True
    rows = [(1.0, 0.05, FLOOD), (1.0, 0.25, FLOOD), (SHARE, 0.05, FLOOD), (SHARE, 0.25, FLOOD), (SHARE, 0.05, 0.0)]
    for row, (share, allowed, flood) in enumerate(rows):
        runs = [
            play(share=share, allowed=allowed, flood=flood, rng=np.random.default_rng([SEED, row, number]))
            for number in range(rollouts)
        ]
        back = sum(run.rolled_back for run in runs) / rollouts
        median = statistics.median(run.scores if run.rolled_back else math.inf for run in runs)
        part = statistics.mean(run.part for run in runs)
        write(f"| {share:.0%} | {allowed:g} | {flood:g} × | {100 * back:.1f} % | {median:g} | {part:.0%} |\n")
        sys.stdout.flush()
        if share < 1 and (allowed > SHARE or not flood):
            holds = holds and back <= 0.01
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
