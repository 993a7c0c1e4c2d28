import numpy as np
import pytest
from sklearn.linear_model import Ridge

from wissel.classifiers import imitation
from wissel.classifiers.encoder import DIMENSIONS
from wissel.classifiers.imitation import PENALTY, Imitation
from wissel.classifiers.matching import Similarity
from wissel.classifiers.phrases import Phrasebook, Phrases
from wissel.classifiers.static import StaticEncoder
from wissel.core.snapshot import Route

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
    return Similarity(Phrases.of(ROUTES), Phrasebook(words))


@pytest.fixture
def student(words, teacher):
    return Imitation(Phrasebook(blurred(words)), teacher)


def scores(matcher, encode, text):
    return matcher.scores(encode([text]), matcher.details([text], NO_WORDING))[0]


def test_a_student_answers_what_it_was_not_taught_as_its_teacher_does(words, teacher, student):
    for verb in VERBS:
        told, learned = scores(teacher, words, f"{verb} a thing"), scores(student, blurred(words), f"{verb} a thing")

        assert learned.argmax() == told.argmax()


def test_the_fit_is_ridge_regression():
    rng = np.random.default_rng(0)
    known, wanted = rng.normal(size=(40, 60)), rng.normal(size=(40, 3))

    theirs = Ridge(alpha=PENALTY, fit_intercept=False).fit(known, wanted).coef_.T

    np.testing.assert_allclose(imitation._fit(known, wanted), theirs, atol=1e-4)


def test_an_example_is_judged_by_a_student_that_no_part_of_it_reached(words, teacher):
    """What one example says must not show in its own score, though teacher and student learn from it."""
    phrases = teacher.phrases
    row = int(np.flatnonzero(phrases.judged == phrases.texts.index("buy the disc"))[0])
    mislaid = [
        Route(
            route.name,
            "m",
            examples=tuple(text for text in route.examples if text != "buy the disc")
            + (("buy the disc",) if route.name == "find_it" else ()),
        )
        for route in ROUTES
    ]
    honest = Imitation(Phrasebook(blurred(words)), teacher).lessons
    misled = Imitation(Phrasebook(blurred(words)), Similarity(Phrases.of(mislaid), Phrasebook(words)))
    where = int(np.flatnonzero(misled.phrases.judged == misled.phrases.texts.index("buy the disc"))[0])

    assert honest.scores[row].argmax() == phrases.names.index("buy_it")
    assert misled.lessons.scores[where].argmax() == phrases.names.index("buy_it")  # though it was told "find_it"


def test_an_unchanged_config_teaches_nothing_new(words, teacher):
    phrasebook = Phrasebook(blurred(words))

    assert Imitation(phrasebook, teacher).lessons is Imitation(phrasebook, teacher).lessons


@pytest.mark.slow
def test_the_real_student_answers_as_the_encoder_does(exported, encoder):
    routes = [
        Route("billing", "m", examples=("I was charged twice", "where is my invoice", "refund this payment")),
        Route("travel", "m", examples=("book me a flight to Oslo", "find a hotel by the sea", "is my train late")),
        Route("coding", "m", examples=("fix this stack trace", "write a sorting function", "why does the build fail")),
    ]
    table = StaticEncoder.load(exported)
    teacher = Similarity(Phrases.of(routes), Phrasebook(encoder.read))
    student = Imitation(Phrasebook(table.encode), teacher)
    asked = ["the invoice shows a wrong payment", "a flight and a hotel in Rome", "the function fails to build"]

    read = encoder.read(asked)
    told = teacher.scores(read[:, :DIMENSIONS], teacher.details(asked, read[:, DIMENSIONS:]))
    learned = student.scores(table.encode(asked), student.details(asked, NO_WORDING))

    assert list(learned.argmax(axis=1)) == list(told.argmax(axis=1)) == [0, 2, 1]
