"""The conformance of the exchange: each trap of ext_proc that a processor can fall into."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factories import model, request
from wissel.core.access import ANONYMOUS, Principal
from wissel.core.decision import Denied, Listed, Passed, Routed
from wissel.core.feedback import Feedback
from wissel.core.request import Head, Request
from wissel.core.snapshot import Credential, Passthrough, Terms
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
    Score,
)
from wissel.extproc.exchange import CHUNK_BYTES, Exchange

BUFFERED = Protocol("buffered", "none")
DUPLEX = Protocol("full_duplex_streamed", "none")
BODY = b'{"model": "auto", "messages": [{"role": "user", "content": "hello"}]}'
ADA = Principal("ada")


def headers(path: str = "/v1/chat/completions", *, method: str = "POST", **more: str) -> dict[str, str]:
    named = {name.replace("_", "-"): value for name, value in more.items()}
    return {":method": method, ":path": path, ":authority": "llm", **named}


def routed(**fields) -> Routed:
    served = fields.pop("model", None) or model("small", upstream_model="org/small")
    return Routed(served, "small", "small", "static", fields.pop("principal", ANONYMOUS), "r1", **fields)


def begin(
    *,
    protocol: Protocol | None = BUFFERED,
    allow: frozenset[str] = frozenset(),
    end_of_stream: bool = False,
    **more: str,
) -> tuple[Exchange, list]:
    exchange = Exchange("wr-1", now=10.0, terms=Terms(allow_headers=allow))
    found = headers(**more)
    return exchange, exchange.receive(RequestHeaders(found, end_of_stream), now=10.0, protocol=protocol)


def reading(caller: Principal = ANONYMOUS, **more) -> Exchange:
    exchange, _ = begin(**more)
    exchange.identified(caller)
    return exchange


def refusal(steps: list) -> tuple[int, str]:
    (step,) = steps
    assert isinstance(step, Refuse), step
    return step.response.status, json.loads(step.response.body)["error"]["code"]


def test_headers_ask_who_is_calling():
    _, steps = begin()

    assert isinstance(steps[0], Identify)
    assert steps[0].head.api == "chat"


def test_a_known_caller_lets_the_body_come():
    exchange, _ = begin()

    assert exchange.identified(ADA) == [Reply("request_headers")]


def test_an_unknown_caller_is_refused_before_its_body_is_read():
    exchange, _ = begin()

    assert refusal(exchange.identified(Denied(401, "no", "authentication_error", "invalid_api_key"))) == (
        401,
        "invalid_api_key",
    )


def test_a_body_asks_for_a_decision():
    (step,) = reading(ADA).receive(RequestBody(BODY, end_of_stream=True), now=10.0)

    assert step == Decide(request("auto", "hello", headers=headers(), input_tokens=2), ADA)


def forwarded(body: bytes = BODY, decision: Routed | None = None, **more) -> Reply:
    exchange = reading(**more)
    exchange.receive(RequestBody(body, end_of_stream=True), now=10.0)
    (reply,) = exchange.decided(decision or routed())
    return reply


def test_a_decision_changes_headers_and_body_in_one_answer():
    reply = forwarded(content_length=str(len(BODY)))

    assert reply.mutation.body == BODY.replace(b'"auto"', b'"org/small"')
    assert reply.mutation.set_headers["x-wissel-cluster"] == "small-cluster"


def test_the_route_is_chosen_again_together_with_a_header():
    mutation = forwarded().mutation

    assert mutation.reroute
    assert mutation.set_headers


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
    mutation = forwarded(caller=ADA, decision=routed(principal=ADA), authorization="Bearer k", x_api_key="k").mutation

    assert set(mutation.remove_headers) == {"authorization", "x-api-key"}


def test_a_credential_that_nobody_accepted_goes_on():
    assert forwarded(authorization="Bearer k").mutation.remove_headers == ()


def test_forward_passes_the_callers_credential_on():
    decision = routed(principal=ADA, model=model("m", credential=Credential("forward")))

    assert forwarded(caller=ADA, decision=decision, authorization="Bearer k").mutation.remove_headers == ()


def test_a_models_own_credential_takes_the_callers_place():
    decision = routed(principal=ADA, model=model("m", credential=Credential("secret", "s3")))
    mutation = forwarded(caller=ADA, decision=decision, authorization="Bearer k", x_api_key="k").mutation

    assert mutation.set_headers["authorization"] == "Bearer s3"
    assert mutation.remove_headers == ("x-api-key",)


def test_anthropics_api_gets_its_credential_as_x_api_key():
    decision = routed(model=model("m", credential=Credential("secret", "s3")))
    mutation = forwarded(path="/v1/messages", decision=decision, authorization="Bearer k").mutation

    assert mutation.set_headers["x-api-key"] == "s3"
    assert mutation.remove_headers == ("authorization",)


def test_an_odd_spelling_of_a_path_reaches_the_upstream_in_the_usual_one():
    assert forwarded(path="/V1//chat%2fcompletions/?a=b").mutation.set_headers[":path"] == "/v1/chat/completions?a=b"


def test_the_decision_is_told_as_metadata_with_the_request():
    assert forwarded().metadata == {
        "route": "", "target": "small", "model": "small", "variant": "small",
        "reason": "static", "principal": "anonymous", "revision": "r1",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "unreadable_request"),
        (b"{", "unreadable_request"),
        (b'{"model": "a", "model": "b"}', "unreadable_request"),
        (b'{"model": "\xff"}', "unreadable_request"),
        (b"[" * 100_000, "unreadable_request"),
    ],
)
def test_an_unreadable_body_is_400_and_never_forwarded(body, code):
    exchange = reading()

    assert refusal(exchange.receive(RequestBody(body, end_of_stream=True), now=10.0)) == (400, code)
    assert exchange.is_settled


def test_a_compressed_body_is_refused():
    exchange = reading(content_encoding="gzip")

    assert refusal(exchange.receive(RequestBody(b"\x1f\x8b", end_of_stream=True), now=10.0)) == (
        400,
        "unreadable_request",
    )


def test_a_call_without_a_body_is_400():
    _, steps = begin(end_of_stream=True)

    assert refusal(steps) == (400, "unreadable_request")


@pytest.mark.parametrize("more", [{"upgrade": "websocket"}, {"method": "CONNECT"}])
def test_an_upgrade_is_refused_in_the_headers_answer(more):
    _, steps = begin(**more)

    assert refusal(steps) == (400, "upgrade_not_supported")


@pytest.mark.parametrize("body_mode", ["none", "streamed", "buffered_partial", "grpc"])
def test_a_mode_that_cannot_decide_is_refused_and_the_setting_named(body_mode):
    _, steps = begin(protocol=Protocol(body_mode, "none"))

    assert refusal(steps) == (500, "unsupported_mode")
    assert b"request_body_mode" in steps[0].response.body


def test_a_stream_that_does_not_begin_with_request_headers_is_refused():
    steps = Exchange("wr-1", now=0.0).receive(RequestBody(BODY, end_of_stream=True), now=0.0, protocol=BUFFERED)

    assert refusal(steps) == (500, "unsupported_mode")
    assert b"request_header_mode" in steps[0].response.body


def test_an_answer_that_envoy_gave_before_any_filter_is_let_be():
    refused = ResponseHeaders({":status": "403"}, attributes={"response.code_details": "upgrade_failed"})
    steps = Exchange("wr-1", now=0.0).receive(refused, now=0.0, protocol=BUFFERED)

    assert [step.phase for step in steps] == ["response_headers"]


@pytest.mark.parametrize("attributes", [{}, {"response.code_details": "via_upstream"}])
def test_an_answer_to_a_request_that_was_never_asked_about_is_refused(attributes):
    served = ResponseHeaders({":status": "200"}, attributes=attributes)

    assert refusal(Exchange("wr-1", now=0.0).receive(served, now=0.0, protocol=BUFFERED)) == (500, "unsupported_mode")


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT"])
def test_a_call_with_another_method_is_no_llm_call(method):
    _, (step,) = begin(method=method, end_of_stream=True)

    assert step.head.kind == "other"


@pytest.mark.parametrize("path", ["/v1/files//x", "/v1/files/%2e%2e/chat/completions", "/v1/files%2fx"])
def test_a_path_that_servers_read_differently_passes_nowhere(path):
    _, steps = begin(path=path, method="GET")

    assert refusal(steps) == (404, "path_not_found")


def test_the_models_list_is_answered_at_once():
    exchange, (step,) = begin(path="/v1/models", method="GET", end_of_stream=True)
    assert step.head.kind == "models"
    exchange.identified(ADA)
    (answer,) = exchange.decided(Listed(("auto", "small"), ADA, "r1"))

    assert [each["id"] for each in json.loads(answer.response.body)["data"]] == ["auto", "small"]


@pytest.mark.parametrize(("path", "status"), [("/v1/models/small", 200), ("/v1/models/none", 404)])
def test_one_model_may_be_asked_for(path, status):
    exchange, _ = begin(path=path, method="GET", end_of_stream=True)
    exchange.identified(ADA)
    (answer,) = exchange.decided(Listed(("small",), ADA, "r1"))

    assert answer.response.status == status


def test_a_passthrough_goes_on_and_asks_for_no_body():
    exchange, _ = begin(path="/v1/files", x_wissel_model="evil")
    assert isinstance(exchange.identified(ANONYMOUS)[0], Decide)
    (reply,) = exchange.decided(Passed("files", ANONYMOUS, "r1"))

    assert (reply.phase, reply.skip_body) == ("request_headers", True)
    assert reply.mutation.set_headers == {"x-wissel-cluster": "files"}
    assert reply.mutation.remove_headers == ("x-wissel-model",)


def test_a_passthrough_whose_body_comes_all_the_same_is_left_alone():
    exchange, _ = begin(path="/v1/files")
    exchange.identified(ANONYMOUS)
    exchange.decided(Passed("files", ANONYMOUS, "r1"))

    assert exchange.receive(RequestBody(b"data", end_of_stream=True), now=10.0) == [Reply("request_body")]


AUDIO = Terms(passthrough=(Passthrough("/v1/audio", "audio", reads_models=True),), max_body_bytes=400)
FORM_TYPE = "multipart/form-data; boundary=e"
FORM = b'--e\r\nContent-Disposition: form-data; name="model"\r\n\r\nwhisper\r\n--e--\r\n'


def sending_a_form(protocol: Protocol, path: str = "/v1/audio/transcriptions") -> tuple[Exchange, list]:
    exchange = Exchange("wr-1", now=0.0, terms=AUDIO)
    exchange.receive(RequestHeaders(headers(path, content_type=FORM_TYPE)), now=0.0, protocol=protocol)
    return exchange, exchange.identified(ADA)


def test_a_form_is_read_before_its_passthrough_is_decided():
    exchange, asked = sending_a_form(BUFFERED, "/v1/audio/transcriptions?model=tiny")
    (decide,) = exchange.receive(RequestBody(FORM, end_of_stream=True), now=0.0)
    (reply,) = exchange.decided(Passed("audio", ADA, "r1"))

    assert asked == [Reply("request_headers")]
    assert decide.subject.models == ("tiny", "whisper")
    assert (reply.phase, reply.mutation.set_headers) == ("request_body", {"x-wissel-cluster": "audio"})
    assert reply.mutation.body is None


@pytest.mark.parametrize("trailers", [False, True])
def test_a_form_that_streams_is_held_until_it_is_decided(trailers):
    exchange, asked = sending_a_form(DUPLEX)
    assert asked == []
    assert exchange.is_reading
    assert exchange.receive(RequestBody(FORM[:20], end_of_stream=False), now=0.0) == []
    last = exchange.receive(RequestBody(FORM[20:], end_of_stream=not trailers), now=0.0)
    if trailers:
        last = exchange.receive(RequestTrailers(), now=0.0)
    head, *rest = exchange.decided(Passed("audio", ADA, "r1"))

    assert last[0].subject.models == ("whisper",)
    assert head.phase == "request_headers"
    assert rest[0] == Reply("request_body", chunk=FORM, end_of_stream=not trailers)
    assert rest[1:] == ([Reply("request_trailers")] if trailers else [])


@pytest.mark.parametrize(
    ("body", "answer"), [(FORM[:-4], (400, "unreadable_request")), (FORM * 9, (413, "request_too_large"))]
)
def test_a_form_that_cannot_be_read_goes_nowhere(body, answer):
    exchange, _ = sending_a_form(DUPLEX)

    assert refusal(exchange.receive(RequestBody(body, end_of_stream=True), now=0.0)) == answer


def test_an_upload_where_no_model_is_named_is_not_read():
    exchange, (decide,) = sending_a_form(BUFFERED, "/v1/files")

    assert isinstance(decide, Decide)
    assert exchange.decided(Passed("files", ADA, "r1"))[0].skip_body


def test_a_denied_decision_is_an_openai_error_with_its_headers():
    exchange = reading()
    exchange.receive(RequestBody(BODY, end_of_stream=True), now=10.0)
    (step,) = exchange.decided(
        Denied(429, "slow down", "rate_limit_error", "rate_limited", headers={"retry-after": "3"})
    )

    assert json.loads(step.response.body) == {
        "error": {"message": "slow down", "type": "rate_limit_error", "param": None, "code": "rate_limited"}
    }
    assert step.response.headers == {
        "retry-after": "3", "content-type": "application/json", "x-wissel-request-id": "wr-1",
    }  # fmt: skip


def test_every_message_is_answered_once():
    exchange = reading()
    exchange.receive(RequestBody(BODY, end_of_stream=True), now=10.0)
    exchange.decided(routed())

    assert [step.phase for step in exchange.receive(RequestTrailers(), now=10.0)] == ["request_trailers"]
    assert [step.phase for step in exchange.receive(ResponseHeaders({":status": "200"}), now=11.0)] == [
        "response_headers"
    ]
    assert [step.phase for step in exchange.receive(ResponseBody(b"x", end_of_stream=True), now=11.0)] == [
        "response_body"
    ]
    assert [step.phase for step in exchange.receive(ResponseTrailers(), now=11.0)] == ["response_trailers"]


def test_the_outcome_is_read_off_the_response():
    exchange = reading()
    exchange.receive(RequestBody(BODY, end_of_stream=True), now=10.0)
    exchange.decided(routed())
    attributes = {"response.code_details": "via_upstream"}
    (reply,) = exchange.receive(ResponseHeaders({":status": "503"}, attributes=attributes), now=12.5)

    assert (exchange.outcome.status, exchange.outcome.duration, exchange.outcome.is_evidence) == (503, 2.5, True)
    assert reply.mutation.set_headers == {"x-wissel-request-id": "wr-1", "x-wissel-model": "small"}


def test_envoys_own_413_comes_without_a_body_and_is_nobodys_fault():
    exchange = reading()
    (reply,) = exchange.receive(ResponseHeaders({":status": "413"}), now=11.0)

    assert reply.phase == "response_headers"
    assert exchange.outcome is None


@pytest.mark.parametrize("event", [RequestHeaders(headers()), RequestBody(BODY, end_of_stream=True), RequestTrailers()])
def test_a_message_out_of_turn_fails_the_stream(event):
    exchange, _ = begin()

    assert isinstance(exchange.receive(event, now=10.0)[0], Fail)


def test_a_second_body_is_never_taken_for_a_decision():
    exchange = reading()
    exchange.receive(RequestBody(BODY, end_of_stream=True), now=10.0)

    assert isinstance(exchange.receive(RequestBody(BODY, end_of_stream=True), now=10.0)[0], Fail)


# FULL_DUPLEX_STREAMED.


def pieces(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


def duplex(body: bytes, size: int, *, trailers: bool = False, **more) -> list:
    exchange, _ = begin(protocol=DUPLEX, **more)
    assert exchange.identified(ANONYMOUS) == []
    for piece in pieces(body, size):
        assert exchange.receive(RequestBody(piece, end_of_stream=False), now=10.0) == []
    last = RequestTrailers() if trailers else RequestBody(b"", end_of_stream=True)
    assert isinstance(exchange.receive(last, now=10.0)[0], Decide)
    return exchange.decided(routed())


@given(st.integers(1, 100))
def test_headers_wait_for_the_decision_and_every_byte_is_handed_back(size):
    first, *rest = duplex(BODY, size)

    assert first.phase == "request_headers"
    assert b"".join(step.chunk for step in rest) == BODY.replace(b'"auto"', b'"org/small"')
    assert [step.end_of_stream for step in rest] == [False] * (len(rest) - 1) + [True]


def test_a_large_body_is_handed_back_in_chunks():
    body = BODY.replace(b"hello", b"x" * 200_000)
    _, *rest = duplex(body, 65_536)

    assert max(len(step.chunk) for step in rest) <= CHUNK_BYTES


def test_trailers_end_a_body_in_duplex():
    steps = duplex(BODY, 10, trailers=True)

    assert [step.phase for step in steps] == ["request_headers", "request_body", "request_trailers"]
    assert not steps[1].end_of_stream


def test_a_duplex_body_loses_its_content_length():
    first, *_ = duplex(BODY, 10, content_length="70")

    assert "content-length" in first.mutation.remove_headers


def test_a_duplex_body_is_handed_back_even_if_nothing_changes():
    exchange, _ = begin(protocol=DUPLEX, path="/v1/files")
    exchange.identified(ANONYMOUS)
    exchange.decided(Passed("files", ANONYMOUS, "r1"))

    assert exchange.receive(RequestBody(b"data", end_of_stream=True), now=10.0) == [
        Reply("request_body", chunk=b"data", end_of_stream=True)
    ]


def test_a_duplex_passthrough_that_waits_loses_nothing():
    exchange, _ = begin(protocol=DUPLEX, path="/v1/files")
    exchange.identified(ANONYMOUS)
    assert exchange.receive(RequestBody(b"data", end_of_stream=True), now=10.0) == []
    steps = exchange.decided(Passed("files", ANONYMOUS, "r1"))

    assert steps[1] == Reply("request_body", chunk=b"data", end_of_stream=True)


@pytest.mark.parametrize("protocol", [BUFFERED, DUPLEX])
def test_a_body_beyond_the_limit_is_413(protocol):
    exchange = Exchange("wr-1", now=0.0, terms=Terms(max_body_bytes=30))
    exchange.receive(RequestHeaders(headers()), now=0.0, protocol=protocol)
    exchange.identified(ANONYMOUS)

    assert refusal(exchange.receive(RequestBody(BODY, end_of_stream=False), now=0.0)) == (413, "request_too_large")


def test_what_was_sent_before_a_refusal_arrived_is_let_be():
    exchange, _ = begin(protocol=DUPLEX)
    exchange.identified(Denied(401, "no", "authentication_error", "invalid_api_key"))

    assert exchange.receive(RequestBody(BODY, end_of_stream=True), now=0.0) == []


def test_a_body_that_does_not_arrive_in_time_is_408():
    exchange, _ = begin(protocol=DUPLEX)
    exchange.identified(ANONYMOUS)
    assert exchange.is_reading

    assert refusal(exchange.late()) == (408, "request_timeout")
    assert exchange.late() == []


@pytest.mark.parametrize(
    ("path", "listed"), [("/v1/realtime", True), ("/v1/realtimes", False), ("//v1/realtime", False)]
)
def test_an_upgrade_goes_on_only_where_a_passthrough_lists_it(path, listed):
    exchange = Exchange("wr-1", now=0.0, terms=Terms(upgrades=("/v1/realtime",)))
    steps = exchange.receive(
        RequestHeaders(headers(path, method="GET", upgrade="websocket")), now=0.0, protocol=Protocol("none", "none")
    )

    assert isinstance(steps[0], Identify if listed else Refuse)


def test_an_upgrade_that_goes_on_asks_for_no_body():
    exchange = Exchange("wr-1", now=0.0, terms=Terms(upgrades=("/v1/realtime",)))
    exchange.receive(
        RequestHeaders(headers("/v1/realtime", method="GET", upgrade="websocket")), now=0.0, protocol=BUFFERED
    )
    exchange.identified(ANONYMOUS)
    (reply,) = exchange.decided(Passed("live", ANONYMOUS, "r1"))

    assert reply.skip_body


# Whatever comes, in whatever order.

events = st.one_of(
    st.builds(RequestHeaders, st.just(headers()), st.booleans()),
    st.builds(RequestBody, st.sampled_from([BODY, b"", b"{", BODY[:20]]), st.booleans()),
    st.just(RequestTrailers()),
    st.just(ResponseHeaders({":status": "200"})),
    st.just(ResponseBody(b"x", end_of_stream=True)),
    st.just(ResponseTrailers()),
)
verdicts = st.sampled_from([routed(), Denied(403, "no", "permission_error", "forbidden")])


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


@pytest.mark.parametrize("query", ["model=x", "a=1&model=x", "a=1;MODEL=x", "mod%65l=x", "model", "+model=x"])
def test_a_model_in_the_query_of_a_call_is_refused(query):
    _, steps = begin(path=f"/v1/chat/completions?{query}")

    assert steps[0].response.status == 400
    assert b"the query names a model" in steps[0].response.body


@pytest.mark.parametrize(
    "kind", ["multipart/form-data; boundary=b", "Multipart/Form-Data", "application/x-www-form-urlencoded", "a/b, c/d"]
)
def test_a_form_is_refused_in_place_of_json(kind):
    _, steps = begin(content_type=kind)

    assert (steps[0].response.status, b"send application/json" in steps[0].response.body) == (400, True)


def test_a_query_that_names_no_model_goes_on():
    _, steps = begin(path="/v1/chat/completions?api-version=2&submodel=x")

    assert isinstance(steps[0], Identify)


# Feedback.


@pytest.mark.parametrize("protocol", [BUFFERED, DUPLEX])
def test_feedback_is_scored_and_answered_without_any_model(protocol):
    exchange = reading(ADA, path="/v1/feedback", protocol=protocol)
    (step,) = exchange.receive(RequestBody(b'{"request_id": "wr-7", "score": 1}', end_of_stream=True), now=10.1)
    waits = exchange.is_settled
    answered = exchange.scored(step.feedback, "accepted")

    assert (step, waits, exchange.is_settled) == (Score(Feedback("wr-7", 1.0)), False, True)
    assert [each.response.status for each in answered] == [200]


@pytest.mark.parametrize(
    ("answer", "status"),
    [("already_given", 409), ("request_not_found", 404), ("store_away", 503), ("feedback_not_kept", 404)],
)
def test_feedback_that_does_not_count_is_told(answer, status):
    exchange = reading(ADA, path="/v1/feedback")
    exchange.receive(RequestBody(b'{"request_id": "wr-7", "score": 0.5}', end_of_stream=True), now=10.1)

    assert refusal(exchange.scored(Feedback("wr-7", 0.5), answer)) == (status, answer)


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{", b'{"score": 1}', b'{"request_id": "", "score": 1}', b'{"request_id": "wr-7", "score": true}',
     b'{"request_id": "wr-7", "score": 1.5}', b'{"request_id": "wr-7", "score": NaN}'],
)  # fmt: skip
def test_feedback_that_cannot_be_read_is_400(body):
    exchange = reading(ADA, path="/v1/feedback")

    assert refusal(exchange.receive(RequestBody(body, end_of_stream=True), now=10.1)) == (400, "unreadable_request")
