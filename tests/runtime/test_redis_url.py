import pytest

from wissel.runtime.redis_url import RedisUrl, parse


@pytest.mark.parametrize(
    ("url", "read"),
    [
        ("redis://localhost", RedisUrl("single", (("localhost", 6379),))),
        ("redis://127.0.0.1:7000/3", RedisUrl("single", (("127.0.0.1", 7000),), db=3)),
        ("redis://[::1]:7000/", RedisUrl("single", (("::1", 7000),))),
        ("redis://:p%23w@h:1", RedisUrl("single", (("h", 1),), password="p#w")),
        ("redis://ada:a:b@c@h:1", RedisUrl("single", (("h", 1),), username="ada", password="a:b@c")),
        ("rediss://h:1?ssl_ca_certs=/ca", RedisUrl("single", (("h", 1),), tls={"ssl_ca_certs": "/ca"})),
        ("unix:///run/redis.sock?db=2&password=x", RedisUrl("single", (), "/run/redis.sock", password="x", db=2)),
        ("redis+sentinel://a,b:2/main", RedisUrl("sentinel", (("a", 26379), ("b", 2)), name="main")),
        (
            "redis+sentinel://u:p@a/main/4?sentinel_password=s",
            RedisUrl("sentinel", (("a", 26379),), name="main", db=4, username="u", password="p", sentinel_password="s"),
        ),
        ("rediss+cluster://a:1,b:2", RedisUrl("cluster", (("a", 1), ("b", 2)), tls={})),
    ],
)
def test_a_url_is_read(url: str, read: RedisUrl):
    assert parse(url) == read


@pytest.mark.parametrize(
    "url",
    [
        "redis:secret",
        "http://secret",
        "redis://:secret#x@h:1",
        "redis://:se/cret@h:1",
        "redis://user:12/secret@h:1",
        "redis://:se?cret@h:1",
        "redis://h:secret",
        "redis://h:70000",
        "redis://h/secret",
        "redis://h?secret=1",
        "redis+cluster://h/1",
        "redis+sentinel://h:1",
        "unix://",
        "redis://",
    ],
)
def test_what_is_wrong_with_a_url_is_said_without_a_word_of_it(url: str):
    with pytest.raises(ValueError) as raised:
        parse(url)

    assert "secret" not in str(raised.value)
    assert "cret@" not in str(raised.value)


def test_what_is_shown_of_one_has_no_password():
    assert "hidden" not in repr(parse("redis+sentinel://u:hidden@h/main?sentinel_password=hidden"))
