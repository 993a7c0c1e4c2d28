"""What a request's input will be billed for."""

import base64
import json
from typing import Any

import pytest

from reading import read_body, understand
from wissel.apis.estimate import MEDIA, size_of_text, text_tokens
from wissel.apis.table import APIS
from wissel.apis.windows import LongText
from wissel.core.bounds import Bounds
from wissel.core.request import Request, estimate_tokens
from wissel.errors import UnreadableError

TEXT = "word " * 2000
TOKENS = 2500
SCHEMA = {"type": "object", "properties": {"path": {"type": "string", "description": TEXT}}}
IMAGE = {"type": "image_url", "image_url": {"url": "https://example.com/cat.jpg"}}
HI = {"role": "user", "content": "hi"}


def read(api: str, **members: Any) -> Request:
    body = json.dumps({"model": "auto", **members}).encode()
    return understand(APIS[api], "/", {}, read_body(body))


BILLED: dict[str, tuple[str, dict[str, Any]]] = {
    "tools": ("chat", {"messages": [HI], "tools": [{"type": "function", "function": {"parameters": SCHEMA}}]}),
    "functions": ("chat", {"messages": [HI], "functions": [{"name": "f", "parameters": SCHEMA}]}),
    "schema": ("chat", {"messages": [HI], "response_format": {"type": "json_schema", "json_schema": SCHEMA}}),
    "prediction": ("chat", {"messages": [HI], "prediction": {"type": "content", "content": TEXT}}),
    "documents": ("chat", {"messages": [HI], "documents": [{"text": TEXT}]}),
    "reasoning": ("chat", {"messages": [{"role": "assistant", "content": "a", "reasoning_content": TEXT}]}),
    "name": ("chat", {"messages": [{**HI, "name": TEXT}]}),
    "arguments": (
        "chat",
        {"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": TEXT}}]}]},
    ),
    "strings": ("chat", {"messages": [{"role": "user", "content": [TEXT]}]}),
    "one part": ("chat", {"messages": [{"role": "user", "content": {"type": "text", "text": TEXT}}]}),
    "no type": ("chat", {"messages": [{"role": "user", "content": [{"text": TEXT}]}]}),
    "suffix": ("completions", {"prompt": "hi", "suffix": TEXT}),
    "nested prompts": ("completions", {"prompt": [[TEXT]]}),
    "token numbers": ("completions", {"prompt": [7] * TOKENS}),
    "instructions": ("responses", {"instructions": [{"role": "system", "content": TEXT}], "input": "hi"}),
    "response tools": ("responses", {"input": "hi", "tools": [{"type": "function", "parameters": SCHEMA}]}),
    "function call": ("responses", {"input": [{"type": "function_call", "name": "f", "arguments": TEXT}]}),
    "call output": ("responses", {"input": [{"type": "local_shell_call_output", "output": TEXT}]}),
    "reasoning item": ("responses", {"input": [{"type": "reasoning", "summary": [], "encrypted_content": TEXT}]}),
    "variables": ("responses", {"prompt": {"id": "p", "variables": {"x": TEXT}}}),
    "format": ("responses", {"input": "hi", "text": {"format": {"type": "json_schema", "schema": SCHEMA}}}),
    "tool input": (
        "messages",
        {"messages": [{"role": "assistant", "content": [{"type": "tool_use", "name": "f", "input": {"a": TEXT}}]}]},
    ),
    "thinking": (
        "messages",
        {"messages": [{"role": "assistant", "content": [{"type": "thinking", "thinking": TEXT, "signature": "s"}]}]},
    ),
    "search result": (
        "messages",
        {"messages": [{"role": "user", "content": [{"type": "search_result", "content": [{"text": TEXT}]}]}]},
    ),
    "tool result in a tool result": (
        "messages",
        {"messages": [{"role": "user", "content": [
            {"type": "tool_result", "content": [{"type": "tool_result", "content": TEXT}]}]}]},
    ),
    "message tools": ("messages", {"messages": [HI], "tools": [{"name": "f", "input_schema": SCHEMA}]}),
    "system": ("messages", {"messages": [HI], "system": [{"type": "text", "text": TEXT}]}),
    "embedded": ("embeddings", {"input": [{"text": TEXT}]}),
    "embedded messages": ("embeddings", {"messages": [{"role": "user", "content": TEXT}]}),
}  # fmt: skip


