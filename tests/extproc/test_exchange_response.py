"""The response's direction of the exchange: what is asked of Envoy, what goes on to the caller, and what is learned."""

import gzip
import json
from itertools import pairwise

import pytest
from envoy.service.ext_proc.v3.external_processor_pb2 import ProcessingResponse
from hypothesis import given
from hypothesis import strategies as st

from factories import model
from playbook import (
    BUFFERED,
    CALL,
    DUPLEX,
    DUPLEX_STREAMED,
    STREAMED,
    At,
    Closed,
    Like,
    Playbook,
    Refused,
    asks,
    gets,
    routed,
    sends,
)
from wissel.core.access import ANONYMOUS
from wissel.core.decision import Passed
from wissel.core.outcome import Outcome, Usage
from wissel.core.snapshot import Passthrough, Price
from wissel.extproc import wire
from wissel.extproc.events import (
    Decide,
    Identify,
    Protocol,
    Reply,
    ResponseBody,
    ResponseHeaders,
    ResponseTrailers,
)
from wissel.extproc.mutation import Mutation

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


def sent(
    protocol: Protocol = BUFFERED, *, path: str = CALL, body: bytes | None = None, **headers: str
) -> tuple[Playbook, Reply]:
    """A request for a stream, on its way to a model with a price; and the reply that sent it there."""
    play = Playbook(protocol) >> asks(path, **headers) << Identify >> ANONYMOUS
    if protocol.request_body == "buffered":
        play = play << Reply("request_headers")
    served = model("small", upstream_model="org/small", price=Price(input=2.0, output=4.0))
    play = play >> sends(body or call(stream=True)) << Decide
    reply = play.exchange.decided(routed(model=served, route="talk"))[0]
    assert isinstance(reply, Reply)
    return play, reply


def on_its_way(protocol: Protocol = BUFFERED, *, body: bytes | None = None) -> Playbook:
    return sent(protocol, body=body)[0]


def answers(headers: dict[str, str] = SSE, *, end_of_stream: bool = False) -> ResponseHeaders:
    return ResponseHeaders(headers, end_of_stream, DETAILS)


def says(data: bytes) -> ResponseBody:
    return ResponseBody(data, end_of_stream=False)


def ends(data: bytes) -> ResponseBody:
    return ResponseBody(data, end_of_stream=True)


ASKED = Like(Reply, phase="response_headers", read_body=True)
"""The body is asked for."""
UNASKED = Like(Reply, phase="response_headers", read_body=False)
PASSED = Like(Reply, phase="response_body", mutation=None)


def changed(data: bytes) -> Like:
    return Like(Reply, phase="response_body", mutation=Mutation(body=data))


def streaming(body: bytes | None = None, headers: dict[str, str] = SSE) -> Playbook:
    """The answer began at 11, its body is asked for, and it is 12."""
    return on_its_way(body=body) >> At(11.0) >> answers(headers) << ASKED >> At(12.0)


def outcome(play: Playbook) -> Outcome:
    assert play
    assert play.exchange.outcome is not None
    return play.exchange.outcome


# What is asked of the model.


def body_of(reply: Reply) -> dict[str, object]:
    assert reply.mutation is not None
    assert reply.mutation.body is not None
    return json.loads(reply.mutation.body)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
def test_a_stream_is_asked_for_its_usage(path):
    _, reply = sent(path=path)

    assert body_of(reply)["stream_options"] == {"include_usage": True}


def test_the_content_length_is_that_of_both_changes():
    _, reply = sent(content_length="1")

    assert reply.mutation.set_headers["content-length"] == str(len(reply.mutation.body))


def test_a_body_with_the_right_model_is_changed_for_usage_alone():
    _, reply = sent(body=call(stream=True, model="org/small"))

    assert body_of(reply)["stream_options"] == {"include_usage": True}


@pytest.mark.parametrize(
    ("path", "stream"), [("/v1/chat/completions", False), ("/v1/responses", True), ("/v1/messages", True)]
)
def test_who_tells_usage_unasked_is_not_asked(path, stream):
    _, reply = sent(path=path, body=call(stream=stream, input="hello"))

    assert "stream_options" not in body_of(reply)


def test_usage_is_not_asked_for_where_its_chunk_could_not_be_taken_out():
    assert (
        Playbook(DUPLEX)
        >> asks()
        << Identify
        >> ANONYMOUS
        >> sends(call(stream=True))
        << Decide
        >> routed()
        << Like(Reply, phase="request_headers")
        << Reply("request_body", chunk=call(stream=True, model="org/small"), end_of_stream=True)
    )


@pytest.mark.parametrize(("stream", "asked"), [(True, "identity"), (False, "gzip")])
def test_a_coding_that_cannot_be_read_is_asked_away(stream, asked):
    _, reply = sent(body=call(stream=stream), accept_encoding="br, gzip")

    assert reply.mutation.set_headers["accept-encoding"] == asked


def test_a_caller_who_accepts_nothing_special_asks_for_nothing_special():
    _, reply = sent()

    assert "accept-encoding" not in reply.mutation.set_headers


