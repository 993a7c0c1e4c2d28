"""What a rollout would come to with given models and traffic, before anyone risks it.

The configured rollout is simulated many times. Some of what it waits for cannot
be drawn: pauses until somebody promotes last as long as the evidence needs,
and Prometheus queries are left out and named.
"""

import math
from dataclasses import dataclass, replace
from statistics import median
from typing import Final, Literal

import numpy as np

from wissel.core.rollouts.measures import MEASURES, OBSERVATIONS, Observation, Observed
from wissel.core.rollouts.rollout import LONGEST_TICK
from wissel.core.rollouts.spec import AnalysisStep, Pause, RolloutSpec
from wissel.errors import ConfigError
from wissel.evaluation.simulation import ModelBehaviour, Run, Scenario, simulate

SEED: Final = 20_260_101
LOOKS: Final = 2_000
"""After which a rollout that still goes on is called undecided."""

End = Literal["promoted", "rolled_back", "stopped", "undecided"]


@dataclass(frozen=True, slots=True)
class Prediction:
    """How the simulated rollouts ended."""

    runs: int
    shares: dict[End, float]
    worse_in: tuple[str, ...]
    """In what the canary was said to be worse; a rollback is right exactly if there is something."""
    wrong: float
    """The share of runs that promoted a worse canary, or took back or stopped one that is not."""
    seconds: tuple[float, float, float]
    """Until the end: median, 5th and 95th percentile."""
    canary_requests: float
    """Until the end, median."""
    left_out: tuple[str, ...]
    """Metrics that were not simulated."""


def said_of(row: Observation) -> str:
    """The name by which a behaviour is given: a metric's, or of a duration its median's."""
    return f"{row.name}_p50" if row.kind == "duration" else next(iter(row.measures))


_CENTRES: Final = {said_of(row): row for row in OBSERVATIONS}
_SIGMAS: Final = {f"{row.name}_sigma": row for row in OBSERVATIONS if row.kind != "rate"}


def behaviour_of(option: str, written: str, otherwise: ModelBehaviour) -> ModelBehaviour:
    """`error_rate=0.02,latency_p50=0.8`, and `otherwise` in what is not said. Raises ConfigError."""
    centres: dict[Observed, float] = {}
    sigmas: dict[Observed, float] = {}
    for part in filter(None, written.split(",")):
        name, _, value = (word.strip() for word in part.partition("="))
        row = _CENTRES.get(name) or _SIGMAS.get(name)
        if row is None:
            raise ConfigError([f'{option}: "{name}" is none of {", ".join((*_CENTRES, *_SIGMAS))}'])
        try:
            number = float(value)
        except ValueError:
            raise ConfigError([f'{option}: "{part}" should be {name}=NUMBER']) from None
        if row.kind == "rate" and not 0 <= number <= 1:
            raise ConfigError([f"{option}: {name} should be from 0 to 1"])
        if row.kind != "rate" and not 0 < number < math.inf:
            raise ConfigError([f"{option}: {name} should be above 0"])
        (centres if name in _CENTRES else sigmas)[row.name] = number
    return otherwise.changed(centres, sigmas)


def predict(spec: RolloutSpec, stable: ModelBehaviour, canary: ModelBehaviour, *, rps: float, runs: int) -> Prediction:
    """Simulate the rollout with so many requests a second. Raises ConfigError if nothing of it can be simulated."""
    if spec.analysis is None:
        raise ConfigError([f'rollout "{spec.name}" has no analysis: only its pauses and people decide'])
    drawn = tuple(metric for metric in spec.analysis.metrics if metric.measure in MEASURES)
    if not drawn:
        raise ConfigError([f'rollout "{spec.name}" has no metric that can be simulated'])
    interval = min(spec.analysis.interval, LONGEST_TICK)
    simulated = replace(
        spec,
        steps=tuple(
            AnalysisStep() if isinstance(step, Pause) and step.duration is None else step for step in spec.steps
        ),
        analysis=replace(spec.analysis, metrics=drawn, interval=interval, display=False),
    )
    scenario = Scenario(simulated, stable, canary, requests=max(1, round(rps * interval)), looks=LOOKS)
    played = [simulate(scenario, np.random.default_rng([SEED, number])) for number in range(runs)]
    worse = _worse_in(stable, canary)
    wrong: set[End] = {"promoted"} if worse else {"rolled_back", "stopped"}
    ends: tuple[End, ...] = ("promoted", "rolled_back", "stopped", "undecided")
    return Prediction(
        runs=runs,
        shares={end: _share(played, {end}) for end in ends},
        worse_in=worse,
        wrong=_share(played, wrong),
        seconds=(
            median(run.seconds for run in played),
            float(np.percentile([run.seconds for run in played], 5)),
            float(np.percentile([run.seconds for run in played], 95)),
        ),
        canary_requests=median(run.canary_requests for run in played),
        left_out=tuple(metric.label for metric in spec.analysis.metrics if metric not in drawn),
    )


def _share(runs: list[Run], ends: set[End]) -> float:
    return sum(run.end in ends for run in runs) / len(runs)


def _worse_in(stable: ModelBehaviour, canary: ModelBehaviour) -> tuple[str, ...]:
    def is_worse(row: Observation) -> bool:
        change = canary.centre(row) - stable.centre(row)
        return change > 0 if row.worse == "increase" else change < 0

    return tuple(name for name, row in _CENTRES.items() if is_worse(row))
