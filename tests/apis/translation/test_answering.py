"""Answers and streams of every format in the words of every other."""

import json
import pkgutil
from collections.abc import Iterator
from contextlib import suppress
from copy import deepcopy
from dataclasses import replace
from itertools import pairwise
from random import Random
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, TypeAdapter

from translations import ASKED, RECORDED, SPOKEN, answers, gathered, meaning, said_in, sse, told
from wissel.apis.answers import reader_for
from wissel.apis.simulated import SEAL, Answer
from wissel.apis.sse import MAX_EVENT_BYTES
from wissel.apis.table import APIS
from wissel.apis.translation import answering
from wissel.apis.translation.answering import StreamTranslation, events_of, translated_answer, translated_error
from wissel.apis.translation.dialects import DIALECTS
from wissel.apis.translation.form import (
    COST_OF_EVENT,
    COST_OF_PART,
    TOO_LONG,
    CutError,
    Ended,
    Event,
    Failed,
    Occasion,
    WholeAnswer,
)
from wissel.core.outcome import Usage

SIMULATED = Answer("qwen", 7, {"model": "m", "stream_options": {"include_usage": True}}, "hi you", created=9)
PAIRS = [(spoken, wanted) for spoken in DIALECTS for wanted in DIALECTS]


def translation(spoken: str, wanted: str, occasion: Occasion = ASKED) -> StreamTranslation:
    return StreamTranslation(occasion, spoken=DIALECTS[spoken], wanted=DIALECTS[wanted])


def translated(stream: bytes, spoken: str, wanted: str, occasion: Occasion = ASKED) -> bytes:
    one = translation(spoken, wanted, occasion)
    return one.feed(stream) + one.finish()


def spoken_in(name: str, answer: WholeAnswer, sizes: list[int] = [4]) -> bytes:  # noqa: B006  # is only read
    """A stream of it."""
    writer = DIALECTS[name].writer(ASKED)
    return "".join(writer.write(event) for event in told(answer, sizes)).encode()


def heard_in(name: str, stream: bytes) -> list[Event]:
    reader = DIALECTS[name].reader(ASKED)
    return [event for each in said_in(stream) for event in (reader.end() if each == "[DONE]" else reader.read(each))]


def learned(api: str, body: bytes, kind: str) -> Any:
    """What wissel itself learns of a body."""
    reader = reader_for(APIS[api], {"content-type": kind}, strip=False)
    assert reader
    reader.feed(body, now=1.0)
    reader.finish()
    found = reader.found
    return found.usage, found.error, found.ended, found.model, found.seen_bytes


# What wissel's own readers hear.


@pytest.mark.parametrize(("spoken", "wanted"), PAIRS)
def test_what_is_learned_of_a_stream_is_learned_of_its_translation(spoken: str, wanted: str):
    events = APIS[spoken].simulation.events
    assert events
    stream = b"".join(events(SIMULATED))

    assert learned(wanted, translated(stream, spoken, wanted), "text/event-stream") == (
        Usage(1, 9), "", True, "m", len(SIMULATED.text),
    )  # fmt: skip


@pytest.mark.parametrize(("spoken", "wanted"), PAIRS)
def test_what_is_learned_of_an_answer_is_learned_of_its_translation(spoken: str, wanted: str):
    whole = json.dumps(APIS[spoken].simulation.whole(SIMULATED)).encode()
    status, body = translated_answer(whole, ASKED, spoken=DIALECTS[spoken], wanted=DIALECTS[wanted])

    assert (status, *learned(wanted, body, "application/json")[:4]) == (200, Usage(1, 9), "", True, "m")


# Meaning.

SCRIPTS = ["simulate: thought, text, call, call", "simulate: refusal", "simulate: text, length", "simulate: call"]


def simulated(question: str) -> Answer:
    return Answer("qwen", 7, {"model": "m", "stream_options": {"include_usage": True}}, question, created=9)


