"""What is claimed of rollouts, played a thousand times a row: `make bench-rollout`.

Every row is a scenario, every figure stands beside its target. The seeds are
fixed: the same code prints the same table. Exit code 1 if any figure falls
short.
"""

import argparse
import json
import math
import os
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from wissel.core.rollouts.metrics import BUILT_IN, AnalysisSpec, Comparison, Metric
from wissel.core.rollouts.sequential import Block, EProcess, Hypothesis, ln_mean, null_point
from wissel.core.rollouts.spec import Pause, RolloutSpec, SetWeight, Step
from wissel.evaluation.simulation import ModelBehaviour, Run, Scenario, Sessions, simulate

SEED = 20_240_601

HORIZON = 10_000
"""Canary requests within which a fault should be found."""

_INTERVAL = 30.0
_ERRORS = Comparison("error_rate")
_REFUSALS = Comparison("refusal")
_LATENCY = Comparison("latency_p95")
_TOKENS = Comparison("tokens_out")
_THUMBS_UP = Comparison("feedback", "decrease")
FOUR = (_ERRORS, _REFUSALS, _LATENCY, _TOKENS)
"""As an operator may write them; what is built in judges every row besides."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One number of a row, and what it must be."""

    name: str
    of: Callable[[Sequence[Run]], float]
    target: float
    at_most: bool
    is_share: bool

    def holds(self, value: float) -> bool:
        return value <= self.target if self.at_most else value >= self.target

    def shown(self, value: float, rollouts: int) -> str:
        """A share with the count that it comes from."""
        return f"{100 * value:.2f} % ({round(value * rollouts):,})" if self.is_share else f"{value:,.0f}"

    @property
    def bound(self) -> str:
        target = f"{100 * self.target:g} %" if self.is_share else f"{self.target:,.0f}"
        return f"{'≤' if self.at_most else '≥'} {target}"


@dataclass(frozen=True, slots=True)
class Row:
    name: str
    scenario: Scenario
    figures: tuple[Figure, ...]
    times: int = 1
    """How many times as many rollouts as other rows: a thousand cannot tell one in a thousand from two."""


@dataclass(frozen=True, slots=True)
class Result:
    row: str
    figure: str
    value: str
    target: str
    holds: bool
    rollouts: int


def rolled_back(runs: Sequence[Run]) -> float:
    return sum(run.end == "rolled_back" for run in runs) / len(runs)


def stopped(runs: Sequence[Run]) -> float:
    return sum(run.end == "stopped" for run in runs) / len(runs)


def median_until(end: str) -> Callable[[Sequence[Run]], float]:
    """Canary requests until the runs ended so; one that did not took infinitely many."""
    return lambda runs: statistics.median(run.canary_requests if run.end == end else math.inf for run in runs)


def found_within(limit: int) -> Callable[[Sequence[Run]], float]:
    return lambda runs: sum(run.end == "rolled_back" and run.canary_requests <= limit for run in runs) / len(runs)


def _at_most(name: str, of: Callable[[Sequence[Run]], float], target: float) -> Figure:
    return Figure(name, of, target, at_most=True, is_share=True)


def _found(target: float, within: int = HORIZON) -> Figure:
    name = f"found within {within:,} canary requests"
    return Figure(name, found_within(within), target, at_most=False, is_share=True)


def _median(target: float, end: str = "rolled_back", unit: str = "requests") -> Figure:
    return Figure(f"median canary {unit}", median_until(end), target, at_most=True, is_share=False)


_FALSE = _at_most("rolled back", rolled_back, 0.01)


def spec(*metrics: Metric, steps: tuple[Step, ...]) -> RolloutSpec:
    analysis = AnalysisSpec((*metrics, *BUILT_IN), interval=_INTERVAL, display=False)
    return RolloutSpec("bench", "r1", "stable", "canary", steps, analysis)


def scenario(
    metrics: tuple[Metric, ...] = FOUR,
    *,
    share: int = 10,
    stable: ModelBehaviour | None = None,
    canary: ModelBehaviour | None = None,
    look: int = 100,
) -> Scenario:
    """A canary of `share` percent, `look` canary requests a look; a healthy one unless `canary` says otherwise."""
    steps = (SetWeight(share), Pause())
    stable = stable or ModelBehaviour()
    return Scenario(spec(*metrics, steps=steps), stable, canary or stable, canary_requests=look)


