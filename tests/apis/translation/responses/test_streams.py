from typing import Any

import pytest

from translations import ASKED, heard, written
from wissel.apis.translation.form import (
    END,
    CutError,
    Declined,
    Delta,
    Ended,
    Event,
    Failed,
    PartBegan,
    PartEnded,
    Reasoning,
    Signed,
    Started,
    Stop,
    Text,
    ToolCall,
    Trouble,
)
from wissel.apis.translation.responses.streams import ResponsesReader, ResponsesWriter
from wissel.core.outcome import Usage

RESPONSE = {
    "id": "resp_1",
    "object": "response",
    "created_at": 3,
    "model": "gpt",
    "status": "in_progress",
    "output": [],
}
CREATED = {"type": "response.created", "response": RESPONSE}
BEGAN = Started("resp_1", "gpt", 3, None)


def completed(*output: Any, **more: Any) -> dict[str, Any]:
    response = {**RESPONSE, "status": "completed", "output": list(output), **more}
    return {"type": f"response.{response['status']}", "response": response}


def added(at: int, **item: Any) -> dict[str, Any]:
    return {"type": "response.output_item.added", "output_index": at, "item": item}


def done(at: int, **item: Any) -> dict[str, Any]:
    return {"type": "response.output_item.done", "output_index": at, "item": item}


def event(kind: str, at: int, **told: Any) -> dict[str, Any]:
    return {"type": f"response.{kind}", "output_index": at, **told}


def text(at: int, delta: Any, content: int = 0) -> dict[str, Any]:
    return event("output_text.delta", at, content_index=content, delta=delta)


def arguments(at: int, delta: Any) -> dict[str, Any]:
    return event("function_call_arguments.delta", at, delta=delta)


def thought(at: int, delta: str, part: int = 0, kind: str = "summary") -> dict[str, Any]:
    return event(f"reasoning_{kind}_text.delta" if kind == "summary" else "reasoning_text.delta", at, delta=delta, **{
        "summary_index" if kind == "summary" else "content_index": part
    })  # fmt: skip


def words(content: str) -> dict[str, Any]:
    return {"type": "output_text", "text": content, "annotations": []}


def after_start(*said: dict[str, Any]) -> list[Event]:
    events = heard(ResponsesReader(ASKED), CREATED, *said)
    assert events[0] == BEGAN
    return events[1:]


CALL = {"type": "function_call", "id": "f1", "call_id": "call_1", "name": "f"}
CALLED = PartBegan(0, ToolCall("call_1", "f", ""))


# From a response's events.


def test_it_begins_once():
    assert after_start({"type": "response.in_progress", "response": RESPONSE}) == []
    assert heard(ResponsesReader(ASKED), {"type": "response.queued", "response": RESPONSE}, CREATED) == [BEGAN]


def test_contents_of_a_message_are_parts():
    assert after_start(
        added(0, type="message"),
        text(0, "a"),
        text(0, "b"),
        event("output_text.done", 0, content_index=0, text="ab"),
        event("content_part.done", 0, content_index=0, part=words("ab")),
        event("refusal.delta", 0, content_index=1, delta="no"),
        event("refusal.done", 0, content_index=1, refusal="no"),
        done(0, type="message", content=[words("ab"), {"type": "refusal", "refusal": "no"}]),
    ) == [
        PartBegan(0, Text("")),
        Delta(0, "a"),
        Delta(0, "b"),
        PartEnded(0),
        PartBegan(1, Declined("")),
        Delta(1, "no"),
        PartEnded(1),
    ]


WHOLE = [PartBegan(0, Text("")), Delta(0, "ab"), PartEnded(0)]


@pytest.mark.parametrize(
    "said",
    [
        event("output_text.done", 0, content_index=0, text="ab"),
        done(0, type="message", content=[words("ab")]),
    ],
)
def test_words_that_come_only_whole_are_told_whole(said: dict[str, Any]):
    assert after_start(said, said) == WHOLE


def test_a_response_that_says_it_all_at_the_end_is_told_then():
    items = [
        {"type": "message", "content": [words("ab")]},
        {**CALL, "arguments": "{}"},
        {"type": "reasoning", "summary": [{"text": "h"}, {"text": "m"}], "encrypted_content": "s"},
    ]

    assert after_start(completed(*items)) == [
        *WHOLE,
        PartBegan(1, ToolCall("call_1", "f", "")),
        Delta(1, "{}"),
        PartEnded(1),
        PartBegan(2, Reasoning("")),
        Delta(2, "h\n\nm"),
        Signed(2, "s"),
        PartEnded(2),
        Ended(Stop("tools"), None),
    ]
    assert heard(ResponsesReader(ASKED), completed()) == [BEGAN, Ended(END, None)]


