"""What the simulated upstream says in each API.

`spoken/` holds it as it is today, word for word; that it is what a provider would
say is asked of the types of the providers' own clients, where nothing may be
missing and nothing more than `served_by`.
"""

import json
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from pydantic import BaseModel, TypeAdapter

from wissel.apis.simulated import REFUSED, THOUGHT, Answer, Said, event, last_input, last_message, plain, tokens
from wissel.apis.table import APIS

SPOKEN = Path(__file__).parent / "spoken"


def answer(name: str, question: str = "hi {}") -> Answer:
    asked: dict[str, Any] = {
        "model": "m",
        "input": ["hi", "you there"],
        "dimensions": 2,
        "stream_options": {"include_usage": True},
    }
    return Answer("qwen", 7, asked, question.format(name), created=1_800_000_000)


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
@pytest.mark.parametrize("question", ["hi {}", "simulate: thought, text, call, call", "simulate: refusal, length"])
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
def test_the_providers_own_clients_know_every_word_of_it(name: str, whole: str, an_event: str | None, question: str):
    api, spoken = APIS[name].simulation, answer(name, question)
    said = [(whole, api.whole(spoken))]
    for event_data in (item[6:] for item in b"".join(api.events(spoken) if api.events else ()).split(b"\n")):
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

    # What most servers of chat completions call a thought, and OpenAI's clients have no word for.
    assert unknown == {"served_by"} | ({"reasoning_content"} if name == "chat" and "thought" in question else set())


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


TOOLS = [{"type": "function", "function": {"name": "f"}}, {"type": "function", "name": "g"}, {"name": "h"}, {"name": 7}]


def asked(question: str, **body: Any) -> Answer:
    return Answer("qwen", 7, {"model": "m", **body}, question, created=0)


def test_it_is_made_of_what_the_caller_wants_simulated():
    words = f'This is m on qwen. You said: "{"simulate: thought, text, call,call, refusal"}"'

    assert asked("simulate: thought, text, call,call, refusal", tools=TOOLS).said == [
        Said("thought", THOUGHT),
        Said("text", words),
        Said("call", '{"number": 0, "by": "qwen"}', "f"),
        Said("call", '{"number": 1, "by": "qwen"}', "g"),
        Said("refusal", REFUSED),
    ]


def test_tools_are_called_in_turns_and_one_that_has_no_name_is_called_tool():
    called = [[each.name for each in asked("simulate: " + "call, " * 4, tools=tools).said] for tools in (TOOLS, None)]

    assert called == [["f", "g", "h", "f"], ["tool"] * 4]


@pytest.mark.parametrize("question", ["hi", "please simulate: call", "simulate:call", ""])
def test_who_wants_nothing_simulated_hears_words(question: str):
    assert [each.kind for each in asked(question).said] == ["text"]


@pytest.mark.parametrize(
    ("question", "ended"),
    [("hi", "done"), ("simulate: call", "tools"), ("simulate: call, length", "length"), ("simulate: refusal", "done")],
)
def test_why_it_ended(question: str, ended: str):
    assert asked(question).ended == ended


@pytest.mark.parametrize(
    ("question", "status", "is_cut"),
    [
        ("hi", 200, False),
        ("simulate: status 429", 429, False),
        ("simulate: text, cut", 200, True),
        ("simulate: status x", 200, False),
    ],
)
def test_how_it_fails(question: str, status: int, is_cut: bool):
    assert (asked(question).status, asked(question).is_cut) == (status, is_cut)


def test_thoughts_are_some_of_the_output():
    spoken = asked("simulate: thought, refusal")

    assert (spoken.output_tokens, spoken.thought_tokens) == (7 + 5, 7)
