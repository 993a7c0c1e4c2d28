"""What a server gets of a caller's headers and path, and of ours."""

import pytest

from factories import model
from wissel.apis.providers import WITHHELD
from wissel.core.access import ANONYMOUS, Principal
from wissel.core.snapshot import Credential, Passthrough
from wissel.extproc.upstream import headers_for, path_for

ADA = Principal("ada")
SECRET, FORWARD = Credential("secret", "s3"), Credential("forward")
KEYS = {"authorization": "Bearer k", "x-api-key": "k"}
ALL = {**KEYS, **dict.fromkeys(WITHHELD, "x"), "x-session-id": "s", "openai_organization": "o", "user-agent": "u"}


def left_out(credential: Credential | None, caller: Principal, *forwarded: str) -> set[str]:
    server = model("m", credential=credential, forward_headers=frozenset(forwarded))
    return set(headers_for(server, "chat", ALL, caller)[1])


@pytest.mark.parametrize(
    ("credential", "caller", "out"),
    [
        (None, ANONYMOUS, {*WITHHELD, "openai_organization"}),
        (None, ADA, {*KEYS, *WITHHELD, "openai_organization"}),
        (SECRET, ANONYMOUS, {*KEYS, *WITHHELD, "openai_organization"}),
        (SECRET, ADA, {*KEYS, *WITHHELD, "openai_organization"}),
        (FORWARD, ADA, {"cookie", "proxy-authorization", "x-forwarded-client-cert"}),
    ],
)
def test_what_belongs_to_an_account_goes_on_only_with_the_callers_own_credential(credential, caller, out):
    assert left_out(credential, caller) == out


def test_a_header_that_the_file_lets_on_goes_on_and_no_other():
    assert "openai-organization" not in left_out(SECRET, ADA, "openai-organization")
    assert {"openai-project", "cookie", "authorization"} <= left_out(SECRET, ADA, "openai-organization")


@pytest.mark.parametrize(
    ("provider", "api", "shown"),
    [
        ("openai", "chat", {"authorization": "Bearer s3"}),
        ("openai", "messages", {"authorization": "Bearer s3"}),
        ("anthropic", "messages", {"x-api-key": "s3", "anthropic-version": "2023-06-01"}),
        ("anthropic", "chat", {"authorization": "Bearer s3", "anthropic-version": "2023-06-01"}),
        ("anthropic", "", {"x-api-key": "s3", "anthropic-version": "2023-06-01"}),
    ],
)
def test_a_secret_is_shown_as_the_provider_has_it(provider, api, shown):
    assert headers_for(model("m", credential=SECRET, provider=provider), api, {}, ADA)[0] == shown


def test_a_secret_is_shown_as_the_file_has_it():
    credential = Credential("secret", "s3", header="api-key", prefix="Key ")
    ours, out = headers_for(model("m", credential=credential), "chat", {"api_key": "mine"}, ADA)

    assert (ours, out) == ({"api-key": "Key s3"}, ["api_key"])


def test_what_a_caller_says_itself_where_a_provider_demands_something_stands():
    said = {"anthropic-version": "2024-01-01"}

    assert headers_for(model("m", provider="anthropic"), "messages", said, ADA) == ({}, [])


@pytest.mark.parametrize(
    ("base", "asked", "got"),
    [
        ("/v1", "/v1/files/F-1?a=b", "/v1/files/F-1?a=b"),
        ("/openai/v1", "/v1/files/F-1?a=b", "/openai/v1/files/F-1?a=b"),
        ("/v1beta/openai", "/V1/files", "/v1beta/openai/files"),
        ("/openai/v1", "/v1", "/openai/v1"),
        ("/openai/v1", "/v1?a", "/openai/v1?a"),
        ("", "/v1/files", "/files"),
        ("", "/v1?a", "/?a"),
        ("", "/v1", "/"),
        ("/openai/v1", "/v1beta/models", "/v1beta/models"),
        ("/openai/v1", "/other/v1/files", "/other/v1/files"),
    ],
)
def test_a_base_path_stands_in_place_of_the_leading_version(base, asked, got):
    assert path_for(Passthrough("/", "c", base_path=base), asked) == got


AZURE = model("m", provider="azure", base_path="/openai", api_version="2024-10-21")


@pytest.mark.parametrize(
    ("asked", "got"),
    [
        ("/v1/chat/completions", "/openai/deployments/gpt%2F4o%20eu/chat/completions?api-version=2024-10-21"),
        ("/v1/completions", "/openai/deployments/gpt%2F4o%20eu/completions?api-version=2024-10-21"),
        ("/v1/embeddings?a=b", "/openai/deployments/gpt%2F4o%20eu/embeddings?a=b&api-version=2024-10-21"),
        ("/v1/responses", "/openai/responses?api-version=2024-10-21"),
        ("/v1/responses/resp_1/cancel", "/openai/responses/resp_1/cancel?api-version=2024-10-21"),
        ("/v1/files?api-version=1&api%2Dversion=2", "/openai/files?api-version=2024-10-21"),
        ("/other", "/other"),
    ],
)
def test_a_server_that_wants_a_version_is_told_ours_and_asked_by_deployment_where_it_has_them(asked: str, got: str):
    assert path_for(AZURE, asked, "gpt/4o eu") == got


def test_without_a_model_no_deployment_is_asked():
    entry = Passthrough("/", "c", provider="azure", base_path="/openai", api_version="v")

    assert path_for(entry, "/v1/chat/completions") == "/openai/chat/completions?api-version=v"
