import numpy as np
import pytest

from wissel.classifiers import phrases as module
from wissel.classifiers.matching import SimilarityMatcher
from wissel.classifiers.phrases import Phrasebook, Phrases, phrases_of
from wissel.core.snapshot import Route
from wissel.encoders.base import read_with

ROUTES = (
    Route("play_music", "m", examples=("play some jazz", "put on a song", "play some jazz")),
    Route("bug_fixing", "m", domain="programming", action="fix", description="fix errors in code"),
    Route("chat", "m", examples=("hello",)),
)


def test_a_route_is_described_by_several_phrases():
    assert phrases_of(ROUTES[1]) == ("bug fixing", "fix programming", "fix errors in code")


@pytest.mark.parametrize(
    "more", [{"description": "verses that rhyme"}, {"examples": ("a sonnet please",)}, {"action": "write"}]
)
def test_a_bare_domain_counts_only_where_nothing_says_more(more):
    assert phrases_of(Route("poems", "m", domain="text")) == ("poems", "text")
    assert "text" not in phrases_of(Route("poems", "m", domain="text", **more))


def test_a_route_with_a_name_only_has_one_phrase():
    assert phrases_of(Route("small-talk", "m")) == ("small talk",)


def test_routes_lie_end_to_end_in_the_order_of_their_names_with_their_examples_last():
    phrases = Phrases.of(ROUTES)

    assert phrases == Phrases.of(ROUTES[::-1])
    assert phrases.names == ("bug_fixing", "chat", "play_music")
    assert phrases.texts[-5:] == ("chat", "hello", "play music", "play some jazz", "put on a song")
    assert list(phrases.starts) == [0, 3, 5]
    assert list(phrases.owners) == [0] * 3 + [1] * 2 + [2] * 3


def test_an_example_is_judged_if_its_route_has_enough_beside_it():
    phrases = Phrases.of(ROUTES)

    assert [phrases.texts[row] for row in phrases.judged] == ["play some jazz", "put on a song"]


def test_of_very_many_examples_some_are_judged(monkeypatch):
    monkeypatch.setattr(module, "MOST_JUDGED", 3)
    phrases = Phrases.of([Route("count", "m", examples=tuple("abcdefghi"))])

    assert [phrases.texts[row] for row in phrases.judged] == ["a", "e", "i"]


@pytest.mark.parametrize(("examples", "parts"), [(0, 0), (1, 1), (20, 5), (21, 5), (40, 2), (100, 1)])
def test_what_is_left_out_at_a_time_is_never_most_of_the_examples(monkeypatch, examples, parts):
    monkeypatch.setattr(module, "MOST_JUDGED", 20)
    phrases = Phrases.of([Route("count", "m", "d", examples=tuple(map(str, range(examples))))])

    assert len(phrases.parts) == len(phrases.judged) == min(examples, 20)
    assert len(set(phrases.parts)) == parts


def test_a_changed_config_encodes_only_its_new_phrases(words):
    phrasebook = Phrasebook(read_with(words))
    first, _ = phrasebook.look_up(["a", "b"])

    second, _ = phrasebook.look_up(["c", "b", "b"])

    assert words.calls == [["a", "b"], ["c"]]
    np.testing.assert_array_equal(second[1:], first[[1, 1]])


def test_an_unchanged_config_encodes_and_learns_nothing(words):
    phrasebook = Phrasebook(read_with(words))
    first, again = (SimilarityMatcher(Phrases.of(ROUTES), phrasebook) for _ in range(2))

    assert len(words.calls) == 1
    assert again.lessons is first.lessons


def test_what_was_learned_of_other_phrases_is_learned_anew(words):
    phrasebook = Phrasebook(read_with(words))
    first, changed = (SimilarityMatcher(Phrases.of(routes), phrasebook) for routes in (ROUTES, ROUTES[:2]))

    assert changed.lessons is not first.lessons