@pytest.mark.parametrize("place", BILLED)
def test_all_that_a_model_is_shown_is_counted(place):
    api, members = BILLED[place]
    asked = read(api, **members)

    assert TOKENS <= asked.input_tokens <= TOKENS + 60
    assert asked.context_tokens == asked.input_tokens


@pytest.mark.parametrize("place", ["metadata", "user", "logit_bias", "prompt_cache_key"])
def test_what_no_model_is_shown_is_not_counted(place):
    assert read("chat", messages=[HI], **{place: {"x": TEXT}}).input_tokens == 1


@pytest.mark.parametrize("text", ["a b c d", "a\nb\tc  d", "x = 1\n        y = 2", "日本語のテキスト"])
def test_a_word_is_a_token_at_least_and_four_bytes_are_one(text):
    assert text_tokens(text) == max(len(text.split()), -(-len(text.encode()) // 4))


@pytest.mark.parametrize("unit", ["a " * 8, "abcdefgh", "Grüße, "])
def test_the_middle_of_a_long_text_is_counted_like_the_rest(unit):
    text = unit * 40_000
    body = read_body(json.dumps({"model": "m", "prompt": text}, ensure_ascii=False).encode())
    asked = understand(APIS["completions"], "/", {}, body, Bounds())

    assert isinstance(body.members["prompt"], LongText)
    assert asked.input_tokens == pytest.approx(text_tokens(text), rel=0.02)


@pytest.mark.parametrize(
    "part",
    [IMAGE, {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "QUJD" * 200_000}}],
)
def test_an_image_counts_as_one_whatever_its_size_and_least_for_the_context(part):
    asked = read("chat", messages=[{"role": "user", "content": [part, part]}])

    assert 2 * MEDIA["image"].typical <= asked.input_tokens <= 2 * MEDIA["image"].typical + 60
    assert asked.context_tokens == 2 * MEDIA["image"].least


@pytest.mark.parametrize(
    ("data", "tokens"),
    [
        (base64.b64encode(b"%PDF-1.7" + bytes(300_000)).decode(), 25_000),
        ("data:application/pdf;base64," + base64.b64encode(b"%PDF-1.7" + bytes(300_000)).decode(), 25_000),
        (base64.b64encode(b"word " * 60_000).decode(), 100_000),
        ("short", 3000),
    ],
)
def test_a_file_counts_by_what_it_is(data, tokens):
    part = {"type": "file", "file": {"filename": "f", "file_data": data}}

    assert read("chat", messages=[{"role": "user", "content": [part]}]).input_tokens == pytest.approx(tokens, rel=0.02)


def test_text_in_a_document_counts_as_its_text():
    part = {"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": TEXT * 4}]}}
    plain = {"type": "document", "source": {"type": "text", "data": TEXT * 4}}
    counted = [read("messages", messages=[{"role": "user", "content": [each]}]).input_tokens for each in (part, plain)]

    assert min(counted) >= 4 * TOKENS


def test_of_several_prompts_each_is_held_against_the_context_alone():
    asked = read("embeddings", input=[TEXT, "hi", TEXT + TEXT, [1, 2, 3]])

    assert (asked.input_tokens, asked.context_tokens) == (3 * TOKENS + 4, 2 * TOKENS)


@pytest.mark.parametrize(
    "given", [["a", "b"], [[1, 2], [3]], [{"text": "a"}, {"image": "u"}], {"text": "a"}, [IMAGE], {"content": [IMAGE]}]
)
def test_embeddings_may_be_of_objects(given):
    needed = {"text", "image"} if "image" in json.dumps(given) else {"text"}

    assert read("embeddings", input=given).needs == needed


