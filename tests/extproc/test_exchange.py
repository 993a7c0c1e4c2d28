"""The conformance of the exchange: each trap of ext_proc that a processor can fall into."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factories import model, request
from playbook import (
    ADA,
    BUFFERED,
    CALL,
    DUPLEX,
    Including,
    Like,
    Playbook,
    Refused,
    asks,
    denied,
    gets,
    headers,
    routed,
    sends,
)
from wissel.core.access import ANONYMOUS
from wissel.core.decision import Denied, Listed, Routed
from wissel.core.request import Head, Request
from wissel.core.snapshot import Credential, Terms
from wissel.extproc.events import (
    Decide,
    Fail,
    Identify,
    Protocol,
    Refuse,
    Reply,
    RequestBody,
    RequestHeaders,
    RequestTrailers,
    ResponseBody,
    ResponseHeaders,
    ResponseTrailers,
)
from wissel.extproc.exchange import Exchange
from wissel.extproc.mutation import Mutation

BODY = b'{"model": "auto", "messages": [{"role": "user", "content": "hello"}]}'


def read(who=ANONYMOUS, *, allow: frozenset[str] = frozenset(), **more) -> Playbook:
    """A call whose caller is known, and whose body is to come."""
    play = Playbook(terms=Terms(allow_headers=allow))
    return play >> asks(**more) << Identify >> who << Reply("request_headers")


def forwarded(body: bytes = BODY, decision: Routed | None = None, **more) -> Reply:
    """What sends a call on its way."""
    (reply,) = (read(**more) >> sends(body) << Decide).exchange.decided(decision or routed())
    return reply


# Who, what, where to.


def test_a_call_is_identified_then_read_then_decided_then_sent_on_in_one_answer():
    to_small = Including({"x-wissel-cluster": "small-cluster"})
    new_body = BODY.replace(b'"auto"', b'"org/small"')
    on = Like(Mutation, set_headers=to_small, body=new_body, reroute=True)

    assert (
        Playbook()
        >> asks(content_length=str(len(BODY)))
        << Like(Identify, head=Like(Head, kind="llm", api="chat"))
        >> ADA
        << Reply("request_headers")
        >> sends(BODY)
        << Decide(
            request("auto", "hello", headers=headers(content_length=str(len(BODY))), input_tokens=2, context_tokens=2),
            caller=ADA,
        )
        >> routed()
        << Like(Reply, phase="request_body", mutation=on)
        >> RequestTrailers()
        << Reply("request_trailers")
        >> ResponseHeaders({":status": "200"})
        << Like(Reply, phase="response_headers")
        >> ResponseBody(b"x", end_of_stream=True)
        << Reply("response_body")
        >> ResponseTrailers()
        << Reply("response_trailers")
    )


def test_an_unknown_caller_is_refused_before_its_body_is_read():
    assert Playbook() >> asks() << Identify >> denied(401, "invalid_api_key") << Refused(401, "invalid_api_key")


def test_the_content_length_is_that_of_the_new_body():
    reply = forwarded(content_length=str(len(BODY)))

    assert reply.mutation.set_headers["content-length"] == str(len(reply.mutation.body))


def test_a_chunked_request_gets_no_content_length():
    assert "content-length" not in forwarded().mutation.set_headers


def test_a_body_that_asks_for_the_right_model_is_left_alone():
    reply = forwarded(BODY.replace(b"auto", b"org/small"), content_length="1")

    assert reply.mutation.body is None
    assert "content-length" not in reply.mutation.set_headers


def test_a_callers_own_decision_headers_are_removed_or_overwritten():
    mutation = forwarded(x_wissel_cluster="evil", x_wissel_route="evil", x_wissel_anything="evil").mutation

    assert mutation.set_headers["x-wissel-cluster"] == "small-cluster"
    assert set(mutation.remove_headers) == {"x-wissel-route", "x-wissel-anything"}


def test_a_header_that_callers_may_set_goes_on():
    mutation = forwarded(x_wissel_tag="mine", allow=frozenset({"x-wissel-tag"})).mutation

    assert mutation.remove_headers == ()


def test_a_decision_header_is_ours_whatever_the_allow_list_says():
    mutation = forwarded(x_wissel_route="evil", allow=frozenset({"x-wissel-route"})).mutation

    assert mutation.remove_headers == ("x-wissel-route",)


def test_an_accepted_credential_never_goes_upstream():
    mutation = forwarded(who=ADA, decision=routed(principal=ADA), authorization="Bearer k", x_api_key="k").mutation

    assert set(mutation.remove_headers) == {"authorization", "x-api-key"}


def test_a_credential_that_nobody_accepted_goes_on():
    assert forwarded(authorization="Bearer k").mutation.remove_headers == ()


def test_forward_passes_the_callers_credential_on():
    decision = routed(principal=ADA, model=model("m", credential=Credential("forward")))

    assert forwarded(who=ADA, decision=decision, authorization="Bearer k").mutation.remove_headers == ()


def test_a_models_own_credential_takes_the_callers_place():
    decision = routed(principal=ADA, model=model("m", credential=Credential("secret", "s3")))
    mutation = forwarded(who=ADA, decision=decision, authorization="Bearer k", x_api_key="k").mutation

    assert mutation.set_headers["authorization"] == "Bearer s3"
    assert mutation.remove_headers == ("x-api-key",)


def test_anthropics_api_gets_its_credential_as_x_api_key():
    decision = routed(model=model("m", credential=Credential("secret", "s3"), provider="anthropic"))
    mutation = forwarded(path="/v1/messages", decision=decision, authorization="Bearer k").mutation

    assert mutation.set_headers["x-api-key"] == "s3"
    assert mutation.remove_headers == ("authorization",)


def test_an_odd_spelling_of_a_path_reaches_the_upstream_in_the_usual_one():
    assert forwarded(path="/V1//chat%2fcompletions/?a=b").mutation.set_headers[":path"] == "/v1/chat/completions?a=b"


@pytest.mark.parametrize("path", ["/v1/chat/completions?a=b", "/V1//chat%2fcompletions/?a=b"])
def test_a_server_with_a_base_path_of_its_own_is_asked_there(path):
    decision = routed(model=model("m", base_path="/openai/v1"))

    assert forwarded(path=path, decision=decision).mutation.set_headers[":path"] == "/openai/v1/chat/completions?a=b"


def test_the_decision_is_told_as_metadata_with_the_request():
    assert forwarded().metadata == {
        "route": "", "target": "small", "model": "small", "variant": "small",
        "reason": "static", "principal": "anonymous", "revision": "r1",
    }  # fmt: skip


# What is refused, and how.


@pytest.mark.parametrize("body", [b"", b"{", b'{"model": "a", "model": "b"}', b'{"model": "\xff"}', b"[" * 100_000])
def test_an_unreadable_body_is_400_and_never_forwarded(body):
    play = read() >> sends(body) << Refused(400, "unreadable_request")

    assert play.exchange.is_settled


def test_a_compressed_body_is_refused():
    assert read(content_encoding="gzip") >> sends(b"\x1f\x8b") << Refused(400, "unreadable_request")


def test_a_call_without_a_body_is_400():
    assert Playbook() >> asks(end_of_stream=True) << Refused(400, "unreadable_request")


@pytest.mark.parametrize("query", ["model=x", "a=1&model=x", "a=1;MODEL=x", "mod%65l=x", "model", "+model=x"])
def test_a_model_in_the_query_of_a_call_is_refused(query):
    refused = Refused(400, "unreadable_request", "the query names a model")

    assert Playbook() >> asks(f"{CALL}?{query}") << refused


@pytest.mark.parametrize(
    "kind", ["multipart/form-data; boundary=b", "Multipart/Form-Data", "application/x-www-form-urlencoded", "a/b, c/d"]
)
def test_a_form_is_refused_in_place_of_json(kind):
    assert Playbook() >> asks(content_type=kind) << Refused(400, "unreadable_request", "send application/json")


def test_a_query_that_names_no_model_goes_on():
    assert Playbook() >> asks(f"{CALL}?api-version=2&submodel=x") << Identify


@pytest.mark.parametrize("more", [{"upgrade": "websocket"}, {"method": "CONNECT"}])
def test_an_upgrade_is_refused_in_the_headers_answer(more):
    assert Playbook() >> asks(**more) << Refused(426, "upgrade_not_supported")


@pytest.mark.parametrize(
    ("path", "step"),
    [
        ("/v1/realtime", Identify),
        ("/v1/realtimes", Refused(426, "upgrade_not_supported")),
        ("//v1/realtime", Refused(426, "upgrade_not_supported")),
    ],
)
def test_an_upgrade_goes_on_only_where_a_passthrough_lists_it(path, step):
    play = Playbook(Protocol("none", "none"), terms=Terms(upgrades=("/v1/realtime",)))

    assert play >> asks(path, method="GET", upgrade="websocket") << step


@pytest.mark.parametrize("body_mode", ["none", "streamed", "buffered_partial", "grpc"])
def test_a_mode_that_cannot_decide_is_refused_and_the_setting_named(body_mode):
    refused = Refused(500, "unsupported_mode", "request_body_mode")

    assert Playbook(Protocol(body_mode, "none")) >> asks() << refused


def test_a_stream_that_does_not_begin_with_request_headers_is_refused():
    assert Playbook() >> sends(BODY) << Refused(500, "unsupported_mode", "request_header_mode")


def test_an_answer_that_envoy_gave_before_any_filter_is_let_be():
    refused = ResponseHeaders({":status": "403"}, attributes={"response.code_details": "upgrade_failed"})

    assert Playbook() >> refused << Like(Reply, phase="response_headers")


@pytest.mark.parametrize("attributes", [{}, {"response.code_details": "via_upstream"}])
def test_an_answer_to_a_request_that_was_never_asked_about_is_refused(attributes):
    served = ResponseHeaders({":status": "200"}, attributes=attributes)

    assert Playbook() >> served << Refused(500, "unsupported_mode")


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT"])
def test_a_call_with_another_method_is_no_llm_call(method):
    step = Like(Identify, head=Like(Head, kind="other"))

    assert Playbook() >> asks("/v1/completions", method=method, end_of_stream=True) << step


@pytest.mark.parametrize("path", ["/v1/files//x", "/v1/files/%2e%2e/chat/completions", "/v1/files%2fx"])
def test_a_path_that_servers_read_differently_passes_nowhere(path):
    assert Playbook() >> asks(path, method="GET") << Refused(404, "path_not_found")


def test_a_denied_decision_is_an_openai_error_with_its_headers():
    slow = Denied(429, "slow down", "rate_limit_error", "rate_limited", headers={"retry-after": "3"})
    (step,) = (read() >> sends(BODY) << Decide).exchange.decided(slow)

    assert json.loads(step.response.body) == {
        "error": {"message": "slow down", "type": "rate_limit_error", "param": None, "code": "rate_limited"}
    }
    assert step.response.headers == {
        "retry-after": "3", "content-type": "application/json", "x-wissel-request-id": "wr-1",
    }  # fmt: skip


def test_a_refusal_has_the_shape_of_the_api_that_was_called():
    (step,) = (read(path="/v1/messages") >> sends(BODY) << Decide).exchange.decided(denied())

    assert json.loads(step.response.body) == {
        "type": "error",
        "error": {"type": "permission_error", "message": "no", "param": None, "code": "forbidden"},
    }


@pytest.mark.parametrize("protocol", [BUFFERED, DUPLEX])
def test_a_body_beyond_the_limit_is_413(protocol):
    play = Playbook(protocol, terms=Terms(max_body_bytes=30)) >> asks() << Identify
    play.exchange.identified(ANONYMOUS)

    assert play >> sends(BODY, more=True) << Refused(413, "request_too_large")


# The list of models.


def test_the_models_list_is_answered_at_once():
    listed = Listed(("auto", "small"), ADA, "r1")
    play = Playbook() >> gets("/v1/models") << Like(Identify, head=Like(Head, kind="models")) >> ADA << Decide
    (answer,) = play.exchange.decided(listed)

    assert [each["id"] for each in json.loads(answer.response.body)["data"]] == ["auto", "small"]


@pytest.mark.parametrize(("path", "status"), [("/v1/models/small", 200), ("/v1/models/none", 404)])
def test_one_model_may_be_asked_for(path, status):
    play = Playbook() >> gets(path) << Identify >> ADA << Decide
    (answer,) = play.exchange.decided(Listed(("small",), ADA, "r1"))

    assert answer.response.status == status


# The answer, and messages out of turn.


def test_the_outcome_is_read_off_the_response():
    play = read() >> sends(BODY) << Decide
    play.exchange.decided(routed())
    attributes = {"response.code_details": "via_upstream"}
    (reply,) = play.exchange.receive(ResponseHeaders({":status": "503"}, attributes=attributes), now=12.5)
    outcome = play.exchange.outcome

    assert (outcome.status, outcome.duration, outcome.is_evidence) == (503, 2.5, True)
    assert reply.mutation.set_headers == {"x-wissel-request-id": "wr-1", "x-wissel-model": "small"}


def test_envoys_own_413_comes_without_a_body_and_is_nobodys_fault():
    play = read() >> ResponseHeaders({":status": "413"}) << Like(Reply, phase="response_headers")

    assert play
    assert play.exchange.outcome is None


@pytest.mark.parametrize("event", [asks(), sends(BODY), RequestTrailers()])
def test_a_message_out_of_turn_fails_the_stream(event):
    assert Playbook() >> asks() << Identify >> event << Fail


def test_a_second_body_is_never_taken_for_a_decision():
    assert read() >> sends(BODY) << Decide >> sends(BODY) << Fail


# Whatever comes, in whatever order.

events = st.one_of(
    st.builds(RequestHeaders, st.just(headers()), st.booleans()),
    st.builds(RequestBody, st.sampled_from([BODY, b"", b"{", BODY[:20]]), st.booleans()),
    st.just(RequestTrailers()),
    st.just(ResponseHeaders({":status": "200"})),
    st.just(ResponseBody(b"x", end_of_stream=True)),
    st.just(ResponseTrailers()),
)
verdicts = st.sampled_from([routed(), denied()])


@given(st.lists(events, max_size=8), verdicts, st.sampled_from([BUFFERED, DUPLEX, None]))
def test_no_order_of_messages_forwards_what_is_undecided(story, verdict, protocol):
    exchange = Exchange("wr-1", now=0.0)
    decided = False
    for event in story:
        steps = exchange.receive(event, now=0.0, protocol=protocol)
        while steps:
            step = steps.pop(0)
            if isinstance(step, Identify):
                assert isinstance(step.head, Head)
                steps += exchange.identified(ANONYMOUS)
            elif isinstance(step, Decide):
                assert isinstance(step.subject, Request)
                decided = True
                steps += exchange.decided(verdict)
            elif isinstance(step, Reply) and step.phase in {"request_body", "request_trailers"}:
                assert decided
                assert isinstance(verdict, Routed)
            elif isinstance(step, Refuse | Fail):
                return