def test_what_is_not_read_may_come_in_any_coding():
    _, reply = sent(DUPLEX, accept_encoding="br")

    assert "accept-encoding" not in reply.mutation.set_headers


# What is asked of Envoy.


@pytest.mark.parametrize("headers", [SSE, JSON, {**JSON, ":status": "201"}])
def test_an_answer_that_can_be_read_is_asked_for(headers):
    assert on_its_way() >> answers(headers) << ASKED


@pytest.mark.parametrize(
    "headers",
    [{**JSON, ":status": "429"}, {**JSON, ":status": "503"}, {":status": "200", "content-type": "audio/mpeg"},
     {**SSE, "content-encoding": "br"}],
)  # fmt: skip
def test_errors_and_what_nobody_can_read_are_not(headers):
    play = on_its_way() >> At(11.0) >> answers(headers) << UNASKED

    assert outcome(play).headers_after == 1.0


@pytest.mark.parametrize("protocol", [STREAMED, DUPLEX_STREAMED])
def test_what_comes_anyway_is_not_asked_for(protocol):
    assert on_its_way(protocol) >> answers() << UNASKED >> ends(CONTENT + USAGE + DONE) << changed(CONTENT + DONE)


def test_with_a_duplex_request_an_override_is_in_vain():
    play = on_its_way(DUPLEX) >> answers() << UNASKED

    assert outcome(play).usage is None


def test_the_override_names_the_streamed_mode():
    (reply,) = on_its_way().exchange.receive(answers(), now=11.0)
    message = ProcessingResponse.FromString(b"".join(wire.encode(reply)))

    assert str(message.mode_override) == "response_body_mode: STREAMED\n"


@pytest.mark.parametrize("mode", ["buffered", "buffered_partial", "full_duplex_streamed", "grpc"])
def test_a_response_mode_that_holds_answers_back_is_refused_and_the_setting_named(mode):
    what_to_set = f"response_body_mode is {mode.upper()}; set it to NONE or STREAMED"

    assert Playbook(Protocol("buffered", mode)) >> gets("/") << Refused(500, "unsupported_mode", what_to_set)


def test_a_body_that_may_shrink_has_no_content_length():
    lost = Like(Mutation, remove_headers=("content-length",))

    assert on_its_way() >> answers({**SSE, "content-length": "9"}) << Like(Reply, mutation=lost)


@pytest.mark.parametrize(
    ("body", "headers"),
    [(call(), JSON), (call(stream=True, stream_options={"include_usage": True}), {**SSE, "content-length": "9"})],
)
def test_a_body_that_stays_keeps_its_content_length(body, headers):
    kept = Like(Mutation, remove_headers=())

    assert on_its_way(body=body) >> answers(headers) << Like(Reply, mutation=kept)


# What goes on to the caller.


def test_the_chunk_of_usage_does_not_reach_who_did_not_ask():
    assert streaming() >> says(CONTENT) << PASSED >> says(USAGE) << changed(b"") >> says(DONE) << PASSED


def test_the_chunk_of_usage_reaches_who_asked():
    asking = call(stream=True, stream_options={"include_usage": True})

    assert streaming(asking) >> ends(CONTENT + USAGE + DONE) << PASSED


def test_an_empty_body_is_a_body_for_envoy():
    (reply,) = streaming().exchange.receive(says(USAGE), now=12.0)
    message = ProcessingResponse.FromString(b"".join(wire.encode(reply)))

    assert message.response_body.response.body_mutation.WhichOneof("mutation") == "body"


@given(st.lists(st.integers(0, 1000), max_size=12), st.booleans())
def test_every_chunk_is_answered_and_the_caller_gets_the_rest_unchanged(places, ends_empty):
    play = streaming()
    stream = CONTENT + b": thinking\n\n" + CONTENT + STOP + USAGE + DONE
    borders = [0, *sorted(place % (len(stream) + 1) for place in places), len(stream)]
    chunks = [stream[start:end] for start, end in pairwise(borders)]
    chunks += [b""] if ends_empty else []
    on = b""
    for at, chunk in enumerate(chunks):
        (reply,) = play.exchange.receive(ResponseBody(chunk, at == len(chunks) - 1), now=12.0)
        assert reply.phase == "response_body"
        on += chunk if reply.mutation is None else reply.mutation.body

    assert on == stream.replace(USAGE, b"")
    assert outcome(play).usage == Usage(1000, 3)


def test_a_passthroughs_answer_is_left_alone():
    assert (
        Playbook(STREAMED)
        >> asks("/v1/files", method="GET")
        << Identify
        >> ANONYMOUS
        << Decide
        >> Passed(Passthrough("/v1/files", "files"), ANONYMOUS, "r1")
        << Like(Reply, phase="request_headers")
        >> answers()
        << UNASKED
        >> ends(USAGE)
        << Reply("response_body")
    )


def test_what_envoy_answers_by_itself_passes_with_its_body():
    by_itself = ResponseHeaders({":status": "403"}, attributes={"response.code_details": "upgrade_failed"})
    play = Playbook(STREAMED) >> by_itself << UNASKED >> ends(b"no") << Reply("response_body")

    assert play
    assert play.exchange.is_settled


# What is learned.


