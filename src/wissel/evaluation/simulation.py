"""Rollouts against made-up models: how often the verdict is right, and after how many requests.

`simulate` plays one rollout. What it drives is the rollout's own code, fed with
evidence that a scenario draws: nothing of the statistics is written twice.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from types import MappingProxyType
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from wissel.core.rollouts.arms import canary_share
from wissel.core.rollouts.evidence import COUNTED_PER_KEY, SUB_BUCKETS, Arm, Evidence, Sample
from wissel.core.rollouts.histogram import FLOOR, GAMMA, Histogram
from wissel.core.rollouts.measures import ERROR, LATENCY, MEASURES, OBSERVATIONS, Observation, Observed
from wissel.core.rollouts.rollout import Rollout, advance, begin
from wissel.core.rollouts.spec import RolloutSpec

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

TYPICAL_SIGMA = 0.8

NOTHING: Mapping[Observed, float] = MappingProxyType({})

_BUCKETS = 400
"""Of a histogram: up to 9 hours."""


@dataclass(frozen=True)
class ModelBehaviour:
    """How a model answers, by what is observed of it; what is not said is typical."""

    centres: Mapping[Observed, float] = field(default_factory=dict[Observed, float])
    """A rate itself (of feedback, the share that is good; the rest is bad), else the median of a log-normal."""
    sigmas: Mapping[Observed, float] = field(default_factory=dict[Observed, float])
    """Of those log-normals."""

    def centre(self, row: Observation) -> float:
        return self.centres.get(row.name, row.typical)

    def sigma(self, row: Observation) -> float:
        return self.sigmas.get(row.name, TYPICAL_SIGMA)

    def changed(
        self, centres: Mapping[Observed, float], sigmas: Mapping[Observed, float] = NOTHING
    ) -> "ModelBehaviour":
        """The same, but for these."""
        return ModelBehaviour({**self.centres, **centres}, {**self.sigmas, **sigmas})


@dataclass(frozen=True, slots=True)
class Sessions:
    """Callers who come back: request counts by Zipf's law, and per-key rates and speeds that differ."""

    keys: int = 2000
    exponent: float = 1.0
    icc: float = 0.1
    """Correlation of two requests of one key."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """A rollout, the two models, and the traffic."""

    spec: RolloutSpec
    stable: ModelBehaviour
    canary: ModelBehaviour
    requests: int | None = None
    """Of both arms between two looks; dealt out at random by the canary's share."""
    canary_requests: int | None = None
    """Instead: exactly so many of the canary's, and as many of stable's as its share asks for."""
    looks: int = 100
    error_drift: Mapping[int, float] = field(default_factory=dict[int, float])
    """By what both arms' error rates are multiplied while the canary has this weight."""
    latency_drift: float = 1.0
    """By what both arms' latency has been multiplied at the last look."""
    skew: float = 1.0
    """By what the canary's true share of requests differs from the one that is set."""
    sessions: Sessions | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """How one rollout went."""

    end: Literal["promoted", "rolled_back", "stopped", "undecided"]
    """`stopped`: paused for a human, as by a sample-ratio alarm."""
    looks: int
    seconds: float
    canary_requests: int
    reason: str


class SimulatedTraffic(Protocol):
    """Where a simulated rollout's evidence comes from."""

    def entering(self, weight: int) -> None:
        """Begin the cumulative sums anew: another weight is set."""
        ...

    def arms(self, share: float, look: int) -> tuple[Arm, Arm]:
        """(canary, stable) since the weight was set, after one more interval of traffic."""
        ...


def simulate(scenario: Scenario, rng: np.random.Generator) -> Run:
    """One rollout, until it is over, stopped, or its looks are spent."""
    spec = scenario.spec
    if spec.analysis is None:
        raise ValueError(f'rollout "{spec.name}" has no analysis to simulate')
    traffic = traffic_of(scenario, rng)
    interval, now, served = spec.analysis.interval, 0.0, 0
    rollout = advance(begin(spec, now).rollout, spec, None, now).rollout
    traffic.entering(rollout.weight)
    before = 0
    for look in range(scenario.looks):
        canary, stable = traffic.arms(canary_share(rollout, spec), look)
        served += canary.served - before
        before = canary.served
        now += interval
        evidence = Evidence(
            rollout.revision, rollout.attempt, rollout.window, canary, stable, canary_share(rollout, spec)
        )
        window = rollout.window
        rollout = advance(rollout, spec, evidence, now).rollout
        if rollout.is_over or rollout.paused not in {"", "step"}:
            return Run(_end(rollout), look + 1, now, served, rollout.reason)
        if rollout.window != window:
            traffic.entering(rollout.weight)
            before = 0
    return Run("undecided", scenario.looks, now, served, rollout.reason)


