import pytest

from wissel.apis.models import ANTHROPIC_MODELS, MODELS_PATH, OPENAI_MODELS
from wissel.apis.table import APIS, spoken

OPENAIS = {"id": "a", "object": "model", "created": 0, "owned_by": "wissel"}
ANTHROPICS = {"type": "model", "id": "a", "display_name": "a", "created_at": "1970-01-01T00:00:00Z"}


def test_a_list_is_as_openais_clients_read_it():
    entries = [OPENAI_MODELS.entry(name) for name in ("a", "b")]

    assert OPENAI_MODELS.listing(entries) == {"object": "list", "data": [OPENAIS, {**OPENAIS, "id": "b"}]}


def test_a_list_is_as_anthropics_clients_read_it():
    entries = [ANTHROPIC_MODELS.entry(name) for name in ("a", "b")]
    pages = {"has_more": False, "first_id": "a", "last_id": "b"}

    assert ANTHROPIC_MODELS.listing(entries) == {
        "data": [ANTHROPICS, {**ANTHROPICS, "id": "b", "display_name": "b"}],
        **pages,
    }


def test_each_format_lists_models_as_its_own_clients_read_them():
    assert {name: api.models.listing([]) == ANTHROPIC_MODELS.listing([]) for name, api in APIS.items()} == {
        name: name == "messages" for name in APIS
    }


def test_an_empty_list_of_anthropics_has_no_ends():
    assert ANTHROPIC_MODELS.listing([]) == {"data": [], "has_more": False, "first_id": None, "last_id": None}


@pytest.mark.parametrize(
    ("path", "headers", "api"),
    [
        (MODELS_PATH, {}, None),
        (MODELS_PATH, {"anthropic-version": "2023-06-01"}, "messages"),
        ("/v1/messages/batches", {}, "messages"),
        ("/v1/responses/resp_1", {"anthropic-version": "2023-06-01"}, "responses"),
        ("/v1/messagesque", {}, None),
    ],
)
def test_callers_are_known_by_what_their_path_lies_below_or_by_the_header_that_only_they_send(path, headers, api):
    found = spoken(path, headers)

    assert (found and found.name) == api
    assert sorted(each.marker for each in APIS.values() if each.marker) == ["anthropic-version"]
