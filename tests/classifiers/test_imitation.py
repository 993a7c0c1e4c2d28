import numpy as np
import pytest

from wissel.classifiers.head import WORDS_WEIGHT
from wissel.classifiers.imitation import PENALTY, Imitation
from wissel.classifiers.matching import SimilarityMatcher
from wissel.classifiers.phrases import Phrasebook, Phrases
from wissel.classifiers.threshold import threshold_from
from wissel.classifiers.words import Words
from wissel.core.snapshot import Route
from wissel.encoders.base import read_with
from wissel.encoders.export.packaged import PARTS
from wissel.encoders.static import StaticEncoder

VERBS = ("play", "stop", "find", "buy")
THINGS = ("song", "film", "book", "game", "show", "tune", "disc", "tape")
ROUTES = [Route(f"{verb}_it", "m", examples=tuple(f"{verb} the {thing}" for thing in THINGS)) for verb in VERBS]
NO_WORDING = np.empty((1, 0), np.float32)


def blurred(words):
    """An encoder that knows less than `words` does."""

    def encode(texts):
        vectors = words(texts)[:, ::2]
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-9)

    return encode


@pytest.fixture
def teacher(words):
    return SimilarityMatcher(Phrases.of(ROUTES), Phrasebook(read_with(words)))


@pytest.fixture
def student(words, teacher):
    return Imitation(Phrasebook(read_with(blurred(words))), teacher)


def scores(matcher, encode, text):
    return matcher.scores(encode([text]), matcher.details([text], NO_WORDING))[0]


def test_a_student_answers_what_it_was_not_taught_as_its_teacher_does(words, teacher, student):
    for verb in VERBS:
        told, learned = scores(teacher, words, f"{verb} a thing"), scores(student, blurred(words), f"{verb} a thing")

        assert learned.argmax() == told.argmax()


def test_a_student_is_ridge_regression_onto_what_its_teacher_scores_all_phrases(words, teacher, student):
    from sklearn.linear_model import Ridge

    def known(texts):
        details = WORDS_WEIGHT * Words(teacher.phrases.texts).vectors(texts)
        return np.hstack([blurred(words)(texts), details, np.ones((len(texts), 1))])

    ridge = Ridge(alpha=PENALTY, fit_intercept=False).fit(known(teacher.phrases.texts), teacher.scores_of_phrases())

    for text in ("buy a thing", "the song, please"):
        np.testing.assert_allclose(scores(student, blurred(words), text), ridge.predict(known([text]))[0], atol=1e-3)


def test_whose_an_example_is_never_shows_in_what_it_is_judged_by(words):
    """Two examples that are left out together change places: both score what they scored before."""
    told = {route.name: list(route.examples) for route in ROUTES}
    first, second = told["buy_it"][0], told["find_it"][2]
    told["buy_it"][0], told["find_it"][2] = second, first
    mislaid = [Route(name, "m", examples=tuple(examples)) for name, examples in told.items()]
    found: list[dict[str, np.ndarray]] = []
    for routes in (ROUTES, mislaid):
        teacher = SimilarityMatcher(Phrases.of(routes), Phrasebook(read_with(words)))
        student = Imitation(Phrasebook(read_with(blurred(words))), teacher)
        judged = [teacher.phrases.texts[row] for row in teacher.phrases.judged]
        assert teacher.phrases.parts[judged.index(first)] == teacher.phrases.parts[judged.index(second)]
        found.append(dict(zip(judged, student.lessons.scores, strict=True)))

    for text in (first, second):
        np.testing.assert_allclose(found[1][text], found[0][text], atol=1e-5)


def test_the_threshold_is_learned_from_how_the_student_scores_the_examples(student):
    lessons = student.lessons
    own = lessons.scores[np.arange(len(lessons.truth)), lessons.truth]

    assert lessons.threshold == pytest.approx(threshold_from(own))


def test_an_unchanged_config_teaches_nothing_new(words, teacher):
    phrasebook = Phrasebook(read_with(blurred(words)))

    assert Imitation(phrasebook, teacher).lessons is Imitation(phrasebook, teacher).lessons


@pytest.mark.slow
def test_the_real_student_answers_as_the_encoder_does(exported, encoder):
    routes = [
        Route("billing", "m", examples=("I was charged twice", "where is my invoice", "refund this payment")),
        Route("travel", "m", examples=("book me a flight to Oslo", "find a hotel by the sea", "is my train late")),
        Route("coding", "m", examples=("fix this stack trace", "write a sorting function", "why does the build fail")),
    ]
    table = StaticEncoder.load(PARTS["minilm"].folder())
    teacher = SimilarityMatcher(Phrases.of(routes), Phrasebook(encoder.read))
    student = Imitation(Phrasebook(read_with(table.encode)), teacher)
    asked = ["the invoice shows a wrong payment", "a flight and a hotel in Rome", "the function fails to build"]

    vectors, wordings = (
        np.concatenate(parts) for parts in zip(*((r.vectors, r.wordings) for r in encoder.read(asked)), strict=True)
    )
    told = teacher.scores(vectors, teacher.details(asked, wordings))
    learned = student.scores(table.encode(asked), student.details(asked, NO_WORDING))

    assert list(learned.argmax(axis=1)) == list(told.argmax(axis=1)) == [0, 2, 1]
