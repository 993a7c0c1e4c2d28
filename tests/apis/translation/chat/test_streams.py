from typing import Any

import pytest

from translations import ASKED, heard, written
from wissel.apis.translation.chat.streams import ChatReader, ChatWriter
from wissel.apis.translation.form import (
    END,
    CutError,
    Declined,
    Delta,
    Ended,
    Event,
    Failed,
    Occasion,
    PartBegan,
    PartEnded,
    Reason,
    Reasoning,
    Signed,
    Started,
    Stop,
    Text,
    ToolCall,
    Trouble,
)
from wissel.core.outcome import Usage

BEGAN = Started("c-1", "gpt", 3, None)


def chunk(delta: dict[str, Any], finish: Any = None, **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {"id": "c-1", "model": "gpt", "created": 3, "choices": [choice], **more}


def calls(*told: dict[str, Any]) -> dict[str, Any]:
    return chunk({"tool_calls": list(told)})


def piece(arguments: Any = None, *, name: Any = None, **more: Any) -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    return {**more, "function": {key: value for key, value in function.items() if value is not None}}


def heard_to_the_end(*said: dict[str, Any]) -> list[Event]:
    reader = ChatReader(ASKED)
    return heard(reader, *said) + reader.end()


def after_start(*said: dict[str, Any]) -> list[Event]:
    events = heard_to_the_end(*said)
    assert events[0] == BEGAN
    return events[1:]


# From chunks.


def test_words_are_one_part_until_something_else_is_said():
    assert after_start(
        chunk({"role": "assistant", "content": ""}),
        chunk({"reasoning_content": "h"}),
        chunk({"reasoning": "m"}),
        chunk({"content": "a"}),
        chunk({"content": "b"}),
        chunk({"refusal": "n"}),
        chunk({"content": None, "refusal": "o"}),
        chunk({}, "stop"),
    ) == [
        PartBegan(0, Reasoning("")),
        Delta(0, "h"),
        Delta(0, "m"),
        PartEnded(0),
        PartBegan(1, Text("")),
        Delta(1, "a"),
        Delta(1, "b"),
        PartEnded(1),
        PartBegan(2, Declined("")),
        Delta(2, "n"),
        Delta(2, "o"),
        PartEnded(2),
        Ended(END, None),
    ]


def test_the_start_waits_for_the_first_choice():
    azure = {"id": "", "model": "", "created": 0, "choices": [], "prompt_filter_results": []}

    assert heard(ChatReader(ASKED), azure) == []
    assert heard(ChatReader(ASKED), azure, {"choices": None}, {"choices": {}}, chunk({})) == [BEGAN]


def test_a_stream_that_says_nothing_but_its_end_is_an_empty_answer():
    assert ChatReader(ASKED).end() == [Started("", "", 0, None), Ended(END, None)]


def test_what_is_no_choice_says_nothing():
    assert heard(ChatReader(ASKED), {"choices": [7]}) == [Started("", "", 0, None)]


def test_mistrals_content_comes_in_parts():
    thought = {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}, {"type": "text", "text": ""}]}

    assert after_start(chunk({"content": [thought, {"type": "text", "text": "a"}, {"type": "text", "text": ""}]})) == [
        PartBegan(0, Reasoning("")),
        Delta(0, "hm"),
        PartEnded(0),
        PartBegan(1, Text("")),
        Delta(1, "a"),
        PartEnded(1),
        Ended(END, None),
    ]


def test_a_signature_ends_its_thought():
    block = {"type": "thinking", "thinking": "hm", "signature": "s"}

    assert after_start(
        chunk({"reasoning_content": "hm"}), chunk({"thinking_blocks": [block]}), chunk({"reasoning_content": "so"})
    ) == [
        PartBegan(0, Reasoning("")),
        Delta(0, "hm"),
        Signed(0, "s"),
        PartEnded(0),
        PartBegan(1, Reasoning("")),
        Delta(1, "so"),
        PartEnded(1),
        Ended(END, None),
    ]


def test_blocks_are_the_thought_where_it_is_not_told_as_text():
    said = [{"type": "thinking", "thinking": text} for text in ("h", "m", "")]

    assert after_start(*(chunk({"thinking_blocks": [block]}) for block in said)) == [
        PartBegan(0, Reasoning("")),
        Delta(0, "h"),
        Delta(0, "m"),
        PartEnded(0),
        Ended(END, None),
    ]