@pytest.mark.parametrize("number", [None, [], "x"])
def test_contents_without_numbers_are_the_first(number: Any):
    assert after_start(
        event("output_text.delta", 0, content_index=number, delta="ab"), done(0, type="message", content=[words("ab")])
    ) == [PartBegan(0, Text("")), Delta(0, "ab"), PartEnded(0)]


def test_items_without_numbers_are_known_by_their_ids():
    """As llama.cpp's server sends them."""
    summary = {"type": "reasoning", "id": "r1", "summary": [], "content": [{"text": "hm"}]}
    message = {"type": "message", "id": "m1", "content": [words("ab")]}
    called = {**CALL, "arguments": "{}"}
    other = {**CALL, "id": "f2", "call_id": "call_2", "arguments": "[]"}

    assert after_start(
        {"type": "response.output_item.added", "item": {**summary, "content": []}},
        {"type": "response.reasoning_text.delta", "item_id": "r1", "delta": "hm"},
        {"type": "response.output_item.done", "item": summary},
        {"type": "response.output_item.added", "item": {**message, "content": []}},
        {"type": "response.output_text.delta", "item_id": "m1", "delta": "ab"},
        {"type": "response.output_text.done", "item_id": "m1", "text": "ab"},
        {"type": "response.output_item.done", "item": message},
        {"type": "response.output_item.added", "item": {**called, "arguments": ""}},
        {"type": "response.function_call_arguments.delta", "item_id": "f1", "delta": "{}"},
        {"type": "response.output_item.done", "item": called},
        completed(summary, message, called, other),
    ) == [
        PartBegan(0, Reasoning("")),
        Delta(0, "hm"),
        PartEnded(0),
        PartBegan(1, Text("")),
        Delta(1, "ab"),
        PartEnded(1),
        PartBegan(2, ToolCall("call_1", "f", "")),
        Delta(2, "{}"),
        PartEnded(2),
        PartBegan(3, ToolCall("call_2", "f", "")),
        Delta(3, "[]"),
        PartEnded(3),
        Ended(Stop("tools"), None),
    ]


def test_arguments_come_in_pieces_and_are_not_told_again():
    assert after_start(
        added(0, **CALL, arguments=""),
        arguments(0, '{"a":'),
        arguments(0, "1}"),
        event("function_call_arguments.done", 0, arguments='{"a":1}'),
        done(0, **CALL, arguments='{"a":1}'),
        completed({**CALL, "arguments": '{"a":1}'}),
    ) == [CALLED, Delta(0, '{"a":'), Delta(0, "1}"), PartEnded(0), Ended(Stop("tools"), None)]


def test_pieces_behind_the_end_of_their_part_say_nothing():
    assert after_start(done(0, type="message", content=[words("ab")]), text(0, "a")) == WHOLE


def test_arguments_that_come_only_whole_are_told_whole():
    assert after_start(added(0, **CALL), done(0, **CALL, arguments="{}")) == [CALLED, Delta(0, "{}"), PartEnded(0)]
    assert after_start(done(0, **CALL, arguments="")) == [CALLED, PartEnded(0)]


def test_calls_may_be_told_in_turns():
    other = {**CALL, "call_id": "call_2", "name": "g"}

    assert after_start(
        added(0, **CALL), added(1, **other), arguments(1, "{}"), arguments(0, "{}"), done(1, **other), done(0, **CALL)
    ) == [
        CALLED,
        PartBegan(1, ToolCall("call_2", "g", "")),
        Delta(1, "{}"),
        Delta(0, "{}"),
        PartEnded(1),
        PartEnded(0),
    ]


def test_pieces_may_come_before_their_item():
    assert heard(ResponsesReader(ASKED), text(0, "a")) == [
        Started("", "", 0, None), PartBegan(0, Text("")), Delta(0, "a"),
    ]  # fmt: skip
    assert after_start({**arguments(0, "{}"), "name": "f", "item_id": "f1"}) == [
        PartBegan(0, ToolCall("call_resp_1_0", "f", "")), Delta(0, "{}"),
    ]  # fmt: skip
    assert heard(ResponsesReader(ASKED), {**arguments(0, "{}"), "name": "f"})[1] == PartBegan(
        0, ToolCall("call_req-1_0", "f", "")
    )


