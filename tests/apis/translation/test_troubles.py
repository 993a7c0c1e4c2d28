"""Errors as providers send them, and as callers get them."""

import json
from typing import Any

import pytest

from wissel.apis.translation.form import Trouble
from wissel.apis.translation.troubles import (
    anthropic_trouble,
    no_answer,
    openai_trouble,
    read_trouble,
    trouble_within,
)

SILENT = "the provider answered 502 and does not say why"


@pytest.mark.parametrize(
    ("body", "trouble"),
    [
        (
            {"error": {"message": "bad", "type": "invalid_request_error", "param": "n", "code": "unsupported"}},
            Trouble(502, "bad", "unsupported", "n"),
        ),
        ({"error": {"message": "bad", "type": "server_error", "param": None, "code": None}},
         Trouble(502, "bad", "server_error")),
        ({"type": "error", "error": {"type": "overloaded_error", "message": "busy"}, "request_id": "req_1"},
         Trouble(502, "busy", "overloaded_error", request_id="req_1")),
        ({"error": "model not found"}, Trouble(502, "model not found")),
        ({"object": "error", "message": "too long", "type": "BadRequestError", "param": None, "code": 400},
         Trouble(502, "too long", "BadRequestError")),
        ({"detail": "Not Found"}, Trouble(502, "Not Found")),
        ({"message": "no route", "request_id": 7}, Trouble(502, "no route")),
        ({"type": "error", "msg": "x"}, Trouble(502, "x")),
        ([{"error": {"code": 400, "message": "API key not valid", "status": "INVALID_ARGUMENT"}}],
         Trouble(502, "API key not valid")),
        ({}, Trouble(502, SILENT)),
        ({"error": {"message": " ", "param": 7}}, Trouble(502, SILENT)),
        ({"error": {"message": "x" * 5000, "code": "c" * 5000, "param": "p" * 5000}},
         Trouble(502, "x" * 4096, "c" * 4096, "p" * 4096)),
    ],
)  # fmt: skip
def test_an_error_of_any_shape_is_understood(body: Any, trouble: Trouble):
    assert read_trouble(502, json.dumps(body).encode(), {}) == trouble


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", SILENT),
        (b"  \n", SILENT),
        (b"<html><body>x</body></html>", SILENT),
        (b"<HTML><head><TITLE>\n 502 Bad Gateway </TITLE>", 'the provider answered 502 with a page: "502 Bad Gateway"'),
        (b'<title lang="en">x</title>', 'the provider answered 502 with a page: "x"'),
        (b"upstream connect error", 'the provider answered 502 with no JSON: "upstream connect error"'),
        (b"x" * 300, f'the provider answered 502 with no JSON: "{"x" * 199}…"'),
        (b"\xff", 'the provider answered 502 with no JSON: "\ufffd"'),
        (b"[]", 'the provider answered 502 with no JSON: "[]"'),
        (b'"x"', 'the provider answered 502 with no JSON: ""x""'),
        (b"[" * 100_000, f'the provider answered 502 with no JSON: "{"[" * 199}…"'),
    ],
)
def test_a_page_is_told_as_a_sentence(body: bytes, message: str):
    assert read_trouble(502, body, {}) == Trouble(502, message)


@pytest.mark.parametrize("name", ["x-request-id", "request-id", "apim-request-id", "x-amzn-requestid"])
def test_the_providers_name_of_the_request_is_kept(name: str):
    assert read_trouble(500, b"{}", {name: "r-1"}).request_id == "r-1"
    assert read_trouble(500, b"", {name: "r-1"}).request_id == "r-1"


def test_an_empty_name_is_none_and_a_header_stands_before_the_body():
    body = b'{"request_id": "inner"}'

    assert read_trouble(500, body, {"x-request-id": "", "request-id": "b"}).request_id == "b"
    assert read_trouble(500, body, {}).request_id == "inner"


