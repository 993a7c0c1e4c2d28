"""Rollouts, arms and evidence with sensible defaults, one override per test."""

from typing import Any

from wissel.core.rollouts.evidence import Arm, Evidence, Sample
from wissel.core.rollouts.histogram import Histogram
from wissel.core.rollouts.measures import Observed
from wissel.core.rollouts.metrics import AnalysisSpec, Comparison, Metric
from wissel.core.rollouts.rollout import Rollout, advance, begin
from wissel.core.rollouts.spec import Pause, RolloutSpec, SetWeight


def sample(count: float, total: float, squares: float | None = None) -> Sample:
    """All in one sub-bucket; events unless the squares say otherwise."""
    return Sample((count,), (total,), total if squares is None else squares)


def an_arm(requests: int = 1000, errors: float = 20, keys: int | None = None, **overrides: Any) -> Arm:
    samples: dict[Observed, Sample] = {"error": sample(requests, errors), **overrides.pop("samples", {})}
    return Arm(
        served=overrides.pop("served", requests),
        failed=overrides.pop("failed", int(errors)),
        keys=requests if keys is None else keys,
        samples=samples,
        **overrides,
    )


def timed_arm(durations: Histogram) -> Arm:
    """Whose requests took so long."""
    total = sum(index * count for index, count in durations.counts.items())
    squares = sum(index**2 * count for index, count in durations.counts.items())
    taken = sample(durations.total, total, squares)
    return an_arm(durations.total, 0, samples={"latency": taken}, durations={"latency": durations})


def evidence(canary: Arm | None = None, stable: Arm | None = None, **overrides: Any) -> Evidence:
    """Of the first step of `a_spec`, healthy: 10 % canary, 2 % errors in both arms."""
    defaults: dict[str, Any] = {"revision": "r1", "attempt": 1, "step": 0, "share": 0.1}
    return Evidence(canary=canary or an_arm(), stable=stable or an_arm(9000, 180), **{**defaults, **overrides})


def an_analysis(*metrics: Metric, **overrides: Any) -> AnalysisSpec:
    return AnalysisSpec(metrics or (Comparison("error_rate"),), **overrides)


def a_spec(**overrides: Any) -> RolloutSpec:
    defaults: dict[str, Any] = {
        "name": "chat-v2",
        "revision": "r1",
        "stable": "old",
        "canary": "new",
        "steps": (SetWeight(10), Pause(60), SetWeight(50)),
        "analysis": an_analysis(),
    }
    return RolloutSpec(**{**defaults, **overrides})


def begun(spec: RolloutSpec, now: float = 0.0) -> Rollout:
    """With its first weight set, if that is the first step."""
    return advance(begin(spec, now).rollout, spec, None, now).rollout