def test_a_thought_is_its_summaries():
    assert after_start(
        added(0, type="reasoning", summary=[]),
        thought(0, "h"),
        thought(0, "m"),
        thought(0, "so", part=1),
        thought(0, "!", part=1),
        done(0, type="reasoning", summary=[{"text": "hm"}, {"text": "so!"}], encrypted_content="s"),
    ) == [
        PartBegan(0, Reasoning("")),
        Delta(0, "h"),
        Delta(0, "m"),
        Delta(0, "\n\nso"),
        Delta(0, "!"),
        Signed(0, "s"),
        PartEnded(0),
    ]


def test_a_thought_and_its_summary_are_not_both_told():
    assert after_start(
        thought(0, "hm", kind="text"), thought(0, "short"), done(0, type="reasoning", summary=[], encrypted_content="s")
    ) == [PartBegan(0, Reasoning("")), Delta(0, "hm"), Signed(0, "s"), PartEnded(0)]


def test_a_thought_without_words_is_hidden_or_nothing():
    assert after_start(added(0, type="reasoning"), done(0, type="reasoning", summary=[])) == []
    assert after_start(done(0, type="reasoning", summary=[], encrypted_content="d")) == [
        PartBegan(0, Reasoning("", hidden="d")), PartEnded(0),
    ]  # fmt: skip
    assert after_start(done(0, type="reasoning", summary=[{"text": ""}], encrypted_content="s")) == [
        PartBegan(0, Reasoning("")), Signed(0, "s"), PartEnded(0),
    ]  # fmt: skip


def test_a_thought_without_a_signature_ends_as_well():
    assert after_start(thought(0, "hm"), done(0, type="reasoning", summary=[{"text": "hm"}])) == [
        PartBegan(0, Reasoning("")), Delta(0, "hm"), PartEnded(0),
    ]  # fmt: skip
    assert after_start(thought(0, "hm"), done(0, type="reasoning"))[-1] == PartEnded(0)


@pytest.mark.parametrize(
    ("status", "details", "stop"),
    [
        ("completed", None, END),
        ("incomplete", {"reason": "max_output_tokens"}, Stop("length")),
        ("incomplete", {"reason": "content_filter"}, Stop("refusal")),
    ],
)
def test_it_ends_with_why_and_what_it_came_to(status: str, details: Any, stop: Stop):
    usage = {"input_tokens": 9, "output_tokens": 4, "total_tokens": 13}
    end = completed(status=status, incomplete_details=details, usage=usage)

    assert after_start(text(0, "a"), end)[2:] == [PartEnded(0), Ended(stop, Usage(9, 4))]


@pytest.mark.parametrize(
    ("response", "trouble"),
    [
        ({"status": "failed", "error": {"code": "server_error", "message": "m"}}, Trouble(500, "m", "server_error")),
        ({"status": "failed", "error": {"code": "rate_limit_exceeded", "message": "m"}},
         Trouble(429, "m", "rate_limit_exceeded")),
        ({"status": "cancelled", "error": None}, Trouble(500, "the provider's answer is cancelled")),
    ],
)  # fmt: skip
def test_a_response_that_is_broken_off_is_a_failure(response: dict[str, Any], trouble: Trouble):
    assert after_start(completed(**response)) == [Failed(trouble)]


def test_an_error_is_the_end():
    assert after_start({"type": "error", "code": "x", "message": "m", "param": "p"}) == [
        Failed(Trouble(500, "m", "x", "p"))
    ]
    assert after_start({"error": {"message": "m"}}) == [Failed(Trouble(500, "m"))]


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"type": 7},
        {"type": "ping"},
        {"type": "response.output_item.added", "output_index": [], "item": []},
        {"type": "response.something.new"},
        text(0, ""),
        text(0, 7),
        event("output_text.done", 0, text=""),
        done(0, type="web_search_call"),
        done(0, type="message", content=None),
        done(0, type="message", content=[7]),
        done(0),
    ],
)
def test_what_is_not_understood_says_nothing(said: dict[str, Any]):
    assert after_start(said) == []
    assert heard(ResponsesReader(ASKED), {"type": "ping"}) == []