def meant(api: str, answer: Answer) -> dict[str, Any]:
    """What a simulated answer means, by its script."""
    calls = [(each.name, json.loads(each.text)) for each in answer.of("call")]
    ended = {"done": "refusal" if answer.of("refusal") else "end", "length": "length", "tools": "tools"}[answer.ended]
    return {
        "words": "".join(each.text for each in answer.said if each.kind in {"text", "refusal"}),
        "thoughts": "".join(each.text for each in answer.of("thought")),
        "seals": [] if api == "chat" else [SEAL for _ in answer.of("thought")],
        "calls": calls,
        "reason": ended,
        "usage": Usage(answer.input_tokens, answer.output_tokens, 0, answer.thought_tokens),
    }


def found(answer: WholeAnswer) -> dict[str, Any]:
    all_of_it = meaning(answer)
    del all_of_it["id"], all_of_it["model"]
    all_of_it["calls"] = [(name, arguments) for _, name, arguments in all_of_it["calls"]]
    all_of_it["seals"] = [seal for seal in all_of_it["seals"] if seal]
    return all_of_it


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize(("spoken", "wanted"), PAIRS)
def test_what_is_simulated_means_the_same_in_every_format(spoken: str, wanted: str, script: str):
    answer = simulated(script)
    simulation, read = APIS[spoken].simulation, DIALECTS[wanted].read_answer
    assert simulation.events
    stream = translated(b"".join(simulation.events(answer)), spoken, wanted)
    whole = json.dumps(simulation.whole(answer)).encode()
    _, body = translated_answer(whole, ASKED, spoken=DIALECTS[spoken], wanted=DIALECTS[wanted])
    once = read(json.loads(body), ASKED)

    assert once
    assert found(once) == found(gathered(heard_in(wanted, stream))) == meant(spoken, answer)


@pytest.mark.parametrize("name", DIALECTS)
def test_a_recorded_stream_is_understood(name: str):
    assert gathered(heard_in(name, RECORDED[name])) == SPOKEN[name]


@pytest.mark.parametrize(("spoken", "wanted"), PAIRS)
def test_a_recorded_stream_means_the_same_in_every_format(spoken: str, wanted: str):
    there = translated(RECORDED[spoken], spoken, wanted)

    assert meaning(gathered(heard_in(wanted, there))) == meaning(SPOKEN[spoken])


@pytest.mark.parametrize(("first", "second"), PAIRS)
@given(answer=answers())
@settings(max_examples=15)
def test_an_answer_keeps_its_meaning_there_and_back(first: str, second: str, answer: WholeAnswer):
    one, other = DIALECTS[first], DIALECTS[second]
    there = json.dumps(one.write_answer(answer, ASKED)).encode()
    status, over = translated_answer(there, ASKED, spoken=one, wanted=other)
    _, back = translated_answer(over, ASKED, spoken=other, wanted=one)
    read = one.read_answer(json.loads(back), ASKED)

    assert read
    assert (status, without_guess(answer, read)) == (200, meaning(answer))


@pytest.mark.parametrize(("first", "second"), PAIRS)
@given(answer=answers(), sizes=st.lists(st.integers(1, 9), min_size=1, max_size=3))
@settings(max_examples=15)
def test_a_stream_keeps_its_meaning_there_and_back(first: str, second: str, answer: WholeAnswer, sizes: list[int]):
    over = translated(spoken_in(first, answer, sizes), first, second)
    read = gathered(heard_in(first, translated(over, second, first)))

    assert without_guess(answer, read) == meaning(answer)


def without_guess(answer: WholeAnswer, read: WholeAnswer) -> dict[str, Any]:
    """Messages must tell a usage; where there was none they guess."""
    return meaning(replace(read, usage=answer.usage and read.usage))


# Bytes.


def cuts(data: bytes, places: list[int]) -> list[bytes]:
    borders = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in pairwise(borders)]


def cut_in_two(spoken: str, wanted: str, places: range) -> set[bytes]:
    """What comes of a recorded stream, cut at each of the places."""
    stream, found = RECORDED[spoken], set[bytes]()
    for at in places:
        one = translation(spoken, wanted)
        found.add(one.feed(stream[:at]) + one.feed(stream[at:]) + one.finish())
    return found


@pytest.mark.parametrize(("spoken", "wanted"), PAIRS)
def test_wherever_a_recorded_stream_is_cut_in_two_its_translation_is_the_same(spoken: str, wanted: str):
    places = range(0, len(RECORDED[spoken]), 7)

    assert cut_in_two(spoken, wanted, places) == {translated(RECORDED[spoken], spoken, wanted)}


