from typing import Any

import pytest

from translations import ASKED
from wissel.apis.translation.form import (
    END,
    Declined,
    Occasion,
    Part,
    Reason,
    Reasoning,
    Stop,
    Text,
    ToolCall,
    WholeAnswer,
)
from wissel.apis.translation.messages.answers import read_answer, write_answer
from wissel.core.outcome import Usage


def read(*content: Any, **more: Any) -> WholeAnswer:
    found = read_answer({"id": "msg_1", "model": "claude", "content": list(content), **more}, ASKED)
    assert found
    return found


@pytest.mark.parametrize(
    ("block", "parts"),
    [
        ({"type": "text", "text": "hi"}, (Text("hi"),)),
        ({"type": "text", "text": ""}, ()),
        ({"type": "text", "text": None}, ()),
        ({"type": "thinking", "thinking": "hm", "signature": "s"}, (Reasoning("hm", "s"),)),
        ({"type": "thinking", "thinking": "", "signature": "s"}, (Reasoning("", "s"),)),
        ({"type": "thinking", "thinking": "hm"}, (Reasoning("hm"),)),
        ({"type": "redacted_thinking", "data": "d"}, (Reasoning("", hidden="d"),)),
        ({"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"a": [1]}},
         (ToolCall("toolu_1", "f", '{"a":[1]}'),)),
        ({"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}}, (ToolCall("toolu_1", "f", ""),)),
        ({"type": "tool_use", "id": "", "name": "f"}, (ToolCall("toolu_msg_1_0", "f", ""),)),
        ({"type": "tool_use", "id": 7, "name": "f"}, (ToolCall("toolu_msg_1_0", "f", ""),)),
        ({"type": "server_tool_use", "id": "x", "name": "web_search", "input": {}}, ()),
        (7, ()),
    ],
)  # fmt: skip
def test_what_a_block_says(block: Any, parts: tuple[Part, ...]):
    assert read(block).parts == parts


@pytest.mark.parametrize(
    ("reason", "stop"),
    [
        ("end_turn", END),
        ("stop_sequence", Stop("sequence")),
        ("pause_turn", Stop("pause")),
        ("max_tokens", Stop("length")),
        ("model_context_window_exceeded", Stop("context")),
        ("tool_use", Stop("tools")),
        ("refusal", Stop("refusal")),
        ("something_new", END),
        (None, END),
    ],
)
def test_why_it_stopped(reason: Any, stop: Stop):
    assert read(stop_reason=reason).stop == stop


@pytest.mark.parametrize(
    ("reason", "met", "stop"),
    [
        ("stop_sequence", "END", Stop("sequence", "END")),
        ("end_turn", "END", Stop("sequence", "END")),
        ("end_turn", "", END),
        ("stop_sequence", 7, Stop("sequence")),
        ("max_tokens", "END", Stop("length")),
    ],
)
def test_at_what_it_stopped(reason: str, met: Any, stop: Stop):
    assert read(stop_reason=reason, stop_sequence=met).stop == stop


def test_who_answered_and_what_it_came_to():
    found = read(usage={"input_tokens": 3, "cache_read_input_tokens": 5, "output_tokens": 2})

    assert found == WholeAnswer("msg_1", "claude", 0, (), END, Usage(8, 2, 5))


def test_what_is_not_told_is_empty():
    found = read_answer({"content": [{"type": "tool_use", "name": "f"}], "id": 7, "model": 7}, ASKED)

    assert found == WholeAnswer("", "", 0, (ToolCall("toolu_req-1_0", "f", ""),), END, None)


@pytest.mark.parametrize("body", [{}, {"content": None}, {"content": "hi"}])
def test_without_a_content_it_is_no_answer(body: dict[str, Any]):
    assert read_answer(body, ASKED) is None


def answer(*parts: Part, stop: Stop = END, usage: Usage | None = None) -> WholeAnswer:
    return WholeAnswer("a-1", "claude", 3, parts, stop, usage)


def test_an_answer_is_written_as_a_message():
    assert write_answer(answer(Text("a"), stop=Stop("sequence", "END"), usage=Usage(20, 4, 3, 2, 7)), ASKED) == {
        "id": "a-1",
        "type": "message",
        "role": "assistant",
        "model": "claude",
        "content": [{"type": "text", "text": "a"}],
        "stop_reason": "stop_sequence",
        "stop_sequence": "END",
        "usage": {
            "input_tokens": 10,
            "cache_creation_input_tokens": 7,
            "cache_read_input_tokens": 3,
            "output_tokens": 4,
            "output_tokens_details": {"thinking_tokens": 2},
        },
    }


def test_what_an_answer_lacks_is_taken_of_the_request():
    written = write_answer(WholeAnswer("", "", 0, (), END, None), Occasion("r", "m", 5))

    assert (written["id"], written["model"], written["stop_sequence"]) == ("msg_r", "m", None)


def test_usage_that_nobody_told_is_estimated_for_a_message_must_have_one():
    parts = Text("abcd"), Reasoning("efgh"), ToolCall("1", "f", "{}")

    assert write_answer(answer(*parts), ASKED)["usage"] == {
        "input_tokens": 7, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": 3,
    }  # fmt: skip


def test_more_read_of_a_cache_than_there_was_leaves_nothing():
    assert write_answer(answer(usage=Usage(5, 1, 9)), ASKED)["usage"]["input_tokens"] == 0


@pytest.mark.parametrize(
    ("part", "block"),
    [
        (Declined("no"), {"type": "text", "text": "no"}),
        (Reasoning("hm", "s"), {"type": "thinking", "thinking": "hm", "signature": "s"}),
        (Reasoning("hm"), {"type": "thinking", "thinking": "hm", "signature": ""}),
        (Reasoning("", hidden="d"), {"type": "redacted_thinking", "data": "d"}),
        (ToolCall("1", "f", '{"a":1}'), {"type": "tool_use", "id": "1", "name": "f", "input": {"a": 1}}),
        (ToolCall("1", "f", " "), {"type": "tool_use", "id": "1", "name": "f", "input": {}}),
        (ToolCall("1", "f", '{"a'), {"type": "tool_use", "id": "1", "name": "f", "input": {"INVALID_JSON": '{"a'}}),
        (ToolCall("1", "f", "[]"), {"type": "tool_use", "id": "1", "name": "f", "input": {"INVALID_JSON": "[]"}}),
        (ToolCall("1", "f", "[" * 100_000),
         {"type": "tool_use", "id": "1", "name": "f", "input": {"INVALID_JSON": "[" * 100_000}}),
    ],
)  # fmt: skip
def test_a_part_is_written_as_a_block(part: Part, block: dict[str, Any]):
    assert write_answer(answer(part), ASKED)["content"] == [block]


@pytest.mark.parametrize(
    ("reason", "name"),
    [
        ("end", "end_turn"),
        ("sequence", "stop_sequence"),
        ("pause", "pause_turn"),
        ("length", "max_tokens"),
        ("context", "model_context_window_exceeded"),
        ("tools", "tool_use"),
        ("refusal", "refusal"),
    ],
)
def test_its_reason_is_written(reason: Reason, name: str):
    assert write_answer(answer(stop=Stop(reason)), ASKED)["stop_reason"] == name


def test_words_of_refusal_are_a_reason_to_stop():
    assert write_answer(answer(Declined("no")), ASKED)["stop_reason"] == "refusal"
    assert write_answer(answer(Declined("no"), stop=Stop("length")), ASKED)["stop_reason"] == "max_tokens"