def traffic_of(scenario: Scenario, rng: np.random.Generator) -> SimulatedTraffic:
    """The traffic that a scenario speaks of; it has to be told of its first weight."""
    return _Callers(scenario, rng) if scenario.sessions else _Strangers(scenario, rng)


def _end(rollout: Rollout) -> Literal["promoted", "rolled_back", "stopped"]:
    if rollout.is_promoted:
        return "promoted"
    return "rolled_back" if rollout.is_aborted else "stopped"


def _sizes(scenario: Scenario, share: float, rng: np.random.Generator) -> tuple[int, int]:
    if scenario.canary_requests is not None:
        return scenario.canary_requests, round(scenario.canary_requests * (1 - share) / share)
    if scenario.requests is None:
        raise ValueError("a scenario needs `requests` or `canary_requests`")
    canary = int(rng.binomial(scenario.requests, share * scenario.skew))
    return canary, scenario.requests - canary


def _drift(scenario: Scenario, weight: int, look: int) -> tuple[float, float]:
    """(of errors, of latency)."""
    return scenario.error_drift.get(weight, 1.0), scenario.latency_drift ** (look / max(1, scenario.looks - 1))


def _drifted(behaviour: ModelBehaviour, errors: float, latency: float) -> ModelBehaviour:
    if errors == latency == 1:
        return behaviour
    drifted = {ERROR.name: behaviour.centre(ERROR) * errors, LATENCY.name: behaviour.centre(LATENCY) * latency}
    return behaviour.changed(drifted)


class _Strangers:
    """Every request has a key of its own."""

    def __init__(self, scenario: Scenario, rng: np.random.Generator) -> None:
        self._scenario = scenario
        self._rng = rng
        self._observed = _observed(scenario)

    def entering(self, weight: int) -> None:
        self._weight = weight
        self._arms = (_Sums(), _Sums())

    def arms(self, share: float, look: int) -> tuple[Arm, Arm]:
        scenario = self._scenario
        sizes = _sizes(scenario, share, self._rng)
        drift = _drift(scenario, self._weight, look)
        for sums, size, behaviour in zip(self._arms, sizes, (scenario.canary, scenario.stable), strict=True):
            sums.add(_drifted(behaviour, *drift), size, self._observed, self._rng)
        canary, stable = (sums.arm() for sums in self._arms)
        return canary, stable


class _Sums:
    """One arm's cumulative sums."""

    def __init__(self) -> None:
        self._served = 0
        self._events: dict[Observed, int] = {}
        self._buckets: dict[Observed, Ints] = {}
        self._amounts: dict[Observed, tuple[float, float]] = {}
        """Their sum, and the sum of their squares."""

    def add(
        self, behaviour: ModelBehaviour, size: int, rows: tuple[Observation, ...], rng: np.random.Generator
    ) -> None:
        self._served += size
        for row in rows:
            centre, sigma, name = behaviour.centre(row), behaviour.sigma(row), row.name
            match row.kind:
                case "rate":
                    self._events[name] = self._events.get(name, 0) + int(rng.binomial(size, centre))
                case "duration":
                    first, chances = _duration_chances(centre, sigma)
                    seen = self._buckets.setdefault(name, np.zeros(_BUCKETS, np.int64))
                    seen[first : first + len(chances)] += _dealt(size, chances, rng)
                case "amount":
                    values, chances = _amount_chances(centre, sigma)
                    counts = _dealt(size, chances, rng)
                    total, squares = self._amounts.get(name, (0.0, 0.0))
                    self._amounts[name] = total + float(counts @ values), squares + float(counts @ values**2)

    def arm(self) -> Arm:
        size = (self._served,)
        samples = {name: Sample(size, (events,), events) for name, events in self._events.items()}
        samples |= {name: Sample(size, (total,), squares) for name, (total, squares) in self._amounts.items()}
        durations: dict[Observed, Histogram] = {}
        for name, buckets in self._buckets.items():
            (filled,) = buckets.nonzero()
            seen = buckets[filled]
            samples[name] = Sample(size, (float(seen @ filled),), float(seen @ filled**2))
            durations[name] = _histogram(buckets)
        return Arm(self._served, self._events[ERROR.name], self._served, samples, durations)


