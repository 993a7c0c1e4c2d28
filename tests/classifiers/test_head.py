import numpy as np
import pytest

from wissel.classifiers import head as module
from wissel.classifiers.head import LOOSENESS, fit_head
from wissel.classifiers.threshold import without_themselves


def clouds(routes, size, *, noise, shared, seed=0, width=32):
    """Unit vectors around one direction a route; what routes share makes their centroids hard to tell apart."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(routes, width))
    common = np.outer(rng.normal(size=routes * size), rng.normal(size=width))
    vectors = np.repeat(centres, size, axis=0) + noise * rng.normal(size=(routes * size, width)) + shared * common
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors.astype(np.float32), np.repeat(np.arange(routes), size)


def fitted(vectors, owners, phrases=None, wording=None):
    rows = np.arange(len(vectors))
    starts = np.searchsorted(owners, np.arange(owners.max() + 1))
    cosines = without_themselves(vectors, starts, owners, rows)
    if wording is None:
        wording = np.zeros((len(vectors), 0), np.float32)
    found = fit_head(phrases or ["same"] * len(vectors), vectors, wording, owners, rows, rows % 5, cosines)
    return (found.head, found.scores, cosines) if found else (None, None, cosines)


def test_the_fit_is_that_of_scikit_learn_where_it_starts_from_nothing():
    from sklearn.linear_model import LogisticRegression

    vectors, owners = clouds(4, 30, noise=1.5, shared=1)
    nothing = np.zeros((32, 4), np.float32)
    weights, bias = module._unpack(nothing, module._fit(vectors, owners, nothing, np.zeros(33 * 4, np.float32)))
    ours = vectors @ weights + bias
    theirs = LogisticRegression(C=LOOSENESS, max_iter=2000).fit(vectors, owners).decision_function(vectors)

    # Each route weighs as much as a whole row does there, so the penalties are the same.
    np.testing.assert_allclose(ours, theirs - theirs.mean(axis=1, keepdims=True), atol=0.3)


def test_a_head_is_used_where_cosines_mix_routes_up():
    vectors, owners = clouds(5, 40, noise=0.5, shared=3)
    head, scores, cosines = fitted(vectors, owners)

    assert head is not None
    assert (scores.argmax(axis=1) == owners).mean() > (cosines.argmax(axis=1) == owners).mean() + 0.05


def test_a_head_is_not_used_where_cosines_are_right_already():
    assert fitted(*clouds(5, 20, noise=0.1, shared=0))[0] is None


def test_a_head_is_not_used_where_nothing_can_be_learned():
    vectors, _ = clouds(1, 60, noise=5, shared=0)
    owners = np.repeat(np.arange(3), 20)

    assert fitted(vectors, owners)[0] is None


def test_a_head_needs_examples():
    assert fitted(*clouds(5, 3, noise=0.5, shared=3))[0] is None


def test_words_tell_apart_what_vectors_cannot():
    vectors, _ = clouds(1, 60, noise=1, shared=0)
    owners = np.repeat(np.arange(2), 30)
    head, scores, _ = fitted(vectors, owners, ["freeze it now"] * 30 + ["is it frozen"] * 30)

    assert head is not None
    assert (scores.argmax(axis=1) == owners).mean() > 0.95


def test_wordings_tell_apart_what_vectors_and_words_cannot():
    vectors, _ = clouds(1, 60, noise=1, shared=0)
    wording, owners = clouds(2, 30, noise=0.3, shared=0, seed=1)
    head, scores, _ = fitted(vectors, owners, wording=wording + 5)  # all of them lie in one direction

    assert head is not None
    assert (scores.argmax(axis=1) == owners).mean() > 0.95


def test_a_few_examples_leave_a_route_near_its_mean():
    vectors, owners = clouds(6, 4, noise=0.5, shared=0)
    towards = module._towards(vectors, owners, 6)
    weights, _ = module._unpack(towards, module._fit(vectors, owners, towards, np.zeros(33 * 6, np.float32)))
    means = towards - towards.mean(axis=1, keepdims=True)

    cosines = (weights * means).sum(axis=0) / np.linalg.norm(weights, axis=0) / np.linalg.norm(means, axis=0)
    assert cosines.min() > 0.95


def test_scores_mean_what_cosines_mean():
    vectors, owners = clouds(5, 40, noise=0.5, shared=3)
    head, guesses, cosines = fitted(vectors, owners)
    details = head.details.vectors(["same"] * len(vectors), np.zeros((len(vectors), 0), np.float32))
    scores = head.scores(vectors, details, cosines)

    own = np.arange(len(owners)), owners
    assert guesses[own].mean() == pytest.approx(cosines[own].mean(), abs=1e-4)
    assert scores.mean() == pytest.approx(cosines.mean(), abs=0.02)


def test_each_fold_is_a_head_that_scores_what_it_was_fitted_without():
    vectors, owners = clouds(5, 40, noise=0.5, shared=3)
    rows = np.arange(len(vectors))
    cosines = without_themselves(vectors, np.arange(0, 200, 40), owners, rows)
    fit = fit_head(["same"] * 200, vectors, np.zeros((200, 0), np.float32), owners, rows, rows % 4, cosines)
    details = fit.head.details.vectors(["same"] * 200, np.zeros((200, 0), np.float32))

    for part, head in enumerate(fit.folds):
        held = rows % 4 == part
        scores = head.scores(vectors[held], details[held], cosines[held])
        np.testing.assert_allclose(scores, fit.scores[held], atol=1e-4)
