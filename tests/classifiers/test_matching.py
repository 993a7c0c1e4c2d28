from zlib import crc32

import numpy as np
import pytest

from wissel.classifiers import matching
from wissel.classifiers.matching import SimilarityMatcher
from wissel.classifiers.phrases import Phrasebook, Phrases
from wissel.classifiers.threshold import threshold_from
from wissel.core.snapshot import Route
from wissel.encoders.base import TextReading

NAMES = ("ant", "bee", "cow", "dog", "emu")
CENTRES = np.random.default_rng(0).normal(size=(len(NAMES), 32))
SHARED = np.random.default_rng(1).normal(size=32)


DIMENSIONS = 384


def mumbled(texts):
    read = mumble(texts)
    return [
        TextReading((text,), read[row : row + 1, :DIMENSIONS], read[row : row + 1, DIMENSIONS:])
        for row, text in enumerate(texts)
    ]


def mumble(texts):
    """What an encoder reads that blurs what tells the routes apart: sentences, and eight numbers of their wording."""
    read = np.zeros((len(texts), DIMENSIONS + 8), np.float32)
    for row, text in zip(read, texts, strict=True):
        rng = np.random.default_rng(crc32(text.encode()))
        row[:32] = CENTRES[NAMES.index(text.split()[0])] + 0.5 * rng.normal(size=32) + 3 * rng.normal() * SHARED
        row[:32] /= np.linalg.norm(row[:32])
        row[DIMENSIONS:] = rng.normal(size=8)
    return read


def similarity(*, examples):
    routes = [Route(name, "m", examples=tuple(f"{name} {n}" for n in range(examples))) for name in NAMES]
    return SimilarityMatcher(Phrases.of(routes), Phrasebook(mumbled))


def own_scores(similarity):
    return similarity.lessons.scores[np.arange(len(similarity.lessons.truth)), similarity.lessons.truth]


@pytest.fixture(scope="module")
def headed():
    return similarity(examples=40)


def test_a_head_scores_messages_where_it_is_better(headed):
    said = [f"{name} {n}" for name in NAMES for n in range(100, 140)]
    read = mumble(said)
    scores = headed.scores(read[:, :DIMENSIONS], headed.details(said, read[:, DIMENSIONS:]))
    cosines = matching._Comparison(headed._comparison.vectors, headed.phrases.owners, None)
    truth = np.repeat(np.arange(len(NAMES)), 40)
    right, alone = (
        np.mean(found.argmax(axis=1) == truth) for found in (scores, cosines.scores(read[:, :DIMENSIONS], []))
    )

    assert right > alone + 0.05


def test_a_phrase_is_scored_as_a_message_that_says_it(headed):
    read = mumble(headed.phrases.texts)
    details = headed.details(headed.phrases.texts, read[:, DIMENSIONS:])

    np.testing.assert_allclose(headed.scores_of_phrases(), headed.scores(read[:, :DIMENSIONS], details), atol=1e-5)


@pytest.mark.parametrize("examples", [3, 40])
def test_the_threshold_comes_from_what_the_examples_score_without_themselves(examples):
    found = similarity(examples=examples)

    assert (found.head is not None) == (examples == 40)
    assert found.lessons.threshold == pytest.approx(threshold_from(own_scores(found)), abs=1e-5)


@pytest.mark.parametrize("chunk", [1, 4, 7])
def test_however_many_phrases_are_compared_at_a_time_their_scores_are_the_same(monkeypatch, chunk):
    found = similarity(examples=3)
    at_once = found.scores_of_phrases()
    monkeypatch.setattr(matching, "CHUNK", chunk)

    np.testing.assert_allclose(found.scores_of_phrases(), at_once, atol=1e-6)


def test_without_a_part_the_others_score_as_if_its_examples_had_never_been_written():
    found = similarity(examples=3)
    texts = found.phrases.texts
    for held, kept, scores in found.without_parts():
        left = [
            Route(name, "m", examples=tuple(text for text in texts if text.startswith(f"{name} ") and text not in lost))
            for lost in [{texts[row] for row in held}]
            for name in NAMES
        ]
        never = SimilarityMatcher(Phrases.of(left), Phrasebook(mumbled))

        assert never.phrases.texts == tuple(texts[row] for row in kept)
        np.testing.assert_allclose(scores, never.scores_of_phrases(), atol=1e-5)


def test_without_a_part_the_head_is_the_one_that_was_fitted_without_it(headed):
    """What that head scores the part itself is what its examples were judged by."""
    for held, kept, scores in headed.without_parts():
        unread = headed._details_of_phrases()
        head = headed._folds[headed.phrases.parts[np.flatnonzero(headed.phrases.judged == held[0])[0]]]
        rest = matching._Comparison(headed._comparison.vectors[kept], headed.phrases.owners[kept], None)
        cosines = rest.scores(headed._comparison.vectors[kept], unread[kept])

        np.testing.assert_allclose(
            scores, head.scores(headed._comparison.vectors[kept], unread[kept], cosines), atol=1e-5
        )
