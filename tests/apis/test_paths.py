import pytest
from hypothesis import given
from hypothesis import strategies as st

from wissel.apis.paths import is_plain, normalise_path


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
