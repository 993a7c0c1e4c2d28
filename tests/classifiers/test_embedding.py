import asyncio
import random
from dataclasses import replace

import numpy as np
import pytest

from wissel.classifiers import embedding
from wissel.classifiers.embedding import ALONE_WEIGHT, STAY_MARGIN, EmbeddingClassifier
from wissel.classifiers.imitation import Imitation
from wissel.classifiers.matching import SimilarityMatcher
from wissel.classifiers.phrases import Phrasebook, Phrases
from wissel.core.intent import OTHER, choose_route
from wissel.core.request import Conversation, Turn
from wissel.core.snapshot import Route
from wissel.encoders.base import read_with
from wissel.encoders.batching import Batcher

ROUTES = (
    Route("bug_fixing", "m", domain="programming", action="fix", description="fix errors in code"),
    Route("translate", "m", examples=("say this in spanish", "translate this text")),
    Route("play_music", "m", examples=("play some jazz", "put on a song")),
)


def said(*texts):
    """A conversation that begins with the user and takes turns."""
    roles = ("user", "assistant")
    return Conversation(tuple(Turn(roles[i % 2], text) for i, text in enumerate(texts)))


def build_with(read, routes=ROUTES, threshold="auto"):
    matcher = SimilarityMatcher(Phrases.of(routes), Phrasebook(read))
    return EmbeddingClassifier(Batcher(read), matcher, threshold=threshold)


def build(encode, routes=ROUTES, threshold="auto"):
    matcher = SimilarityMatcher(Phrases.of(routes), Phrasebook(read_with(encode)))
    return EmbeddingClassifier(Batcher(read_with(encode)), matcher, threshold=threshold)


async def route_of(classifier, conversation):
    return choose_route(await classifier.classify(conversation), fallback="fallback").route


async def test_the_route_whose_phrase_is_said_wins(words):
    assert await route_of(build(words), said("please play some jazz")) == "play_music"


async def test_words_that_no_route_has_are_other(words):
    assert await route_of(build(words), said("qqq zzz vvv www")) == "fallback"


async def test_a_threshold_given_as_a_number_is_kept(words):
    scores = await build(words, threshold=0.7).classify(said("play some jazz"))

    assert scores.threshold == 0.7


async def test_other_competes_like_any_route(words):
    classifier = build(words, [*ROUTES, Route(OTHER, "m", examples=("thanks bye", "hello hi"))])

    scores = await classifier.classify(said("thanks bye"))

    assert scores.ranking[0][0] == OTHER
    assert choose_route(scores, fallback="fallback").reason == "other"


async def test_the_order_of_routes_never_changes_the_scores(words):
    shuffled = list(ROUTES)
    random.Random(3).shuffle(shuffled)
    conversation = said("translate this song", "which one?", "the jazz code")

    assert await build(words).classify(conversation) == await build(words, shuffled).classify(conversation)


@pytest.mark.parametrize("conversation", [Conversation(), Conversation((Turn("system", "be nice"), Turn("user", " ")))])
async def test_a_conversation_without_a_question_is_other_and_encodes_nothing(words, conversation):
    classifier = build(words)
    asked = len(words.calls)

    assert await route_of(classifier, conversation) == "fallback"
    assert classifier.recall(conversation) == await classifier.classify(conversation)
    assert len(words.calls) == asked


async def test_recall_knows_a_conversation_that_was_classified_and_no_other(words):
    classifier = build(words)
    first, longer = said("play some jazz"), said("play some jazz", "which?", "any")
    assert classifier.recall(first) is None

    scores = await classifier.classify(first)

    assert classifier.recall(first) == scores
    assert classifier.recall(longer) is None


async def test_an_answered_conversation_is_not_read_again(words):
    classifier = build(words)
    scores = await classifier.classify(said("play some jazz"))
    classifier._reader = None

    assert await classifier.classify(said("play some jazz")) is scores


async def test_a_conversation_that_goes_on_costs_its_new_turns_only(words):
    classifier = build(words)
    await classifier.classify(said("play some jazz", "which song?", "that one"))
    known = len(words.texts)

    await classifier.classify(said("play some jazz", "which song?", "that one", "it plays", "louder"))

    assert sorted(words.texts[known:]) == ["it plays", "louder"]


