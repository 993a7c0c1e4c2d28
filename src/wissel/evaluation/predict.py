"""What a rollout would come to with given models and traffic, before anyone risks it.

The configured rollout is simulated many times. Some of what it waits for cannot
be drawn: pauses until somebody promotes last as long as the evidence needs,
and metrics that no behaviour here speaks of are left out and named.
"""

from dataclasses import dataclass, replace
from statistics import median
from typing import Final, Literal

import numpy as np

from wissel.core.rollouts.metrics import MEASURES
from wissel.core.rollouts.rollout import LONGEST_TICK
from wissel.core.rollouts.spec import AnalysisStep, Pause, RolloutSpec
from wissel.errors import ConfigError
from wissel.evaluation.simulation import Behaviour, Run, Scenario, simulate

SEED: Final = 20_260_101
LOOKS: Final = 2_000
"""After which a rollout that still goes on is called undecided."""

_FIELDS: Final = {
    "error_rate": "errors",
    "refusal": "refusals",
    "feedback": "thumbs_up",
    "latency_p50": "latency",
    "latency_sigma": "latency_sigma",
    "tokens_out": "tokens",
}
_DRAWN: Final = frozenset({"error", "refusal", "feedback", "latency", "tokens_out"})

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


def behaviour_of(option: str, written: str, otherwise: Behaviour) -> Behaviour:
    """`error_rate=0.02,latency_p50=0.8`, and `otherwise` in what is not said. Raises ConfigError."""
    found: dict[str, float] = {}
    for part in filter(None, written.split(",")):
        name, _, value = part.partition("=")
        if name.strip() not in _FIELDS:
            raise ConfigError([f'{option}: "{name.strip()}" is none of {", ".join(_FIELDS)}'])
        try:
            found[_FIELDS[name.strip()]] = float(value)
        except ValueError:
            raise ConfigError([f'{option}: "{part}" should be {name.strip()}=NUMBER']) from None
    behaviour = replace(otherwise, **found)
    if not all(0 <= rate <= 1 for rate in (behaviour.errors, behaviour.refusals, behaviour.thumbs_up)):
        raise ConfigError([f"{option}: error_rate, refusal and feedback should be from 0 to 1"])
    if not all(size > 0 for size in (behaviour.latency, behaviour.latency_sigma, behaviour.tokens)):
        raise ConfigError([f"{option}: latency_p50, latency_sigma and tokens_out should be above 0"])
    return behaviour


def predict(spec: RolloutSpec, stable: Behaviour, canary: Behaviour, *, rps: float, runs: int) -> Prediction:
    """Simulate the rollout with so many requests a second. Raises ConfigError if nothing of it can be simulated."""
    if spec.analysis is None:
        raise ConfigError([f'rollout "{spec.name}" has no analysis: only its pauses and people decide'])
    names = {metric: MEASURES[metric.measure].observed in _DRAWN for metric in spec.analysis.metrics
             if metric.measure in MEASURES}  # fmt: skip
    drawn = tuple(metric for metric in spec.analysis.metrics if names.get(metric))
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


def _worse_in(stable: Behaviour, canary: Behaviour) -> tuple[str, ...]:
    higher_is_worse = {
        "error_rate": canary.errors > stable.errors,
        "refusal": canary.refusals > stable.refusals,
        "latency_p50": canary.latency > stable.latency,
        "feedback": canary.thumbs_up < stable.thumbs_up,
        "tokens_out": canary.tokens > stable.tokens,
    }
    return tuple(name for name, is_worse in higher_is_worse.items() if is_worse)
