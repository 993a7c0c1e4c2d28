import pytest
from hypothesis import given
from hypothesis import strategies as st

from wissel.core.rollouts.histogram import bucket_of
from wissel.store.sums import Counts, arm_of, difference, measured, merged, number_of

numbers = st.one_of(st.integers(0, 2**53), st.floats(0, 1e12, allow_subnormal=False))
counts = st.dictionaries(
    st.sampled_from("ab"), st.dictionaries(st.integers(0, 9), st.integers(1, 99), min_size=1), max_size=2
)


def counted(*durations: float, bucket: int = 0) -> Counts:
    counts = Counts()
    for duration in durations:
        counts.serve(failed=False)
        counts.observe(bucket, measured({"error": 0, "latency": duration, "cost_usd": 0.1}))
    return counts


@given(numbers)
def test_a_number_keeps_every_digit(number: float):
    assert number_of(repr(number)) == number


def test_a_text_that_is_no_number_is_told():
    with pytest.raises(ValueError):
        number_of("x")


@given(st.lists(counts))
def test_what_was_added_piece_by_piece_is_the_whole(pieces: list[dict[str, dict[int, float]]]):
    whole = merged(pieces)

    assert merged([merged(pieces[:1]), difference(whole, merged(pieces[:1]))]) == whole


def test_the_sum_of_two_is_what_one_would_have_counted():
    together = counted(0.1, 0.2, bucket=3)
    together.add(counted(0.4, bucket=5))

    one = counted(0.1, 0.2, bucket=3)
    one.serve(failed=False)
    one.observe(5, measured({"error": 0, "latency": 0.4, "cost_usd": 0.1}))
    assert together.vectors() == one.vectors()


def test_durations_are_summed_as_the_indexes_of_their_buckets():
    arm = arm_of(counted(0.1, 0.2, bucket=7).vectors(), keys=1)

    assert arm.sample("latency").totals[7] == bucket_of(0.1) + bucket_of(0.2)


def test_the_histogram_holds_the_same_requests_as_the_sample():
    arm = arm_of(counted(0.1, 0.2, 30.0).vectors(), keys=1)

    assert arm.histogram("latency").total == arm.sample("latency").count == 3


def test_squares_are_of_single_observations():
    arm = arm_of(counted(1.0, 1.0).vectors(), keys=1)

    assert arm.sample("cost_usd").squares == pytest.approx(2 * 0.1**2)


def test_an_event_said_as_true_is_counted_as_one():
    counts = Counts()
    counts.observe(0, measured({"error": True}))

    assert counts.vectors()["error.t"] == {0: 1}


def test_an_arm_that_nothing_was_seen_of_has_no_samples():
    assert arm_of({}, keys=0).requests == 0
