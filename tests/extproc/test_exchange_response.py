"""The response's direction of the exchange: what is asked of Envoy, what goes on to the caller, and what is learned."""

import gzip
import json
from itertools import pairwise

import pytest
from envoy.service.ext_proc.v3.external_processor_pb2 import ProcessingResponse
from hypothesis import given
from hypothesis import strategies as st

from factories import model
from wissel.core.access import ANONYMOUS
from wissel.core.decision import Passed, Routed
from wissel.core.outcome import Outcome, Usage
from wissel.core.snapshot import Price
from wissel.extproc import wire
from wissel.extproc.events import (
    Protocol,
    Refuse,
    Reply,
    RequestBody,
    RequestHeaders,
    ResponseBody,
    ResponseHeaders,
    ResponseTrailers,
)
from wissel.extproc.exchange import Exchange

ON_REQUEST = Protocol("buffered", "none")
STREAMED = Protocol("buffered", "streamed")
DUPLEX = Protocol("full_duplex_streamed", "none")
DUPLEX_STREAMED = Protocol("full_duplex_streamed", "streamed")

CONTENT = b'data: {"model":"org/small","choices":[{"index":0,"delta":{"content":"Hi"},"finish_reason":null}]}\n\n'
STOP = b'data: {"model":"org/small","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":1000,"completion_tokens":3}}\n\n'
DONE = b"data: [DONE]\n\n"
WHOLE = json.dumps({"model": "org/small", "usage": {"prompt_tokens": 4, "completion_tokens": 2}}).encode()
SSE = {":status": "200", "content-type": "text/event-stream"}
JSON = {":status": "200", "content-type": "application/json", "content-length": str(len(WHOLE))}
DETAILS = {"response.code_details": "via_upstream"}


def call(**members: object) -> bytes:
    return json.dumps({"model": "auto", "messages": [{"role": "user", "content": "hello"}], **members}).encode()


def forwarded(
    protocol: Protocol = ON_REQUEST, *, path: str = "/v1/chat/completions", body: bytes | None = None, **headers: str
) -> tuple[Exchange, Reply]:
    """A request for a stream that began at 10, on its way to a model with a price; and the reply that sent it there."""
    exchange = Exchange("wr-1", now=10.0)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    found = {":method": "POST", ":path": path, ":authority": "llm", **named}
    exchange.receive(RequestHeaders(found), now=10.0, protocol=protocol)
    exchange.identified(ANONYMOUS)
    exchange.receive(RequestBody(body or call(stream=True), end_of_stream=True), now=10.0)
    served = model("small", upstream_model="org/small", price=Price(input=2.0, output=4.0))
    reply = exchange.decided(Routed(served, "small", "small", "static", ANONYMOUS, "r1", route="talk"))[0]
    assert isinstance(reply, Reply)
    return exchange, reply


def answered(exchange: Exchange, headers: dict[str, str] = SSE, *, end_of_stream: bool = False) -> Reply:
    (reply,) = exchange.receive(ResponseHeaders(headers, end_of_stream, DETAILS), now=11.0)
    assert isinstance(reply, Reply)
    return reply


def told(exchange: Exchange, data: bytes, *, end_of_stream: bool = False, now: float = 12.0) -> Reply:
    (reply,) = exchange.receive(ResponseBody(data, end_of_stream), now=now)
    assert isinstance(reply, Reply)
    return reply


def outcome(exchange: Exchange) -> Outcome:
    assert exchange.outcome is not None
    return exchange.outcome


# What is asked of the model.


def sent(reply: Reply) -> dict[str, object]:
    assert reply.mutation is not None
    assert reply.mutation.body is not None
    return json.loads(reply.mutation.body)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
def test_a_stream_is_asked_for_its_usage(path):
    _, reply = forwarded(path=path)

    assert sent(reply)["stream_options"] == {"include_usage": True}


def test_the_content_length_is_that_of_both_changes():
    _, reply = forwarded(content_length="1")

    assert reply.mutation.set_headers["content-length"] == str(len(reply.mutation.body))


def test_a_body_with_the_right_model_is_changed_for_usage_alone():
    _, reply = forwarded(body=call(stream=True, model="org/small"))

    assert sent(reply)["stream_options"] == {"include_usage": True}


