import math
from dataclasses import replace

import numpy as np
import pytest

from rollout_factories import a_spec, an_analysis
from wissel.core.rollouts.evidence import design_effect
from wissel.core.rollouts.metrics import Comparison
from wissel.core.rollouts.spec import Pause, SetWeight
from wissel.evaluation.simulation import ModelBehaviour, Scenario, Sessions, simulate, traffic_of

SPEC = a_spec(steps=(SetWeight(10), Pause(60), SetWeight(50)), analysis=an_analysis(display=False))
HEALTHY = Scenario(SPEC, ModelBehaviour(), ModelBehaviour(), requests=1000)


def rng(seed: int = 1) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_a_good_canary_is_promoted_once_its_steps_are_done():
    run = simulate(HEALTHY, rng())

    assert (run.end, run.looks, run.seconds) == ("promoted", 3, 90.0)


def test_a_bad_canary_is_rolled_back():
    run = simulate(replace(HEALTHY, canary=ModelBehaviour({"error": 0.3})), rng())

    assert (run.end, run.looks) == ("rolled_back", 1)
    assert run.canary_requests < 200


def test_a_share_that_is_off_stops_the_rollout():
    spec = replace(SPEC, steps=(SetWeight(10), Pause()))

    assert simulate(replace(HEALTHY, spec=spec, skew=1.5), rng()).end == "stopped"


def test_the_same_seed_plays_the_same_rollout():
    faulty = replace(HEALTHY, canary=ModelBehaviour({"error": 0.05}), sessions=Sessions(keys=500))

    assert simulate(faulty, rng(7)) == simulate(faulty, rng(7))


@pytest.mark.parametrize("sessions", [None, Sessions(keys=20_000, exponent=0.0, icc=0.01)])
def test_traffic_has_the_rates_that_were_asked_for(sessions: Sessions | None):
    behaviour = ModelBehaviour({"error": 0.1, "latency": 2.0, "tokens_out": 100}, {"latency": 0.5, "tokens_out": 0.5})
    metrics = an_analysis(*(Comparison(name) for name in ("error_rate", "latency_p50", "tokens_out")))
    spec = replace(SPEC, analysis=metrics)
    scenario = Scenario(spec, behaviour, behaviour, requests=20_000, sessions=sessions)
    traffic = traffic_of(scenario, rng())
    traffic.entering(50)
    _, stable = traffic.arms(0.5, 0)
    median = stable.histogram("latency").quantile(0.5)

    assert median is not None
    assert stable.sample("error").mean == pytest.approx(0.1, abs=0.015)
    assert stable.sample("tokens_out").mean == pytest.approx(100 * math.exp(0.125), rel=0.05)
    assert 0.001 * (1.02 / 0.98) ** median == pytest.approx(2.0, rel=0.06)


def test_callers_share_their_fate():
    behaviour = ModelBehaviour({"error": 0.1})
    sessions = Sessions(keys=1000, exponent=0.0, icc=0.1)
    scenario = Scenario(SPEC, behaviour, behaviour, requests=1000, sessions=sessions)
    traffic = traffic_of(scenario, rng())
    traffic.entering(50)
    for look in range(20):
        canary, stable = traffic.arms(0.5, look)

    # Twenty requests a key: 1 + (20 − 1)·0.1.
    assert design_effect(canary.sample("error"), stable.sample("error")) == pytest.approx(2.9, rel=0.35)
    assert canary.keys + stable.keys == 1000
