import numpy as np
import pytest

from wissel.evaluation.figures import (
    auroc,
    calibration_error,
    macro_f1,
    mcnemar,
    percentile,
    qualities,
    recall_at,
    reliability,
    share_of_whole,
)

RNG = np.random.default_rng(3)


@pytest.mark.slow
def test_macro_f1_is_that_of_scikit_learn():
    from sklearn.metrics import f1_score

    wanted, said = (list(RNG.choice(["a", "b", "c"], 200)) for _ in range(2))

    assert macro_f1(qualities(wanted, said)) == pytest.approx(f1_score(wanted, said, average="macro"))


def test_a_route_that_is_only_predicted_has_no_part_in_the_mean():
    assert macro_f1(qualities(["a", "a"], ["a", "ghost"])) == pytest.approx(2 / 3)


def test_auroc_is_that_of_scikit_learn_ties_included():
    from sklearn.metrics import roc_auc_score

    positives, negatives = (list(RNG.integers(0, 10, 100) + shift) for shift in (2, 0))

    truth = [1] * 100 + [0] * 100
    assert auroc(positives, negatives) == pytest.approx(roc_auc_score(truth, positives + negatives))


def test_without_one_of_each_there_is_no_auroc():
    assert (auroc([], [1.0]), recall_at([1.0], [], 0.05)) == (None, None)


def test_recall_is_counted_above_what_few_of_the_others_pass():
    assert recall_at([96.5, 50.0], list(range(100)), 0.05) == 0.5


def test_the_calibration_error_weighs_bins_by_their_rows():
    bins = reliability([0.95] * 3 + [0.15], [True, True, False, False])

    assert calibration_error(bins) == pytest.approx(0.75 * (0.95 - 2 / 3) + 0.25 * 0.15)


def test_a_conversation_is_right_if_every_turn_is():
    assert share_of_whole(["x", "x", "y", None], [True, False, True, False]) == 0.5
    assert share_of_whole([None], [True]) is None


def test_mcnemar_is_the_exact_binomial_test():
    assert mcnemar(1, 9) == pytest.approx(2 * (1 + 10) / 2**10)
    assert mcnemar(0, 0) == 1
    assert mcnemar(5, 5) == 1
    assert mcnemar(100, 300) < 1e-20


def test_a_percentile_is_one_of_the_values():
    assert [percentile([3, 1, 2], share) for share in (0.01, 0.5, 0.99)] == [1, 2, 3]
