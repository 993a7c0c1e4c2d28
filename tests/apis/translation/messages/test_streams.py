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
from wissel.apis.translation.messages.streams import MessagesReader, MessagesWriter
from wissel.core.outcome import Usage

HEAD = {
    "id": "msg_1",
    "model": "claude",
    "usage": {"input_tokens": 3, "cache_read_input_tokens": 4, "output_tokens": 1},
}
START = {"type": "message_start", "message": HEAD}
STOP = {"type": "message_stop"}
BEGAN = Started("msg_1", "claude", 0, Usage(7, 1, 4))


def start(index: Any, **block: Any) -> dict[str, Any]:
    return {"type": "content_block_start", "index": index, "content_block": block}


def delta(index: Any, kind: Any, **told: Any) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": {"type": kind, **told}}


def stop(index: Any) -> dict[str, Any]:
    return {"type": "content_block_stop", "index": index}


def finish(reason: Any, usage: Any = None, **more: Any) -> dict[str, Any]:
    return {"type": "message_delta", "delta": {"stop_reason": reason, **more}, "usage": usage}


def after_start(*said: dict[str, Any]) -> list[Event]:
    events = heard(MessagesReader(ASKED), START, *said)
    assert events[0] == BEGAN
    return events[1:]


# From a message's events.


def test_blocks_are_parts():
    assert after_start(
        start(0, type="thinking", thinking="", signature=""),
        {"type": "ping"},
        delta(0, "thinking_delta", thinking="hm"),
        delta(0, "signature_delta", signature="s"),
        stop(0),
        start(1, type="text", text=""),
        delta(1, "text_delta", text="a"),
        delta(1, "citations_delta", citation={}),
        stop(1),
        start(2, type="redacted_thinking", data="d"),
        stop(2),
        start(3, type="tool_use", id="toolu_1", name="f", input={}),
        delta(3, "input_json_delta", partial_json=""),
        delta(3, "input_json_delta", partial_json="{}"),
        stop(3),
    ) == [
        PartBegan(0, Reasoning("")),
        Delta(0, "hm"),
        Signed(0, "s"),
        PartEnded(0),
        PartBegan(1, Text("")),
        Delta(1, "a"),
        PartEnded(1),
        PartBegan(2, Reasoning("", hidden="d")),
        PartEnded(2),
        PartBegan(3, ToolCall("toolu_1", "f", "")),
        Delta(3, "{}"),
        PartEnded(3),
    ]


def test_a_block_may_begin_with_what_it_says():
    assert after_start(
        start(0, type="text", text="a"), stop(0), start(1, type="thinking", thinking="hm", signature="s"), stop(1)
    ) == [
        PartBegan(0, Text("")),
        Delta(0, "a"),
        PartEnded(0),
        PartBegan(1, Reasoning("")),
        Delta(1, "hm"),
        Signed(1, "s"),
        PartEnded(1),
    ]


def test_input_that_comes_at_once_is_told_where_no_pieces_follow():
    at_once = start(0, type="tool_use", id="1", name="f", input={"a": 1})
    began = PartBegan(0, ToolCall("1", "f", ""))

    assert after_start(at_once, stop(0)) == [began, Delta(0, '{"a":1}'), PartEnded(0)]
    assert after_start(at_once, delta(0, "input_json_delta", partial_json="{}"), stop(0)) == [
        began, Delta(0, "{}"), PartEnded(0),
    ]  # fmt: skip
    assert after_start(at_once, STOP)[1:] == [Delta(0, '{"a":1}'), PartEnded(0), Ended(END, Usage(7, 1, 4))]


def test_blocks_of_anthropics_own_tools_are_left_out_and_the_numbers_go_on():
    assert after_start(
        start(0, type="server_tool_use", id="1", name="web_search", input={}),
        delta(0, "input_json_delta", partial_json="{}"),
        stop(0),
        start(1, type="text", text=""),
        delta(1, "text_delta", text="a"),
    ) == [PartBegan(0, Text("")), Delta(0, "a")]