def test_a_stream_tells_its_pace_and_its_cost():
    play = (
        streaming()
        >> says(b": soon\n\n")
        << PASSED
        >> At(13.0)
        >> says(CONTENT)
        << PASSED
        >> At(14.0)
        >> says(CONTENT)
        << PASSED
        >> At(15.0)
        >> says(CONTENT + STOP)
        << PASSED
        >> At(16.0)
        >> says(USAGE)
        << changed(b"")
        >> At(17.0)
        >> says(DONE)
        << PASSED
        >> At(20.0)
        >> ends(b"")
        << PASSED
    )

    assert outcome(play) == Outcome(
        status=200, duration=10.0, api="chat", code_details="via_upstream", headers_after=1.0, complete=True,
        usage=Usage(1000, 3), cost_usd=0.002012, finish_reasons=("stop",), response_model="org/small",
        ttft=3.0, time_per_output_chunk=1.0, time_per_output_token=1.0, chunks=3, seen_tokens=3,
    )  # fmt: skip


def test_the_last_answer_carries_usage_cost_and_pace_as_metadata():
    told = {"input_tokens": 1000, "output_tokens": 3, "cost_usd": 0.002012, "ttft_ms": 2000.0}

    assert (
        streaming()
        >> says(CONTENT + USAGE + DONE)
        << Like(Reply, metadata=None)
        >> ends(b"")
        << Like(Reply, metadata=told)
    )


def test_a_whole_answer_is_read_at_its_end():
    play = streaming(call(), JSON) >> says(WHOLE[:9]) << PASSED >> ends(WHOLE[9:]) << PASSED

    assert (outcome(play).usage, outcome(play).complete, outcome(play).ttft) == (Usage(4, 2), True, None)


def test_a_compressed_answer_is_read_as_well():
    play = streaming(call(), {**JSON, "content-encoding": "gzip"}) >> ends(gzip.compress(WHOLE)) << PASSED

    assert outcome(play).usage == Usage(4, 2)


def test_an_answer_without_a_body_is_complete():
    play = on_its_way() >> answers(end_of_stream=True) << UNASKED

    assert outcome(play).complete


def test_trailers_end_an_answer():
    play = (
        streaming()
        >> says(CONTENT + USAGE)
        << changed(CONTENT)
        >> ResponseTrailers()
        << Like(Reply, phase="response_trailers")
    )

    assert outcome(play).complete
    assert outcome(play).usage == Usage(1000, 3)


def test_trailers_are_answered_with_what_the_answer_cost():
    told = {"input_tokens": 1000, "output_tokens": 3, "cost_usd": 0.002012, "ttft_ms": 2000.0}

    assert (
        streaming()
        >> says(CONTENT + USAGE)
        << changed(CONTENT)
        >> ResponseTrailers()
        << Reply("response_trailers", metadata=told)
    )


def test_an_error_inside_a_stream_is_the_variants():
    play = streaming() >> ends(CONTENT + b'data: {"error":{"type":"overloaded","message":"m"}}\n\n') << PASSED

    assert (outcome(play).is_error, outcome(play).is_evidence) == (True, True)


def test_who_hangs_up_in_the_middle_is_counted_and_nobodys_fault():
    play = streaming() >> says(CONTENT) << PASSED >> At(14.0) >> Closed()

    assert (outcome(play).hung_up, outcome(play).complete, outcome(play).duration) == (True, False, 4.0)
    assert not outcome(play).is_evidence


def test_who_hangs_up_before_an_answer_is_counted_too():
    play = on_its_way() >> Closed()

    assert (outcome(play).hung_up, outcome(play).status, outcome(play).headers_after) == (True, 0, None)


def test_who_leaves_after_the_last_word_has_had_all_of_it():
    play = streaming() >> says(CONTENT + STOP + USAGE + DONE) << changed(CONTENT + STOP + DONE) >> Closed()

    assert (outcome(play).complete, outcome(play).hung_up) == (True, False)


def test_an_override_that_envoy_does_not_allow_is_no_hang_up():
    play = streaming() >> Closed()

    assert (outcome(play).unread, outcome(play).hung_up, outcome(play).duration) == ("not_sent", False, 1.0)
    assert outcome(play).is_evidence


def test_where_overrides_work_a_body_that_never_came_is_a_hang_up():
    play = streaming() >> At(15.0) >> Closed(override_works=True)

    assert (outcome(play).unread, outcome(play).hung_up, outcome(play).duration) == ("", True, 5.0)


def test_a_body_that_came_on_request_shows_that_overrides_work():
    play = streaming()
    before = play.exchange.override_worked

    assert play >> says(CONTENT) << PASSED
    assert (before, play.exchange.override_worked) == (False, True)


def test_an_end_that_was_seen_stays_what_it_was():
    play = streaming() >> ends(CONTENT + STOP + DONE) << PASSED
    before = outcome(play)

    assert outcome(play >> At(99.0) >> Closed()) is before


def test_a_request_that_was_never_forwarded_has_no_outcome():
    play = Playbook() >> asks("//", method="GET") << Refused(404, "path_not_found") >> Closed()

    assert play.exchange.outcome is None
