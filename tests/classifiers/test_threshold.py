import numpy as np
import pytest

from wissel.classifiers.threshold import (
    DEVIATIONS,
    PRIOR_MEAN,
    PRIOR_SD,
    RoutePhrases,
    blend,
    centroid_of,
    learn_threshold,
    without_themselves,
)

PRIOR = PRIOR_MEAN - DEVIATIONS * PRIOR_SD


def spread(cosine, count, *, examples, seed=0):
    """A route whose phrases lie around one direction, any two with about this cosine between them."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(count, 384))
    noise /= np.linalg.norm(noise, axis=1, keepdims=True)
    shared = np.eye(384)[0]
    vectors = cosine**0.5 * shared + (1 - cosine) ** 0.5 * noise
    return RoutePhrases((vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32), examples)


def test_without_examples_the_threshold_is_the_prior():
    named = spread(0.9, 4, examples=0)

    assert learn_threshold([named]) == pytest.approx(PRIOR)


def test_one_example_beside_a_name_says_nothing():
    assert learn_threshold([spread(0.9, 2, examples=1)]) == pytest.approx(PRIOR)


def test_examples_that_resemble_each_other_raise_the_threshold():
    loose, tight = (
        learn_threshold([spread(cosine, 11, examples=10, seed=seed) for seed in range(20)]) for cosine in (0.3, 0.7)
    )

    assert PRIOR < loose < tight


def test_with_many_examples_about_one_in_a_hundred_would_be_lost():
    routes = [spread(0.5, 11, examples=10, seed=seed) for seed in range(40)]
    odd = [spread(0.05, 11, examples=10, seed=99)]

    assert learn_threshold(routes + odd) < learn_threshold(routes)


def test_the_order_of_routes_does_not_matter():
    routes = [spread(0.2 + seed / 20, 6, examples=5, seed=seed) for seed in range(10)]

    assert learn_threshold(routes) == pytest.approx(learn_threshold(routes[::-1]), abs=1e-9)


def test_scores_without_themselves_are_those_of_a_route_that_lacks_the_phrase():
    groups = [spread(0.4, count, examples=0, seed=count).vectors for count in (3, 4, 5)]
    vectors, starts = np.concatenate(groups), np.array([0, 3, 7])
    scores = without_themselves(vectors, starts, np.repeat([0, 1, 2], [3, 4, 5]), np.array([4]))

    left = [groups[0], np.delete(groups[1], 1, axis=0), groups[2]]
    wanted = [blend((group @ vectors[4]).max(), centroid_of(group) @ vectors[4]) for group in left]
    np.testing.assert_allclose(scores[0], wanted, rtol=1e-5)