@pytest.mark.parametrize(
    ("path", "stream"), [("/v1/chat/completions", False), ("/v1/responses", True), ("/v1/messages", True)]
)
def test_who_tells_usage_unasked_is_not_asked(path, stream):
    _, reply = forwarded(path=path, body=call(stream=stream, input="hello"))

    assert "stream_options" not in sent(reply)


def test_usage_is_not_asked_for_where_its_chunk_could_not_be_taken_out():
    exchange = Exchange("wr-1", now=10.0)
    steps = exchange.receive(
        RequestHeaders({":method": "POST", ":path": "/v1/chat/completions"}), now=10.0, protocol=DUPLEX
    )
    exchange.identified(ANONYMOUS)
    exchange.receive(RequestBody(call(stream=True), end_of_stream=True), now=10.0)
    _, *steps = exchange.decided(Routed(model("small"), "small", "small", "static", ANONYMOUS, "r1"))

    assert b"stream_options" not in b"".join(step.chunk for step in steps)


@pytest.mark.parametrize(("stream", "asked"), [(True, "identity"), (False, "gzip")])
def test_a_coding_that_cannot_be_read_is_asked_away(stream, asked):
    _, reply = forwarded(body=call(stream=stream), accept_encoding="br, gzip")

    assert reply.mutation.set_headers["accept-encoding"] == asked


def test_a_caller_who_accepts_nothing_special_asks_for_nothing_special():
    _, reply = forwarded()

    assert "accept-encoding" not in reply.mutation.set_headers


def test_what_is_not_read_may_come_in_any_coding():
    _, reply = forwarded(DUPLEX, accept_encoding="br")

    assert "accept-encoding" not in reply.mutation.set_headers


# What is asked of Envoy.


@pytest.mark.parametrize("headers", [SSE, JSON, {**JSON, ":status": "201"}])
def test_an_answer_that_can_be_read_is_asked_for(headers):
    exchange, _ = forwarded()

    assert answered(exchange, headers).read_body


@pytest.mark.parametrize(
    "headers",
    [{**JSON, ":status": "429"}, {**JSON, ":status": "503"}, {":status": "200", "content-type": "audio/mpeg"},
     {**SSE, "content-encoding": "br"}],
)  # fmt: skip
def test_errors_and_what_nobody_can_read_are_not(headers):
    exchange, _ = forwarded()

    assert not answered(exchange, headers).read_body
    assert outcome(exchange).headers_after == 1.0


@pytest.mark.parametrize("protocol", [STREAMED, DUPLEX_STREAMED])
def test_what_comes_anyway_is_not_asked_for(protocol):
    exchange, _ = forwarded(protocol)

    assert not answered(exchange).read_body
    assert told(exchange, CONTENT + USAGE + DONE, end_of_stream=True).mutation.body == CONTENT + DONE


def test_with_a_duplex_request_an_override_is_in_vain():
    exchange, _ = forwarded(DUPLEX)

    assert not answered(exchange).read_body
    assert outcome(exchange).usage is None


def test_the_override_names_the_streamed_mode():
    exchange, _ = forwarded()
    message = ProcessingResponse.FromString(wire.encode(answered(exchange)))

    assert str(message.mode_override) == "response_body_mode: STREAMED\n"


@pytest.mark.parametrize("mode", ["buffered", "buffered_partial", "full_duplex_streamed", "grpc"])
def test_a_response_mode_that_holds_answers_back_is_refused_and_the_setting_named(mode):
    exchange = Exchange("wr-1", now=0.0)
    (step,) = exchange.receive(RequestHeaders({":path": "/"}), now=0.0, protocol=Protocol("buffered", mode))

    assert isinstance(step, Refuse)
    assert b"response_body_mode is " + mode.upper().encode() + b"; set it to NONE or STREAMED" in step.response.body


def test_a_body_that_may_shrink_has_no_content_length():
    exchange, _ = forwarded()

    assert answered(exchange, {**SSE, "content-length": "9"}).mutation.remove_headers == ("content-length",)


