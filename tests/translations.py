"""What the tests of translation share: answers as events and back, recorded streams, and what is kept of a meaning."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from wissel.apis.sse import Splitter, data_of
from wissel.apis.translation.dialect import EventReader, EventWriter
from wissel.apis.translation.form import (
    Declined,
    Delta,
    Ended,
    Event,
    Occasion,
    Part,
    PartBegan,
    PartEnded,
    Reason,
    Reasoning,
    Signed,
    Started,
    Stop,
    Text,
    ToolCall,
    WholeAnswer,
)
from wissel.core.outcome import Usage

ASKED = Occasion(id="req-1", model="asked", now=5, input_tokens=7)


def sse(*said: dict[str, Any] | str) -> bytes:
    """Events as their servers send them."""
    return b"".join(f"data: {each if isinstance(each, str) else json.dumps(each)}\n\n".encode() for each in said)


def said_in(stream: bytes | str) -> list[Any]:
    """What the events of a stream say, each as JSON; `[DONE]` as a text."""
    splitter = Splitter()
    raw = [piece.raw for piece in splitter.feed(stream if isinstance(stream, bytes) else stream.encode())]
    assert not splitter.rest
    return [data if (data := data_of(each).decode()) == "[DONE]" else json.loads(data) for each in raw]


def heard(reader: EventReader, *said: dict[str, Any]) -> list[Event]:
    """Events that a reader hears in these."""
    return [event for each in said for event in reader.read(each)]


def written(writer: EventWriter, *events: Event) -> list[Any]:
    return said_in("".join(writer.write(event) for event in events))


def text_of(part: Part) -> str:
    return part.arguments if isinstance(part, ToolCall) else part.text


def bare(part: Part) -> Part:
    match part:
        case ToolCall():
            return replace(part, arguments="")
        case Reasoning():
            return Reasoning("", hidden=part.hidden)
        case _:
            return replace(part, text="")


def told(answer: WholeAnswer, sizes: Sequence[int] = (3,)) -> Iterator[Event]:
    """A whole answer as events, its texts in pieces of these sizes in turn."""
    yield Started(answer.id, answer.model, answer.created, None)
    for index, part in enumerate(answer.parts):
        yield PartBegan(index, bare(part))
        text, at, turn = text_of(part), 0, 0
        while at < len(text):
            size = sizes[turn % len(sizes)]
            yield Delta(index, text[at : at + size])
            at, turn = at + size, turn + 1
        if isinstance(part, Reasoning) and part.signature:
            yield Signed(index, part.signature)
        yield PartEnded(index)
    yield Ended(answer.stop, answer.usage)


def gathered(events: Sequence[Event]) -> WholeAnswer:
    """A whole answer of the events of one; each comes where it may."""
    head, end = events[0], events[-1]
    assert isinstance(head, Started)
    assert isinstance(end, Ended)
    parts: dict[int, Part] = {}
    is_open: set[int] = set()
    for event in events[1:-1]:
        match event:
            case PartBegan(index, part):
                assert index == len(parts)
                assert not text_of(part)
                parts[index] = part
                is_open.add(index)
            case Delta(index, text):
                assert text
                assert index in is_open
                part = parts[index]
                name = "arguments" if isinstance(part, ToolCall) else "text"
                parts[index] = replace(part, **{name: text_of(part) + text})
            case Signed(index, signature):
                part = parts[index]
                assert index in is_open
                assert isinstance(part, Reasoning)
                parts[index] = replace(part, signature=part.signature + signature)
            case PartEnded(index):
                is_open.remove(index)
            case _:
                raise AssertionError(event)
    assert not is_open
    return WholeAnswer(head.id, head.model, head.created, tuple(parts.values()), end.stop, end.usage)


def meaning(answer: WholeAnswer) -> dict[str, Any]:
    """What each format can say, in its own order."""
    calls = [(part.id, part.name, part.arguments or "{}") for part in answer.parts if isinstance(part, ToolCall)]
    thoughts = [part for part in answer.parts if isinstance(part, Reasoning)]
    usual = {"sequence": "end", "pause": "end", "context": "length"}
    reason = usual.get(answer.stop.reason, answer.stop.reason)
    if reason == "end" and any(isinstance(part, Declined) for part in answer.parts):
        reason = "refusal"
    return {
        "id": answer.id,
        "model": answer.model,
        "words": "".join(part.text for part in answer.parts if isinstance(part, Text | Declined)),
        "thoughts": "".join(thought.text for thought in thoughts),
        "seals": [thought.signature or thought.hidden for thought in thoughts],
        "calls": [(name, called, json.loads(arguments)) for name, called, arguments in calls],
        "reason": "tools" if calls and reason == "end" else reason,
        "usage": answer.usage,
    }


# Answers of any kind.

_words = st.text(min_size=1, max_size=12)
_objects = st.dictionaries(st.text(max_size=4), st.integers() | st.text(max_size=4) | st.booleans(), max_size=3)
_thoughts = st.builds(Reasoning, _words, st.sampled_from(["", "sig=="])) | st.builds(
    lambda data: Reasoning("", hidden=data), st.sampled_from(["a1", "b2"])
)


@st.composite
def usages(draw: st.DrawFn) -> Usage:
    output = draw(st.integers(1, 5000))
    cached, wrote, fresh = draw(st.integers(0, 5000)), draw(st.integers(0, 5000)), draw(st.integers(1, 5000))
    return Usage(cached + wrote + fresh, output, cached, draw(st.integers(0, output)), wrote)


@st.composite
def answers(draw: st.DrawFn) -> WholeAnswer:
    """As models answer: a thought, words, then a refusal or calls."""
    parts: list[Part] = draw(st.lists(_thoughts, max_size=1))
    parts += draw(st.lists(st.builds(Text, _words), max_size=2))
    declined = draw(st.lists(st.builds(Declined, _words), max_size=1))
    arguments = draw(st.lists(_objects, max_size=0 if declined else 3))
    parts += [*declined, *(ToolCall(f"call_{at}", f"f{at}", json.dumps(each)) for at, each in enumerate(arguments))]
    reasons: list[Reason] = (
        ["end", "length"] if declined else ["end", "sequence", "pause", "length", "context", "refusal"]
    )
    reason = draw(st.sampled_from(reasons))
    if arguments and reason == "end":
        reason = "tools"
    return WholeAnswer("a-1", "m-1", 9, tuple(parts), Stop(reason), draw(st.none() | usages()))


# Streams as providers send them.


def _chunk(delta: dict[str, Any], finish: str | None = None, **more: Any) -> dict[str, Any]:
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1_700_000_000, "model": "gpt"}
    return {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}], "usage": None, **more}


def _call(index: int, arguments: str, **named: Any) -> dict[str, Any]:
    function = {"arguments": arguments} | ({"name": named.pop("name")} if "name" in named else {})
    return {"tool_calls": [{"index": index, **named, "function": function}]}


CHAT_STREAM = sse(
    _chunk({"role": "assistant", "content": "", "refusal": None}),
    _chunk({"reasoning_content": "Hm, "}),
    _chunk({"reasoning_content": "Zürich."}),
    _chunk({"content": "Let me "}),
    _chunk({"content": "look 🌤."}),
    _chunk(_call(0, "", id="call_a", type="function", name="weather")),
    _chunk(_call(0, '{"city":')),
    _chunk(_call(0, '"Zürich"}')),
    _chunk(_call(1, "", id="call_b", type="function", name="time")),
    _chunk(_call(1, "{}")),
    _chunk({}, "tool_calls"),
    {
        **_chunk({}),
        "choices": [],
        "usage": {
            "prompt_tokens": 80,
            "completion_tokens": 30,
            "total_tokens": 110,
            "prompt_tokens_details": {"cached_tokens": 64},
            "completion_tokens_details": {"reasoning_tokens": 9},
        },
    },
    "[DONE]",
)


def _named(*said: dict[str, Any]) -> bytes:
    return b"".join(f"event: {each['type']}\r\ndata:{json.dumps(each)}\r\n\r\n".encode() for each in said)


def _block(index: int, kind: str, **more: Any) -> dict[str, Any]:
    if kind == "stop":
        return {"type": "content_block_stop", "index": index}
    if kind == "start":
        return {"type": "content_block_start", "index": index, "content_block": more}
    return {"type": "content_block_delta", "index": index, "delta": {"type": kind, **more}}


MESSAGES_STREAM = _named(
    {
        "type": "message_start",
        "message": {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": "claude",
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {
                "input_tokens": 6,
                "cache_creation_input_tokens": 10,
                "cache_read_input_tokens": 64,
                "output_tokens": 1,
            },
        },
    },
    _block(0, "start", type="thinking", thinking="", signature=""),
    {"type": "ping"},
    _block(0, "thinking_delta", thinking="Hm, "),
    _block(0, "thinking_delta", thinking="Zürich."),
    _block(0, "signature_delta", signature="EqQB"),
    _block(0, "stop"),
    _block(1, "start", type="text", text=""),
    _block(1, "text_delta", text="Let me "),
    _block(1, "text_delta", text="look 🌤."),
    _block(1, "stop"),
    _block(2, "start", type="tool_use", id="toolu_a", name="weather", input={}),
    _block(2, "input_json_delta", partial_json=""),
    _block(2, "input_json_delta", partial_json='{"city":'),
    _block(2, "input_json_delta", partial_json='"Zürich"}'),
    _block(2, "stop"),
    _block(3, "start", type="tool_use", id="toolu_b", name="time", input={}),
    _block(3, "stop"),
    {
        "type": "message_delta",
        "delta": {"stop_reason": "tool_use", "stop_sequence": None},
        "usage": {"output_tokens": 30, "output_tokens_details": {"thinking_tokens": 9}},
    },
    {"type": "message_stop"},
)


def _response(status: str, **more: Any) -> dict[str, Any]:
    head = {"id": "resp_1", "object": "response", "created_at": 1_700_000_000, "model": "gpt", "status": status}
    return {**head, "output": [], "parallel_tool_calls": True, "tool_choice": "auto", "tools": [], **more}


_AT: dict[str, Any] = {"item_id": "m1", "output_index": 1, "content_index": 0}
_THOUGHT = {"type": "reasoning", "id": "r1", "summary": [{"type": "summary_text", "text": "Hm, Zürich."}]}
_WORDS = {"type": "output_text", "text": "Let me look 🌤.", "annotations": []}
_MESSAGE = {"type": "message", "id": "m1", "role": "assistant", "status": "completed"}
_CALL_A = {"type": "function_call", "id": "f1", "call_id": "call_a", "name": "weather"}
_CALL_B = {"type": "function_call", "id": "f2", "call_id": "call_b", "name": "time"}
_SUMMARY: dict[str, Any] = {"item_id": "r1", "output_index": 0, "summary_index": 0}
_ITEMS: list[dict[str, Any]] = [
    {**_THOUGHT, "encrypted_content": "gAAA"},
    {**_MESSAGE, "content": [_WORDS]},
    {**_CALL_A, "arguments": '{"city":"Zürich"}', "status": "completed"},
    {**_CALL_B, "arguments": "{}", "status": "completed"},
]
_COUNTS = {
    "input_tokens": 80,
    "input_tokens_details": {"cached_tokens": 64, "cache_write_tokens": 10},
    "output_tokens": 30,
    "output_tokens_details": {"reasoning_tokens": 9},
    "total_tokens": 110,
}

RESPONSES_EVENTS: list[dict[str, Any]] = [
    {"sequence_number": number, **each}
    for number, each in enumerate(
        [
            {"type": "response.created", "response": _response("in_progress")},
            {"type": "response.in_progress", "response": _response("in_progress")},
            {"type": "response.output_item.added", "output_index": 0, "item": {**_THOUGHT, "summary": []}},
            {"type": "response.reasoning_summary_part.added", **_SUMMARY, "part": {"type": "summary_text", "text": ""}},
            {"type": "response.reasoning_summary_text.delta", **_SUMMARY, "delta": "Hm, "},
            {"type": "response.reasoning_summary_text.delta", **_SUMMARY, "delta": "Zürich."},
            {"type": "response.reasoning_summary_text.done", **_SUMMARY, "text": "Hm, Zürich."},
            {"type": "response.output_item.done", "output_index": 0, "item": _ITEMS[0]},
            {"type": "response.output_item.added", "output_index": 1, "item": {**_MESSAGE, "content": []}},
            {"type": "response.content_part.added", **_AT, "part": {**_WORDS, "text": ""}},
            {"type": "response.output_text.delta", **_AT, "delta": "Let me "},
            {"type": "response.output_text.delta", **_AT, "delta": "look 🌤."},
            {"type": "response.output_text.done", **_AT, "text": "Let me look 🌤."},
            {"type": "response.content_part.done", **_AT, "part": _WORDS},
            {"type": "response.output_item.done", "output_index": 1, "item": _ITEMS[1]},
            {"type": "response.output_item.added", "output_index": 2, "item": {**_CALL_A, "arguments": ""}},
            {"type": "response.function_call_arguments.delta", "item_id": "f1", "output_index": 2, "delta": '{"city":'},
            {
                "type": "response.function_call_arguments.delta",
                "item_id": "f1",
                "output_index": 2,
                "delta": '"Zürich"}',
            },
            {"type": "response.function_call_arguments.done", "output_index": 2, "arguments": '{"city":"Zürich"}'},
            {"type": "response.output_item.done", "output_index": 2, "item": _ITEMS[2]},
            {"type": "response.output_item.added", "output_index": 3, "item": {**_CALL_B, "arguments": ""}},
            {"type": "response.function_call_arguments.delta", "item_id": "f2", "output_index": 3, "delta": "{}"},
            {"type": "response.output_item.done", "output_index": 3, "item": _ITEMS[3]},
            {"type": "response.completed", "response": _response("completed", output=_ITEMS, usage=_COUNTS)},
        ]
    )
]

RECORDED = {"chat": CHAT_STREAM, "messages": MESSAGES_STREAM, "responses": _named(*RESPONSES_EVENTS)}
"""By format: a thought, words, two calls."""

SPOKEN = {
    "chat": WholeAnswer(
        "chatcmpl-1",
        "gpt",
        1_700_000_000,
        (
            Reasoning("Hm, Zürich."),
            Text("Let me look 🌤."),
            ToolCall("call_a", "weather", '{"city":"Zürich"}'),
            ToolCall("call_b", "time", "{}"),
        ),
        Stop("tools"),
        Usage(80, 30, 64, 9),
    ),
    "messages": WholeAnswer(
        "msg_1",
        "claude",
        0,
        (
            Reasoning("Hm, Zürich.", "EqQB"),
            Text("Let me look 🌤."),
            ToolCall("toolu_a", "weather", '{"city":"Zürich"}'),
            ToolCall("toolu_b", "time", ""),
        ),
        Stop("tools"),
        Usage(80, 30, 64, 9, 10),
    ),
    "responses": WholeAnswer(
        "resp_1",
        "gpt",
        1_700_000_000,
        (
            Reasoning("Hm, Zürich.", "gAAA"),
            Text("Let me look 🌤."),
            ToolCall("call_a", "weather", '{"city":"Zürich"}'),
            ToolCall("call_b", "time", "{}"),
        ),
        Stop("tools"),
        Usage(80, 30, 64, 9, 10),
    ),
}
"""What they mean."""