def test_a_hidden_thought_is_a_part_of_its_own():
    block = {"type": "redacted_thinking", "data": "d"}

    assert after_start(chunk({"content": "a", "thinking_blocks": [block]}), chunk({"content": "b"})) == [
        PartBegan(0, Reasoning("", hidden="d")),
        PartEnded(0),
        PartBegan(1, Text("")),
        Delta(1, "a"),
        Delta(1, "b"),
        PartEnded(1),
        Ended(END, None),
    ]


A, B = ToolCall("call_a", "f", ""), ToolCall("call_b", "g", "")
BOTH = Ended(Stop("tools"), None)


def test_a_call_ends_when_the_next_begins_and_its_arguments_are_whole():
    assert after_start(
        chunk({"content": "a"}),
        calls(piece("", name="f", index=0, id="call_a")),
        calls(piece('{"a":', index=0)),
        calls(piece("1}", index=0)),
        calls(piece("{}", name="g", index=1, id="call_b")),
        chunk({}, "tool_calls"),
    ) == [
        PartBegan(0, Text("")),
        Delta(0, "a"),
        PartEnded(0),
        PartBegan(1, A),
        Delta(1, '{"a":'),
        Delta(1, "1}"),
        PartEnded(1),
        PartBegan(2, B),
        Delta(2, "{}"),
        PartEnded(2),
        BOTH,
    ]


def test_calls_whose_arguments_come_in_turns_stay_open():
    assert after_start(
        calls(piece("", name="f", index=0, id="call_a"), piece("", name="g", index=1, id="call_b")),
        calls(piece("{", index=0), piece("{", index=1)),
        calls(piece("}", index=1), piece("}", index=0)),
    ) == [
        PartBegan(0, A),
        PartBegan(1, B),
        Delta(0, "{"),
        Delta(1, "{"),
        Delta(1, "}"),
        Delta(0, "}"),
        PartEnded(0),
        PartEnded(1),
        BOTH,
    ]


@pytest.mark.parametrize("arguments", ["", "{", "[]", "1", "[" * 100_000])
def test_what_is_no_whole_object_may_go_on(arguments: str):
    events = after_start(
        calls(piece(arguments, name="f", index=0, id="call_a")), calls(piece("", name="g", index=1, id="call_b"))
    )

    assert [event for event in events if not isinstance(event, Delta)] == [
        PartBegan(0, A), PartBegan(1, B), PartEnded(0), PartEnded(1), BOTH,
    ]  # fmt: skip


def test_words_behind_a_whole_call_end_it():
    assert after_start(calls(piece("{}", name="f", index=0, id="call_a")), chunk({"content": "a"})) == [
        PartBegan(0, A),
        Delta(0, "{}"),
        PartEnded(0),
        PartBegan(1, Text("")),
        Delta(1, "a"),
        PartEnded(1),
        BOTH,
    ]


ONE_CALL = [PartBegan(0, A), Delta(0, '{"a":'), Delta(0, "1}"), PartEnded(0), BOTH]


@pytest.mark.parametrize(
    "second",
    [
        piece("1}", index=0, id="call_a", name="f"),
        piece("1}", index=0, id="call_a"),
        piece("1}", index=0, id="", name="f"),
        piece("1}", index=0, id=None, name=""),
        piece("1}", id="call_a"),
        piece("1}"),
    ],
)
def test_pieces_find_their_call_however_they_name_it(second: dict[str, Any]):
    index = {"index": 0} if "index" in second else {}

    assert after_start(calls(piece('{"a":', name="f", id="call_a", **index)), calls(second)) == ONE_CALL


TWO_CALLS = [PartBegan(0, A), Delta(0, "{}"), PartEnded(0), PartBegan(1, B), Delta(1, "{}"), PartEnded(1), BOTH]


def test_several_calls_may_have_one_number_or_none():
    numbered = [
        calls(piece("{}", name="f", index=0, id="call_a")),
        calls(piece("{", name="g", index=0, id="call_b")),
        calls(piece("}", index=0)),
    ]
    unnumbered = [calls(piece("{}", name="f", id="call_a"), piece("{}", name="g", id="call_b"))]

    assert after_start(*unnumbered) == TWO_CALLS
    assert after_start(*numbered) == [*TWO_CALLS[:4], Delta(1, "{"), Delta(1, "}"), *TWO_CALLS[5:]]