@pytest.mark.parametrize(
    ("error", "status"),
    [
        ({"type": "invalid_request_error"}, 400),
        ({"code": "invalid_prompt"}, 400),
        ({"code": "context_length_exceeded", "type": "invalid_request_error"}, 400),
        ({"type": "authentication_error"}, 401),
        ({"type": "billing_error"}, 402),
        ({"type": "permission_error"}, 403),
        ({"type": "not_found_error"}, 404),
        ({"type": "request_too_large"}, 413),
        ({"type": "rate_limit_error"}, 429),
        ({"code": "rate_limit_exceeded", "type": "tokens"}, 429),
        ({"code": "insufficient_quota", "type": "insufficient_quota"}, 429),
        ({"type": "gateway_timeout_error"}, 504),
        ({"type": "timeout_error"}, 504),
        ({"type": "overloaded_error"}, 529),
        ({"type": "api_error"}, 500),
        ({"code": 503, "type": "rate_limit_error"}, 503),
        ({"code": 400}, 400),
        ({"code": 599}, 599),
        ({"code": 399}, 500),
        ({"code": 600}, 500),
        ({"code": 7, "type": {}}, 500),
        ({}, 500),
    ],
)
def test_an_error_within_an_answer_has_the_status_of_its_kind(error: dict[str, Any], status: int):
    assert trouble_within({"error": {"message": "m", **error}}).status == status
    assert trouble_within({"message": "m", **error}).status == status


def test_of_the_words_for_an_error_the_code_counts_first():
    assert trouble_within({"error": {"code": "rate_limit_exceeded", "type": "invalid_request_error"}}).status == 429


def test_an_answer_that_is_an_error_is_told_as_one():
    assert no_answer(b'{"type": "error", "message": "m"}') == Trouble(500, "m")
    assert no_answer(b'{"error": "m"}') == Trouble(500, "m")
    assert no_answer(b"{}").status == 502


@pytest.mark.parametrize(
    ("status", "told", "kind"),
    [
        (400, 400, "invalid_request_error"),
        (401, 401, "authentication_error"),
        (402, 402, "invalid_request_error"),
        (403, 403, "permission_error"),
        (404, 404, "invalid_request_error"),
        (429, 429, "rate_limit_error"),
        (500, 500, "server_error"),
        (503, 503, "server_error"),
        (504, 504, "server_error"),
        (529, 503, "server_error"),
    ],
)
def test_openais_clients_get_a_status_and_a_type_that_they_know(status: int, told: int, kind: str):
    found, body = openai_trouble(Trouble(status, "m", "c", "p", "r"))

    assert found == told
    assert json.loads(body) == {"error": {"message": "m", "type": kind, "param": "p", "code": "c"}}


@pytest.mark.parametrize(
    ("status", "told", "kind"),
    [
        (400, 400, "invalid_request_error"),
        (401, 401, "authentication_error"),
        (402, 402, "billing_error"),
        (403, 403, "permission_error"),
        (404, 404, "not_found_error"),
        (413, 413, "request_too_large"),
        (418, 418, "invalid_request_error"),
        (429, 429, "rate_limit_error"),
        (500, 500, "api_error"),
        (503, 529, "overloaded_error"),
        (504, 504, "gateway_timeout_error"),
        (529, 529, "overloaded_error"),
    ],
)
def test_anthropics_clients_get_a_status_and_a_type_that_they_know(status: int, told: int, kind: str):
    found, body = anthropic_trouble(Trouble(status, "m", "c", "p", "r"))

    assert found == told
    assert json.loads(body) == {
        "type": "error",
        "error": {"type": kind, "message": "m", "param": "p", "code": "c"},
        "request_id": "r",
    }


def test_what_is_not_known_of_an_error_is_not_told():
    assert json.loads(openai_trouble(Trouble(500, "m"))[1])["error"]["code"] is None
    assert json.loads(anthropic_trouble(Trouble(500, "m"))[1]) == {
        "type": "error", "error": {"type": "api_error", "message": "m"}, "request_id": None,
    }  # fmt: skip