@pytest.mark.parametrize(
    ("body", "headers"),
    [(call(), JSON), (call(stream=True, stream_options={"include_usage": True}), {**SSE, "content-length": "9"})],
)
def test_a_body_that_stays_keeps_its_content_length(body, headers):
    exchange, _ = forwarded(body=body)

    assert answered(exchange, headers).mutation.remove_headers == ()


# What goes on to the caller.


def test_the_chunk_of_usage_does_not_reach_who_did_not_ask():
    exchange, _ = forwarded()
    answered(exchange)

    assert told(exchange, CONTENT).mutation is None
    assert told(exchange, USAGE).mutation.body == b""
    assert told(exchange, DONE).mutation is None


def test_the_chunk_of_usage_reaches_who_asked():
    exchange, _ = forwarded(body=call(stream=True, stream_options={"include_usage": True}))
    answered(exchange)

    assert told(exchange, CONTENT + USAGE + DONE, end_of_stream=True).mutation is None


def test_an_empty_body_is_a_body_for_envoy():
    message = ProcessingResponse.FromString(wire.encode(answered_with_nothing()))

    assert message.response_body.response.body_mutation.WhichOneof("mutation") == "body"


def answered_with_nothing() -> Reply:
    exchange, _ = forwarded()
    answered(exchange)
    return told(exchange, USAGE)


@given(st.lists(st.integers(0, 1000), max_size=12), st.booleans())
def test_every_chunk_is_answered_and_the_caller_gets_the_rest_unchanged(places, ends_empty):
    exchange, _ = forwarded()
    answered(exchange)
    stream = CONTENT + b": thinking\n\n" + CONTENT + STOP + USAGE + DONE
    borders = [0, *sorted(place % (len(stream) + 1) for place in places), len(stream)]
    chunks = [stream[start:end] for start, end in pairwise(borders)]
    chunks += [b""] if ends_empty else []
    on = b""
    for at, chunk in enumerate(chunks):
        reply = told(exchange, chunk, end_of_stream=at == len(chunks) - 1)
        assert reply.phase == "response_body"
        on += chunk if reply.mutation is None else reply.mutation.body

    assert on == stream.replace(USAGE, b"")
    assert outcome(exchange).usage == Usage(1000, 3)


def test_a_passthroughs_answer_is_left_alone():
    exchange = Exchange("wr-1", now=0.0)
    exchange.receive(RequestHeaders({":method": "GET", ":path": "/v1/files"}), now=0.0, protocol=STREAMED)
    exchange.identified(ANONYMOUS)
    exchange.decided(Passed("files", ANONYMOUS, "r1"))

    assert not answered(exchange).read_body
    assert told(exchange, USAGE, end_of_stream=True) == Reply("response_body")


def test_what_envoy_answers_by_itself_passes_with_its_body():
    exchange = Exchange("wr-1", now=0.0)
    details = {"response.code_details": "upgrade_failed"}
    exchange.receive(ResponseHeaders({":status": "403"}, attributes=details), now=0.0, protocol=STREAMED)

    assert exchange.receive(ResponseBody(b"no", end_of_stream=True), now=0.0) == [Reply("response_body")]
    assert exchange.is_settled


# What is learned.


def test_a_stream_tells_its_pace_and_its_cost():
    exchange, _ = forwarded()
    answered(exchange)
    for at, data in enumerate((b": soon\n\n", CONTENT, CONTENT, CONTENT + STOP, USAGE, DONE)):
        told(exchange, data, now=12.0 + at)
    told(exchange, b"", end_of_stream=True, now=20.0)

    assert outcome(exchange) == Outcome(
        status=200, duration=10.0, api="chat", code_details="via_upstream", headers_after=1.0, complete=True,
        usage=Usage(1000, 3), cost_usd=0.002012, finish_reasons=("stop",), response_model="org/small",
        ttft=3.0, time_per_output_chunk=1.0, time_per_output_token=1.0, chunks=3,
    )  # fmt: skip


def test_the_last_answer_carries_usage_cost_and_pace_as_metadata():
    exchange, _ = forwarded()
    answered(exchange)
    first = told(exchange, CONTENT + USAGE + DONE)
    last = told(exchange, b"", end_of_stream=True)

    assert first.metadata is None
    assert last.metadata == {"input_tokens": 1000, "output_tokens": 3, "cost_usd": 0.002012, "ttft_ms": 2000.0}


