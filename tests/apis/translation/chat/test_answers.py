from typing import Any

import pytest

from translations import ASKED
from wissel.apis.translation.chat.answers import read_answer, write_answer
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
from wissel.core.outcome import Usage


def completion(message: dict[str, Any], finish: Any = "stop", **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish, **more}
    return {"id": "c-1", "object": "chat.completion", "created": 3, "model": "gpt", "choices": [choice]}


def read(message: dict[str, Any], finish: Any = "stop", **more: Any) -> WholeAnswer:
    found = read_answer(completion(message, finish, **more), ASKED)
    assert found
    return found


def call(name: str, arguments: Any, call_id: Any = "call_1") -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


SIGNED = {"type": "thinking", "thinking": "hm", "signature": "s"}
REDACTED = {"type": "redacted_thinking", "data": "d"}


@pytest.mark.parametrize(
    ("message", "parts"),
    [
        ({"content": "hi"}, (Text("hi"),)),
        ({"content": None}, ()),
        ({"content": ""}, ()),
        ({"content": [{"type": "text", "text": "a"}, {"type": "text", "text": ""}]}, (Text("a"),)),
        (
            {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "h"}, {"text": "m"}]}]},
            (Reasoning("hm"),),
        ),
        ({"content": None, "refusal": "no"}, (Declined("no"),)),
        ({"content": "a", "reasoning_content": "hm"}, (Reasoning("hm"), Text("a"))),
        ({"content": "a", "reasoning": "hm"}, (Reasoning("hm"), Text("a"))),
        ({"reasoning_content": "hm", "reasoning": "other"}, (Reasoning("hm"),)),
        ({"reasoning": {"text": "hm"}}, ()),
        ({"thinking_blocks": [SIGNED]}, (Reasoning("hm", "s"),)),
        ({"reasoning_content": "hm", "thinking_blocks": [SIGNED, REDACTED]},
         (Reasoning("hm", "s"), Reasoning("", hidden="d"))),
        ({"reasoning_content": "other", "thinking_blocks": [{}, SIGNED]}, (Reasoning("other", "s"),)),
        ({"reasoning_content": "other", "thinking_blocks": []}, (Reasoning("other"),)),
        ({"tool_calls": [call("f", '{"a":1}'), call("g", "", "call_2")]},
         (ToolCall("call_1", "f", '{"a":1}'), ToolCall("call_2", "g", ""))),
        ({"tool_calls": [call("f", {"a": 1}, None), call("g", None, "")]},
         (ToolCall("call_c-1_0", "f", '{"a":1}'), ToolCall("call_c-1_1", "g", ""))),
        ({"function_call": {"name": "f", "arguments": "{}"}}, (ToolCall("call_c-1_0", "f", "{}"),)),
        ({"tool_calls": None, "function_call": None}, ()),
    ],
)  # fmt: skip
def test_what_a_message_says(message: dict[str, Any], parts: tuple[Part, ...]):
    assert read(message).parts == parts


@pytest.mark.parametrize(
    ("finish", "stop"),
    [
        ("stop", END),
        ("length", Stop("length")),
        ("tool_calls", Stop("tools")),
        ("function_call", Stop("tools")),
        ("content_filter", Stop("refusal")),
        ("eos_token", END),
        (None, END),
        (7, END),
    ],
)
def test_why_it_stopped(finish: Any, stop: Stop):
    assert read({}, finish).stop == stop


def test_an_answer_with_calls_waits_for_them_whatever_it_says():
    calls = {"tool_calls": [call("f", "{}")]}

    assert [read(calls, finish).stop for finish in ("stop", "length", "tool_calls")] == [
        Stop("tools"), Stop("length"), Stop("tools"),
    ]  # fmt: skip


def test_vllm_tells_at_which_sequence_it_stopped():
    assert read({}, stop_reason="END").stop == Stop("sequence", "END")
    assert read({}, stop_reason=7).stop == END
    assert read({}, "length", stop_reason="END").stop == Stop("length")