@pytest.mark.parametrize(
    ("more", "each", "answers"),
    [
        ({}, 0, 1),
        ({"max_tokens": 5}, 5, 1),
        ({"max_tokens": 5, "max_completion_tokens": 900}, 900, 1),
        ({"max_tokens": 900, "max_completion_tokens": 5}, 900, 1),
        ({"max_tokens": "900"}, 900, 1),
        ({"max_tokens": 900.0}, 900, 1),
        ({"max_tokens": -5}, 0, 1),
        ({"max_tokens": 5, "thinking": {"type": "enabled", "budget_tokens": 900}}, 900, 1),
        ({"max_tokens": 5, "reasoning": {"max_tokens": 900}}, 900, 1),
        ({"max_tokens": 5, "thinking_budget": 900}, 900, 1),
        ({"n": 4}, 0, 4),
        ({"n": "4", "max_tokens": 10}, 10, 4),
        ({"n": 10**30}, 0, 1000),
        ({"best_of": 8, "n": 2}, 0, 8),
    ],
)
def test_what_is_reserved_for_answers(more, each, answers):
    asked = read("chat", messages=[HI], **more)

    assert (asked.max_output_tokens, asked.answers) == (each, answers)


def test_each_prompt_of_a_completion_has_an_answer_and_vectors_have_none():
    assert read("completions", prompt=["a", "b", "c"], n=2).answers == 6
    assert read("embeddings", input=["a", "b", "c"]).answers == 0


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("stream", ["true", "True", "1 ", 1, 1.0, "false", "", 0, [], {}, [True]])
def test_a_stream_is_asked_for_with_true_or_false(api, stream):
    with pytest.raises(UnreadableError, match='"stream" must be true or false'):
        read(api, stream=stream)


@pytest.mark.parametrize("name", ["Stream", "STREAM", "sTream"])
def test_a_stream_is_asked_for_in_small_letters(name):
    with pytest.raises(UnreadableError, match=f'asks for a stream as "{name}"; write "stream"'):
        read("chat", messages=[HI], **{name: True})


@pytest.mark.parametrize(("stream", "streams"), [(True, True), (False, False), (None, False)])
def test_what_asks_for_a_stream_is_one(stream, streams):
    assert read("chat", messages=[HI], stream=stream).stream is streams


@pytest.mark.parametrize(
    "member",
    [
        "metadata", "user", "safety_identifier", "prompt_cache_key", "stream_options", "logit_bias", "stop", "thinking",
        "reasoning", "previous_response_id", "stop_sequences", "include", "modalities", "provider",
    ],
)  # fmt: skip
def test_what_no_model_is_shown_is_not_billed(member: str):
    with_it = read("chat", messages=[HI], **{member: {"note": TEXT}})

    assert with_it.input_tokens == read("chat", messages=[HI]).input_tokens


def test_the_name_of_the_model_is_not_billed_however_long_it_is():
    def tokens(name: str) -> int:
        body = read_body(json.dumps({"model": name, "messages": [{"role": "user", "content": "hi"}]}).encode())
        return understand(APIS["chat"], "/v1/chat/completions", {}, body).input_tokens

    assert tokens("m" * 200) == tokens("m")


@pytest.mark.parametrize(("modality", "tokens"), [("image", 1600), ("audio", 500), ("video", 10_000), ("file", 3000)])
def test_a_medium_whose_size_nobody_knows_counts_as_a_large_one(modality: str, tokens: int):
    part = {"type": f"{modality}_url", f"{modality}_url": {"url": "https://a.example/b"}}
    content = [{"type": "text", "text": "hi"}]
    with_it, without = (
        read("chat", messages=[{"role": "user", "content": each}]) for each in ([*content, part], content)
    )

    assert tokens <= with_it.input_tokens - without.input_tokens < tokens + 50


def test_half_a_character_has_a_size():
    assert (size_of_text("\ud800"), size_of_text("a"), estimate_tokens("\ud800" * 8)) == (3, 1, 6)