async def test_what_is_remembered_of_texts_changes_no_score(words, monkeypatch):
    monkeypatch.setattr(embedding, "DETAILS", 3)
    turns = [f"{word} {n}" for n, word in enumerate(("jazz", "played", "spanish", "sure", "translate", "done", "song"))]
    student = Imitation(
        Phrasebook(read_with(words)), SimilarityMatcher(Phrases.of(ROUTES), Phrasebook(read_with(words)))
    )
    went_on, fresh = (EmbeddingClassifier(Batcher(read_with(words)), student) for _ in range(2))
    for so_far in range(1, len(turns) + 1, 2):
        scores = await went_on.classify(said(*turns[:so_far]))

    assert scores == await fresh.classify(said(*turns))
    assert len(went_on._texts) == 3


async def test_a_short_reply_stays_on_the_route(words):
    assert (
        await route_of(build(words), said("translate this text", "into which language?", "the text in this language"))
        == "translate"
    )


async def test_a_new_topic_said_clearly_leaves_the_route(words):
    story = said("translate this text", "done", "now put on a song and play some jazz, play some jazz or put on a song")

    assert await route_of(build(words), story) == "play_music"


async def test_the_present_route_gets_the_margin_on_top(words, monkeypatch):
    monkeypatch.setattr(embedding, "ALONE_WEIGHT", 0.0)
    free = build(words, threshold=2.0)  # no turn is ever on a route
    held = build(words, threshold=0.1)
    conversation = said("play some jazz", "which?", "put on a song")

    without, with_margin = await free.classify(conversation), await held.classify(conversation)

    gained = {name: with_margin.by_route[name] - without.by_route[name] for name in without.by_route}
    assert gained == pytest.approx({"bug_fixing": 0, "translate": 0, "play_music": STAY_MARGIN}, abs=1e-6)
    assert (without.staying, with_margin.staying) == (0, pytest.approx(STAY_MARGIN))


async def test_a_route_that_was_left_owes_nothing_to_staying(words):
    scores = await build(words).classify(said("translate this text", "done", "play some jazz"))

    assert (scores.ranking[0][0], scores.staying) == ("play_music", 0)


async def test_a_question_that_is_clear_by_itself_needs_no_context(words):
    story = said("translate this text", "done", "translate this text too", "done", "play some jazz")

    assert await route_of(build(words), story) == "play_music"


@pytest.mark.parametrize(
    ("alone", "clear"),
    [([0.6, 0.1, 0.0], ALONE_WEIGHT), ([0.3, 0.2, 0.0], ALONE_WEIGHT / 2), ([0.3, 0.3, 0.1], 0), ([0.9], 0)],
)
def test_a_question_counts_by_itself_as_far_as_one_route_leads(alone, clear):
    assert embedding._clearness(np.array(alone)) == pytest.approx(clear, abs=1e-9)


async def test_the_confidence_is_that_of_the_temperature_which_was_learned(words):
    sure, unsure = build(words), build(words)
    sure._matcher.lessons = replace(sure._matcher.lessons, temperature=1e-3)
    unsure._matcher.lessons = replace(unsure._matcher.lessons, temperature=1e3)

    assert (await sure.classify(said("play some jazz"))).confidence == pytest.approx(1)
    assert (await unsure.classify(said("play some jazz"))).confidence == pytest.approx(1 / 4, abs=0.01)


def test_the_examples_are_judged_by_the_operators_threshold(words):
    routes = [Route(verb, "m", examples=(f"{verb} a song", f"{verb} the song")) for verb in ("play", "stop")]

    assert build(words, routes).judged.right.all()
    assert not build(words, routes, threshold=1.0).judged.right.any()


@pytest.mark.slow
async def test_the_real_model_tells_intents_apart_by_their_names(encoder):
    classifier = build_with(encoder.read, [Route(name, "m") for name in ("translate", "play_music", "book_flight")])
    questions = ("how do you say good morning in italian", "put on some jazz", "i need a plane to boston on friday")

    routes = await asyncio.gather(*(route_of(classifier, said(question)) for question in questions))

    assert routes == ["translate", "play_music", "book_flight"]


@pytest.mark.slow
async def test_the_real_model_says_other_to_what_belongs_to_no_route(encoder):
    assert await route_of(build_with(encoder.read), said("how tall is mount everest")) == "fallback"
