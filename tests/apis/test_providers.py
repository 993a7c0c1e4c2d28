"""Each provider is one row, and what callers send for others is withheld from all."""

from dataclasses import fields

import pytest

from wissel.apis.providers import PROVIDERS, WITHHELD, CredentialHeader, Provider, header_name, provider_of
from wissel.apis.table import APIS


@pytest.mark.parametrize("part", [each.name for each in fields(Provider)])
def test_a_row_that_lacks_a_part_cannot_be_made(part: str):
    parts = {each.name: getattr(PROVIDERS["openai"], each.name) for each in fields(Provider)}
    del parts[part]

    with pytest.raises(TypeError, match=part):
        Provider(**parts)


def test_every_api_is_native_to_one_provider():
    native = [api for row in PROVIDERS.values() for api in row.native]

    assert sorted(native) == sorted(APIS)


@pytest.mark.parametrize("row", PROVIDERS.values(), ids=PROVIDERS)
def test_a_row_speaks_of_apis_that_there_are_and_of_headers_in_lower_case(row: Provider):
    named = [row.credential.name, *(each.name for each in row.credential_by_api.values()), *row.headers]

    assert row.credential_by_api.keys() <= APIS.keys()
    assert [name for name in named if name != name.lower()] == []


@pytest.mark.parametrize("row", PROVIDERS.values(), ids=PROVIDERS)
def test_a_model_is_taken_to_speak_what_its_provider_has(row: Provider):
    assert row.usual
    assert row.native <= row.apis <= APIS.keys()
    assert row.usual <= row.apis


def test_each_providers_servers_are_where_its_documentation_says():
    assert {name: row.path for name, row in PROVIDERS.items()} == {
        "openai": "/v1",
        "anthropic": "/v1",
        "azure": "/openai/v1",
        "gemini": "/v1beta/openai",
        "bedrock": "/openai/v1",
        "mistral": "/v1",
        "groq": "/openai/v1",
        "together": "/v1",
        "vllm": "/v1",
        "ollama": "/v1",
    }


@pytest.mark.parametrize(
    ("apis", "name"),
    [
        ({"messages"}, "anthropic"),
        ({"chat"}, "openai"),
        ({"chat", "responses", "embeddings"}, "openai"),
        ({"chat", "messages"}, "openai"),
        ((), "openai"),
    ],
)
def test_a_server_is_taken_for_the_provider_whose_formats_are_all_that_it_speaks(apis, name: str):
    assert provider_of(apis).name == name


def test_anthropic_takes_its_key_where_its_clients_send_it_and_openais_clients_theirs():
    anthropic = PROVIDERS["anthropic"]
    shown = {api: anthropic.shows(api) for api in ("messages", "", "chat")}

    assert shown == {
        "messages": CredentialHeader("x-api-key"),
        "": CredentialHeader("x-api-key"),
        "chat": CredentialHeader("authorization", "Bearer "),
    }


@pytest.mark.parametrize("written", ["openai-organization", "openai_organization", "api_key", "x-goog_api-key"])
def test_a_header_is_withheld_however_its_words_are_joined(written: str):
    assert header_name(written) in WITHHELD


def test_what_is_withheld_is_what_providers_and_proxies_document():
    of_accounts = {"openai-organization", "openai-project", "x-goog-user-project"}
    credentials = {"api-key", "x-goog-api-key", "x-amz-security-token", "ocp-apim-subscription-key"}
    of_the_way = {"cookie", "proxy-authorization", "x-forwarded-client-cert"}

    assert of_accounts | credentials | of_the_way == WITHHELD