def test_a_whole_answer_is_read_at_its_end():
    exchange, _ = forwarded(body=call())
    answered(exchange, JSON)
    told(exchange, WHOLE[:9])
    last = told(exchange, WHOLE[9:], end_of_stream=True)

    assert last.mutation is None
    assert (outcome(exchange).usage, outcome(exchange).complete, outcome(exchange).ttft) == (Usage(4, 2), True, None)


def test_a_compressed_answer_is_read_as_well():
    exchange, _ = forwarded(body=call())
    answered(exchange, {**JSON, "content-encoding": "gzip"})
    last = told(exchange, gzip.compress(WHOLE), end_of_stream=True)

    assert last.mutation is None
    assert outcome(exchange).usage == Usage(4, 2)


def test_an_answer_without_a_body_is_complete():
    exchange, _ = forwarded()

    assert not answered(exchange, end_of_stream=True).read_body
    assert outcome(exchange).complete


def test_trailers_end_an_answer():
    exchange, _ = forwarded()
    answered(exchange)
    told(exchange, CONTENT + USAGE)
    (reply,) = exchange.receive(ResponseTrailers(), now=13.0)

    assert reply.metadata["input_tokens"] == 1000
    assert outcome(exchange).complete


def test_an_error_inside_a_stream_is_the_variants():
    exchange, _ = forwarded()
    answered(exchange)
    told(exchange, CONTENT + b'data: {"error":{"type":"overloaded","message":"m"}}\n\n', end_of_stream=True)

    assert (outcome(exchange).is_error, outcome(exchange).is_evidence) == (True, True)


def test_who_hangs_up_in_the_middle_is_counted_and_nobodys_fault():
    exchange, _ = forwarded()
    answered(exchange)
    told(exchange, CONTENT)
    exchange.closed(now=14.0, override_works=False)

    assert (outcome(exchange).hung_up, outcome(exchange).complete, outcome(exchange).duration) == (True, False, 4.0)
    assert not outcome(exchange).is_evidence


def test_who_hangs_up_before_an_answer_is_counted_too():
    exchange, _ = forwarded()
    exchange.closed(now=14.0, override_works=False)

    assert (outcome(exchange).hung_up, outcome(exchange).status, outcome(exchange).headers_after) == (True, 0, None)


def test_who_leaves_after_the_last_word_has_had_all_of_it():
    exchange, _ = forwarded()
    answered(exchange)
    told(exchange, CONTENT + STOP + USAGE + DONE)
    exchange.closed(now=14.0, override_works=False)

    assert (outcome(exchange).complete, outcome(exchange).hung_up) == (True, False)


def test_an_override_that_envoy_does_not_allow_is_no_hang_up():
    exchange, _ = forwarded()
    answered(exchange)
    exchange.closed(now=11.1, override_works=False)

    assert (outcome(exchange).unread, outcome(exchange).hung_up, outcome(exchange).duration) == ("not_sent", False, 1.0)
    assert outcome(exchange).is_evidence


def test_where_overrides_work_a_body_that_never_came_is_a_hang_up():
    exchange, _ = forwarded()
    answered(exchange)
    exchange.closed(now=15.0, override_works=True)

    assert (outcome(exchange).unread, outcome(exchange).hung_up, outcome(exchange).duration) == ("", True, 5.0)


def test_a_body_that_came_on_request_shows_that_overrides_work():
    exchange, _ = forwarded()
    answered(exchange)
    before = exchange.override_worked
    told(exchange, CONTENT)

    assert (before, exchange.override_worked) == (False, True)


def test_an_end_that_was_seen_stays_what_it_was():
    exchange, _ = forwarded()
    answered(exchange)
    told(exchange, CONTENT + STOP + DONE, end_of_stream=True)
    before = outcome(exchange)
    exchange.closed(now=99.0, override_works=False)

    assert outcome(exchange) is before


def test_a_request_that_was_never_forwarded_has_no_outcome():
    exchange = Exchange("wr-1", now=0.0)
    exchange.receive(RequestHeaders({":method": "GET", ":path": "//"}), now=0.0, protocol=ON_REQUEST)
    exchange.closed(now=1.0, override_works=False)

    assert exchange.outcome is None