@pytest.mark.slow
@pytest.mark.parametrize("spoken", DIALECTS)
def test_a_recorded_stream_may_be_cut_at_every_byte(spoken: str):
    places = range(len(RECORDED[spoken]))

    assert cut_in_two(spoken, spoken, places) == {translated(RECORDED[spoken], spoken, spoken)}


@pytest.mark.parametrize("spoken", DIALECTS)
@given(st.lists(st.integers(0, 10_000), max_size=12))
@settings(max_examples=40)
def test_any_cut_of_the_bytes_gives_the_same(spoken: str, places: list[int]):
    one = translation(spoken, "messages")
    parts = [one.feed(chunk) for chunk in cuts(RECORDED[spoken], places)]

    assert b"".join(parts) + one.finish() == translated(RECORDED[spoken], spoken, "messages")


@pytest.mark.parametrize(("spoken", "wanted"), PAIRS)
def test_byte_by_byte_gives_the_same(spoken: str, wanted: str):
    one = translation(spoken, wanted)
    told_so = b"".join(one.feed(bytes([byte])) for byte in RECORDED[spoken])

    assert told_so + one.finish() == translated(RECORDED[spoken], spoken, wanted)


# Cut streams, and streams that fail.


@pytest.mark.parametrize(("spoken", "wanted"), PAIRS)
def test_a_stream_that_is_cut_anywhere_is_never_finished(spoken: str, wanted: str):
    events = said_in(RECORDED[spoken])
    last = {"chat": -3, "messages": -2, "responses": -1}[spoken]
    ends = {"chat": b'"finish_reason":"', "messages": b"message_stop", "responses": b"response.completed"}[wanted]
    for many in range(len(events) + last):
        one = translation(spoken, wanted)
        told_so = one.feed(sse(*events[:many]))
        with pytest.raises(CutError) as raised:
            one.finish()

        assert str(raised.value) == "the stream was cut before the answer had ended"
        assert not one.ended
        assert ends not in told_so


@pytest.mark.parametrize("spoken", ["chat", "messages"])
def test_a_stream_that_told_why_it_stopped_may_miss_its_last_mark(spoken: str):
    events = said_in(RECORDED[spoken])

    assert translated(sse(*events[:-1]), spoken, "chat") == translated(RECORDED[spoken], spoken, "chat")


@pytest.mark.parametrize("spoken", DIALECTS)
def test_the_last_event_may_lack_its_blank_line(spoken: str):
    stream = RECORDED[spoken].rstrip()

    assert translated(stream, spoken, "chat") == translated(RECORDED[spoken], spoken, "chat")


def test_half_an_event_at_the_end_is_no_event():
    one = translation("chat", "messages")
    one.feed(RECORDED["chat"].partition(b"look")[0])

    with pytest.raises(CutError):
        one.finish()


FAILURES = {
    "chat": {"error": {"message": "too many", "type": "rate_limit_error", "code": "slow_down"}},
    "messages": {"type": "error", "error": {"type": "rate_limit_error", "message": "too many"}},
    "responses": {"type": "error", "code": "rate_limit_exceeded", "message": "too many", "param": None},
}
CODES = {"chat": "slow_down", "messages": "rate_limit_error", "responses": "rate_limit_exceeded"}


def failed(wanted: str, message: str, code: str, numbered: int) -> dict[str, Any]:
    """How a format tells in a stream that nothing more will come: many requests, too many."""
    match wanted:
        case "chat":
            return {"error": {"message": message, "type": "rate_limit_error", "param": None, "code": code}}
        case "messages":
            error = {"type": "rate_limit_error", "message": message, "code": code}
            return {"type": "error", "error": error, "request_id": None}
        case _:
            error = {"code": code, "message": message, "param": None}
            return {"type": "error", **error, "sequence_number": numbered}


