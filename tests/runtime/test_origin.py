import pytest

from wissel.runtime.origin import NAMELESS, origin, without_user


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://example.org/keys", "https://example.org/keys"),
        ("https://user:secret@example.org:8443/keys?token=secret#secret", "https://example.org:8443/keys"),
        ("http://[::1]:80/keys", "http://[::1]:80/keys"),
        ("http://user:pa/secret@example.org/keys", NAMELESS),
        ("http://user:12/secret@example.org/keys", NAMELESS),
        ("http://user:secret@[example/keys", NAMELESS),
        ("secret", NAMELESS),
    ],
)
def test_a_url_is_shown_without_what_may_be_secret(url: str, shown: str):
    assert without_user(url) == shown


def test_of_a_webhook_the_path_is_secret_too():
    assert origin("https://hooks.example.org/services/T0/B0/secret") == "https://hooks.example.org"
