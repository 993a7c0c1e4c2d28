"""What the simulated upstream says in each API, word for word; `spoken/` is how the providers' references write it."""

import json
from pathlib import Path

import pytest

from wissel.apis.simulated import Answer, event, last_input, last_message, plain, tokens
from wissel.apis.table import APIS

SPOKEN = Path(__file__).parent / "spoken"


def answer(name: str) -> Answer:
    asked = {"model": "m", "input": ["hi", "you there"], "dimensions": 2, "stream_options": {"include_usage": True}}
    return Answer("qwen", 7, asked, f"hi {name}", created=1_800_000_000)


@pytest.mark.parametrize("name", APIS)
def test_it_is_said_word_for_word(name: str):
    api = APIS[name].simulation
    whole = json.dumps(api.whole(answer(name)), indent=2)
    stream = b"".join(api.events(answer(name))).decode() if api.events else ""

    assert f"{whole}\n\n{stream}" == (SPOKEN / f"{name}.txt").read_text()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("a", "a"),
        ([{"type": "text", "text": "a"}, "b", {"type": "image_url"}], "a b "),
        ({"text": "a"}, "a"),
        ({"text": 1}, ""),
        (None, ""),
        (7, ""),
    ],
)
def test_the_words_of_a_content(content, words):
    assert plain(content) == words


def test_the_last_words_are_those_of_the_last_message_or_item():
    assert last_message({"messages": [{"content": "a"}, {"content": "b"}]}) == "b"
    assert last_message({"messages": [{"role": "assistant"}]}) == ""
    assert last_input({"input": [{"content": "a"}, {"content": "b"}]}) == "b"
    assert last_input({"input": ["a", "b"]}) == "a b"
    assert (last_input({"input": "a"}), last_input({})) == ("a", "")


def test_a_long_question_is_cut_and_short_ones_are_not():
    said = [Answer("s", 1, {"model": "m"}, "a" * n, created=0).text for n in (200, 201)]

    assert [f'"{"a" * 200}"' in text for text in said] == [True, False]
    assert said[1] == f'This is m on s. You said: "{"a" * 200}…"'


def test_the_pieces_of_a_stream_are_its_text():
    spoken = answer("chat")

    assert ("".join(spoken.pieces), spoken.output_tokens) == (spoken.text, 9)


@pytest.mark.parametrize(("text", "count"), [("", 1), ("a" * 7, 1), ("a" * 8, 2)])
def test_a_token_is_about_four_letters(text, count):
    assert tokens(text) == count


def test_an_event_has_a_name_only_where_it_is_given_one():
    assert event({"a": "é"}) == 'data: {"a": "é"}\n\n'.encode()
    assert event({"a": 1}, "ping") == b'event: ping\ndata: {"a": 1}\n\n'
