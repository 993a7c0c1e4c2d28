"""Whether a refusal is about what wissel put in, told from its words alone."""

import gzip
import json

import pytest

from factories import model
from playbook import BUFFERED, CALL, STREAMED, Like, Playbook, asks, routed, sends
from wissel.core.access import ANONYMOUS
from wissel.extproc.events import Decide, Heed, Identify, Reply, ResponseBody, ResponseHeaders, ResponseTrailers
from wissel.extproc.exchange import Exchange
from wissel.extproc.objection import MOST_SEARCHED

MISTRAL = {
    "object": "error",
    "message": {"detail": [{"type": "extra_forbidden", "loc": ["body", "stream_options", "include_usage"]}]},
}
OPENAI = {"error": {"message": "Unrecognized request argument supplied: stream_options", "param": None}}
GO = {"error": 'json: unknown field "stream_options"'}
LIST = {"error": {"message": "unknown: foo; known are: messages, temperature, max_tokens, stream_options"}}
OTHER = {"error": {"message": "context_length_exceeded"}}
SENT = {"model": "m", "stream": True, "stream_options": {"include_usage": True}}
MISSING = {"type": "missing", "loc": ["body", "messages"], "msg": "Field required", "input": SENT}
FORBIDDEN = {"type": "extra_forbidden", "loc": ["body", "stream_options"], "input": {"include_usage": True}}


def call(text: str = "hello", **members: object) -> bytes:
    return json.dumps(
        {"model": "auto", "messages": [{"role": "user", "content": text}], "stream": True, **members}
    ).encode()


def heeded(
    said: object, *, status: int = 422, body: bytes = b"", coding: str = "", path: str = CALL, protocol=BUFFERED
) -> bool:
    """Whether the exchange wants it remembered, after a refusal in these words."""
    play = Playbook(protocol) >> asks(path) << Identify >> ANONYMOUS << Reply("request_headers")
    exchange: Exchange = (play >> sends(body or call()) << Decide).exchange
    exchange.decided(routed())
    headers = {":status": str(status), "content-type": "application/json", "content-encoding": coding}
    (opening,) = exchange.receive(ResponseHeaders(headers), now=11.0)
    data = said if isinstance(said, bytes) else json.dumps(said).encode()
    if not opening.read_body and protocol is not STREAMED:
        return False
    exchange.receive(ResponseBody(data[:20], end_of_stream=False), now=12.0)
    steps = exchange.receive(ResponseBody(data[20:], end_of_stream=True), now=12.0)
    return any(isinstance(step, Heed) for step in steps)


@pytest.mark.parametrize("protocol", [BUFFERED, STREAMED])
@pytest.mark.parametrize("said", [MISTRAL, OPENAI, GO])
@pytest.mark.parametrize("status", [400, 422])
def test_a_refusal_that_names_what_wissel_put_in_is_heeded(status, said, protocol):
    assert heeded(said, status=status, protocol=protocol)


def test_a_refusal_that_is_compressed_is_read():
    assert heeded(gzip.compress(json.dumps(OPENAI).encode()), coding="gzip")


@pytest.mark.parametrize("status", [200, 401, 404, 429, 500])
def test_an_answer_of_another_kind_is_not(status):
    assert not heeded(OPENAI, status=status)


@pytest.mark.parametrize(
    "said",
    [
        {"detail": [MISSING]},
        {"error": {"message": str([MISSING])}},
        {"error": {"message": json.dumps([MISSING])}},
        {"error": {"message": "no messages in {Model:m stream_options:map[include_usage:true]}"}},
        {"error": {"message": "no messages in Request(stream_options=StreamOptions(include_usage=True))"}},
        b"{\"error\": \"no messages in {'model': 'm', 'stream_options': {'incl...\"}",
    ],
    ids=["as it is", "as Python shows it", "as text", "as Go shows it", "as an object", "cut off"],
)
def test_a_refusal_that_repeats_the_request_is_no_objection_to_it(said):
    assert not heeded(said, status=400)


def test_a_refusal_that_repeats_the_request_and_names_what_is_wrong_with_it_is_heeded():
    assert heeded({"detail": [FORBIDDEN], "body": {**SENT, "max_tokens": 9}}, body=call(max_tokens=9))


@pytest.mark.parametrize("said", [OTHER, LIST, b"", b"\xff"])
def test_a_refusal_that_speaks_of_something_else_or_of_everything_is_not(said):
    assert not heeded(said)


@pytest.mark.parametrize(
    "body",
    [
        call("what is stream_options?"),
        call(include_usage=1),
        call().replace(b"hello", rb"stream\u005foptions"),
        call().replace(b"hello", rb"\u0073tream_option\u0073"),
        call("x" * MOST_SEARCHED),
        call(stream_options={"include_usage": True}),
        call(stream=False),
    ],
    ids=["a word of the caller's", "a member of its", "an escape", "two", "too long", "its own question", "no stream"],
)
def test_no_caller_can_bring_it_about(body):
    assert not heeded(OPENAI, body=body)


@pytest.mark.parametrize("query", ["stream_options", "a=stream%5Foptions"])
def test_nor_by_what_it_asks_beside_the_body(query: str):
    assert not heeded(OPENAI, path=f"{CALL}?{query}")
    assert heeded(OPENAI, path=f"{CALL}?api-version=1")


def test_a_caller_who_writes_other_escapes_teaches_like_any_other():
    assert heeded(OPENAI, body=call("héllo"))


def test_what_is_heeded_is_told_before_the_refusal_goes_on():
    play = Playbook() >> asks(CALL) << Identify >> ANONYMOUS << Reply("request_headers") >> sends(call()) << Decide
    small = model("small", upstream_model="org/small")

    assert (
        play
        >> routed(model=small)
        << Like(Reply, phase="request_body")
        >> ResponseHeaders({":status": "400", "content-type": "application/json"})
        << Like(Reply, read_body=True)
        >> ResponseBody(json.dumps(OPENAI).encode(), end_of_stream=False)
        << Reply("response_body")
        >> ResponseTrailers()
        << Heed(small)
        << Reply("response_trailers")
    )


@pytest.mark.parametrize("may_ask", [True, False])
@pytest.mark.parametrize("stream_usage", ["ask", "never"])
def test_a_stream_is_asked_where_the_file_and_the_server_allow_it(may_ask, stream_usage):
    exchange = Exchange("wr-1", now=10.0, may_ask=lambda _: may_ask)
    exchange.receive(asks(CALL), now=10.0, protocol=BUFFERED)
    exchange.identified(ANONYMOUS)
    (reading,) = exchange.receive(sends(call()), now=10.0)
    list(reading.work)
    (reply,) = exchange.decided(routed(model=model("auto", stream_usage=stream_usage)))
    asked = reply.mutation.body is not None and b"include_usage" in reply.mutation.body

    assert asked == (may_ask and stream_usage == "ask")
