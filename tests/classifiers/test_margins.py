import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wissel.classifiers.margins import (
    MARGIN,
    MISTRUST,
    PENALTY,
    Judged,
    _chance,
    judge,
    learn_margin,
    margin_beside,
    margin_of_share,
)

CERTAINTIES = st.lists(st.floats(0, 1, width=32), min_size=60, max_size=120)


def judged(certainty, right):
    return Judged(np.array(certainty, float), np.array(right, bool))


def test_an_example_is_as_sure_as_another_answer_is_far():
    scores = np.array([[0.9, 0.2, 0.1], [0.6, 0.9, 0.8], [0.3, 0.2, 0.1]])
    found = judge(scores, np.array([0, 2, 0]), threshold=0.5)

    np.testing.assert_allclose(found.certainty, [0.4, 0.1, 0.2])
    assert list(found.right) == [True, False, False]  # the last one was held for "other"


@pytest.mark.parametrize(("threshold", "far"), [(0.5, 0.4), (0.0, 0.9), (-0.1, 1.0)])
def test_the_only_route_is_sure_as_far_as_from_the_threshold(threshold, far):
    assert judge(np.array([[0.9]]), np.array([0]), threshold).certainty == pytest.approx([far])


def test_without_examples_nothing_was_judged():
    assert len(judge(np.empty((0, 3)), np.empty(0, int), threshold=0.5).right) == 0


def test_the_margin_keeps_errors_among_the_trusted_rare():
    certainty = np.concatenate([np.linspace(0.3, 0.6, 100), np.linspace(0.0, 0.2, 20)])
    stage = judged(certainty, [True] * 100 + [False] * 20)

    assert 0 < np.mean(~stage.right[certainty >= learn_margin(stage)]) <= MISTRUST


@pytest.mark.parametrize("share", [0.05, 0.1, 0.5])
def test_the_least_sure_share_lies_below_its_margin(share):
    stage = judged(np.random.default_rng(0).permutation(np.linspace(0, 1, 200)), [True] * 200)

    assert np.mean(stage.certainty < margin_of_share(stage, share)) == pytest.approx(share, abs=0.01)


def test_too_few_examples_say_nothing_of_a_share():
    assert margin_of_share(judged([0.7, 0.9], [True] * 2), 0.1) == MARGIN


def test_without_errors_every_answer_is_trusted():
    assert learn_margin(judged(np.linspace(0.01, 0.5, 60), [True] * 60)) == pytest.approx(0.01)


def test_few_examples_say_nothing_about_the_margin():
    assert learn_margin(judged([0.5] * 10, [True] * 10)) == MARGIN


def messages(seed, *, count=3000):
    """A cheap stage, which errs where it is not sure, and one that hardly errs."""
    rng = np.random.default_rng(seed)
    certainty = rng.random(count) ** 2
    cheap = judged(certainty, rng.random(count) > np.exp(-12 * certainty) / 2)
    return cheap, judged(np.ones(count), rng.random(count) > 0.01)


def some(stage, rows):
    return Judged(stage.certainty[rows], stage.right[rows])


@pytest.mark.parametrize("seed", range(4))
def test_beside_a_dearer_stage_the_two_are_hardly_worse_on_messages_not_seen(seed):
    seen, unseen = slice(1500), slice(1500, None)
    cheap, dearer = messages(seed)
    margin = margin_beside(some(cheap, seen), some(dearer, seen))
    trusted = cheap.certainty[unseen] >= margin

    assert 0.3 < trusted.mean() < 0.7
    assert np.where(trusted, cheap.right[unseen], dearer.right[unseen]).mean() > dearer.right[unseen].mean() - 0.01


def test_one_unlucky_example_does_not_move_the_margin_far():
    cheap, dearer = messages(5, count=1500)
    unlucky = cheap.right.copy()
    unlucky[np.argsort(-cheap.certainty)[20]] = False
    margins = [margin_beside(judged(cheap.certainty, right), dearer) for right in (cheap.right, unlucky)]
    shares = [np.mean(cheap.certainty >= margin) for margin in margins]

    assert shares[1] == pytest.approx(shares[0], abs=0.1)


def test_where_the_dearer_stage_is_wrong_as_often_all_are_trusted():
    both = judged([0.5, 0.4, 0.3] * 20, [True, False, True] * 20)

    assert margin_beside(both, both) == pytest.approx(0.3)


def test_one_error_in_thousands_is_conceded():
    certainty = np.linspace(0.1, 0.9, 2000)
    once = judged(certainty, np.arange(2000) != 1000)

    assert margin_beside(once, judged(certainty, np.ones(2000))) == 0.1


def test_a_stage_that_hardly_ever_answers_is_never_trusted():
    certainty = np.linspace(0, 1, 1000)
    seldom = judged(certainty, certainty > 0.95)

    assert margin_beside(seldom, judged(certainty, np.ones(1000))) == float("inf")


@pytest.mark.slow
def test_how_often_something_happens_is_fitted_as_scikit_learn_does():
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(0)
    certainty = rng.random(500)
    happened = rng.random(500) < np.exp(-6 * certainty)
    known = np.stack([np.ones(500), certainty], axis=1)
    theirs = LogisticRegression(C=1 / PENALTY, fit_intercept=False, tol=1e-8).fit(known, happened)

    np.testing.assert_allclose(_chance(certainty, happened), theirs.predict_proba(known)[:, 1], atol=1e-4)


@pytest.mark.slow
@given(CERTAINTIES)
@settings(deadline=None)
def test_a_stage_that_is_never_wrong_needs_not_be_sure(certainty):
    right = judged(certainty, np.ones(len(certainty)))

    assert margin_beside(right, judged(certainty, np.zeros(len(certainty)))) == right.certainty.min()


@pytest.mark.slow
@given(CERTAINTIES, st.randoms(use_true_random=False))
@settings(deadline=None)
def test_the_order_of_the_examples_says_nothing_about_the_margin(certainty, random):
    cheap = judged(certainty, random.choices([True, False], k=len(certainty)))
    dearer = judged(certainty, random.choices([True, False], k=len(certainty)))
    order = random.sample(range(len(certainty)), len(certainty))

    assert margin_beside(some(cheap, order), some(dearer, order)) == pytest.approx(
        margin_beside(cheap, dearer), abs=1e-3
    )


def test_a_stage_that_was_not_tried_is_never_trusted():
    assert margin_beside(judged([0.5] * 10, [True] * 10), judged([0.5] * 10, [True] * 10)) == float("inf")
