import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollout_factories import an_arm
from wissel.core.rollouts.evidence import NOTHING, SUB_BUCKETS, Sample, design_effect, sub_bucket

numbers = st.lists(st.integers(0, 50), min_size=4, max_size=4)


def clustered(errors_of: dict[int, int], per_key: int) -> Sample:
    """One key in each of 64 sub-buckets, `per_key` requests each."""
    totals = tuple(errors_of.get(i, 0) for i in range(SUB_BUCKETS))
    return Sample((per_key,) * SUB_BUCKETS, totals, sum(totals))


@given(numbers, numbers)
def test_samples_merge_by_adding(some: list[int], others: list[int]):
    one, two = Sample((9, 9, 9, 9), tuple(some), 5.0), Sample((1, 1, 1, 1), tuple(others), 6.0)

    assert (one + two).total == sum(some) + sum(others)
    assert (one + two).count == one.count + two.count
    assert (one + two).squares == 11.0


def test_a_sample_of_nothing_has_no_sums():
    assert (Sample().count, Sample().total, Sample().squares) == (0, 0, 0)


def test_nothing_added_changes_nothing():
    some = Sample((3,), (2,), 2)

    assert some + NOTHING == some == NOTHING + some


def test_keys_that_fail_altogether_count_as_one_failure_each():
    few_keys = clustered({7: 10, 20: 10, 33: 10}, 10)

    assert design_effect(few_keys, clustered({}, 10)) == pytest.approx(10, rel=0.1)


def test_failures_spread_over_the_keys_are_independent():
    spread = clustered(dict.fromkeys(range(30), 1), 10)

    assert design_effect(spread, clustered({}, 10)) == 1


def test_without_failures_there_is_no_design_effect():
    assert design_effect(clustered({}, 10), clustered({}, 10)) == 1


def test_the_design_effect_of_callers_is_about_one_plus_their_correlation():
    # 2,000 keys of 20 requests; ICC 0.1: 1 + (20 − 1)·0.1 = 2.9.
    drawn = random.Random(1)
    counts, totals = [0] * SUB_BUCKETS, [0] * SUB_BUCKETS
    for _ in range(2000):
        where, rate = drawn.randrange(SUB_BUCKETS), drawn.betavariate(0.9, 8.1)
        counts[where] += 20
        totals[where] += sum(drawn.random() < rate for _ in range(20))
    sample = Sample(tuple(counts), tuple(totals), sum(totals))

    assert design_effect(sample, NOTHING) == pytest.approx(2.9, rel=0.35)


@given(st.text())
def test_every_key_has_its_sub_bucket(key: str):
    assert 0 <= sub_bucket(key) < SUB_BUCKETS


def test_an_arm_that_met_every_key_once_has_no_repeats():
    assert (an_arm(100, 2).has_repeats, an_arm(100, 2, keys=99).has_repeats) == (False, True)


def test_a_key_of_any_characters_has_its_sub_bucket():
    assert 0 <= sub_bucket("\ud800") < SUB_BUCKETS