@pytest.mark.parametrize(("spoken", "wanted"), PAIRS)
def test_an_error_at_the_start_of_a_stream_is_told_and_nothing_else(spoken: str, wanted: str):
    one = translation(spoken, wanted)
    told_so = one.feed(sse(FAILURES[spoken]) + RECORDED[spoken])

    assert said_in(told_so) == [failed(wanted, "too many", CODES[spoken], 0)]
    assert (one.ended, one.feed(RECORDED[spoken]), one.finish()) == (True, b"", b"")


@pytest.mark.parametrize(("spoken", "wanted"), PAIRS)
def test_an_error_in_the_middle_of_a_stream_is_the_last_that_is_told(spoken: str, wanted: str):
    events = said_in(RECORDED[spoken])
    told_so = said_in(translated(sse(*events[:5], FAILURES[spoken], *events[5:]), spoken, wanted))

    if wanted == "responses":
        last = told_so[-1]
        assert last["type"] == "response.failed"
        assert last["response"]["status"] == "failed"
        assert last["response"]["error"] == {"code": "rate_limit_exceeded", "message": "too many"}
        assert last["sequence_number"] == len(told_so) - 1
    else:
        assert told_so[-1] == failed(wanted, "too many", CODES[spoken], 0)


@pytest.mark.parametrize(("spoken", "wanted"), PAIRS)
def test_an_answer_that_comes_at_once_is_told_as_a_stream(spoken: str, wanted: str):
    body = json.dumps(DIALECTS[spoken].write_answer(SPOKEN[spoken], ASKED), indent=1).encode()
    read = DIALECTS[spoken].read_answer(json.loads(body), ASKED)
    one = translation(spoken, wanted)
    told_so = one.feed(body[:9]) + one.feed(body[9:]) + one.finish()

    assert read
    assert meaning(gathered(heard_in(wanted, told_so))) == meaning(read)


@given(answer=answers())
def test_the_events_of_a_whole_answer_are_that_answer(answer: WholeAnswer):
    assert gathered(list(events_of(answer))) == answer


def test_an_error_in_place_of_a_stream_is_told():
    one = translation("chat", "messages")
    told_so = one.feed(b'{"error": {"message": "no", "type": "invalid_request_error"}}') + one.finish()

    assert said_in(told_so)[0]["error"] == {
        "type": "invalid_request_error", "message": "no", "code": "invalid_request_error",
    }  # fmt: skip


@pytest.mark.parametrize("data", ["{", "7", "[]", "nonsense", "[" * 100_000])
def test_an_event_that_is_no_object_ends_the_stream_with_an_error(data: str):
    told_so = said_in(translated(sse(data) + RECORDED["chat"], "chat", "chat"))

    assert told_so == [
        {
            "error": {
                "message": "the provider's stream holds an event that is no object of JSON",
                "type": "server_error",
                "param": None,
                "code": "malformed_event",
            }
        }
    ]


# Servers that do not keep to their format.

JUNK = [None, 0, -1, 1.5, True, "", "x", [], [7], {}, {"a": 1}, [{}], {"type": []}, "\ud800", 10**30, {"type": "text"}]


