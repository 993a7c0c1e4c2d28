"""What the simulated upstream says in each API.

`spoken/` holds it as it is today, word for word; that it is what a provider would
say is asked of the types of the providers' own clients, where nothing may be
missing and nothing more than `served_by`.
"""

import json
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
from pydantic import BaseModel, TypeAdapter

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


def extras(value: object) -> Iterator[str]:
    """The members that the type of `value` does not know, at any depth."""
    if isinstance(value, BaseModel):
        yield from value.model_extra or {}
        value = [getattr(value, name) for name in value.model_fields_set if name in type(value).model_fields]
    if isinstance(value, list):
        for each in cast("list[object]", value):
            yield from extras(each)


@pytest.mark.slow  # for the clients, which take seconds to import
@pytest.mark.parametrize(
    ("name", "whole", "an_event"),
    [
        ("chat", "openai.types.chat.ChatCompletion", "openai.types.chat.ChatCompletionChunk"),
        ("completions", "openai.types.Completion", "openai.types.Completion"),
        ("embeddings", "openai.types.CreateEmbeddingResponse", None),
        ("messages", "anthropic.types.Message", "anthropic.types.RawMessageStreamEvent"),
        ("responses", "openai.types.responses.Response", "openai.types.responses.ResponseStreamEvent"),
    ],
)
def test_the_providers_own_clients_know_every_word_of_it(name: str, whole: str, an_event: str | None):
    api = APIS[name].simulation
    said = [(whole, api.whole(answer(name)))]
    for event_data in (item[6:] for item in b"".join(api.events(answer(name)) if api.events else ()).split(b"\n")):
        # A ping has no type of its own, nor has the end of OpenAI's streams.
        if event_data.startswith(b"{") and event_data != b'{"type": "ping"}':
            assert an_event
            said.append((an_event, json.loads(event_data)))
    if name == "completions":
        # The client's type is that of a whole answer, where a stream that goes on says null.
        for choice in (choice for _, item in said[1:] for choice in item["choices"]):
            choice["finish_reason"] = choice["finish_reason"] or "stop"

    types = {kind: TypeAdapter[object](pkgutil.resolve_name(kind)) for kind, _ in said}

    unknown = {extra for kind, value in said for extra in extras(types[kind].validate_python(value))}

    assert unknown == {"served_by"}


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