def rows() -> Iterator[Row]:
    """Every row of the table."""
    yield from _healthy()
    yield from _faulty()
    yield from _refused()
    yield from _slow()
    yield from _sessions()
    yield from _skewed()


def _healthy() -> Iterator[Row]:
    for base, share, look in product((0.001, 0.02, 0.1), (1, 10, 50), (25, 100, 1000)):
        behaviour = ModelBehaviour({"error": base, "refusal": base, "refused": base})
        name = f"healthy: base {100 * base:g} %, share {share} %, looks of {look:,}"
        yield Row(name, scenario(share=share, stable=behaviour, look=look), (_FALSE,))
    for share in (1, 10):
        healthy = scenario((_THUMBS_UP, _REFUSALS, _LATENCY, _TOKENS), share=share)
        yield Row(f"healthy: good event at 2 %, share {share} %", healthy, (_FALSE,))
    third = Pause(34 * _INTERVAL)
    steps = (SetWeight(1), third, SetWeight(10), third, SetWeight(50), Pause())
    drifting = Scenario(
        spec(*FOUR, steps=steps),
        ModelBehaviour({"error": 0.01}),
        ModelBehaviour({"error": 0.01}),
        canary_requests=100,
        error_drift={10: 3.0, 50: 6.0},
    )
    yield Row("healthy: base drifts 1 → 3 → 6 % over steps of 1, 10, 50 %", drifting, (_FALSE,))


def _faulty() -> Iterator[Row]:
    faulty = ModelBehaviour({"error": 0.04})
    yield Row("4 % errors against 2 %", scenario(canary=faulty), (_found(0.99), _median(1200)))
    yield Row("4 % errors against 2 %, share 50 %", scenario(share=50, canary=faulty), (_found(0.99), _median(2400)))
    lenient = (Comparison("error_rate", allowed=0.01), *FOUR[1:])
    yield Row("4 % errors against 2 %, 1 point allowed", scenario(lenient, canary=faulty), (_found(0.85),))
    worse = scenario(canary=ModelBehaviour({"error": 0.1}), look=25)
    yield Row("10 % errors against 2 %, looks of 25", worse, (_found(0.99), _median(150)))
    for share in (1, 10, 50):
        broken = scenario(share=share, stable=ModelBehaviour({"error": 0.01}), canary=ModelBehaviour({"error": 0.3}))
        yield Row(f"30 % errors against 1 %, share {share} %", broken, (_found(0.999, 250),))


def _refused() -> Iterator[Row]:
    asked_wrongly = ModelBehaviour({"refused": 0.05})
    for share, look in product((1, 10, 50), (25, 100)):
        name = f"refused: 5 % of both arms by callers' faults, share {share} %, looks of {look}"
        yield Row(name, scenario(share=share, stable=asked_wrongly, look=look), (_FALSE,))
    for share in (1, 10, 50):
        never = ModelBehaviour({"refused": 0.0})
        for word, rate in (("all", 1.0), ("a tenth", 0.1)):
            broken = scenario(share=share, stable=never, canary=ModelBehaviour({"refused": rate}), look=25)
            yield Row(f"refused: {word} of the canary's alone, share {share} %", broken, (_found(0.99, 300),))
    unpaid = ModelBehaviour({"refused": 0.1, "operator_fault": 0.1})
    alone = scenario(stable=ModelBehaviour({"refused": 0.0}), canary=unpaid, look=25)
    yield Row("refused: a tenth of the canary's for the operator's credential", alone, (_found(0.99, 300), _median(75)))
    both = scenario(stable=unpaid, look=25)
    yield Row("refused: a tenth of both arms for the operator's credential", both, (_FALSE,))


def _slow() -> Iterator[Row]:
    lenient = (_ERRORS, _REFUSALS, Comparison("latency_p95", allowed=0.1, relative=True), _TOKENS)
    slow = scenario(lenient, canary=ModelBehaviour({"latency": 1.3}))
    yield Row("latency 30 % slower, 10 % allowed", slow, (_found(0.95), _median(2500)))
    yield Row("latency equal, none allowed", scenario(), (_FALSE,))
    drifting = replace(scenario(), latency_drift=1.5)
    yield Row("latency equal, both arms drift by 1.5, none allowed", drifting, (_FALSE,))


