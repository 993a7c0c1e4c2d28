import pytest
from hypothesis import given
from hypothesis import strategies as st

from wissel.apis.paths import check_call, is_plain, normalise_path
from wissel.core.bounds import Bounds
from wissel.errors import UnreadableError


@pytest.mark.parametrize(
    "path",
    [
        "/v1/chat/completions",
        "/v1/chat/completions/",
        "//v1//chat/completions",
        "/V1/Chat/Completions",
        "/v1/chat%2fcompletions",
        "/v1/x/../chat/./completions",
        "/v1/chat/completions?model=o1",
        "/v1\\chat\\completions",
        "/../../v1/chat/completions",
    ],
)
def test_every_spelling_of_a_path_is_one_path(path):
    assert normalise_path(path) == "/v1/chat/completions"


@pytest.mark.parametrize(
    ("path", "plain"),
    [
        ("/v1/files/a?x=//", True),
        ("/v1/files%2Fa", False),
        ("/v1/../files", False),
        ("//v1", False),
        ("/v1\\files", False),
    ],
)
def test_a_path_that_servers_read_differently_is_not_plain(path, plain):
    assert is_plain(path) is plain


@given(st.text())
def test_a_normal_path_stays_as_it_is(path):
    once = normalise_path("/" + path.replace("%", ""))

    assert (
        normalise_path(once.partition("?")[0].partition("#")[0]) == once.partition("?")[0].partition("#")[0]
        or "%" in once
    )


def refusal(path: str, content_type: str) -> UnreadableError | None:
    try:
        check_call(path, content_type, Bounds())
    except UnreadableError as refused:
        return refused
    return None


@pytest.mark.parametrize("trick", ["//", "/.", "%2f", "%2E", "%5c", "\\", "%00", "#"])
def test_no_trick_with_a_path_is_plain(trick):
    assert not is_plain(f"/v1{trick}files")


@pytest.mark.parametrize(
    ("path", "content_type", "message"),
    [
        ("/v1/chat?x=1", "application/json; charset=utf-8", None),
        ("/v1/chat", "", None),
        ("/v1/chat?a=1&model=o1", "application/json", "the query names a model; name it in the body alone"),
        ("/v1/chat", "Multipart/Form-Data ; boundary=x", None),
        ("/v1/chat", "application/x-www-form-urlencoded", None),
        ("/v1/chat", "application/json, text/plain", None),
    ],
)
def test_a_head_that_could_name_another_model_is_told(path, content_type, message):
    refused = refusal(path, content_type)
    is_json = content_type.startswith("application/json;") or content_type in {"", "application/json"}
    expected = message if is_json else f'the content-type is "{content_type}"; send application/json'

    assert (str(refused) if refused else None) == expected


def test_the_query_that_names_a_model_is_about_the_model():
    refused = refusal("/v1/chat?model=o1", "")

    assert refused is not None
    assert refused.param == "model"
