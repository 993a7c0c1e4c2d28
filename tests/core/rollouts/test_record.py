import json

import pytest

from rollout_factories import a_spec, an_analysis, an_arm, begun, evidence, sample, timed_arm
from wissel.core.rollouts.histogram import Histogram
from wissel.core.rollouts.metrics import Comparison, FixedLimit, Guard
from wissel.core.rollouts.record import dump, load
from wissel.core.rollouts.rollout import Rollout, advance
from wissel.core.rollouts.spec import RolloutSpec
from wissel.errors import StoreError

SPEC = a_spec(
    analysis=an_analysis(
        Guard("error_rate", 0.25),
        FixedLimit("latency_p95", max=5.0),
        Comparison("error_rate", allowed=0.01),
        Comparison("latency_p95", allowed=0.1, relative=True),
        Comparison("tokens_out"),
    )
)


def looked(spec: RolloutSpec) -> Rollout:
    """With something of everything to remember."""
    slow = Histogram(dict.fromkeys(range(100), 30))
    arms = [
        an_arm(
            n,
            n // 50,
            keys=n // 2,
            samples={**timed_arm(slow).samples, "tokens_out": sample(n, 100.0 * n, 10_900.0 * n)},
            durations={"latency": slow},
        )
        for n in (3000, 27_000)
    ]
    return advance(begun(spec), spec, evidence(*arms), 30).rollout


def crashed(rollout: Rollout) -> Rollout:
    return load(json.loads(json.dumps(dump(rollout))))


def test_a_record_holds_everything():
    assert crashed(looked(SPEC)) == looked(SPEC)


def test_a_fresh_rollout_is_a_small_record():
    record = dump(begun(a_spec()))

    assert record == {
        "layout": 1,
        "name": "chat-v2",
        "revision": "r1",
        "attempt": 1,
        "at": 0.0,
        "step": 1,
        "window": 0,
        "weight": 10,
        "reason": "weight 10",
    }


@pytest.mark.parametrize(
    ("record", "why"),
    [
        ({}, 'layout "None"'),
        ({"layout": 2, "name": "chat-v2"}, 'layout "2"'),
        ({"layout": 1, "name": "chat-v2"}, "cannot be read"),
        ({**dump(begun(a_spec())), "analysis": {"metrics": [{"is": "Nonsense"}]}}, "cannot be read"),
    ],
)
def test_a_record_that_cannot_be_read_is_an_error(record: dict[str, object], why: str):
    with pytest.raises(StoreError, match=why):
        load(record)
