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
from wissel.apis.translation.responses.answers import read_answer, write_answer
from wissel.core.outcome import Usage


def response(*output: Any, **more: Any) -> dict[str, Any]:
    head = {"id": "resp_1", "object": "response", "created_at": 3.7, "model": "gpt", "status": "completed"}
    return {**head, "output": list(output), **more}


def read(*output: Any, **more: Any) -> WholeAnswer:
    found = read_answer(response(*output, **more), ASKED)
    assert found
    return found


def message(*content: Any) -> dict[str, Any]:
    return {"type": "message", "id": "m", "role": "assistant", "status": "completed", "content": list(content)}


def summary(*texts: str, **more: Any) -> dict[str, Any]:
    return {
        "type": "reasoning",
        "id": "r",
        "summary": [{"type": "summary_text", "text": text} for text in texts],
        **more,
    }


@pytest.mark.parametrize(
    ("item", "parts"),
    [
        (message({"type": "output_text", "text": "a"}, {"type": "output_text", "text": "b"}), (Text("a"), Text("b"))),
        (message({"type": "output_text", "text": ""}), ()),
        (message({"type": "refusal", "refusal": "no"}), (Declined("no"),)),
        (message(), ()),
        ({"type": "function_call", "id": "f1", "call_id": "call_1", "name": "f", "arguments": "{}"},
         (ToolCall("call_1", "f", "{}"),)),
        ({"type": "function_call", "id": "f1", "name": "f"}, (ToolCall("f1", "f", ""),)),
        ({"type": "function_call", "call_id": "", "name": 7}, (ToolCall("call_resp_1_0", "", ""),)),
        (summary("a", "b"), (Reasoning("a\n\nb"),)),
        (summary("a", encrypted_content="s"), (Reasoning("a", "s"),)),
        (summary("", encrypted_content="s"), (Reasoning("", "s"),)),
        (summary(encrypted_content="d"), (Reasoning("", hidden="d"),)),
        (summary(content=[{"type": "reasoning_text", "text": "hm"}]), (Reasoning("hm"),)),
        (summary(), ()),
        ({"type": "web_search_call", "id": "w"}, ()),
        (7, ()),
    ],
)  # fmt: skip
def test_what_an_item_says(item: Any, parts: tuple[Part, ...]):
    assert read(item).parts == parts


@pytest.mark.parametrize(
    ("status", "details", "stop"),
    [
        ("completed", None, END),
        ("incomplete", {"reason": "max_output_tokens"}, Stop("length")),
        ("incomplete", {"reason": "content_filter"}, Stop("refusal")),
        ("incomplete", {"reason": "something_new"}, Stop("length")),
        ("incomplete", None, Stop("length")),
        (None, None, END),
    ],
)
def test_why_it_stopped(status: Any, details: Any, stop: Stop):
    assert read(status=status, incomplete_details=details).stop == stop


def test_an_answer_with_calls_waits_for_them_if_it_is_complete():
    call = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}

    assert (read(call).stop, read(call, status="incomplete").stop) == (Stop("tools"), Stop("length"))


def test_who_answered_when_and_what_it_came_to():
    told = {"input_tokens": 9, "output_tokens": 4, "total_tokens": 13, "input_tokens_details": {"cached_tokens": 3}}

    assert read(usage=told) == WholeAnswer("resp_1", "gpt", 3, (), END, Usage(9, 4, 3))


def test_what_is_not_told_is_empty():
    call = {"type": "function_call", "name": "f"}
    found = read_answer({"output": [call], "id": 7, "model": 7, "created_at": "x"}, ASKED)

    assert found == WholeAnswer("", "", 0, (ToolCall("call_req-1_0", "f", ""),), Stop("tools"), None)


@pytest.mark.parametrize(
    "body", [{}, {"output": None}, response(status="failed"), response(status="cancelled"), {"output": {}}]
)
def test_without_an_output_or_broken_off_it_is_no_answer(body: dict[str, Any]):
    assert read_answer(body, ASKED) is None


def answer(*parts: Part, reason: Reason = "end", usage: Usage | None = None) -> WholeAnswer:
    return WholeAnswer("a-1", "gpt", 3, parts, Stop(reason), usage)


def test_an_answer_is_written_as_a_response():
    assert write_answer(answer(Text("a"), usage=Usage(9, 4, 3, 2, 1)), ASKED) == {
        "id": "a-1",
        "object": "response",
        "created_at": 3,
        "status": "completed",
        "error": None,
        "incomplete_details": None,
        "model": "gpt",
        "output": [
            {
                "id": "msg_a-1_0",
                "type": "message",
                "status": "completed",
                "role": "assistant",
                "content": [{"type": "output_text", "text": "a", "annotations": [], "logprobs": []}],
            }
        ],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": {
            "input_tokens": 9,
            "input_tokens_details": {"cached_tokens": 3, "cache_write_tokens": 1},
            "output_tokens": 4,
            "output_tokens_details": {"reasoning_tokens": 2},
            "total_tokens": 13,
        },
    }


def test_what_was_asked_is_repeated():
    occasion = Occasion("r", "m", 5, repeated={"tools": [{"type": "function"}], "temperature": 1, "usage": "x"})
    written = write_answer(WholeAnswer("", "", 0, (), END, None), occasion)

    assert (written["id"], written["model"], written["created_at"]) == ("resp_r", "m", 5)
    assert (written["tools"], written["temperature"], written["usage"]) == ([{"type": "function"}], 1, None)


@pytest.mark.parametrize(
    ("part", "item"),
    [
        (Declined("no"), {"id": "msg_a-1_0", "type": "message", "status": "completed", "role": "assistant",
                          "content": [{"type": "refusal", "refusal": "no"}]}),
        (ToolCall("c", "f", '{"a":1}'), {"id": "fc_a-1_0", "type": "function_call", "status": "completed",
                                         "call_id": "c", "name": "f", "arguments": '{"a":1}'}),
        (ToolCall("c", "f", ""), {"id": "fc_a-1_0", "type": "function_call", "status": "completed",
                                  "call_id": "c", "name": "f", "arguments": "{}"}),
        (Reasoning("hm"), {"id": "rs_a-1_0", "type": "reasoning",
                           "summary": [{"type": "summary_text", "text": "hm"}]}),
        (Reasoning("hm", "s"), {"id": "rs_a-1_0", "type": "reasoning", "encrypted_content": "s",
                                "summary": [{"type": "summary_text", "text": "hm"}]}),
        (Reasoning("", hidden="d"),
         {"id": "rs_a-1_0", "type": "reasoning", "summary": [], "encrypted_content": "d"}),
    ],
)  # fmt: skip
def test_a_part_is_written_as_an_item(part: Part, item: dict[str, Any]):
    assert write_answer(answer(part), ASKED)["output"] == [item]


def test_items_are_numbered():
    assert [item["id"] for item in write_answer(answer(Text("a"), Text("b")), ASKED)["output"]] == [
        "msg_a-1_0", "msg_a-1_1",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("reason", "status", "details"),
    [
        ("end", "completed", None),
        ("sequence", "completed", None),
        ("pause", "completed", None),
        ("tools", "completed", None),
        ("length", "incomplete", {"reason": "max_output_tokens"}),
        ("context", "incomplete", {"reason": "max_output_tokens"}),
        ("refusal", "incomplete", {"reason": "content_filter"}),
    ],
)
def test_its_reason_is_written(reason: Reason, status: str, details: Any):
    written = write_answer(answer(reason=reason), ASKED)

    assert (written["status"], written["incomplete_details"]) == (status, details)
