"""Bodies as providers send them, cut anywhere."""

import gzip
import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from wissel.apis.answers import MAX_USAGE_EVENT_BYTES, MOST_HELD_BYTES, Reader, reader_for
from wissel.apis.sse import MAX_EVENT_BYTES
from wissel.apis.table import APIS
from wissel.core.outcome import Usage

SSE = {"content-type": "text/event-stream; charset=utf-8"}
JSON = {"content-type": "application/json"}


def event(data: Any, name: str = "", *, end: str = "\n") -> bytes:
    text = data if isinstance(data, str) else json.dumps(data, separators=(",", ":"))
    return (f"event: {name}{end}" if name else "").encode() + f"data: {text}{end}{end}".encode()


def chunk(delta: dict[str, Any] | None = None, finish: str | None = None, **more: Any) -> dict[str, Any]:
    choices = [] if delta is None else [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]
    return {
        "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o-2024-08-06",
        "choices": choices, **more,
    }  # fmt: skip


CHAT_USAGE = {
    "prompt_tokens": 19, "completion_tokens": 10, "total_tokens": 29,
    "prompt_tokens_details": {"cached_tokens": 8, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 4, "audio_tokens": 0},
}  # fmt: skip
USAGE_EVENT = event(chunk(usage=CHAT_USAGE))
CHAT_EVENTS = (
    event(chunk({"role": "assistant", "content": ""}, usage=None)),
    event(chunk({"content": "Hé"}, usage=None)),
    event(chunk({"content": 'l "choices":[] '}, usage=None)),
    event(chunk({}, "stop", usage=None)),
)
DONE = b"data: [DONE]\n\n"
CHAT = b"".join((*CHAT_EVENTS, USAGE_EVENT, DONE))

ANTHROPIC = b"".join(
    event(data, data["type"])
    for data in (
        {"type": "message_start", "message": {
            "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-sonnet", "content": [],
            "stop_reason": None, "usage": {
                "input_tokens": 25, "cache_creation_input_tokens": 5, "cache_read_input_tokens": 70, "output_tokens": 1,
            }}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "ping"},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "!"}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None},
         "usage": {"output_tokens": 15}},
        {"type": "message_stop"},
    )
)  # fmt: skip


def response(status: str, **more: Any) -> dict[str, Any]:
    usage = {
        "input_tokens": 37, "input_tokens_details": {"cached_tokens": 6}, "output_tokens": 11,
        "output_tokens_details": {"reasoning_tokens": 2}, "total_tokens": 48,
    }  # fmt: skip
    return {
        "id": "resp_1",
        "object": "response",
        "status": status,
        "model": "gpt-4.1",
        "error": None,
        "usage": usage,
        **more,
    }


def responses(kind: str, last: dict[str, Any]) -> bytes:
    told = (
        {"type": "response.created", "response": response("in_progress", usage=None)},
        {"type": "response.output_text.delta", "item_id": "m", "output_index": 0, "content_index": 0, "delta": "Hi"},
        {"type": "response.output_text.delta", "item_id": "m", "output_index": 0, "content_index": 0, "delta": "!"},
        {"type": kind, "response": last},
    )
    return b"".join(event(data, data["type"]) for data in told)


def read(
    body: bytes,
    headers: dict[str, str] = SSE,
    *,
    api: str = "chat",
    strip: bool = False,
    places: list[int] | None = None,
) -> tuple[Reader, bytes]:
    reader = reader_for(APIS[api], headers, strip=strip)
    assert reader is not None
    borders = [0, *sorted(place % (len(body) + 1) for place in places or []), len(body)]
    on = b""
    for at, (start, end) in enumerate(pairwise(borders)):
        on += reader.feed(body[start:end], now=float(at))
    return reader, on + reader.finish()


def learned(reader: Reader) -> tuple[Any, ...]:
    """All but the times."""
    found = reader.found
    return found.usage, found.finish_reasons, found.model, found.error, found.ended, found.chunks, found.unread


