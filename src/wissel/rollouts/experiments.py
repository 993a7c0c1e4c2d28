"""Plain splits, read as experiments: how each variant differs from the first, at any time.

The comparisons are those of rollouts, both-sided and without a margin, and so
are their memories: what a test has bet so far is kept in Redis, since bets
must not be placed anew at every reading. Every replica adds to it at every
interval; each memory knows how far it has read the counters, so one that is
overwritten by another costs a little power and never validity.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

import structlog

from wissel.core.rollouts.analysis import Analysis, Reading, Verdict, look
from wissel.core.rollouts.evidence import Arm, Evidence
from wissel.core.rollouts.measures import MEASURES
from wissel.core.rollouts.metrics import AnalysisSpec, Comparison
from wissel.core.split import Split
from wissel.errors import StoreError
from wissel.store.base import Scope, Tallied
from wissel.store.counters import Counters
from wissel.store.looks import Looks

log = structlog.get_logger(__name__)

LOOK_INTERVAL: Final = 30.0

ALPHA: Final = 0.05
"""Chance that any interval of one page ever leaves the truth out; shared by its variants and metrics."""

METRICS: Final = tuple(
    Comparison(name) for name, measure in MEASURES.items() if measure.quantile is None or measure.quantile <= 0.95
)
"""All that are known early: one request in a hundred is not worth a part of `ALPHA`."""

_NAMES: Final = tuple(metric.measure for metric in METRICS)

Difference = Literal["higher", "lower", "not shown", "too few requests"]


class UnknownExperimentError(Exception):
    """The configuration has no split of this name."""


@dataclass(frozen=True, slots=True)
class Contrast:
    """One variant against the first."""

    variant: str
    readings: tuple[Reading, ...]
    """`canary` is the variant's value, `stable` the first's."""
    ln_sample_ratio: float
    """ln of the evidence that the variant does not get its share of keys; an alarm from ln 1000."""


@dataclass(frozen=True, slots=True)
class Experiment:
    """A split and all that is known of it."""

    split: Split
    arms: Mapping[str, Arm]
    mixed: int
    """Requests that another variant served than the one they were assigned to; no arm counts them."""
    contrasts: tuple[Contrast, ...]

    @property
    def base(self) -> str:
        return self.split.variants[0].name


class Experiments:
    """The plain splits of one configuration namespace."""

    def __init__(self, counters: Counters, looks: Looks) -> None:
        self._counters = counters
        self._looks = looks
        self._splits: dict[str, Split] = {}

    def use(self, splits: tuple[Split, ...]) -> None:
        """Read these from now on."""
        self._splits = {split.name: split for split in splits}

    async def run(self) -> None:
        """Look at every split until cancelled; while Redis is away nothing is looked at."""
        while True:
            await asyncio.sleep(LOOK_INTERVAL)
            for split in tuple(self._splits.values()):
                try:
                    await self.tick(split)
                except StoreError as error:
                    log.warning("experiment_not_read", split=split.name, problem=str(error))
                except Exception:
                    log.exception("experiment_failed", split=split.name)

    async def tick(self, split: Split) -> None:
        """Look once, and remember it. Raises StoreError."""
        seen = await self._look(split, await self._counters.read(_scope(split)))
        if seen:
            analyses = {name: analysis for name, (analysis, _) in seen.items()}
            await self._looks.put(split.name, split.revision, analyses, _NAMES)

    async def experiments(self) -> list[Experiment]:
        """Every split, in the order of the file. Raises StoreError."""
        return [await self.experiment(name) for name in self._splits]

    async def experiment(self, name: str) -> Experiment:
        """Raises UnknownExperimentError and StoreError."""
        if name not in self._splits:
            raise UnknownExperimentError(name)
        split = self._splits[name]
        seen = await self._look(split, await self._counters.read(_scope(split)))
        known = await self._counters.read(_scope(split), closed=False)
        contrasts = tuple(
            Contrast(variant, verdict.readings, verdict.ln_sample_ratio) for variant, (_, verdict) in seen.items()
        )
        return Experiment(split, known.arms, known.mixed, contrasts)

    async def _look(self, split: Split, tallied: Tallied) -> dict[str, tuple[Analysis, Verdict]]:
        base, *others = split.variants
        compared = [each for each in others if each.weight and base.weight]
        if not compared:
            return {}
        remembered = await self._looks.get(split.name, split.revision, _NAMES)
        spec = AnalysisSpec(METRICS, alpha=ALPHA / len(compared))
        return {
            each.name: look(
                remembered.get(each.name, Analysis()),
                spec,
                Evidence(
                    revision=split.revision,
                    attempt=split.attempt,
                    step=split.step,
                    canary=tallied.arm(each.name),
                    stable=tallied.arm(base.name),
                    share=each.weight / (each.weight + base.weight),
                ),
            )
            for each in compared
        }


def difference(reading: Reading) -> Difference:
    """What the interval says of the variant's value against the first's."""
    low, high = reading.change
    if low is not None and low >= 0:
        return "higher"
    if high is not None and high <= 0:
        return "lower"
    return "not shown" if reading.judgement in {"pass", "fail"} else "too few requests"


def _scope(split: Split) -> Scope:
    return Scope(split.name, split.revision, split.attempt, split.step)
