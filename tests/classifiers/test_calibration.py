import numpy as np
import pytest

from wissel.classifiers.calibration import USUAL, confidence, learn_temperature


def drawn(temperature, *, rows=4000, routes=5, threshold=0.2, seed=0):
    """Scores and the routes that a softmax draws for them, without the rows that it gives to none."""
    rng = np.random.default_rng(seed)
    scores = rng.uniform(0, 1, (rows, routes))
    odds = np.exp(np.hstack([scores, np.full((rows, 1), threshold)]) / temperature)
    odds /= odds.sum(axis=1, keepdims=True)
    truth = (odds.cumsum(axis=1) > rng.random((rows, 1))).argmax(axis=1)
    return scores[truth < routes], truth[truth < routes]


@pytest.mark.parametrize("temperature", [0.02, 0.08, 0.2])
def test_the_temperature_that_drew_the_examples_is_found(temperature):
    assert learn_temperature(*drawn(temperature), threshold=0.2) == pytest.approx(temperature, rel=0.15)


def test_without_examples_the_temperature_is_the_usual_one():
    assert learn_temperature(np.zeros((0, 3)), np.array([], np.intp), 0.3) == USUAL


def test_a_few_examples_move_the_temperature_little():
    scores, truth = drawn(0.3)

    assert USUAL < learn_temperature(scores[:5], truth[:5], threshold=0.2) < 0.1


def test_fifty_examples_that_are_all_clearly_right_make_no_answer_certain():
    scores = np.full((50, 10), 0.1)
    scores[:, 3] = 0.6

    temperature = learn_temperature(scores, np.full(50, 3), threshold=0.3)

    assert confidence(np.array([0.36, 0.1]), 0.3, temperature) < 0.95


def test_of_answers_with_a_confidence_so_many_are_right():
    scores, truth = drawn(0.1, threshold=-9)
    sure = np.array([confidence(row, -9, 0.1) for row in scores])

    assert sure.mean() == pytest.approx((scores.argmax(axis=1) == truth).mean(), abs=0.02)


def test_a_tie_is_an_even_chance():
    assert confidence(np.array([0.6, 0.6]), -9, 0.05) == pytest.approx(0.5)


def test_what_lies_at_the_threshold_is_as_likely_other():
    assert confidence(np.array([0.4, -9]), 0.4, 0.05) == pytest.approx(0.5)
    assert confidence(np.array([0.1, 0.0]), 0.4, 0.05) > 0.99