def test_who_answered_and_when():
    found = read({"content": "a"})

    assert (found.id, found.model, found.created, found.usage) == ("c-1", "gpt", 3, None)


def test_what_is_not_told_is_empty():
    found = read_answer({"choices": [{}], "id": 7, "model": None, "created": "now"}, ASKED)

    assert found == WholeAnswer("", "", 0, (), END, None)


def test_a_call_without_an_id_in_an_answer_without_one_is_named_after_the_request():
    found = read_answer({"choices": [{"message": {"tool_calls": [call("f", "", "")]}}]}, ASKED)

    assert found
    assert found.parts == (ToolCall("call_req-1_0", "f", ""),)


def test_its_usage_is_read():
    told = {"prompt_tokens": 9, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 3}}
    found = read_answer({**completion({}), "usage": told}, ASKED)

    assert found
    assert found.usage == Usage(9, 4, 3)


@pytest.mark.parametrize("body", [{}, {"choices": []}, {"choices": None}, {"choices": {"a": 1}}])
def test_without_a_choice_it_is_no_answer(body: dict[str, Any]):
    assert read_answer(body, ASKED) is None


def answer(*parts: Part, reason: Reason = "end", usage: Usage | None = None) -> WholeAnswer:
    return WholeAnswer("a-1", "gpt", 3, parts, Stop(reason), usage)


def test_an_answer_is_written_as_a_completion():
    assert write_answer(answer(Text("a"), Text("b"), usage=Usage(9, 4, 3, 2, 1)), ASKED) == {
        "id": "a-1",
        "object": "chat.completion",
        "created": 3,
        "model": "gpt",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "ab", "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": 9,
            "completion_tokens": 4,
            "total_tokens": 13,
            "prompt_tokens_details": {"cached_tokens": 3, "cache_write_tokens": 1},
            "completion_tokens_details": {"reasoning_tokens": 2},
        },
    }


def test_what_an_answer_lacks_is_taken_of_the_request():
    written = write_answer(WholeAnswer("", "", 0, (), END, None), Occasion("r", "m", 5))

    assert (written["id"], written["model"], written["created"], "usage" in written) == ("chatcmpl-r", "m", 5, False)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ((), {"content": None, "refusal": None}),
        ((Declined("n"), Declined("o")), {"content": None, "refusal": "no"}),
        ((Reasoning("a"), Reasoning("b")), {"content": None, "refusal": None, "reasoning_content": "ab"}),
        ((Reasoning("hm", "s"), Reasoning("", hidden="d")),
         {"content": None, "refusal": None, "reasoning_content": "hm", "thinking_blocks": [SIGNED, REDACTED]}),
        ((Reasoning("hm"), Reasoning("", hidden="d")),
         {"content": None, "refusal": None, "reasoning_content": "hm",
          "thinking_blocks": [{**SIGNED, "signature": ""}, REDACTED]}),
        ((ToolCall("1", "f", ""), ToolCall("2", "g", '{"a":1}')),
         {"content": None, "refusal": None, "tool_calls": [call("f", "{}", "1"), call("g", '{"a":1}', "2")]}),
    ],
)  # fmt: skip
def test_its_parts_are_written_into_one_message(parts: tuple[Part, ...], message: dict[str, Any]):
    written = write_answer(answer(*parts), ASKED)

    assert written["choices"][0]["message"] == {"role": "assistant", **message}


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("end", "stop"),
        ("sequence", "stop"),
        ("pause", "stop"),
        ("length", "length"),
        ("context", "length"),
        ("tools", "tool_calls"),
        ("refusal", "content_filter"),
    ],
)
def test_its_reason_is_written(reason: Reason, finish: str):
    assert write_answer(answer(reason=reason), ASKED)["choices"][0]["finish_reason"] == finish
