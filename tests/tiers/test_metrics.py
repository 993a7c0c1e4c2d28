"""The figures of RouteLLM (arXiv 2406.18665), on data so small that they can be checked by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wissel.tiers.metrics import (
    Ends,
    bootstrap_apgr,
    call_performance,
    figures,
    oracle,
    relative_cost,
)


def ends(*, strong_only: int, weak_only: int, both: int) -> Ends:
    """So many prompts that only one model, or both, answered right."""
    strong = [1.0] * strong_only + [0.0] * weak_only + [1.0] * both
    weak = [0.0] * strong_only + [1.0] * weak_only + [1.0] * both
    return Ends(np.array(strong), np.array(weak))


mmlu = ends(strong_only=178, weak_only=53, both=769)
"""The shares of the whole MMLU: 17.8 % only GPT-4 answered right, 5.3 % only Mixtral."""


def test_the_papers_random_row():
    """Table 2: CPT(50) 50.07 %, CPT(80) 79.93 %, APGR 0.500; equal win rates are a random order, exactly."""
    curve = call_performance(np.zeros(1000), mmlu)

    assert (curve.cpt(0.5), curve.cpt(0.8), curve.apgr, curve.apgr_ten_bins) == pytest.approx((0.5, 0.8, 0.5, 0.5))


def test_a_random_order_is_random_on_average():
    rng = np.random.default_rng(0)
    found = [call_performance(rng.random(1000), mmlu).apgr for _ in range(200)]

    assert np.mean(found) == pytest.approx(0.5, abs=0.01)


def test_the_oracle_row():
    """Measured on the whole of MMLU: CPT(50) 6.3 %, CPT(80) 10.0 %, APGR 1.268 in ten bins."""
    curve = call_performance(oracle(mmlu), mmlu)

    assert curve.cpt(0.5) == pytest.approx(0.0625)
    assert curve.cpt(0.8) == pytest.approx(0.1)
    assert curve.apgr_ten_bins == pytest.approx(1.268, abs=0.002)
    assert curve.apgr == pytest.approx(1.285, abs=0.002)


def test_the_curve_goes_from_the_weak_model_to_the_strong_one():
    curve = call_performance(np.array([0.9, 0.1, 0.5, 0.4]), Ends(np.array([1.0, 1, 0, 1]), np.array([0.0, 1, 1, 0])))

    assert curve.shares.tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert curve.quality.tolist() == [0.5, 0.75, 0.5, 0.75, 0.75]


def test_pgr_is_read_between_the_knots():
    curve = call_performance(np.array([0.9, 0.1]), Ends(np.array([1.0, 1.0]), np.array([0.0, 0.5])))

    assert curve.recovered_at(0.25) == pytest.approx(1 / 3)
    assert curve.cpt(1 / 3) == pytest.approx(0.25)


def test_what_no_call_reaches_needs_none():
    assert call_performance(np.array([0.9, 0.1]), Ends(np.ones(2), np.zeros(2))).cpt(0.0) == 0.0


def test_saving_is_in_times_the_calls_of_a_random_grader():
    """Table 6's ratio: MMLU's best CPT(50) of 35.4 % is 1.41 times less than random's 50.07 %."""
    curve = call_performance(oracle(mmlu), mmlu)

    assert curve.saving(0.5) == pytest.approx(0.5 / 0.0625)


def test_cost_is_a_part_of_that_of_the_strong_model_alone():
    assert relative_cost(0.25, strong=24.7, weak=0.24) == pytest.approx(0.25 + 0.75 * 0.24 / 24.7)


def test_models_that_are_equally_good_leave_no_gap():
    with pytest.raises(ValueError, match="no gap to recover"):
        _ = call_performance(np.arange(3.0), Ends(np.ones(3), np.ones(3))).apgr


def test_lists_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match="equally long"):
        Ends(np.ones(3), np.ones(2))


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans(), st.booleans()), min_size=2, max_size=60))
def test_only_the_order_of_win_rates_matters(found):
    win_rates, strong, weak = (np.array(column, float) for column in zip(*found, strict=True))
    known = Ends(strong, weak)
    if known.gap == 0:
        return
    once, again = call_performance(win_rates, known), call_performance(np.exp(3 * win_rates) - 7, known)

    assert once.apgr == pytest.approx(again.apgr)


@given(st.lists(st.tuples(st.integers(0, 2), st.booleans(), st.booleans()), min_size=2, max_size=30), st.randoms())
def test_ties_are_taken_in_no_order(found, shuffle):
    shuffled = list(found)
    shuffle.shuffle(shuffled)
    both = []
    for each in (found, shuffled):
        win_rates, strong, weak = (np.array(column, float) for column in zip(*each, strict=True))
        if Ends(strong, weak).gap == 0:
            return
        both.append(call_performance(win_rates, Ends(strong, weak)).apgr)

    assert both[0] == pytest.approx(both[1])


def test_the_interval_holds_the_figure_and_narrows_with_more_prompts():
    rng = np.random.default_rng(1)
    win_rates = rng.random(1000) + 0.5 * mmlu.gain
    low, high = bootstrap_apgr([(win_rates, mmlu)], seed=0, resamples=300)
    tenth = np.arange(0, 1000, 10)
    few_low, few_high = bootstrap_apgr([(win_rates[tenth], mmlu.take(tenth))], seed=0, resamples=300)

    assert low < call_performance(win_rates, mmlu).apgr < high
    assert few_high - few_low > high - low


def test_figures_of_folds_are_their_means():
    one, other = (np.random.default_rng(seed).random(1000) for seed in (1, 2))
    found = figures([(one, mmlu), (other, mmlu)], seed=0, resamples=20)

    assert found.apgr == pytest.approx(np.mean([call_performance(each, mmlu).apgr for each in (one, other)]))
    assert set(found.as_json()) == {"apgr", "interval", "apgr_ten_bins", "cpt", "cost_saving"}
    assert set(found.as_json()["cpt"]) == {"20", "50", "80"}