def places_in(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, each in inside:
        yield from places_in(each, (*path, name))


def spoil(dice: Random, said: Any) -> None:
    """Put something else at a place in it, or take it away."""
    *outer, name = dice.choice([path for path in places_in(said) if path])
    for step in outer:
        said = said[step]
    if isinstance(said, dict) and dice.random() < 0.2:
        del said[name]
    else:
        said[name] = deepcopy(dice.choice(JUNK))


@pytest.mark.parametrize("wanted", DIALECTS)
@pytest.mark.parametrize("spoken", DIALECTS)
@given(dice=st.randoms(use_true_random=False))
@settings(max_examples=40)
def test_whatever_a_stream_says_it_is_translated_fails_or_is_cut(spoken: str, wanted: str, dice: Random):
    events = said_in(RECORDED[spoken])
    for event in dice.sample(events[:-1], 3):
        spoil(dice, event)
    at, to = dice.randrange(len(events)), dice.randrange(len(events))
    events.insert(to, deepcopy(events[at]) if dice.random() < 0.5 else events.pop(at))
    one = translation(spoken, wanted)
    told_so = one.feed(sse(*events))
    with suppress(CutError):
        told_so += one.finish()

    assert said_in(told_so) or not one.ended


@pytest.mark.parametrize("wanted", DIALECTS)
@pytest.mark.parametrize("spoken", DIALECTS)
@given(dice=st.randoms(use_true_random=False))
@settings(max_examples=40)
def test_whatever_a_body_says_it_is_translated_or_is_an_error(spoken: str, wanted: str, dice: Random):
    body = json.loads(json.dumps(DIALECTS[spoken].write_answer(SPOKEN["messages"], ASKED)))
    for _ in range(2):
        spoil(dice, body)
    status, told_so = translated_answer(
        json.dumps(body).encode(), ASKED, spoken=DIALECTS[spoken], wanted=DIALECTS[wanted]
    )

    assert (status == 200) == ("error" not in json.loads(told_so) or json.loads(told_so)["error"] is None)


# Bounds.


def test_an_event_that_is_too_long_ends_the_stream_with_an_error():
    chunk = {"id": "c", "choices": [{"delta": {"content": "x" * (MAX_EVENT_BYTES + 1)}}]}
    one = translation("chat", "messages")
    told_so = one.feed(sse(chunk))

    assert said_in(told_so)[-1]["error"]["code"] == "event_too_long"
    assert one.ended


def test_an_event_that_is_too_long_and_says_again_what_was_told_is_no_harm():
    """A response says everything again at its end, and pieces of it when they end."""
    events = said_in(RECORDED["responses"])
    events[-1]["response"]["output"][1]["content"][0]["text"] = "x" * (2 * MAX_EVENT_BYTES)
    for at in (12, 14):
        events[at]["padding"] = "x" * (2 * MAX_EVENT_BYTES)

    assert meaning(gathered(heard_in("chat", translated(sse(*events), "responses", "chat")))) == meaning(
        SPOKEN["responses"]
    )


def test_an_answer_that_is_too_long_ends_with_an_error_and_holds_no_more():
    piece = "x" * 1_000_000
    event = {"choices": [{"delta": {"content": piece}}]}
    one = translation("chat", "responses")
    fed = 0
    while not one.ended:
        told_so = one.feed(sse(event))
        fed += len(piece)

    assert fed == 9_000_000
    assert TOO_LONG.code == "answer_too_long"
    assert said_in(told_so)[-1]["response"]["error"] == {
        "code": "server_error", "message": "the provider's answer is too long to be translated",
    }  # fmt: skip


def test_letters_and_calls_count_however_small_they_are(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(answering, "MOST_HELD", 64 * 1024)

    assert events_until_the_end({"content": "x"}) == (64 * 1024 - COST_OF_PART) // (1 + COST_OF_EVENT) + 1
    assert events_until_the_end({"tool_calls": [{"function": {"name": "f"}}]}) == 64 * 1024 // COST_OF_PART + 1
    assert events_until_the_end(*({"refusal": "x"}, {"content": "x"})) == 64 * 1024 // (
        1 + COST_OF_EVENT + COST_OF_PART
    ) + 1  # fmt: skip


def events_until_the_end(*deltas: dict[str, Any]) -> int:
    """How many events a stream is read that says these again and again."""
    one = translation("chat", "chat")
    for many in range(1, 20_000):
        one.feed(sse({"choices": [{"delta": deltas[many % len(deltas)]}]}))
        if one.ended:
            return many
    return 0


def test_a_signature_counts_as_well(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(answering, "MOST_HELD", 64 * 1024)
    one = translation("messages", "chat")
    one.feed(sse({"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": ""}}))
    delta = {"type": "signature_delta", "signature": "s" * 8000}
    one.feed(sse(*({"type": "content_block_delta", "index": 0, "delta": delta},) * 8))
    before = one.ended
    one.feed(sse({"type": "content_block_delta", "index": 0, "delta": delta}))

    assert (before, one.ended) == (False, True)


def test_thousands_of_parallel_calls_are_no_more_work_each_than_one():
    """Each call is looked at once when the next one begins."""
    events = [{"choices": [numbered_call(number)]} for number in range(4000)]
    there = translated(sse(*events, {"choices": [{"delta": {}, "finish_reason": "tool_calls"}]}), "chat", "messages")

    assert len([each for each in said_in(there) if each["type"] == "content_block_start"]) == 4000


def numbered_call(number: int) -> dict[str, Any]:
    function = {"name": "f", "arguments": "{}"}
    return {"delta": {"tool_calls": [{"index": number, "id": f"c{number}", "function": function}]}}


# Whole answers that are none.


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "the provider answered 200 and does not say why"),
        (b"<html><title>Sign in</title>", 'the provider answered 200 with a page: "Sign in"'),
        (b"no", 'the provider answered 200 with no JSON: "no"'),
        (b"{}", "the provider's answer holds nothing that its format calls an answer"),
        (b'{"choices": []}', "the provider's answer holds nothing that its format calls an answer"),
        (b"[7]", 'the provider answered 200 with no JSON: "[7]"'),
    ],
)
def test_a_body_that_is_no_answer_is_an_error_of_the_gateway(body: bytes, message: str):
    status, told_so = translated_answer(body, ASKED, spoken=DIALECTS["chat"], wanted=DIALECTS["messages"])

    assert (status, json.loads(told_so)["error"]) == (502, {"type": "api_error", "message": message})


