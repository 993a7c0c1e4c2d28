"""What others keep, told as gauges: the configuration that serves, the store, and where every rollout stands.

Each is asked for only when the numbers are shown, so nothing is spent on it by a request.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

from wissel.core.plan import Why
from wissel.core.rollouts.analysis import Judgement, Reading
from wissel.core.rollouts.measures import unit_of
from wissel.core.rollouts.metrics import Comparison, FixedLimit, Guard
from wissel.core.rollouts.rollout import Phase, Progress
from wissel.telemetry.meters import Meter, Observations


@dataclass(frozen=True, slots=True)
class Revision:
    """The configuration that serves."""

    id: str
    loaded_at: float
    """Seconds since the epoch."""
    is_refused: bool
    """Whether a newer file was refused."""


@dataclass(frozen=True, slots=True)
class StoreHealth:
    """How delivering to Redis goes."""

    lag: float
    """Seconds since everything was delivered."""
    failures: int


def show_config(meter: Meter, read: Callable[[], Revision]) -> None:
    """From now on tell what `read` says of the configuration."""
    observed = meter.observed
    observed("wissel.config.info", "1, with the revision that serves", lambda: [({"revision": read().id}, 1.0)])
    observed(
        "wissel.config.loaded_time",
        "when the revision that serves was loaded, since the epoch",
        lambda: [({}, read().loaded_at)],
        unit="s",
    )
    observed(
        "wissel.config.refused",
        "1 while the file on disk cannot be used and the last good one serves",
        lambda: [({}, float(read().is_refused))],
    )


def show_cooling(meter: Meter, models: Callable[[], Iterable[str]], read: Callable[[], Mapping[str, str]]) -> None:
    """From now on tell which of `models` `read` says rest, and why."""
    meter.observed(
        "wissel.model.resting",
        "1 while a model is left out of plans: failing, or busy where its server asked for it; else 0",
        lambda: [
            ({"model": model, "why": why}, float(resting.get(model) == why))
            for resting in [read()]
            for model in models()
            for why in get_args(Why)
        ],
    )


def show_clusters(meter: Meter, read: Callable[[], tuple[str, int, int]]) -> None:
    """From now on tell what `read` says is published to Envoy: the version, clusters wanted, clusters kept."""

    def clusters() -> Observations:
        version, wanted, kept = read()
        return [({"version": version, "state": "wanted"}, wanted), ({"version": version, "state": "kept"}, kept)]

    meter.observed(
        "wissel.clusters.published",
        "clusters that Envoy may learn here, with their version; `kept` are named no more and go after the grace time",
        clusters,
    )


def show_store(meter: Meter, read: Callable[[], StoreHealth]) -> None:
    """From now on tell how `read` says that delivering goes."""
    observed = meter.observed
    observed(
        "wissel.store.lag",
        "since everything that was counted had reached Redis",
        lambda: [({}, read().lag)],
        unit="s",
    )
    observed(
        "wissel.store.failures",
        "writes of counters that Redis did not take",
        lambda: [({}, read().failures)],
        is_monotonic=True,
    )


def show_store_state(meter: Meter, states: Sequence[str], read: Callable[[], str]) -> None:
    """From now on tell which of `states` `read` says that Redis is in."""
    meter.observed(
        "wissel.store.state",
        "1 for what Redis is to this process, else 0: ok, or what is wrong with it",
        lambda: [({"state": state}, float(state == now)) for now in [read()] for state in states],
    )


def show_rollouts(meter: Meter, read: Callable[[], Iterable[Progress]]) -> None:
    """From now on tell where `read` says that every rollout stands.

    The weight that is set is told here; the actual one is the canary's part in `wissel.assignments`.
    """
    observed = meter.observed
    observed("wissel.rollout.weight", "percent of the keys that the canary is set to", lambda: _weights(read()))
    observed("wissel.rollout.phase", "1 for the phase that the rollout is in, else 0", lambda: _phases(read()))
    observed(
        "wissel.rollout.lost",
        "1 while the rollout serves stable only because its record vanished from Redis, else 0",
        lambda: _lost(read()),
    )
    observed("wissel.rollout.step", "steps that the rollout has behind it", lambda: _steps(read()))
    observed("wissel.rollout.steps", "steps that the rollout has", lambda: _all_steps(read()))
    observed(
        "wissel.rollout.verdict",
        "1 for the judgement of the latest look, else 0",
        lambda: _verdicts(read()),
    )
    observed(
        "wissel.rollout.metric.value",
        "a metric at the latest look, by arm, in its own unit",
        lambda: _values(read()),
    )
    observed(
        "wissel.rollout.metric.threshold",
        "the value at which the canary would be worse than is allowed, in the metric's own unit",
        lambda: _thresholds(read()),
    )
    observed(
        "wissel.rollout.metric.change",
        "the ends of the interval of the canary's difference from stable; of relative metrics, a share",
        lambda: _changes(read()),
    )


def _rollout(progress: Progress) -> dict[str, str]:
    return {"rollout": progress.spec.name}


def _weights(all_progress: Iterable[Progress]) -> Observations:
    return [(_rollout(each), each.rollout.weight if each.rollout else 0) for each in all_progress]


def _phases(all_progress: Iterable[Progress]) -> Observations:
    return [
        ({**_rollout(each), "phase": phase}, float(each.rollout.phase == phase))
        for each in all_progress
        if each.rollout is not None
        for phase in get_args(Phase)
    ]


def _lost(all_progress: Iterable[Progress]) -> Observations:
    return [(_rollout(each), float(each.rollout.paused == "lost")) for each in all_progress if each.rollout is not None]


def _steps(all_progress: Iterable[Progress]) -> Observations:
    return [(_rollout(each), each.rollout.step) for each in all_progress if each.rollout is not None]


def _all_steps(all_progress: Iterable[Progress]) -> Observations:
    return [(_rollout(each), len(each.spec.steps)) for each in all_progress]


def _verdicts(all_progress: Iterable[Progress]) -> Observations:
    return [
        ({**_rollout(each), "verdict": judgement}, float(each.verdict.judgement == judgement))
        for each in all_progress
        if each.verdict is not None
        for judgement in get_args(Judgement)
    ]


def _readings(
    all_progress: Iterable[Progress],
) -> Iterable[tuple[dict[str, str], Guard | FixedLimit | Comparison, Reading]]:
    """Every metric of every rollout that was looked at, with its attributes."""
    for each in all_progress:
        if each.verdict is None or each.spec.analysis is None:
            continue
        # A look that could not measure has no readings.
        for metric, reading in zip(each.spec.analysis.metrics, each.verdict.readings, strict=False):
            yield {**_rollout(each), "metric": reading.metric, "unit": unit_of(metric.measure)}, metric, reading


def _values(all_progress: Iterable[Progress]) -> Observations:
    return [
        ({**attributes, "arm": arm}, value)
        for attributes, _, reading in _readings(all_progress)
        for arm, value in (("canary", reading.canary), ("stable", reading.stable))
        if value is not None
    ]


def _thresholds(all_progress: Iterable[Progress]) -> Observations:
    for attributes, metric, reading in _readings(all_progress):
        match metric:
            case Guard(max=most):
                yield {**attributes, "end": "max"}, most
            case FixedLimit():
                ends = (("min", metric.min), ("max", metric.max))
                yield from (({**attributes, "end": end}, value) for end, value in ends if value is not None)
            case Comparison(direction=direction) if reading.stable is not None:
                sign = 1 if direction == "increase" else -1
                scale = reading.stable if metric.relative else 1.0
                end = "max" if direction == "increase" else "min"
                yield {**attributes, "end": end}, reading.stable + sign * metric.allowed * scale
            case Comparison():
                pass


def _changes(all_progress: Iterable[Progress]) -> Observations:
    return [
        ({**attributes, **({"unit": "share"} if reading.is_relative else {}), "end": end}, value)
        for attributes, _, reading in _readings(all_progress)
        for end, value in zip(("lower", "upper"), reading.change, strict=True)
        if value is not None
    ]