@pytest.mark.parametrize("number", [{}, {"index": 0}])
@pytest.mark.parametrize("second", ["f", "g"])
def test_calls_without_ids_are_told_apart_and_named(number: dict[str, Any], second: str):
    said = [calls(piece("{}", name=name, **number)) for name in ("f", second)]

    assert after_start(*said) == [
        PartBegan(0, ToolCall("call_c-1_0", "f", "")),
        Delta(0, "{}"),
        PartEnded(0),
        PartBegan(1, ToolCall("call_c-1_1", second, "")),
        Delta(1, "{}"),
        PartEnded(1),
        BOTH,
    ]


def test_a_call_in_an_answer_without_a_name_is_named_after_the_request():
    events = heard_to_the_end({"choices": [{"delta": {"tool_calls": [piece("", name="f", index=0)]}}]})

    assert events[1] == PartBegan(0, ToolCall("call_req-1_0", "f", ""))


def test_arguments_may_be_an_object():
    assert after_start(calls(piece({"a": 1}, name="f", index=0, id="call_a")))[1] == Delta(0, '{"a":1}')


def test_a_function_call_of_old_is_a_call():
    assert after_start(
        chunk({"function_call": {"name": "f", "arguments": ""}}),
        chunk({"function_call": {"arguments": "{}"}}, "function_call"),
    ) == [PartBegan(0, ToolCall("call_c-1_0", "f", "")), Delta(0, "{}"), PartEnded(0), BOTH]


def test_arguments_of_a_call_without_a_name_are_an_error():
    assert heard(ChatReader(ASKED), chunk({}), calls(piece("{", index=0, id="call_a"))) == [
        BEGAN,
        Failed(Trouble(502, "the provider's answer calls a tool and does not say which", "nameless_tool_call")),
    ]


def test_a_call_that_has_no_name_yet_is_waited_for():
    assert after_start(calls(piece("", index=0, id="call_a")), calls(piece("{}", index=0, id="call_a", name="f"))) == [
        PartBegan(0, A), Delta(0, "{}"), PartEnded(0), BOTH,
    ]  # fmt: skip


def test_only_space_may_follow_a_call_that_has_ended():
    both = [calls(piece("{}", name="f", index=0, id="call_a")), calls(piece("{}", name="g", index=1, id="call_b"))]

    assert after_start(*both, calls(piece(" \n", index=0))) == TWO_CALLS
    assert heard(ChatReader(ASKED), *both, calls(piece("}", index=0)))[-1] == Failed(
        Trouble(502, "the provider's answer goes on with a tool call that had ended", "tool_call_ended")
    )


@pytest.mark.parametrize(
    ("finish", "reason"),
    [
        ("stop", "end"),
        ("length", "length"),
        ("tool_calls", "tools"),
        ("content_filter", "refusal"),
        ("eos", "end"),
    ],
)
def test_why_it_stopped_is_told_at_the_end(finish: str, reason: Reason):
    assert after_start(chunk({}, finish), chunk({})) == [Ended(Stop(reason), None)]


def test_usage_comes_whenever_it_does():
    told = {"prompt_tokens": 9, "completion_tokens": 4}
    first = heard(ChatReader(ASKED), chunk({}, usage=told))
    last = after_start(chunk({}), {"choices": [], "usage": told})

    assert first == [Started("c-1", "gpt", 3, Usage(9, 4))]
    assert last == [Ended(END, Usage(9, 4))]


def test_an_error_is_the_end():
    assert heard(ChatReader(ASKED), {"error": {"message": "m", "code": 503}, "choices": [{}]}) == [
        Failed(Trouble(503, "m"))
    ]


def test_a_stream_without_its_last_mark_is_whole_only_where_it_told_why_it_stopped():
    cut, whole = ChatReader(ASKED), ChatReader(ASKED)
    heard(cut, chunk({"content": "a"}))
    heard(whole, chunk({"content": "a"}, "stop"))

    assert whole.finish() == [PartEnded(0), Ended(END, None)]
    with pytest.raises(CutError):
        cut.finish()


def test_no_chunk_says_anything_again():
    assert not ChatReader(ASKED).repeats(chunk({"content": "a"}))


# To chunks.


