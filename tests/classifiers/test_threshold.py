import numpy as np
import pytest

from wissel.classifiers.threshold import (
    DEVIATIONS,
    PRIOR_MEAN,
    PRIOR_SD,
    blend,
    centroid_of,
    threshold_from,
    without_themselves,
)

PRIOR = PRIOR_MEAN - DEVIATIONS * PRIOR_SD


def spread(cosine, count, *, seed=0):
    """The phrases of a route that lie around one direction, any two with about this cosine between them."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(count, 384))
    noise /= np.linalg.norm(noise, axis=1, keepdims=True)
    shared = np.eye(384)[0]
    vectors = cosine**0.5 * shared + (1 - cosine) ** 0.5 * noise
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def guesses(groups):
    """How each route's phrases score with it, each without itself."""
    sizes = [len(group) for group in groups]
    owners, rows = np.repeat(np.arange(len(groups)), sizes), np.arange(sum(sizes))
    return without_themselves(np.concatenate(groups), np.cumsum([0, *sizes])[:-1], owners, rows)[rows, owners]


def test_without_examples_the_threshold_is_the_prior():
    assert threshold_from(np.array([])) == pytest.approx(PRIOR)


def test_examples_that_resemble_each_other_raise_the_threshold():
    loose, tight = (
        threshold_from(guesses([spread(cosine, 11, seed=seed) for seed in range(20)])) for cosine in (0.3, 0.7)
    )

    assert PRIOR < loose < tight


def test_with_many_examples_about_one_in_a_hundred_would_be_lost():
    routes = [spread(0.5, 11, seed=seed) for seed in range(40)]
    odd = [spread(0.05, 11, seed=99)]

    assert threshold_from(guesses(routes + odd)) < threshold_from(guesses(routes))


def test_the_order_of_routes_does_not_matter():
    routes = [spread(0.2 + seed / 20, 6, seed=seed) for seed in range(10)]

    assert threshold_from(guesses(routes)) == pytest.approx(threshold_from(guesses(routes[::-1])), abs=1e-6)


def test_scores_without_themselves_are_those_of_a_route_that_lacks_the_phrase():
    groups = [spread(0.4, count, seed=count) for count in (3, 4, 5)]
    vectors, starts = np.concatenate(groups), np.array([0, 3, 7])
    scores = without_themselves(vectors, starts, np.repeat([0, 1, 2], [3, 4, 5]), np.array([4]))

    left = [groups[0], np.delete(groups[1], 1, axis=0), groups[2]]
    wanted = [blend((group @ vectors[4]).max(), centroid_of(group) @ vectors[4]) for group in left]
    np.testing.assert_allclose(scores[0], wanted, rtol=1e-5)
