import pytest
from hypothesis import given
from hypothesis import strategies as st

from wissel.core.rollouts.histogram import ACCURACY, Histogram, bucket_of, buckets_in, seconds_of

durations = st.floats(0.0011, 1000)


@given(durations)
def test_a_bucket_tells_any_duration_to_two_percent(seconds: float):
    assert seconds_of(bucket_of(seconds)) == pytest.approx(seconds, rel=ACCURACY + 1e-9)


@given(st.lists(durations), st.lists(durations))
def test_merging_histograms_is_seeing_all_durations(some: list[float], others: list[float]):
    assert Histogram.of(some) + Histogram.of(others) == Histogram.of([*some, *others])


@given(st.lists(durations), st.lists(durations))
def test_what_came_since_an_older_reading_is_the_difference(some: list[float], others: list[float]):
    assert Histogram.of([*some, *others]) - Histogram.of(some) == Histogram.of(others)


@given(st.lists(durations, min_size=1), st.floats(0, 1))
def test_no_more_than_its_share_lies_above_a_quantile(seconds: list[float], q: float):
    histogram = Histogram.of(seconds)
    at = histogram.quantile(q)
    assert at is not None

    assert histogram.above(at) <= (1 - q) * len(seconds) + 1e-9


def test_a_quantile_is_found_from_the_counts():
    assert Histogram({1: 90, 2: 6, 9: 4}).quantile(0.95) == 2


def test_nothing_has_no_quantile():
    assert Histogram().quantile(0.5) is None


@pytest.mark.parametrize("seconds", [0.0, 0.0005, 0.001])
def test_what_is_shorter_than_a_millisecond_is_in_bucket_zero(seconds: float):
    assert bucket_of(seconds) == 0


@pytest.mark.parametrize(("ratio", "expected"), [(1.0, 0), (1.083, 2), (1.1, 3), (0.9, -3), (1.3, 7)])
def test_a_margin_is_rounded_to_buckets_away_from_one(ratio: float, expected: int):
    assert buckets_in(ratio) == expected


def test_above_a_bucket_are_those_of_higher_ones_alone():
    assert [Histogram({1: 9, 2: 6, 3: 4}).above(bucket) for bucket in (0, 1, 2, 3)] == [19, 10, 4, 0]


def test_all_is_above_the_lowest_and_nothing_above_the_highest_quantile():
    histogram = Histogram({1: 90, 2: 6, 9: 4})

    assert [histogram.quantile(q) for q in (0.0, 0.5, 0.91, 0.97, 1.0)] == [1, 1, 2, 9, 9]


def test_bucket_zero_is_a_millisecond():
    assert (seconds_of(0), bucket_of(0.001), bucket_of(0.00101)) == (0.001, 0, 1)


def test_durations_of_one_bucket_are_counted_together():
    assert list(Histogram.of([1.0, 1.0, 1.0]).counts.values()) == [3]