@pytest.mark.parametrize(
    "said",
    [
        delta(9, "text_delta", text="a"),
        delta([], "text_delta", text="a"),
        delta(0, [], text="a"),
        delta(0, "text_delta", text=7),
        delta(0, "text_delta", text=""),
        delta(0, "signature_delta", signature=""),
        delta(0, "signature_delta", signature=7),
        delta(0, None),
        stop(9),
        stop({}),
        start({}, type=[]),
        {"type": []},
        {"type": "something_new"},
        {},
        START,
    ],
)
def test_what_is_not_understood_says_nothing(said: dict[str, Any]):
    assert after_start(start(0, type="text", text=""), said) == [PartBegan(0, Text(""))]


def test_a_call_without_an_id_is_named_after_the_answer():
    assert after_start(start(0, type="text", text=""), start(1, type="tool_use", name="f"))[1] == PartBegan(
        1, ToolCall("toolu_msg_1_1", "f", "")
    )
    assert heard(MessagesReader(ASKED), start(0, type="tool_use", name="f")) == [
        Started("", "", 0, None), PartBegan(0, ToolCall("toolu_req-1_0", "f", "")),
    ]  # fmt: skip


def test_a_message_may_begin_without_saying_so():
    assert heard(MessagesReader(ASKED), STOP) == [Started("", "", 0, None), Ended(END, None)]
    assert heard(MessagesReader(ASKED), {"type": "message_start"}) == [Started("", "", 0, None)]


def test_usage_is_cumulative_and_what_a_later_one_leaves_out_stays():
    assert after_start(
        finish("max_tokens", {"output_tokens": 9}),
        finish(None, {"output_tokens": 12, "input_tokens": 2, "output_tokens_details": {"thinking_tokens": 5}}),
        STOP,
    ) == [Ended(Stop("length"), Usage(6, 12, 4, 5))]


def test_at_what_it_stopped():
    assert after_start(finish("stop_sequence", stop_sequence="END"), STOP) == [
        Ended(Stop("sequence", "END"), Usage(7, 1, 4))
    ]