def _histogram(buckets: Ints) -> Histogram:
    (filled,) = buckets.nonzero()
    return Histogram(dict(zip(filled.tolist(), buckets[filled].tolist(), strict=True)))


def _dealt(size: int, chances: Floats, rng: np.random.Generator) -> Ints:
    """A multinomial draw, in whichever way is quicker."""
    if size > 4 * len(chances):
        return rng.multinomial(size, chances)
    return np.bincount(np.searchsorted(np.cumsum(chances[:-1]), rng.random(size)), minlength=len(chances))


@cache
def _duration_chances(median: float, sigma: float) -> tuple[int, Floats]:
    """(first histogram bucket, chances from there on), without what one request in ten million would see."""
    edges = np.log(FLOOR) + np.arange(_BUCKETS) * math.log(GAMMA)
    below = np.array([0.5 * math.erfc((math.log(median) - edge) / sigma / math.sqrt(2)) for edge in edges])
    chances = np.diff(below, prepend=0.0)
    (seen,) = (chances > 1e-7).nonzero()
    return int(seen[0]), _chances(chances[seen[0] : seen[-1] + 1])


@cache
def _amount_chances(median: float, sigma: float) -> tuple[Floats, Floats]:
    """(values, chances): the log-normal in thirty steps, so that a sum of any size is one draw."""
    points = np.linspace(-3.5, 3.5, 30)
    return median * np.exp(sigma * points), _chances(np.exp(-(points**2) / 2))


def _chances(weights: Floats) -> Floats:
    return weights / weights.sum()