def test_an_error_with_status_200_is_told_with_its_own():
    body = json.dumps(FAILURES["chat"]).encode()

    assert translated_answer(body, ASKED, spoken=DIALECTS["chat"], wanted=DIALECTS["chat"])[0] == 429


def test_an_error_is_told_in_the_callers_format_with_the_providers_name_of_the_request():
    body = b'{"type": "error", "error": {"type": "overloaded_error", "message": "busy"}, "request_id": "req_9"}'
    status, told_so, headers = translated_error(529, body, {"retry-after": "3"}, wanted=DIALECTS["chat"])

    assert (status, headers) == (503, {"x-request-id": "req_9"})
    assert json.loads(told_so) == {
        "error": {"message": "busy", "type": "server_error", "param": None, "code": "overloaded_error"}
    }


def test_an_error_without_a_name_adds_no_header():
    assert translated_error(500, b"", {}, wanted=DIALECTS["messages"])[2] == {}


def test_a_request_is_named_where_anthropics_clients_look():
    headers = translated_error(500, b"", {"x-request-id": "r"}, wanted=DIALECTS["messages"])[2]

    assert headers == {"request-id": "r"}


# The providers' own clients.


TYPES = {
    "chat": ("openai.types.chat.ChatCompletion", "openai.types.chat.ChatCompletionChunk"),
    "messages": ("anthropic.types.Message", "anthropic.types.RawMessageStreamEvent"),
    "responses": ("openai.types.responses.Response", "openai.types.responses.ResponseStreamEvent"),
}
BEYOND = {"reasoning_content", "thinking_blocks", "signature"}
"""What servers and clients agreed on, and the clients' types do not know."""


def extras(value: object) -> Iterator[str]:
    """The members that the type of `value` does not know, at any depth."""
    if isinstance(value, BaseModel):
        yield from value.model_extra or {}
        value = [getattr(value, name) for name in value.model_fields_set if name in type(value).model_fields]
    if isinstance(value, list):
        for each in cast("list[object]", value):
            yield from extras(each)


@pytest.mark.slow  # for the clients, which take seconds to import
@pytest.mark.parametrize(("spoken", "wanted"), PAIRS)
def test_the_providers_own_clients_know_every_word(spoken: str, wanted: str):
    whole, event = (TypeAdapter[object](pkgutil.resolve_name(kind)) for kind in TYPES[wanted])
    simulation = APIS[spoken].simulation
    assert simulation.events
    streams = [RECORDED[spoken], *(b"".join(simulation.events(simulated(script))) for script in SCRIPTS)]
    bodies = [DIALECTS[spoken].write_answer(SPOKEN[spoken], ASKED), *(simulation.whole(simulated(s)) for s in SCRIPTS)]

    unknown = set[str]()
    for body in bodies:
        raw = json.dumps(body).encode()
        _, told_so = translated_answer(raw, ASKED, spoken=DIALECTS[spoken], wanted=DIALECTS[wanted])
        unknown |= {*extras(whole.validate_python(json.loads(told_so)))}
    for each in (each for stream in streams for each in said_in(translated(stream, spoken, wanted))):
        unknown |= {*extras(event.validate_python(each))} if each != "[DONE]" else set()
    assert unknown <= (BEYOND if wanted == "chat" else set())