def _sessions() -> Iterator[Row]:
    healthy = replace(scenario(), canary_requests=None, requests=1000, sessions=Sessions())
    figures = (_FALSE, _at_most("sample-ratio stops", stopped, 0.01))
    yield Row("sessions: 2,000 Zipf keys, ICC 0.1, healthy", healthy, figures)
    faulty = replace(healthy, canary=ModelBehaviour({"error": 0.1}))
    yield Row("sessions: 10 % errors against 2 %", faulty, (_found(0.9),))


def _skewed() -> Iterator[Row]:
    for share in (1, 10, 50):
        # No metric has a say: only the alarm can stop these.
        fair = replace(scenario((), share=share), canary_requests=None, requests=10_000 // share)
        name = f"sample ratio: share {share} %"
        yield Row(f"{name}, as set", fair, (_at_most("stopped", stopped, 0.001),), times=10)
        yield Row(f"{name}, 10 % off", replace(fair, skew=0.9), (_median(2500, "stopped", "keys"),))


def vector_error() -> float:
    """How far the e-value vectors of the method's reference are missed, at worst."""
    blocks = (Block(100, 8, 900, 18), Block(120, 6, 880, 20))
    misses: list[float] = []
    for margin, expected in ((0.0, (3.103241, 3.713681)), (0.01, (1.556962, 1.401695))):
        process = EProcess(Hypothesis(margin=margin))
        for block, value in zip(blocks, expected, strict=True):
            process = process.after(block)
            misses.append(abs(ln_mean(process.ln_e) - value))
    alone = EProcess(Hypothesis()).after(Block(100, 2, 900, 18))
    misses.append(abs(ln_mean(alone.ln_e) + 0.914089))
    misses.append(abs(null_point(0.1, 0.02, 0.1, (1.0, 0.01))[0] - 0.0352078))
    return max(misses)


def _play(played: Scenario, row: int, first: int, last: int) -> list[Run]:
    return [simulate(played, np.random.default_rng([SEED, row, number])) for number in range(first, last)]


def measure(rollouts: int, only: str = "", *, report: Callable[[Result], None] = lambda _: None) -> list[Result]:
    """Play every row whose name contains `only`; `report` hears of each result as it is there."""
    results: list[Result] = []

    def add(result: Result) -> None:
        results.append(result)
        report(result)

    if only in "vectors":
        miss = vector_error()
        add(Result("e-value vectors", "greatest error", f"{miss:.1e}", "≤ 1e-06", miss <= 1e-6, 1))
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        playing = [(row, _submit(pool, row, n, rollouts)) for n, row in enumerate(rows()) if only in row.name]
        for row, parts in playing:
            runs = [run for part in parts for run in part.result()]
            for figure in row.figures:
                value = figure.of(runs)
                holds = figure.holds(value)
                add(Result(row.name, figure.name, figure.shown(value, len(runs)), figure.bound, holds, len(runs)))
    return results


def _submit(pool: ProcessPoolExecutor, row: Row, number: int, rollouts: int) -> list[Future[list[Run]]]:
    """In chunks, so that every core has something to do until the end."""
    total = rollouts * row.times
    chunk = max(1, total // 16)
    return [pool.submit(_play, row.scenario, number, i, min(i + chunk, total)) for i in range(0, total, chunk)]


def _line(result: Result) -> str:
    word = "PASS" if result.holds else "FALL SHORT"
    return f"| {result.row} | {result.rollouts:,} | {result.figure} | {result.value} | {result.target} | {word} |\n"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.rollouts", description="simulated rollouts against their targets"
    )
    parser.add_argument("--rollouts", type=int, default=1000, help="of each row")
    parser.add_argument("--only", default="", help="rows whose name contains this")
    parser.add_argument("--json", action="store_true", help="print an array of objects")
    options = parser.parse_args(arguments)
    write = sys.stdout.write
    if options.json:
        results = measure(options.rollouts, options.only)
        shown = [{name: getattr(result, name) for name in Result.__slots__} for result in results]
        write(json.dumps(shown, indent=2, ensure_ascii=False) + "\n")
    else:
        write(f"{options.rollouts:,} rollouts a row, total alpha 0.01 over four metrics and those built in\n\n")
        write("| scenario | rollouts | figure | measured | target | |\n|---|---|---|---|---|---|\n")

        def report(result: Result) -> None:
            write(_line(result))
            sys.stdout.flush()

        results = measure(options.rollouts, options.only, report=report)
    return 0 if all(result.holds for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