class _Callers:
    """Keys that come back, each with its own rates and its own speed, dealt out to an arm for good."""

    def __init__(self, scenario: Scenario, rng: np.random.Generator) -> None:
        if scenario.sessions is None:
            raise ValueError("a scenario of callers needs `sessions`")
        self._scenario = scenario
        self._sessions = scenario.sessions
        self._rng = rng
        keys = scenario.sessions.keys
        self._popularity = _chances(np.arange(1, keys + 1, dtype=float) ** -scenario.sessions.exponent)
        self._bucket = rng.integers(SUB_BUCKETS, size=keys)
        self._point = rng.random(keys)
        """On the line of weights: below the share is canary."""
        rates, sizes = _parted(_observed(scenario))
        self._luck = {row.name: rng.random(keys) for row in rates}
        self._pace = {row.name: rng.standard_normal(keys) for row in sizes}

    def entering(self, weight: int) -> None:
        self._weight = weight
        shape = (2, SUB_BUCKETS)
        self._served = np.zeros(2, np.int64)
        self._failed = np.zeros(2, np.int64)
        self._met = np.zeros(self._sessions.keys, np.bool_)
        self._counts = np.zeros(shape)
        rows = _observed(self._scenario)
        self._totals: dict[Observed, Floats] = {row.name: np.zeros(shape) for row in rows}
        self._squares: dict[Observed, Floats] = {row.name: np.zeros(2) for row in rows}
        self._buckets: dict[Observed, Ints] = {
            row.name: np.zeros((2, _BUCKETS), np.int64) for row in rows if row.kind == "duration"
        }

    def arms(self, share: float, look: int) -> tuple[Arm, Arm]:
        scenario, rng = self._scenario, self._rng
        if scenario.requests is None:
            raise ValueError("a scenario of callers needs `requests`")
        came = rng.multinomial(scenario.requests, self._popularity)
        self._met |= came > 0
        arm = (self._point >= share).astype(np.int64)
        counted = np.minimum(came, COUNTED_PER_KEY)
        drift = _drift(scenario, self._weight, look)
        behaviours = _drifted(scenario.canary, *drift), _drifted(scenario.stable, *drift)
        self._served += np.bincount(arm, came, 2).astype(np.int64)
        cell = arm * SUB_BUCKETS + self._bucket
        self._counts += _summed(cell, counted)
        rates, sizes = _parted(_observed(scenario))
        for row in rates:
            per_key = (
                _beta_quantiles(each.centre(row), self._sessions.icc, self._luck[row.name]) for each in behaviours
            )
            chances = np.where(arm == 0, *per_key)
            events = rng.binomial(counted, chances)
            self._totals[row.name] += _summed(cell, events)
            self._squares[row.name] += np.bincount(arm, events, 2)
            if row is ERROR:
                others = rng.binomial(came - counted, chances)
                self._failed += np.bincount(arm, events + others, 2).astype(np.int64)
        key = np.repeat(np.arange(len(came)), counted)
        for row in sizes:
            amounts = self._amounts(row, key, arm[key], behaviours)
            if row.kind == "duration":
                amounts = np.clip(np.ceil(np.log(amounts / FLOOR) / math.log(GAMMA)), 0, _BUCKETS - 1)
                place = arm[key] * _BUCKETS + amounts.astype(np.int64)
                self._buckets[row.name] += np.bincount(place, minlength=2 * _BUCKETS).reshape(2, _BUCKETS)
            self._totals[row.name] += _summed(arm[key] * SUB_BUCKETS + self._bucket[key], amounts)
            self._squares[row.name] += np.bincount(arm[key], amounts**2, 2)
        canary, stable = (self._arm(i, arm) for i in (0, 1))
        return canary, stable

    def _amounts(
        self, row: Observation, key: Ints, arm: Ints, behaviours: tuple[ModelBehaviour, ModelBehaviour]
    ) -> Floats:
        """Log-normal, of which the key determines `icc` of the variance."""
        median = np.array([each.centre(row) for each in behaviours])[arm]
        sigma = np.array([each.sigma(row) for each in behaviours])[arm]
        icc = self._sessions.icc
        noise = math.sqrt(icc) * self._pace[row.name][key] + math.sqrt(1 - icc) * self._rng.standard_normal(len(key))
        return median * np.exp(sigma * noise)

    def _arm(self, index: int, arm: Ints) -> Arm:
        counts = tuple(self._counts[index].tolist())
        samples: dict[Observed, Sample] = {
            what: Sample(counts, tuple(totals[index].tolist()), float(self._squares[what][index]))
            for what, totals in self._totals.items()
        }
        durations = {name: _histogram(buckets[index]) for name, buckets in self._buckets.items()}
        keys = int((self._met & (arm == index)).sum())
        return Arm(int(self._served[index]), int(self._failed[index]), keys, samples, durations)


def _summed(cell: Ints, amounts: Floats | Ints) -> Floats:
    """Per arm and sub-bucket."""
    return np.bincount(cell, amounts, 2 * SUB_BUCKETS).astype(np.float64).reshape(2, SUB_BUCKETS)


def _beta_quantiles(mean: float, icc: float, luck: Floats) -> Floats:
    """Per-key rates with this mean, and this correlation between two requests of a key."""
    table = _beta_table(mean, icc)
    return table[(luck * len(table)).astype(np.int64)]


@cache
def _beta_table(mean: float, icc: float) -> Floats:
    """A large sorted sample of the beta distribution, its mean made exact."""
    total = (1 - icc) / icc
    drawn = np.sort(np.random.default_rng(0).beta(mean * total, (1 - mean) * total, 100_000))
    return np.clip(drawn * (mean / drawn.mean()), 0.0, 1.0)


def _observed(scenario: Scenario) -> tuple[Observation, ...]:
    """What its metrics need to be known of a request, in the table's order; errors always."""
    metrics = scenario.spec.analysis.metrics if scenario.spec.analysis else ()
    needed = {ERROR.name, *(MEASURES[each.measure].observed for each in metrics if each.measure in MEASURES)}
    return tuple(row for row in OBSERVATIONS if row.name in needed)


def _parted(rows: tuple[Observation, ...]) -> tuple[tuple[Observation, ...], tuple[Observation, ...]]:
    """(rates, durations and amounts)."""
    return tuple(row for row in rows if row.kind == "rate"), tuple(row for row in rows if row.kind != "rate")
