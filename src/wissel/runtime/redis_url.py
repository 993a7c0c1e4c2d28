"""The URL of a Redis becomes what its clients are made of.

    redis://[USER:PASSWORD@]HOST[:PORT][/DB]                          one server
    unix://[USER@]/PATH[?db=DB]                                       one server, on this machine
    redis+sentinel://[USER:PASSWORD@]HOST[:PORT][,HOST…]/NAME[/DB]    the primary that these Sentinels call NAME
    redis+cluster://[USER:PASSWORD@]HOST[:PORT][,HOST…]               the cluster that these nodes belong to

`rediss` in place of `redis` is the same with TLS. A URL mostly holds a password, so what is wrong with one is said
without a word of it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal
from urllib.parse import unquote

Address = tuple[str, int]
"""A host and a port."""

Kind = Literal["single", "sentinel", "cluster"]
"""What stands at the addresses."""

_SCHEME: Final = re.compile(r"(?P<redis>rediss?)(?:\+(?P<kind>sentinel|cluster))?|unix")
_HOST: Final = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<name>[A-Za-z0-9._-]+))(?::(?P<port>[0-9]{1,5}))?")
_PORTS: Final[Mapping[Kind, int]] = {"single": 6379, "sentinel": 26379, "cluster": 6379}

_OPTIONS: Final = {
    "db",
    "username",
    "password",
    "sentinel_username",
    "sentinel_password",
    "ssl_ca_certs",
    "ssl_certfile",
    "ssl_keyfile",
    "ssl_cert_reqs",
    "ssl_check_hostname",
}

_ODD: Final = (
    "in a user's name or password each of # / ? % @ [ is written as its code: %23 %2F %3F %25 %40 %5B, and a host is "
    "followed by : and its port"
)


@dataclass(frozen=True, slots=True)
class RedisUrl:
    """A URL, read."""

    kind: Kind
    addresses: tuple[Address, ...]
    """Empty for a socket."""
    path: str = ""
    """Of a socket."""
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    db: int = 0
    name: str = ""
    """What Sentinels call the primary."""
    tls: Mapping[str, str] | None = None
    """redis-py's words for it; None without TLS."""
    sentinel_username: str | None = None
    sentinel_password: str | None = field(default=None, repr=False)


def parse(url: str) -> RedisUrl:
    """Raises ValueError, which completes "redis …" and repeats nothing of the URL."""
    scheme, separator, rest = url.partition("://")
    found = _SCHEME.fullmatch(scheme)
    if found is None or not separator:
        raise ValueError(
            "should be a URL that begins with redis://, rediss://, unix://, redis+sentinel:// or redis+cluster://"
        )
    if "#" in rest:
        raise ValueError(f"is no URL that can be read: a # begins what belongs to none; {_ODD}")
    rest, _, query = rest.partition("?")
    options = _options(query)
    authority, slash, path = rest.partition("/")
    user, at, hosts = authority.rpartition("@")
    username, colon, password = user.partition(":")
    kind: Kind = found["kind"] or "single"  # type: ignore[assignment]  # the pattern has no other
    words = [unquote(word) for word in path.split("/") if word]
    is_socket = scheme == "unix"
    if is_socket:
        if hosts or not path:
            raise ValueError("should be unix:// and the path of a socket, as unix:///run/redis.sock")
        words = []
    name = ""
    if kind == "sentinel":
        if not words:
            raise ValueError("should name the primary after the Sentinels, as redis+sentinel://HOST:26379/NAME")
        name = words.pop(0)
    db = _number(words[0] if words else options.get("db", "0"))
    if len(words) > 1 or (kind == "cluster" and db):
        raise ValueError(f"has a path that leads nowhere: it should be the number of a database at most; {_ODD}")
    return RedisUrl(
        kind,
        () if is_socket else tuple(_address(host, _PORTS[kind]) for host in hosts.split(",")),
        slash + unquote(path) if is_socket else "",
        username=(unquote(username) if at else "") or options.get("username"),
        password=unquote(password) if at and colon and password else options.get("password"),
        db=db,
        name=name,
        tls={key: value for key, value in options.items() if key.startswith("ssl_")}
        if found["redis"] == "rediss"
        else None,
        sentinel_username=options.get("sentinel_username"),
        sentinel_password=options.get("sentinel_password"),
    )


def _options(query: str) -> dict[str, str]:
    pairs = [pair.partition("=") for pair in query.split("&") if pair]
    if any(not equals or name not in _OPTIONS for name, equals, _ in pairs):
        known = ", ".join(sorted(_OPTIONS))
        raise ValueError(f"has an option after ? that is none of {known}; {_ODD}")
    return {name: unquote(value) for name, _, value in pairs}


def _address(written: str, port: int) -> Address:
    found = _HOST.fullmatch(written)
    if found is None or (found["port"] and not 0 < int(found["port"]) < 1 << 16):
        raise ValueError(f"has no host and port where they should be; {_ODD}")
    return found["v6"] or found["name"], int(found["port"] or port)


def _number(written: str) -> int:
    if not (written.isascii() and written.isdecimal() and len(written) < 6):
        raise ValueError(f"has a database that is no number; {_ODD}")
    return int(written)