def test_an_error_is_the_end():
    said = {"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}

    assert after_start(said) == [Failed(Trouble(529, "busy", "overloaded_error"))]


def test_a_stream_without_its_last_event_is_whole_only_where_it_told_why_it_stopped():
    cut, whole = MessagesReader(ASKED), MessagesReader(ASKED)
    heard(cut, START, start(0, type="text", text=""))
    heard(whole, START, start(0, type="text", text=""), finish("end_turn"))

    assert whole.finish() == [PartEnded(0), Ended(END, Usage(7, 1, 4))]
    with pytest.raises(CutError, match="the stream was cut before the answer had ended"):
        cut.finish()


def test_no_event_says_anything_again():
    assert not MessagesReader(ASKED).repeats(STOP)


# To a message's events.


def told(*events: Event) -> list[Any]:
    return written(MessagesWriter(ASKED), *events)


MESSAGE = {
    "id": "a-1",
    "type": "message",
    "role": "assistant",
    "model": "claude",
    "content": [],
    "stop_reason": None,
    "stop_sequence": None,
}


def counts(read: int, wrote: int, **more: int) -> dict[str, int]:
    return {
        "input_tokens": read,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "output_tokens": wrote,
    } | more


def test_it_starts_with_the_prompts_estimate_where_nothing_was_counted():
    assert told(Started("a-1", "claude", 3, None)) == [
        {"type": "message_start", "message": {**MESSAGE, "usage": counts(7, 0)}}
    ]


def test_it_starts_with_what_was_counted():
    assert told(Started("a-1", "claude", 3, Usage(9, 1, 4, 0, 2)))[0]["message"]["usage"] == counts(
        3, 1, cache_creation_input_tokens=2, cache_read_input_tokens=4
    )


def test_what_is_not_told_of_an_answer_is_taken_of_the_request():
    message = told(Started("", "", 0, None))[0]["message"]

    assert (message["id"], message["model"]) == ("msg_req-1", "asked")


def test_events_have_their_names():
    writer = MessagesWriter(ASKED)
    text = writer.write(PartBegan(0, Text(""))) + writer.write(Delta(0, "a")) + writer.write(PartEnded(0))

    assert [line for line in text.split("\n") if line.startswith("event")] == [
        "event: content_block_start", "event: content_block_delta", "event: content_block_stop",
    ]  # fmt: skip


def test_parts_are_blocks():
    assert told(
        PartBegan(0, Reasoning("")), Delta(0, "hm"), Signed(0, "s"), PartEnded(0),
        PartBegan(1, Reasoning("", hidden="d")), PartEnded(1),
        PartBegan(2, Text("")), Delta(2, 'a"'), PartEnded(2),
        PartBegan(3, ToolCall("1", "f", "")), Delta(3, "{}"), PartEnded(3),
    ) == [
        start(0, type="thinking", thinking="", signature=""),
        delta(0, "thinking_delta", thinking="hm"),
        delta(0, "signature_delta", signature="s"),
        stop(0),
        start(1, type="redacted_thinking", data="d"),
        stop(1),
        start(2, type="text", text=""),
        delta(2, "text_delta", text='a"'),
        stop(2),
        start(3, type="tool_use", id="1", name="f", input={}),
        delta(3, "input_json_delta", partial_json="{}"),
        stop(3),
    ]  # fmt: skip


def test_what_comes_while_a_block_is_open_waits_for_its_end():
    first = [
        PartBegan(0, ToolCall("1", "f", "")), PartBegan(1, ToolCall("2", "g", "")), Delta(1, "{"), Delta(0, "{"),
        PartBegan(2, Reasoning("")), Delta(2, "h"), Delta(2, "m"), Signed(2, "s"), PartEnded(2),
        PartBegan(3, Text("")), Delta(1, "}"),
    ]  # fmt: skip
    one = [start(0, type="tool_use", id="1", name="f", input={}), delta(0, "input_json_delta", partial_json="{")]
    two = [
        stop(0),
        start(1, type="tool_use", id="2", name="g", input={}),
        delta(1, "input_json_delta", partial_json="{}"),
    ]
    rest = [
        stop(1),
        start(2, type="thinking", thinking="", signature=""),
        delta(2, "thinking_delta", thinking="hm"),
        delta(2, "signature_delta", signature="s"),
        stop(2),
        start(3, type="text", text=""),
    ]

    assert told(*first) == one
    assert told(*first, PartEnded(0)) == one + two
    assert told(*first, PartEnded(0), PartEnded(1)) == one + two + rest
    assert told(*first, PartEnded(1), PartEnded(0), Delta(3, "a")) == [
        *one,
        *two,
        *rest,
        delta(3, "text_delta", text="a"),
    ]


def test_the_end_is_told_once_with_all_counts():
    assert told(Ended(Stop("sequence", "END"), Usage(9, 4, 0, 3))) == [
        {
            "type": "message_delta",
            "delta": {"stop_reason": "stop_sequence", "stop_sequence": "END"},
            "usage": counts(9, 4) | {"output_tokens_details": {"thinking_tokens": 3}},
        },
        STOP,
    ]


def test_counts_that_nobody_told_are_estimated_by_what_was_said():
    events = PartBegan(0, Text("")), Delta(0, "abc"), Delta(0, "d"), PartEnded(0), Ended(END, None)

    assert told(*events)[-2]["usage"] == counts(7, 1)


@pytest.mark.parametrize(("reason", "name"), [(END, "refusal"), (Stop("length"), "max_tokens")])
def test_words_of_refusal_are_a_reason_to_stop(reason: Stop, name: str):
    events = PartBegan(0, Declined("")), Delta(0, "no"), PartEnded(0), PartBegan(1, Text("")), PartEnded(1)
    found = told(*events, Ended(reason, None))

    assert found[:3] == [start(0, type="text", text=""), delta(0, "text_delta", text="no"), stop(0)]
    assert found[-2]["delta"]["stop_reason"] == name


def test_a_failure_is_an_error_and_no_end():
    assert told(Failed(Trouble(503, "m"))) == [
        {"type": "error", "error": {"type": "overloaded_error", "message": "m"}, "request_id": None}
    ]
    assert MessagesWriter(ASKED).write(Failed(Trouble(503, "m"))).startswith("event: error\ndata: {")