def test_only_its_last_event_ends_it():
    reader = ResponsesReader(ASKED)
    heard(reader, CREATED, text(0, "a"), done(0, type="message", content=[words("a")]))

    assert reader.end() == []
    with pytest.raises(CutError, match="the stream was cut before the answer had ended"):
        reader.finish()


def test_what_was_told_in_pieces_is_known_to_be_said_again():
    reader = ResponsesReader(ASKED)
    heard(reader, CREATED, text(0, "a"), arguments(1, "{}"), added(2, **CALL))
    again = [
        event("output_text.done", 0), done(0), done(1), completed(), {"type": "response.incomplete"},
        {"type": "response.failed"}, {"type": "response.cancelled"},
    ]  # fmt: skip
    fresh = [text(0, "b"), arguments(1, "x"), done(2), done(3), event("output_text.done", 3), {}, {"type": 7}]

    assert [reader.repeats(each) for each in again] == [True] * len(again)
    assert [reader.repeats(each) for each in fresh] == [False] * len(fresh)


# To a response's events.


def told(*events: Event) -> list[Any]:
    found = written(ResponsesWriter(ASKED), Started("a-1", "gpt", 3, None), *events)
    assert [each.pop("sequence_number") for each in found] == list(range(len(found)))
    return found[2:]


HEAD = {
    "id": "a-1",
    "object": "response",
    "created_at": 3,
    "status": "in_progress",
    "error": None,
    "incomplete_details": None,
    "model": "gpt",
    "output": [],
    "parallel_tool_calls": True,
    "tool_choice": "auto",
    "tools": [],
    "usage": None,
}


def test_it_starts_with_a_response_that_says_nothing_yet():
    assert written(ResponsesWriter(ASKED), Started("a-1", "gpt", 3, None)) == [
        {"type": "response.created", "response": HEAD, "sequence_number": 0},
        {"type": "response.in_progress", "response": HEAD, "sequence_number": 1},
    ]


def test_what_is_not_told_of_an_answer_is_taken_of_the_request():
    first, _ = written(ResponsesWriter(ASKED), Started("", "", 0, None))

    assert first["response"] == {**HEAD, "id": "resp_req-1", "created_at": 5, "model": "asked"}


def test_events_have_their_names():
    writer = ResponsesWriter(ASKED)
    writer.write(Started("a-1", "gpt", 3, None))
    told_so = writer.write(PartBegan(0, Text(""))) + writer.write(Delta(0, "a"))

    assert [line for line in told_so.split("\n") if line.startswith("event")] == [
        "event: response.output_item.added", "event: response.content_part.added", "event: response.output_text.delta",
    ]  # fmt: skip


def message(status: str, *content: Any, at: int = 0) -> dict[str, Any]:
    name = f"msg_a-1_{at}"
    return {"id": name, "type": "message", "status": status, "role": "assistant", "content": list(content)}


def test_words_are_a_message():
    place = {"item_id": "msg_a-1_0", "output_index": 0, "content_index": 0}
    part = {"type": "output_text", "annotations": [], "logprobs": []}
    whole = {**part, "text": 'a"b'}

    assert told(PartBegan(0, Text("")), Delta(0, 'a"'), Delta(0, "b"), PartEnded(0)) == [
        added(0, **message("in_progress")),
        {"type": "response.content_part.added", **place, "part": {**part, "text": ""}},
        {"type": "response.output_text.delta", **place, "delta": 'a"', "logprobs": []},
        {"type": "response.output_text.delta", **place, "delta": "b", "logprobs": []},
        {"type": "response.output_text.done", **place, "text": 'a"b', "logprobs": []},
        {"type": "response.content_part.done", **place, "part": whole},
        done(0, **message("completed", whole)),
    ]


def test_a_refusal_is_a_message_of_its_own_kind():
    place = {"item_id": "msg_a-1_0", "output_index": 0, "content_index": 0}
    whole = {"type": "refusal", "refusal": "no"}

    assert told(PartBegan(0, Declined("")), Delta(0, "no"), PartEnded(0)) == [
        added(0, **message("in_progress")),
        {"type": "response.content_part.added", **place, "part": {"type": "refusal", "refusal": ""}},
        {"type": "response.refusal.delta", **place, "delta": "no"},
        {"type": "response.refusal.done", **place, "refusal": "no"},
        {"type": "response.content_part.done", **place, "part": whole},
        done(0, **message("completed", whole)),
    ]


