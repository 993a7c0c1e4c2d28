"""What a further attempt is made of, without any Envoy."""

import json
from dataclasses import replace

import pytest

from factories import model
from wissel.core.snapshot import Credential, Model
from wissel.extproc.attempt import Attempt
from wissel.extproc.events import Fail, Refuse, Reply, RequestBody, RequestHeaders, ResponseHeaders
from wissel.extproc.itinerary import Errand, told

BODY = b'{"model": "a-upstream", "messages": []}'
ERRAND = Errand(
    models=("a", "b", "c"),
    clusters=("a-cluster", "b-cluster", "c-cluster"),
    api="chat",
    path="/v1/chat/completions",
    model_at=(10, 22),
    edits=((), (), ()),
    is_anonymous=False,
    kept=(),
    shown=((), (), ()),
    until=100.0,
    streams=False,
    request_id="wr-1",
)


def models(**credentials: Credential | None) -> dict[str, Model]:
    return {
        name: model(name, upstream_model=f"{name}-upstream", credential=credentials.get(name))
        for name in ("a", "b", "c")
    }


def secret(text: str, header: str = "") -> Credential:
    return Credential("secret", text, header)


def headers(number: int, errand: Errand = ERRAND, **more: str) -> RequestHeaders:
    sent = {":path": errand.path, "x-envoy-attempt-count": str(number), "content-length": str(len(BODY))}
    shown = {name.replace("_", "-"): value for name, value in more.items()}
    return RequestHeaders({**sent, **shown}, metadata={"wissel.attempts": {"plan": told(errand)}})


def written(known: dict[str, Model], first: RequestHeaders, body: bytes = BODY) -> Reply:
    attempt = Attempt(known, lambda: 0.0)
    (empty,) = attempt.receive(first)
    (reply,) = attempt.receive(RequestBody(body, end_of_stream=True))
    assert empty == Reply("request_headers")
    assert isinstance(reply, Reply)
    return reply


def test_the_body_is_the_decisions_with_the_models_own_name():
    mutation = written(models(), headers(2)).mutation

    assert mutation is not None
    assert (json.loads(bytes(mutation.body or b""))["model"], mutation.set_headers["content-length"]) == (
        "b-upstream", str(len(BODY)),
    )  # fmt: skip


def test_a_large_body_is_not_copied_into_one():
    body = BODY[:-1] + b', "padding": "' + b"x" * 1_000_000 + b'"}'
    mutation = written(models(), headers(2), body).mutation

    assert mutation is not None
    assert isinstance(mutation.body, tuple)
    assert b"".join(mutation.body) == body.replace(b"a-upstream", b"b-upstream")


def test_a_credential_that_was_anothers_is_overwritten_or_removed():
    known = models(a=secret("a's", "x-a-key"), b=secret("b's"), c=None)
    second = written(known, headers(2, x_a_key="a's")).mutation
    third = written(known, headers(3, authorization="Bearer b's")).mutation

    assert second is not None
    assert third is not None
    assert (second.set_headers["authorization"], second.remove_headers) == ("Bearer b's", ("x-a-key",))
    assert ("authorization" in third.set_headers, third.remove_headers) == (False, ("authorization",))


def test_a_callers_own_credential_stays_while_every_model_forwards_it():
    forward = Credential("forward")
    mutation = written(models(a=forward, b=forward), headers(2, authorization="Bearer caller")).mutation

    assert mutation is not None
    assert ("authorization" in mutation.set_headers, mutation.remove_headers) == (False, ())


def test_what_only_the_first_ones_provider_wants_goes_and_what_the_caller_said_stays():
    known = {**models(), "a": replace(model("a"), provider="anthropic")}
    gone = written(known, headers(2, anthropic_version="2023-06-01")).mutation
    kept = written(known, headers(2, replace(ERRAND, kept=("anthropic-version",)), anthropic_version="x")).mutation

    assert gone is not None
    assert kept is not None
    assert (gone.remove_headers, kept.remove_headers) == (("anthropic-version",), ())


def test_past_the_end_it_is_the_last_model():
    mutation = written(models(), headers(9)).mutation

    assert mutation is not None
    assert mutation.set_headers["x-wissel-model"] == "c"


def test_an_attempt_that_comes_too_late_is_not_made():
    (step,) = Attempt(models(), lambda: 100.5).receive(headers(3))

    assert isinstance(step, Refuse)
    assert (step.response.status, step.response.details) == (504, "wissel_deadline_passed")


@pytest.mark.parametrize(
    "event",
    [
        RequestHeaders({":path": "/", "x-envoy-attempt-count": "2"}),
        RequestHeaders({"x-envoy-attempt-count": "2"}, metadata={"wissel.attempts": {"plan": {"models": "a"}}}),
        headers(2, replace(ERRAND, models=("a", "unknown"))),
        replace(headers(2), headers={}),
        RequestBody(BODY, end_of_stream=True),
        ResponseHeaders({":status": "200"}),
    ],
)
def test_what_makes_no_sense_fails_closed(event: RequestHeaders | RequestBody | ResponseHeaders):
    (step,) = Attempt(models(), lambda: 0.0).receive(event)

    assert isinstance(step, Fail)


def test_another_body_than_the_plans_fails_closed():
    attempt = Attempt(models(), lambda: 0.0)
    attempt.receive(headers(2))
    (step,) = attempt.receive(RequestBody(b'{"mod', end_of_stream=True))

    assert isinstance(step, Fail)


def test_no_credential_is_written_for_a_cluster_that_the_plan_does_not_go_to():
    """A reload has moved the model since the plan was made."""
    moved = {**models(b=secret("new")), "b": model("b", cluster="elsewhere", credential=secret("new"))}
    steps = Attempt(moved, lambda: 0.0).receive(headers(2))

    assert [type(step) for step in steps] == [Fail]


def test_a_credential_goes_that_the_file_showed_in_another_header_when_the_plan_was_made():
    attempt = Attempt(models(a=secret("new"), b=secret("b")), lambda: 0.0)
    attempt.receive(headers(2, replace(ERRAND, shown=(("x-old-key",), (), ())), **{"x-old-key": "of-a"}))
    (step,) = attempt.receive(RequestBody(BODY, end_of_stream=True))

    assert isinstance(step, Reply)
    assert step.mutation is not None
    assert "x-old-key" in step.mutation.remove_headers