STREAMS = {
    "chat": ("chat", CHAT, (Usage(19, 10, 8, 4), ("stop",), "gpt-4o-2024-08-06", "", True, 2, "")),
    "messages": ("messages", ANTHROPIC, (Usage(100, 15, 70, 0, 5), ("end_turn",), "claude-sonnet", "", True, 2, "")),
    "responses": (
        "responses",
        responses("response.completed", response("completed")),
        (Usage(37, 11, 6, 2), ("completed",), "gpt-4.1", "", True, 2, ""),
    ),
    "incomplete": (
        "responses",
        responses("response.incomplete", response("incomplete", incomplete_details={"reason": "max_output_tokens"})),
        (Usage(37, 11, 6, 2), ("max_output_tokens",), "gpt-4.1", "", True, 2, ""),
    ),
    "failed": (
        "responses",
        responses("response.failed", response("failed", usage=None, error={"code": "server_error", "message": "m"})),
        (None, ("failed",), "gpt-4.1", "server_error", True, 2, ""),
    ),
    "completions": (
        "completions",
        event({"model": "m", "choices": [{"index": 0, "text": "Hi", "finish_reason": None}]})
        + event({"model": "m", "choices": [{"index": 0, "text": "", "finish_reason": "length"}]})
        + event({"model": "m", "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 1}})
        + DONE,
        (Usage(3, 1), ("length",), "m", "", True, 1, ""),
    ),
}  # fmt: skip


WHOLE = {
    "chat": (
        {"model": "m", "choices": [{"index": 0, "message": {"content": "x"}, "finish_reason": "stop"}],
         "usage": CHAT_USAGE},
        (Usage(19, 10, 8, 4), ("stop",), "m"),
    ),
    "responses": (response("completed"), (Usage(37, 11, 6, 2), ("completed",), "gpt-4.1")),
    "messages": (
        {"type": "message", "model": "c", "content": [], "stop_reason": "max_tokens",
         "usage": {"input_tokens": 1, "cache_read_input_tokens": 2, "output_tokens": 3}},
        (Usage(3, 3, 2), ("max_tokens",), "c"),
    ),
    "embeddings": (
        {"object": "list", "data": [], "model": "e", "usage": {"prompt_tokens": 8, "total_tokens": 8}},
        (Usage(8), (), "e"),
    ),
    "completions": (
        {"model": "m", "choices": [{"index": 0, "text": "x", "finish_reason": "length"}],
         "usage": {"prompt_tokens": 2, "completion_tokens": 1}},
        (Usage(2, 1), ("length",), "m"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_tells_what_it_cost_and_how_it_ended(name):
    api, body, expected = STREAMS[name]
    reader, on = read(body, api=api)

    assert learned(reader) == expected
    assert on == body


@given(
    st.sampled_from(sorted(STREAMS)),
    st.sampled_from([b"\n", b"\r\n", b"\r"]),
    st.lists(st.integers(0, 5000), max_size=40),
    st.booleans(),
)
def test_any_cut_of_the_bytes_gives_the_same(name, line_end, places, strip):
    api, told, expected = STREAMS[name]
    body = told.replace(b"\n", line_end)
    whole, all_of_it = read(body, api=api, strip=strip)
    reader, on = read(body, api=api, strip=strip, places=places)

    assert learned(reader) == learned(whole) == expected
    assert on == all_of_it
    if not strip or name not in {"chat", "completions"}:
        assert on == body


@given(st.sampled_from([b"\n", b"\r\n", b"\r"]), st.lists(st.integers(0, 5000), max_size=40))
def test_only_the_chunk_of_usage_is_taken_out(line_end, places):
    _, on = read(CHAT.replace(b"\n", line_end), strip=True, places=places)

    assert on == b"".join((*CHAT_EVENTS, DONE)).replace(b"\n", line_end)


def test_one_byte_at_a_time_is_no_different():
    _, on = read(CHAT, strip=True, places=list(range(len(CHAT))))

    assert on == b"".join((*CHAT_EVENTS, DONE))


parts = st.sampled_from(
    [
        *CHAT_EVENTS,
        USAGE_EVENT,
        DONE,
        b": comment\n\n",
        b"data: {\n\n",
        b"data: null\n\n",
        b"data: [1]\n\n",
        b"\n",
        b"\r",
        b"\xff",
        b"data: {",
        b'data: {"choices":[],\ndata: "usage":{"prompt_tokens":1}}\n\n',
        b"id: 1\n",
        b"\xef\xbb\xbf",
        b'data: {"usage":7,"choices":[]}\n\n',
        event({"choices": [], "usage": {"x": [{"choices": [1]}]}}),
    ]
)


@given(st.lists(parts, max_size=12).map(b"".join), st.lists(st.integers(0, 5000), max_size=20))
@example(b"\xef\xbb\xbf" + USAGE_EVENT, [1])
@example(b"data: {" + b"\n" + USAGE_EVENT, [9])
def test_whatever_comes_passes_unchanged_or_loses_whole_events(body, places):
    reader, on = read(body, places=places)
    whole, all_of_it = read(body, strip=True)
    stripping, kept = read(body, strip=True, places=places)

    assert on == body
    assert kept == all_of_it
    assert learned(reader) == learned(stripping) == learned(whole)


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=10))
def test_bytes_of_any_kind_are_no_reason_to_stop(body, places):
    assert read(body, places=places)[1] == body
    for headers in (JSON, {}, {**SSE, "content-encoding": "gzip"}, {**JSON, "content-encoding": "deflate"}):
        assert read(body, headers, strip=True, places=places)[1] == body


@pytest.mark.parametrize("said", [{"choices": []}, {"choices": None}, {}])
@pytest.mark.parametrize("more", [{}, {"service_tier": "default", "x_groq": {"id": "r"}, "obfuscation": "xy"}])
def test_a_chunk_of_usage_may_lack_choices(said, more):
    usage = event({"id": "1", "object": "chat.completion.chunk", "model": "m", **said, **more, "usage": CHAT_USAGE})
    body = b"".join(CHAT_EVENTS)
    reader, on = read(body + usage + DONE, strip=True, places=list(range(0, 2000, 3)))

    assert on == body + DONE
    assert reader.found.usage == Usage(19, 10, 8, 4)


@pytest.mark.parametrize(
    "said",
    [
        {"content": "hi"},
        {"delta": {"content": "hi"}},
        {"error": {"message": "m"}},
        {"message": {"content": "hi"}, "choices": None},
        {"text": "hi", "choices": []},
        {"response": "hi"},
        {"citations": ["https://example.com"], "choices": []},
    ],
)
def test_a_chunk_that_says_anything_beside_its_usage_is_never_lost(said):
    body = event({"id": "1", "usage": CHAT_USAGE, **said}) + DONE

    assert read(body, strip=True)[1] == read(body, strip=True, places=list(range(0, 400, 3)))[1] == body


def test_usage_on_the_last_chunk_with_content_stays():
    body = event(chunk({"content": "Hi"})) + event(chunk({"content": "!"}, "stop", usage=CHAT_USAGE)) + DONE
    reader, on = read(body, strip=True)

    assert on == body
    assert reader.found.usage == Usage(19, 10, 8, 4)


def test_the_first_chunk_of_azure_stays():
    body = event(chunk(prompt_filter_results=[{"prompt_index": 0}]))

    assert read(body, strip=True)[1] == body


def test_content_is_not_held_back():
    reader = reader_for(APIS["chat"], SSE, strip=True)
    assert reader is not None
    beginning = CHAT_EVENTS[1][:-20]

    assert reader.feed(beginning, now=0.0) == beginning


def test_the_end_mark_is_not_held_back_for_its_blank_line():
    reader = reader_for(APIS["chat"], SSE, strip=True)
    assert reader is not None

    assert reader.feed(b"data: [DONE]\n", now=0.0) == b"data: [DONE]\n"


def test_a_chunk_of_usage_without_its_blank_line_is_taken_out_at_the_end():
    body = b"".join(CHAT_EVENTS)

    assert read(body + USAGE_EVENT.rstrip(), strip=True)[1] == body


def test_the_times_are_those_of_chunks_with_output():
    reader = reader_for(APIS["chat"], SSE, strip=False)
    assert reader is not None
    for at, each in enumerate((*CHAT_EVENTS, USAGE_EVENT, DONE)):
        reader.feed(each, now=float(at))

    assert (reader.found.first_at, reader.found.last_at, reader.found.chunks) == (1.0, 2.0, 2)


def test_every_choice_has_its_own_end():
    told = [{"index": 1, "delta": {}, "finish_reason": "length"}, {"index": 0, "delta": {}, "finish_reason": "stop"}]

    assert read(event({"choices": told}))[0].found.finish_reasons == ("stop", "length")


def test_a_stream_that_stops_in_the_middle_is_an_error():
    assert read(b"".join(CHAT_EVENTS[:3]))[0].found.error == "truncated"


def test_a_stream_that_does_not_say_done_is_none():
    assert read(b"".join(CHAT_EVENTS))[0].found.error == ""


@pytest.mark.parametrize(
    ("data", "error"),
    [
        ({"type": "error", "error": {"type": "overloaded_error", "message": "m"}}, "overloaded_error"),
        ({"error": {"message": "m", "type": None, "code": "oom"}}, "oom"),
        ({"error": "boom"}, "error"),
        ({"type": "error", "code": "server_error", "message": "m"}, "server_error"),
    ],
)
@pytest.mark.parametrize("api", APIS)
def test_an_error_in_a_stream_is_told(api, data, error):
    assert read(event(data), api=api)[0].found.error == error


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("name", WHOLE)
def test_a_body_of_any_size_tells_the_same(name, first):
    said, expected = WHOLE[name]
    bulk = {"data": [{"embedding": "QUJD" * 3_000_000, "usage": {"prompt_tokens": 1}}], "b": [[{"x": "\\"}]] * 9000}
    body = json.dumps({**bulk, **said} if first else {**said, **bulk}).encode()
    reader, on = read(body, JSON, api=name, places=[*range(0, 900, 7), *range(0, len(body), 60_000)])

    assert on == body
    assert (reader.found.usage, reader.found.finish_reasons, reader.found.model) == expected


def test_of_a_long_answer_without_usage_its_size_is_seen():
    said = {"model": "m", "choices": [{"index": 0, "message": {"content": "word " * 20_000}, "finish_reason": "stop"}]}
    reader, _ = read(json.dumps(said).encode(), JSON)

    assert (reader.found.usage, reader.found.finish_reasons) == (None, ("stop",))
    assert 25_000 <= reader.found.seen_tokens <= 25_010


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        (JSON, json.dumps({"choices": [{"message": {"content": "x" * 9_000_000}}], "usage": CHAT_USAGE}).encode()),
        (JSON, json.dumps({"choices": [{"message": {"content": "x" * 50_000}}], "usage": CHAT_USAGE}).encode()),
        (SSE, event(chunk({"content": "x" * 9_000_000}))),
        (SSE, CHAT + event(chunk({"content": "x" * 50_000}))),
    ],
)
def test_of_an_answer_that_breaks_off_what_came_is_seen(headers, body):
    reader = reader_for(APIS["chat"], headers, strip=False)
    assert reader is not None
    for at in range(0, len(body) - 100, 10_000):
        reader.feed(body[at : min(at + 10_000, len(body) - 100)], now=0.0)

    assert reader.found.seen_tokens == pytest.approx(len(body) / 4, rel=0.05)


def test_of_vectors_nothing_is_seen():
    reader, _ = read(json.dumps({"data": [{"embedding": "QUJD" * 300_000}]}).encode(), JSON, api="embeddings")

    assert reader.found.seen_tokens == 0


def test_a_stream_is_seen_by_its_words_and_by_its_chunks():
    words = b"".join(event(chunk({"reasoning_content": "word " * 80})) for _ in range(3))
    letters = b"".join(event(chunk({"content": "x"})) for _ in range(50))

    assert read(words)[0].found.seen_tokens == 300
    assert read(letters)[0].found.seen_tokens == 50


def test_running_totals_are_not_added_up():
    body = b"".join(
        event(chunk({"content": "x"}, usage={"prompt_tokens": 5, "completion_tokens": n})) for n in (1, 2, 3)
    )

    assert read(body)[0].found.usage == Usage(5, 3)


@pytest.mark.parametrize("count", [-1, True, 1.5, "3", None, 2**53 - 1, 2**60])
def test_what_is_no_count_counts_for_nothing(count):
    assert read(event(chunk(usage={"prompt_tokens": count})))[0].found.usage is None


def test_an_event_that_is_no_json_is_passed_over():
    reader, on = read(b"data: {oops\n\n" + CHAT)

    assert (reader.found.unread, reader.found.usage) == ("malformed", Usage(19, 10, 8, 4))
    assert on == b"data: {oops\n\n" + CHAT


CUTS = ([], list(range(0, 3 * MAX_EVENT_BYTES, 60_000)), [MAX_EVENT_BYTES + each for each in (-1, 0, 1)])


@pytest.mark.parametrize("places", CUTS)
def test_a_long_event_passes_as_it_is_and_those_after_it_are_read(places):
    long = event(chunk({"content": "x" * MAX_EVENT_BYTES}))
    reader, on = read(long + CHAT, strip=True, places=places)

    assert (reader.found.unread, reader.found.usage, reader.found.chunks) == ("", Usage(19, 10, 8, 4), 3)
    assert on == long + b"".join((*CHAT_EVENTS, DONE))


@pytest.mark.parametrize("places", CUTS)
@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
def test_a_long_event_tells_its_usage_wherever_it_is_cut(places, line_end):
    picture = {"type": "image_generation_call", "result": "A" * 2 * MAX_EVENT_BYTES}
    fake = {"type": "function_call", "arguments": '"usage": {"input_tokens": 0}', "usage": {"input_tokens": 7}}
    body = responses("response.completed", response("completed", output=[picture, fake])).replace(b"\n", line_end)
    reader, on = read(body, api="responses", places=places)

    assert on == body
    assert learned(reader)[:5] == (Usage(37, 11, 6, 2), ("completed",), "gpt-4.1", "", True)


def test_a_long_event_may_say_its_data_in_lines():
    said = json.dumps(chunk({"content": "x" * MAX_EVENT_BYTES}, usage=CHAT_USAGE), indent=1)
    body = b": a comment\n" + "".join(f"data: {line}\n" for line in said.splitlines()).encode() + b"id: 7\n\n"

    assert read(body, places=list(range(0, 200, 7)))[0].found.usage == Usage(19, 10, 8, 4)


def test_a_chunk_of_usage_beyond_its_bound_stays():
    body = event(chunk(usage={**CHAT_USAGE, "x": "y" * MAX_USAGE_EVENT_BYTES}))

    assert read(body, strip=True)[1] == read(body, strip=True, places=list(range(0, 20_000, 777)))[1] == body


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("coding", ["identity", "gzip"])
def test_a_whole_body_tells_the_same(name, coding):
    said, expected = WHOLE[name]
    body = json.dumps(said).encode()
    body = gzip.compress(body) if coding == "gzip" else body
    reader, on = read(body, {**JSON, "content-encoding": coding}, api=name, places=[1, 2, 7, 40])

    assert (reader.found.usage, reader.found.finish_reasons, reader.found.model) == expected
    assert on == body


@pytest.mark.parametrize("vector", [[0.5, -1e-3], "AAAA", []])
def test_vectors_are_left_out_and_text_about_them_is_not(vector):
    said = {
        "data": [{"embedding": vector, "index": 0}, {"index": 1, "embedding": vector}],
        "model": 'my "embedding": [1, "',
        "usage": {"prompt_tokens": 8},
    }
    reader, _ = read(json.dumps(said).encode(), JSON, api="embeddings")

    assert (reader.found.usage, reader.found.model) == (Usage(8), 'my "embedding": [1, "')


def test_a_compressed_stream_is_read_and_passes_as_it_is():
    body = gzip.compress(CHAT)
    reader, on = read(body, {**SSE, "content-encoding": "gzip"}, strip=True, places=[1, 5, 30])

    assert reader.found.usage == Usage(19, 10, 8, 4)
    assert on == body


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b'{"a":' + b"1" * MOST_HELD_BYTES, "malformed"),
        (b'{"a" ' + b"1" * MOST_HELD_BYTES, "malformed"),
        (b"[" + b'{"usage":{"prompt_tokens":1}},' * MOST_HELD_BYTES, "malformed"),
        (b"{", "malformed"),
        (b"[" * 200_000, "malformed"),
        (b"[]", "malformed"),
    ],
)
def test_a_body_that_cannot_be_read_passes_and_is_told(body, why):
    reader, on = read(body, JSON, places=list(range(0, len(body), 100_000)))

    assert (reader.found.unread, reader.found.usage) == (why, None)
    assert on == body