def client(name: str, body: bytes) -> Any:
    """The official one, whose server answers so."""
    import anthropic
    import httpx2
    import openai

    def answer(_request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=body)

    made = anthropic.Anthropic if name == "messages" else openai.OpenAI
    http = httpx2.Client(transport=httpx2.MockTransport(answer))
    return made(api_key="k", base_url="http://provider", max_retries=0, http_client=http)


WEATHER = {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}


@pytest.mark.slow
@pytest.mark.parametrize("spoken", DIALECTS)
class TestTheOfficialClientsFinish:
    def test_chat(self, spoken: str):
        with client("chat", translated(RECORDED[spoken], spoken, "chat")) as one:
            asked = one.chat.completions.stream(model="m", messages=[], stream_options={"include_usage": True})
            with asked as stream:
                final = stream.get_final_completion()

        choice = final.choices[0]
        calls = [(call.id, call.function.name, call.function.arguments) for call in choice.message.tool_calls]
        expected = meaning(SPOKEN[spoken])
        assert (choice.finish_reason, choice.message.content) == ("tool_calls", "Let me look 🌤.")
        assert [(name, called, json.loads(each)) for name, called, each in calls] == expected["calls"]
        assert choice.message.reasoning_content == "Hm, Zürich."
        assert (final.usage.prompt_tokens, final.usage.completion_tokens) == (80, 30)

    def test_messages(self, spoken: str):
        with (
            client("messages", translated(RECORDED[spoken], spoken, "messages")) as one,
            one.messages.stream(model="m", max_tokens=9, messages=[]) as stream,
        ):
            final = stream.get_final_message()

        thought, text, *calls = final.content
        written = SPOKEN[spoken].usage
        assert written
        assert (final.stop_reason, thought.thinking, text.text) == ("tool_use", "Hm, Zürich.", "Let me look 🌤.")
        assert [(call.id, call.name, call.input) for call in calls] == meaning(SPOKEN[spoken])["calls"]
        assert (final.usage.input_tokens, final.usage.cache_read_input_tokens, final.usage.output_tokens) == (
            80 - 64 - written.written_tokens, 64, 30,
        )  # fmt: skip

    def test_responses(self, spoken: str):
        with (
            client("responses", translated(RECORDED[spoken], spoken, "responses")) as one,
            one.responses.stream(model="m", input="x") as stream,
        ):
            final = stream.get_final_response()

        thought, _, *calls = final.output
        assert (final.status, final.output_text) == ("completed", "Let me look 🌤.")
        assert thought.summary[0].text == "Hm, Zürich."
        expected = meaning(SPOKEN[spoken])["calls"]
        assert [(call.call_id, call.name, json.loads(call.arguments)) for call in calls] == expected
        assert (final.usage.input_tokens, final.usage.output_tokens, final.usage.total_tokens) == (80, 30, 110)


@pytest.mark.slow
@pytest.mark.parametrize("wanted", DIALECTS)
def test_the_official_clients_raise_on_an_error_in_a_stream(wanted: str):
    import anthropic
    import openai

    events = said_in(RECORDED["messages"])
    body = translated(sse(*events[:5], FAILURES["messages"]), "messages", wanted)
    with client(wanted, body) as one:
        if wanted == "chat":
            with pytest.raises(openai.APIError, match="too many"):
                list(one.chat.completions.create(model="m", messages=[], stream=True))
        elif wanted == "messages":
            with pytest.raises(anthropic.APIStatusError, match="too many"):
                list(one.messages.create(model="m", max_tokens=9, messages=[], stream=True))
        else:
            seen = list(one.responses.create(model="m", input="x", stream=True))
            assert (seen[-1].type, seen[-1].response.error.message) == ("response.failed", "too many")


def test_an_end_or_a_failure_is_the_last_event_that_a_reader_tells():
    for name in DIALECTS:
        events = heard_in(name, RECORDED[name])
        assert [isinstance(event, Ended | Failed) for event in events] == [False] * (len(events) - 1) + [True]
