"""A linear student of the encoder's scores, so cheap that a cascade can ask it first.

    phrases -> what the encoder's classifier scores each of them -> ridge regression on table vector and words
    a query (n, TABLE_WIDTH) and its words -> scores (n, routes)

A route's phrases alone teach little about words without order. What the
encoder makes of every phrase for every route says much more: which other
routes a phrase comes near, and how far it is from the rest. On CLINC150 with
10 examples an intent the student is right on 88 % of the messages, where a
head on the same vectors was on 86 %; with one example on 66 %, and not 49 %.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wissel.classifiers.head import WORDS_WEIGHT
from wissel.classifiers.matching import ExampleLessons, SimilarityMatcher
from wissel.classifiers.phrases import Phrasebook
from wissel.classifiers.words import Words
from wissel.encoders.base import Vectors

Floats = NDArray[np.floating]

PENALTY = 0.3
"""Of the regression's weights; each phrase is a vector of about length one."""


@dataclass(frozen=True)
class Student:
    """What was learned."""

    words: Words
    of_query: Vectors
    """(the query's width, routes)"""
    of_words: Vectors
    """(their width, routes)"""
    bias: Vectors
    """(routes,)"""


Taught = tuple[Student, ExampleLessons]
"""What an imitation learns."""


class Imitation:
    """The `Matcher` that answers as `teacher` would."""

    def __init__(self, phrasebook: Phrasebook[Taught], teacher: SimilarityMatcher) -> None:
        """`phrasebook` reads with the table. Blocks: where phrases are new, for a second or two; six for 15,000."""
        self.phrases = teacher.phrases
        vectors, _ = phrasebook.look_up(self.phrases.texts)
        self._student, self.lessons = phrasebook.learn(self.phrases, lambda: _learn(vectors, teacher))

    def details(self, texts: Sequence[str], wording: Vectors) -> Vectors:  # noqa: ARG002 - a table has no wording
        return self._student.words.vectors(texts)

    def scores(self, queries: Vectors, details: Vectors) -> Floats:
        return queries @ self._student.of_query + details @ self._student.of_words + self._student.bias


def _learn(vectors: Vectors, teacher: SimilarityMatcher) -> Taught:
    phrases = teacher.phrases
    words = Words(phrases.texts)
    known = np.hstack([vectors, WORDS_WEIGHT * words.vectors(phrases.texts), np.ones((len(vectors), 1), np.float32)])
    of_query, of_words, bias = np.split(_fit(known, teacher.scores_of_phrases()), [vectors.shape[1], -1])
    # The teacher must not have seen an example either, or all that it says of the others tells how that one scores.
    scores = np.empty((len(vectors), len(phrases.names)), np.float32)
    for held, kept, wanted in teacher.without_parts():
        scores[held] = known[held] @ _fit(known[kept], wanted)
    lessons = ExampleLessons.of(scores[phrases.judged], phrases.owners[phrases.judged])
    return Student(words, of_query, WORDS_WEIGHT * of_words, bias[0]), lessons


def _fit(known: Floats, wanted: Floats) -> Vectors:
    """The weights, (width, routes), of ridge regression from (n, width) to (n, routes)."""
    return np.linalg.solve(known.T @ known + PENALTY * np.eye(known.shape[1]), known.T @ wanted).astype(np.float32)