@pytest.mark.parametrize("kind", [{}, {"content-type": "text/plain; charset=utf-8"}])
@pytest.mark.parametrize("places", [[], [0, 1, 2, 3], list(range(0, 2000, 7))])
def test_a_body_of_a_type_that_says_nothing_is_read_as_what_it_is(kind, places):
    whole_body = b"\n " + json.dumps(WHOLE["chat"][0]).encode()
    stream, kept = read(CHAT, kind, strip=True, places=places)
    body, on = read(whole_body, kind, strip=True, places=places)

    assert (stream.found.usage, kept) == (Usage(19, 10, 8, 4), b"".join((*CHAT_EVENTS, DONE)))
    assert (body.found.usage, on) == (Usage(19, 10, 8, 4), whole_body)


@pytest.mark.parametrize("headers", [{"content-type": "text/html"}, {**SSE, "content-encoding": "br"}])
def test_what_nobody_here_can_read_is_not_read(headers):
    assert reader_for(APIS["chat"], headers, strip=True) is None


def test_what_is_blank_for_long_is_not_held_for_ever():
    reader = reader_for(APIS["chat"], {}, strip=True)
    assert reader is not None
    blank = b" " * (MOST_HELD_BYTES // 2)

    passed = [reader.feed(blank, now=1.0) for _ in range(4)]

    assert list(map(len, passed)) == [0, 0, 3 * len(blank), len(blank)]
