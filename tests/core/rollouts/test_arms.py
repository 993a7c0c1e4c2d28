from dataclasses import replace

import pytest

from factories import split
from rollout_factories import a_spec, begun
from wissel.core.rollouts.arms import apply, canary_share, variants
from wissel.core.rollouts.rollout import Rollout, abort
from wissel.core.rollouts.spec import Delivery
from wissel.core.split import Match, Variant

SPEC = a_spec()
SPLIT = split("chat-v2", stable=100)
MATCH = Match()
HERE = begun(SPEC)


def at(weight: int) -> Rollout:
    return replace(HERE, weight=weight)


def test_the_canary_comes_first_and_stable_has_the_rest():
    assert variants(at(10), SPEC) == (Variant("canary", "new", 10), Variant("stable", "old", 90))


@pytest.mark.parametrize(("weight", "baseline", "stable"), [(10, 10, 80), (50, 50, 0), (70, 30, 0)])
def test_a_baseline_is_served_by_stables_model(weight: int, baseline: int, stable: int):
    assert variants(at(weight), a_spec(baseline=True)) == (
        Variant("canary", "new", weight),
        Variant("baseline", "old", baseline),
        Variant("stable", "old", stable),
    )


def test_without_a_record_that_fits_the_split_stays_as_it_is():
    assert apply(SPLIT, None, Delivery(SPEC, MATCH)) is SPLIT
    assert apply(SPLIT, replace(HERE, revision="older"), Delivery(SPEC, MATCH)) is SPLIT


def test_a_split_says_at_which_step_of_which_attempt_it_is():
    served = apply(SPLIT, replace(HERE, attempt=3, window=2), Delivery(SPEC, MATCH))

    assert (served.variants, served.match, served.matched) == (variants(HERE, SPEC), MATCH, "canary")
    assert (served.attempt, served.step) == (3, 2)


@pytest.mark.parametrize(
    ("rollout", "match"),
    [
        (HERE, MATCH),
        (replace(HERE, paused="human"), MATCH),
        (replace(HERE, paused="lost"), None),
        (abort(HERE, 5, by="ada").rollout, None),
    ],
)
def test_callers_are_targeted_only_while_it_is_under_way(rollout: Rollout, match: Match | None):
    assert apply(SPLIT, rollout, Delivery(SPEC, MATCH)).match == match


@pytest.mark.parametrize(("baseline", "share"), [(False, 0.1), (True, 0.5)])
def test_the_canary_is_compared_with_its_baseline_where_it_has_one(baseline: bool, share: float):
    assert canary_share(at(10), a_spec(baseline=baseline)) == share
