"""When an attempt's answer is let go, without any Envoy."""

from dataclasses import replace

import pytest

from wissel.core.snapshot import Failover
from wissel.extproc.events import Event, Fail, Reply, RequestHeaders, ResponseBody, ResponseHeaders, ResponseTrailers
from wissel.extproc.held import FAILED, HeldAnswer
from wissel.extproc.itinerary import Errand, told
from wissel.extproc.mutation import Mutation

ERRAND = Errand(
    models=("a", "b"),
    clusters=("a-cluster", "b-cluster"),
    api="chat",
    path="/v1/chat/completions",
    model_at=(10, 22),
    edits=((), ()),
    is_anonymous=False,
    kept=(),
    shown=((), ()),
    until=100.0,
    streams=True,
    request_id="wr-1",
)
BEGUN = ResponseHeaders(
    {":status": "200", "content-type": "text/event-stream"},
    attributes={"upstream.request_attempt_count": "1"},
    metadata={"wissel.attempts": {"plan": told(ERRAND)}},
)
LAST = replace(BEGUN, attributes={"upstream.request_attempt_count": "2.0"})
ROLE = b'data: {"choices":[{"delta":{"role":"assistant","content":""}}]}\n\n'
WORD = b'data: {"choices":[{"delta":{"content":"Hello"}}]}\n\n'
ERROR = b'data: {"error":{"message":"overloaded"}}\n\n'
REFUSAL = b'data: {"choices":[{"delta":{"refusal":"No"}}]}\n\n'


def piece(data: bytes, *, end_of_stream: bool = False) -> Reply:
    return Reply("response_body", chunk=data, end_of_stream=end_of_stream)


def held(*events: Event, on_refusal: bool = False) -> list[object]:
    side = HeldAnswer(Failover(holds=True, on_refusal=on_refusal))
    return [step for event in events for step in side.receive(event)]


def test_nothing_goes_on_before_the_first_word_and_everything_with_it():
    assert held(BEGUN, ResponseBody(ROLE, False)) == []
    assert held(BEGUN, ResponseBody(ROLE, False), ResponseBody(WORD, False), ResponseBody(ERROR, True)) == [
        Reply("response_headers"), piece(ROLE + WORD), piece(ERROR, end_of_stream=True),
    ]  # fmt: skip


def test_an_error_first_is_a_status_that_envoy_follows_up():
    assert held(BEGUN, ResponseBody(ROLE + ERROR, False))[0] == Reply("response_headers", FAILED)


@pytest.mark.parametrize(("on_refusal", "mutation"), [(True, FAILED), (False, None)])
def test_a_refusal_is_followed_up_where_that_is_wanted(on_refusal: bool, mutation: Mutation | None):
    assert held(BEGUN, ResponseBody(REFUSAL, False), on_refusal=on_refusal)[0] == Reply("response_headers", mutation)


@pytest.mark.parametrize(
    "headers",
    [LAST, replace(BEGUN, headers={":status": "400"}), replace(BEGUN, end_of_stream=True)],
)
def test_whatever_no_other_model_follows_is_let_go_at_once(headers: ResponseHeaders):
    assert held(headers, ResponseBody(ERROR, True)) == [Reply("response_headers"), piece(ERROR, end_of_stream=True)]


def test_trailers_end_an_answer_too():
    whole = replace(BEGUN, headers={":status": "200", "content-type": "application/json"})

    assert held(whole, ResponseBody(b'{"error": {}', False), ResponseBody(b"}", False), ResponseTrailers()) == [
        Reply("response_headers"), piece(b'{"error": {}}'), Reply("response_trailers"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "event",
    [
        RequestHeaders({}),
        ResponseBody(WORD, False),
        replace(BEGUN, metadata={}),
        replace(BEGUN, attributes={}),
    ],
)
def test_what_makes_no_sense_fails_closed(event: Event):
    (step,) = held(event)

    assert isinstance(step, Fail)
