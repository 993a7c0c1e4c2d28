"""How well queries match routes, by cosines with the routes' phrases and a head fitted to the examples.

phrases -> vectors, their means by route, a head if the examples are enough
a query (n, dimensions) and its details -> scores (n, routes)
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from wissel.classifiers.calibration import learn_temperature
from wissel.classifiers.head import CosineHead, HeadFit, fit_head
from wissel.classifiers.phrases import Ints, Phrasebook, Phrases, partings
from wissel.classifiers.threshold import blend, centroid_of, threshold_from, without_themselves
from wissel.encoders.base import Vectors

Floats = NDArray[np.floating]

CHUNK = 256
"""So many phrases are compared with all of them at a time."""


@dataclass(frozen=True)
class ExampleLessons:
    """What the examples teach about the scores."""

    threshold: float
    """That `auto` stands for."""
    temperature: float
    scores: Floats
    """Of the examples that are judged, (n, routes), each scored as if it were none."""
    truth: Ints
    """Whose each of them is."""

    @staticmethod
    def of(scores: Floats, truth: Ints) -> "ExampleLessons":
        threshold = threshold_from(scores[np.arange(len(truth)), truth])
        return ExampleLessons(threshold, learn_temperature(scores, truth, threshold), scores, truth)


Fitted = tuple[HeadFit | None, ExampleLessons]
"""What a similarity learns."""


class Matcher(Protocol):
    """Compares queries with the routes of `phrases`."""

    @property
    def phrases(self) -> Phrases: ...

    @property
    def lessons(self) -> ExampleLessons: ...

    def details(self, texts: Sequence[str], wording: Vectors) -> Vectors:
        """What it reads of each text beside its vector, (n, any number), from the text and its wording."""
        ...

    def scores(self, queries: Vectors, details: Vectors) -> Floats:
        """Of queries (n, dimensions) with their details: (n, routes)."""
        ...


class SimilarityMatcher:
    """The `Matcher` by cosines, and a head where that is clearly better."""

    def __init__(self, phrases: Phrases, phrasebook: Phrasebook[Fitted]) -> None:
        """Blocks while new phrases are encoded and a head is fitted."""
        self.phrases = phrases
        self._phrasebook = phrasebook
        vectors, wording = phrasebook.look_up(phrases.texts)
        fit, self.lessons = phrasebook.learn(phrases, lambda: _learn(phrases, vectors, wording))
        self.head = fit.head if fit else None
        self._folds: tuple[CosineHead, ...] = fit.folds if fit else ()
        self._comparison = _Comparison(vectors, phrases.owners, self.head)

    def details(self, texts: Sequence[str], wording: Vectors) -> Vectors:
        return np.empty((len(texts), 0), np.float32) if self.head is None else self.head.details.vectors(texts, wording)

    def scores(self, queries: Vectors, details: Vectors) -> Floats:
        return self._comparison.scores(queries, details)

    def scores_of_phrases(self) -> Floats:
        """Each phrase as if it were a message: (phrases, routes)."""
        return self._comparison.scores_of_phrases(self._details_of_phrases())

    def without_parts(self) -> Iterable[tuple[Ints, Ints, Floats]]:
        """By parts of the examples that are judged: their rows, all others, and what the others score without them."""
        details, judged = self._details_of_phrases(), self.phrases.judged
        parted = list(partings(judged, self.phrases.parts, len(details)))
        for (held, kept), head in zip(parted, self._folds or [None] * len(parted), strict=True):
            rest = _Comparison(self._comparison.vectors[kept], self.phrases.owners[kept], head)
            yield judged[held], kept, rest.scores_of_phrases(details[kept])

    def _details_of_phrases(self) -> Vectors:
        texts = self.phrases.texts
        return self.details(texts, self._phrasebook.look_up(texts)[1])


class _Comparison:
    """With some of the phrases."""

    def __init__(self, vectors: Vectors, owners: Ints, head: CosineHead | None) -> None:
        """Every route has a phrase, and they come route by route."""
        self.vectors = vectors
        self._head = head
        self._starts = np.flatnonzero(np.diff(owners, prepend=-1))
        self._centroids = np.stack([centroid_of(group) for group in np.split(vectors, self._starts[1:])])

    def scores(self, queries: Vectors, details: Vectors) -> Floats:
        """As a `Matcher` has them."""
        best = np.maximum.reduceat(self.vectors @ queries.T, self._starts, axis=0)
        cosines = blend(best, self._centroids @ queries.T).T
        return cosines if self._head is None else self._head.scores(queries, details, cosines)

    def scores_of_phrases(self, details: Vectors) -> Floats:
        """Of its own, (phrases, routes)."""
        chunks = [slice(begin, begin + CHUNK) for begin in range(0, len(details), CHUNK)]
        return np.concatenate([self.scores(self.vectors[chunk], details[chunk]) for chunk in chunks])


def _learn(phrases: Phrases, vectors: Vectors, wording: Vectors) -> Fitted:
    owners, judged = phrases.owners, phrases.judged
    cosines = without_themselves(vectors, phrases.starts, owners, judged)
    fit = fit_head(phrases.texts, vectors, wording, owners, judged, phrases.parts, cosines)
    return fit, ExampleLessons.of(fit.scores if fit else cosines, owners[judged])
