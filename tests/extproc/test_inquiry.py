"""Whose fault a refusal is, as the exchange finds out."""

import json

import pytest

from factories import model, split
from playbook import BUFFERED, CALL, STREAMED, Playbook, asks, routed, sends
from wissel.core.access import ANONYMOUS, Principal
from wissel.core.decision import Routed
from wissel.core.outcome import Fault, Outcome
from wissel.core.snapshot import Credential
from wissel.extproc.events import Decide, Identify, Reply, ResponseBody, ResponseHeaders

ADA = Principal("ada")
OURS, FORWARD = Credential("secret", "sk-x"), Credential("forward")
NO_MODEL = b'{"error": {"message": "The model `org/small` does not exist", "code": "model_not_found"}}'
NO_FILE = b'{"error": {"message": "No such File object: file-68a1f"}}'
BODY = {
    "model": "auto",
    "messages": [{"role": "user", "content": [{"type": "file", "file": {"file_id": "file-68a1f"}}]}],
}


def answered(
    decision: Routed, status: int, body: bytes | None = NO_MODEL, *, protocol=BUFFERED, coding: str = "", sent=BODY
) -> Outcome:
    play = Playbook(protocol) >> asks(CALL) << Identify >> decision.principal << Reply("request_headers")
    play = play >> sends(json.dumps(sent).encode()) << Decide
    exchange = play.exchange
    exchange.decided(decision)
    headers = {":status": str(status), "content-type": "application/json", "content-encoding": coding}
    details = {"response.code_details": "via_upstream"}
    (reply,) = exchange.receive(ResponseHeaders(headers, body is None, details), now=11.0)
    if body is not None and (reply.read_body or protocol is STREAMED):
        exchange.receive(ResponseBody(body, end_of_stream=True), now=12.0)
    assert exchange.outcome is not None
    return exchange.outcome


def dealt(credential: Credential | None = None, principal: Principal = ANONYMOUS) -> Routed:
    served = model("small", upstream_model="org/small", credential=credential)
    return routed(model=served, principal=principal, split=split(small=1))


@pytest.mark.parametrize("status", [401, 402])
@pytest.mark.parametrize(
    ("credential", "principal", "fault"),
    [
        (OURS, ANONYMOUS, "operator"),
        (OURS, ADA, "operator"),
        (None, ADA, "operator"),
        (None, ANONYMOUS, ""),
        (FORWARD, ADA, ""),
    ],
)
def test_a_credential_that_is_refused_is_the_fault_of_whoever_showed_it(
    status: int, credential: Credential | None, principal: Principal, fault: Fault
):
    assert answered(dealt(credential, principal), status).fault == fault


@pytest.mark.parametrize("protocol", [BUFFERED, STREAMED])
@pytest.mark.parametrize(
    ("status", "body", "fault"),
    [
        (404, NO_MODEL, "unexplained"),
        (404, None, "unexplained"),
        (404, b"<html>not found", "unexplained"),
        (404, NO_FILE, ""),
        (403, NO_MODEL, "unexplained"),
        (403, NO_FILE, ""),
        (400, NO_MODEL, ""),
        (422, NO_MODEL, ""),
        (429, NO_MODEL, ""),
        (500, NO_MODEL, ""),
        (200, NO_MODEL, ""),
    ],
)
def test_what_is_missing_or_forbidden_is_unexplained_unless_the_caller_named_it(protocol, status, body, fault: Fault):
    assert answered(dealt(OURS, ADA), status, body, protocol=protocol).fault == fault


@pytest.mark.parametrize(
    ("decision", "status", "coding"),
    [
        (dealt(FORWARD, ADA), 404, ""),
        (dealt(FORWARD, ADA), 403, ""),
        (dealt(None, ANONYMOUS), 403, ""),
        (dealt(OURS, ADA), 404, "gzip"),
        (routed(model=model("small", credential=OURS)), 404, ""),
    ],
)
def test_what_may_be_the_callers_account_or_cannot_be_read_is_held_against_nobody(
    decision: Routed, status: int, coding: str
):
    assert answered(decision, status, coding=coding).fault == ""


def test_a_server_that_asks_for_no_credential_can_lack_a_model():
    assert answered(dealt(None, ANONYMOUS), 404).fault == "unexplained"


def test_a_refusal_is_no_error_of_the_model():
    outcome = answered(dealt(OURS, ADA), 401)

    assert (outcome.is_refused, outcome.is_error, outcome.is_evidence) == (True, False, True)