def call(status: str, given: str, at: int = 0) -> dict[str, Any]:
    head = {"id": f"fc_a-1_{at}", "type": "function_call", "status": status, "call_id": "c", "name": "f"}
    return {**head, "arguments": given}


@pytest.mark.parametrize("pieces", [("{", "}"), ()])
def test_a_call_has_arguments_even_if_they_are_none(pieces: tuple[str, ...]):
    place = {"item_id": "fc_a-1_0", "output_index": 0}

    assert told(PartBegan(0, ToolCall("c", "f", "")), *(Delta(0, piece) for piece in pieces), PartEnded(0)) == [
        added(0, **call("in_progress", "")),
        *({"type": "response.function_call_arguments.delta", **place, "delta": piece} for piece in pieces or ("{}",)),
        {"type": "response.function_call_arguments.done", **place, "arguments": "{}"},
        done(0, **call("completed", "{}")),
    ]


def test_a_thought_is_a_summary():
    place = {"item_id": "rs_a-1_0", "output_index": 0, "summary_index": 0}
    item = {"id": "rs_a-1_0", "type": "reasoning"}
    part = {"type": "summary_text", "text": "hm"}

    assert told(PartBegan(0, Reasoning("")), Delta(0, "h"), Delta(0, "m"), Signed(0, "s"), PartEnded(0)) == [
        added(0, **item, summary=[]),
        {"type": "response.reasoning_summary_part.added", **place, "part": {**part, "text": ""}},
        {"type": "response.reasoning_summary_text.delta", **place, "delta": "h"},
        {"type": "response.reasoning_summary_text.delta", **place, "delta": "m"},
        {"type": "response.reasoning_summary_text.done", **place, "text": "hm"},
        {"type": "response.reasoning_summary_part.done", **place, "part": part},
        done(0, **item, summary=[part], encrypted_content="s"),
    ]


def test_a_hidden_thought_has_no_summary():
    item = {"id": "rs_a-1_0", "type": "reasoning", "summary": [], "encrypted_content": "d"}

    assert told(PartBegan(0, Reasoning("", hidden="d")), PartEnded(0)) == [added(0, **item), done(0, **item)]


def test_parts_may_be_told_in_turns_and_keep_their_places():
    events = [
        PartBegan(0, Text("")), PartBegan(1, ToolCall("c", "f", "")), Delta(1, "{}"), Delta(0, "a"), PartEnded(1),
        PartEnded(0), Ended(Stop("tools"), Usage(9, 4)),
    ]  # fmt: skip
    found = told(*events)
    output = [
        message("completed", {"type": "output_text", "text": "a", "annotations": [], "logprobs": []}),
        call("completed", "{}", at=1),
    ]
    usage = {
        "input_tokens": 9,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": 4,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 13,
    }

    assert [each["output_index"] for each in found[:-1]] == [0, 0, 1, 1, 0, 1, 1, 0, 0, 0]
    assert found[-1] == completed() | {"response": {**HEAD, "status": "completed", "output": output, "usage": usage}}


@pytest.mark.parametrize(
    ("stop", "kind", "why"),
    [
        (END, "completed", None),
        (Stop("length"), "incomplete", {"reason": "max_output_tokens"}),
        (Stop("refusal"), "incomplete", {"reason": "content_filter"}),
    ],
)
def test_the_last_event_is_named_after_how_it_ended(stop: Stop, kind: str, why: Any):
    assert told(Ended(stop, None)) == [
        {"type": f"response.{kind}", "response": {**HEAD, "status": kind, "incomplete_details": why}}
    ]


@pytest.mark.parametrize(
    ("status", "code"),
    [(400, "invalid_prompt"), (429, "rate_limit_exceeded"), (500, "server_error"), (529, "server_error")],
)
def test_a_failure_is_a_response_that_failed(status: int, code: str):
    events = PartBegan(0, Text("")), Delta(0, "a"), PartEnded(0), Failed(Trouble(status, "m", "x"))
    found = told(*events)

    assert found[-1]["type"] == "response.failed"
    assert found[-1]["response"]["error"] == {"code": code, "message": "m"}
    assert (found[-1]["response"]["status"], len(found[-1]["response"]["output"])) == ("failed", 1)


def test_a_failure_before_anything_is_an_error():
    assert written(ResponsesWriter(ASKED), Failed(Trouble(429, "m", "x", "p"))) == [
        {"type": "error", "code": "x", "message": "m", "param": "p", "sequence_number": 0}
    ]
