import gzip
import json
from typing import Any

import pytest

from wissel.apis.api import Beginning
from wissel.apis.beginnings import MOST_UNTOLD_BYTES, BeginningReader
from wissel.apis.simulated import Answer
from wissel.apis.table import APIS

STREAM = {"content-type": "text/event-stream"}
JSON = {"content-type": "application/json"}


def event(said: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(said).encode() + b"\n\n"


def delta(**members: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": members, "finish_reason": None}]}


def ended(reason: str) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}


def read(api: str, *pieces: bytes, headers: dict[str, str] = STREAM, is_over: bool = False) -> Beginning:
    reader = BeginningReader(APIS[api], headers)
    found: Beginning = ""
    for at, piece in enumerate(pieces):
        found = found or reader.feed(piece, is_over=is_over and at == len(pieces) - 1)
    return found


@pytest.mark.parametrize(
    ("api", "said", "found"),
    [
        ("chat", delta(role="assistant", content=""), ""),
        ("chat", {"choices": []}, ""),
        ("chat", delta(content="Hello"), "words"),
        ("chat", delta(reasoning_content="Hm"), "words"),
        ("chat", delta(tool_calls=[{"index": 0, "id": "c"}]), "words"),
        ("chat", delta(refusal="No"), "refusal"),
        ("chat", ended("content_filter"), "refusal"),
        ("chat", ended("stop"), "words"),
        ("chat", {"error": {"message": "overloaded"}}, "error"),
        ("chat", {"object": "error", "message": "overloaded"}, "error"),
        ("completions", {"choices": [{"text": ""}]}, ""),
        ("completions", {"choices": [{"text": "Hello"}]}, "words"),
        ("messages", {"type": "message_start", "message": {"role": "assistant", "content": []}}, ""),
        ("messages", {"type": "ping"}, ""),
        ("messages", {"type": "content_block_start", "content_block": {"type": "text", "text": ""}}, ""),
        ("messages", {"type": "content_block_start", "content_block": {"type": "tool_use", "name": "f"}}, "words"),
        ("messages", {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "Hi"}}, "words"),
        ("messages", {"type": "error", "error": {"type": "overloaded_error"}}, "error"),
        ("messages", {"type": "message_delta", "delta": {"stop_reason": "refusal"}}, "refusal"),
        ("messages", {"type": "message_delta", "delta": {"stop_reason": "end_turn"}}, "words"),
        ("responses", {"type": "response.created", "response": {"status": "in_progress", "error": None}}, ""),
        ("responses", {"type": "response.output_item.added", "item": {"type": "message", "status": "in_progress"}}, ""),
        ("responses", {"type": "response.output_item.added", "item": {"type": "function_call"}}, "words"),
        ("responses", {"type": "response.output_text.delta", "delta": "Hi"}, "words"),
        ("responses", {"type": "response.refusal.delta", "delta": "No"}, "refusal"),
        ("responses", {"type": "response.failed", "response": {"status": "failed", "error": {"code": "x"}}}, "error"),
        ("responses", {"type": "error", "message": "overloaded"}, "error"),
        ("embeddings", {"error": {"message": "overloaded"}}, "error"),
    ],
)
def test_an_event_is_what_its_api_says(api: str, said: dict[str, Any], found: str):
    assert read(api, event(said)) == found


@pytest.mark.parametrize("api", ["chat", "messages", "responses", "completions"])
@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_a_stream_that_answers_says_words_before_it_ends_however_it_is_cut(api: str, size: int):
    events = APIS[api].simulation.events
    assert events is not None
    whole = b"".join(events(Answer("a", 1, {"model": "m"}, "hello", 1)))

    assert read(api, *(whole[at : at + size] for at in range(0, len(whole), size))) == "words"


@pytest.mark.parametrize(
    ("api", "said", "found"),
    [
        ("chat", {"error": {"message": "overloaded"}}, "error"),
        ("chat", {"choices": [{"message": {"content": None, "refusal": "No"}}]}, "refusal"),
        ("chat", {"choices": [{"message": {"refusal": "No"}}, {"message": {"content": "Yes"}}]}, "words"),
        ("messages", {"type": "message", "content": [], "stop_reason": "refusal"}, "refusal"),
        ("messages", {"input_tokens": 5}, "words"),
        ("responses", {"object": "response", "status": "failed", "error": {"code": "server_error"}}, "error"),
        ("responses", {"object": "response", "incomplete_details": {"reason": "content_filter"}}, "refusal"),
        ("responses", {"output": [{"type": "message", "content": [{"type": "refusal", "refusal": "No"}]}]}, "refusal"),
        ("chat", {"choices": []}, "words"),
    ],
)
@pytest.mark.parametrize("headers", [JSON, {}, {**JSON, "content-encoding": "gzip"}])
def test_a_whole_answer_is_known_at_its_end(api: str, said: dict[str, Any], found: str, headers: dict[str, str]):
    body = json.dumps(said).encode()
    sent = gzip.compress(body) if "content-encoding" in headers else body

    assert (read(api, sent[:9], headers=headers), read(api, sent[:9], sent[9:], headers=headers, is_over=True)) == (
        "", found,
    )  # fmt: skip


def test_a_stream_that_ends_without_a_word_failed():
    assert read("chat", event(delta(role="assistant")), b": bye\n\n", is_over=True) == "error"


@pytest.mark.parametrize(
    ("headers", "data"),
    [
        ({"content-type": "audio/mpeg"}, b"\xff"),
        ({**JSON, "content-encoding": "br"}, b"\x0b"),
        ({**JSON, "content-encoding": "gzip"}, b"not gzip"),
        (STREAM, b"data: {broken\n\n"),
        (STREAM, b"data: [DONE]\n\n"),
        (JSON, b"{" + b" " * MOST_UNTOLD_BYTES),
    ],
)
def test_what_cannot_be_read_is_not_waited_for(headers: dict[str, str], data: bytes):
    assert read("chat", data, headers=headers) == "words"


def test_what_is_held_is_bounded_by_what_it_holds_unpacked():
    packed = gzip.compress(b'{"a": "' + b"x" * MOST_UNTOLD_BYTES)

    assert len(packed) < 1000
    assert read("chat", packed, headers={**JSON, "content-encoding": "gzip"}) == "words"
