"""FULL_DUPLEX_STREAMED: the headers wait for the decision, and every byte is handed back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from playbook import ADA, DUPLEX, Including, Late, Like, Playbook, Refused, asks, denied, routed, sends
from wissel.core.access import ANONYMOUS
from wissel.extproc.events import Decide, Identify, Reply, RequestTrailers
from wissel.extproc.mutation import Mutation
from wissel.extproc.pieces import CHUNK_BYTES

BODY = b'{"model": "auto", "messages": [{"role": "user", "content": "hello"}]}'
NEW_BODY = BODY.replace(b'"auto"', b'"org/small"')


def decided(body: bytes, size: int) -> list:
    """What is done at last about a body that comes in pieces of `size`."""
    play = Playbook(DUPLEX) >> asks() << Identify >> ANONYMOUS
    for at in range(0, len(body), size):
        play = play >> sends(body[at : at + size], more=True)
    return (play >> sends(b"") << Decide).exchange.decided(routed())


@given(st.integers(1, 100))
def test_headers_wait_for_the_decision_and_every_byte_is_handed_back(size):
    first, *rest = decided(BODY, size)

    assert first.phase == "request_headers"
    assert b"".join(step.chunk for step in rest) == NEW_BODY
    assert [step.end_of_stream for step in rest] == [False] * (len(rest) - 1) + [True]


def test_a_large_body_is_handed_back_in_chunks():
    _, *rest = decided(BODY.replace(b"hello", b"x" * 200_000), 65_536)

    assert max(len(step.chunk) for step in rest) <= CHUNK_BYTES


@pytest.mark.parametrize("asked", [asks(), asks("/v1/feedback")])
def test_trailers_behind_a_call_are_refused_since_envoy_would_send_its_body_twice(asked):
    assert (
        Playbook(DUPLEX)
        >> asked
        << Identify
        >> ANONYMOUS
        >> sends(BODY[:10], more=True)
        >> sends(BODY[10:], more=True)
        >> RequestTrailers()
        << Refused(400, "request_trailers")
    )


def test_trailers_that_come_before_the_caller_is_known_wait_for_that():
    assert (
        Playbook(DUPLEX)
        >> asks()
        << Identify
        >> sends(BODY, more=True)
        >> RequestTrailers()
        >> ADA
        << Refused(400, "request_trailers")
    )


def test_a_body_loses_its_content_length_and_its_headers_choose_the_route_again():
    to_small = Including({"x-wissel-cluster": "small-cluster"})
    on = Like(Mutation, set_headers=to_small, remove_headers=("content-length",), body=None, reroute=True)

    assert (
        Playbook(DUPLEX)
        >> asks(content_length="70")
        << Identify
        >> ANONYMOUS
        >> sends(BODY)
        << Decide
        >> routed()
        << Like(Reply, phase="request_headers", mutation=on)
        << Reply("request_body", chunk=NEW_BODY, end_of_stream=True)
    )


def test_what_was_sent_before_a_refusal_arrived_is_let_be():
    assert (
        Playbook(DUPLEX)
        >> asks()
        << Identify
        >> denied(401, "invalid_api_key")
        << Refused(401, "invalid_api_key")
        >> sends(BODY)
    )


def test_a_body_that_does_not_arrive_in_time_is_408():
    play = Playbook(DUPLEX) >> asks() << Identify >> ADA
    waits = play.exchange.is_reading_body

    assert play >> Late() << Refused(408, "request_timeout") >> Late()
    assert waits