def said(delta: dict[str, Any], finish: str | None = None, **more: Any) -> dict[str, Any]:
    head = {"id": "a-1", "object": "chat.completion.chunk", "created": 3, "model": "gpt"}
    return {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}], **more}


QUIET = Occasion("req-1", "asked", 5, with_usage=False)
HEAD = Started("a-1", "gpt", 3, None)
ROLE = said({"role": "assistant", "content": ""})


def told(*events: Event) -> list[Any]:
    found = written(ChatWriter(QUIET), HEAD, *events)
    assert found[0] == ROLE
    return found[1:]


def test_what_is_not_told_of_an_answer_is_taken_of_the_request():
    assert written(ChatWriter(QUIET), Started("", "", 0, None)) == [
        {**ROLE, "id": "chatcmpl-req-1", "created": 5, "model": "asked"}
    ]


def test_words_are_written_as_deltas():
    assert told(
        PartBegan(0, Reasoning("")), Delta(0, "hm"), PartEnded(0), PartBegan(1, Text("")), Delta(1, 'a"'),
        PartEnded(1), PartBegan(2, Declined("")), Delta(2, "no"), PartEnded(2),
    ) == [said({"reasoning_content": "hm"}), said({"content": 'a"'}), said({"refusal": "no"})]  # fmt: skip


def test_a_signed_thought_is_told_again_as_it_can_be_sent_back():
    events = PartBegan(0, Reasoning("")), Delta(0, "h"), Delta(0, "m"), Signed(0, "s"), PartEnded(0)
    block = {"type": "thinking", "thinking": "hm", "signature": "s"}

    assert told(*events) == [
        said({"reasoning_content": "h"}), said({"reasoning_content": "m"}), said({"thinking_blocks": [block]}),
    ]  # fmt: skip


def test_a_hidden_thought_is_told_as_its_data():
    assert told(PartBegan(0, Reasoning("", hidden="d")), PartEnded(0)) == [
        said({"thinking_blocks": [{"type": "redacted_thinking", "data": "d"}]})
    ]


def test_calls_are_numbered_and_their_arguments_come_in_turns():
    first = {"index": 0, "id": "1", "type": "function", "function": {"name": "f", "arguments": ""}}
    second = {"index": 1, "id": "2", "type": "function", "function": {"name": "g", "arguments": ""}}

    assert told(
        PartBegan(0, ToolCall("1", "f", "")), PartBegan(1, ToolCall("2", "g", "")), Delta(1, "{"), Delta(0, '{"'),
        Delta(1, "}"), PartEnded(1),
    ) == [
        said({"tool_calls": [first]}),
        said({"tool_calls": [second]}),
        said({"tool_calls": [{"index": 1, "function": {"arguments": "{"}}]}),
        said({"tool_calls": [{"index": 0, "function": {"arguments": '{"'}}]}),
        said({"tool_calls": [{"index": 1, "function": {"arguments": "}"}}]}),
    ]  # fmt: skip


def test_a_call_without_arguments_has_an_empty_object():
    found = told(PartBegan(0, Text("")), PartEnded(0), PartBegan(1, ToolCall("1", "f", "")), PartEnded(1))

    assert found[1:] == [said({"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]})]


def test_the_end_tells_why_and_nothing_of_usage_unless_it_was_asked():
    assert told(Ended(Stop("length"), Usage(9, 4))) == [said({}, "length"), "[DONE]"]


def test_usage_comes_last_and_every_chunk_before_says_that_it_is_not_there():
    counts = {
        "prompt_tokens": 9,
        "completion_tokens": 4,
        "total_tokens": 13,
        "prompt_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0},
    }
    events = HEAD, PartBegan(0, Text("")), Delta(0, "a"), PartEnded(0), Ended(END, Usage(9, 4))

    assert written(ChatWriter(ASKED), *events) == [
        said({"role": "assistant", "content": ""}, usage=None),
        said({"content": "a"}, usage=None),
        said({}, "stop", usage=None),
        {**said({}), "choices": [], "usage": counts},
        "[DONE]",
    ]


def test_usage_that_nobody_told_is_not_made_up():
    assert written(ChatWriter(ASKED), HEAD, Ended(END, None))[1:] == [said({}, "stop", usage=None), "[DONE]"]


def test_a_failure_is_an_error_and_no_end():
    error = {"message": "m", "type": "server_error", "param": None, "code": None}

    assert told(Failed(Trouble(529, "m"))) == [{"error": error}]
