"""A block of headers becomes a request, if it is one by RFC 9113, section 8.

What is malformed there ends its stream and nothing else. A reader that takes
two meanings from one request is a hole, so whatever the rules forbid is refused,
though no field is ever passed on from here.

Two rules are left to others: what a `:path` may look like (it is looked up
among a few), and that `:authority` names a host (nothing depends on it, and
clients on Unix sockets send what they like).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

_PSEUDO: Final = frozenset({b":method", b":scheme", b":path", b":authority"})
_LENGTH_DIGITS: Final = 18
_OF_A_CONNECTION: Final = frozenset(
    {b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"}
)
_NAME: Final = re.compile(rb"[!-9;-@\[-~]+")
_BAD_VALUE: Final = re.compile(rb"[\0\r\n]|\A[ \t]|[ \t]\Z")

_EVERYDAY: Final = 512
_EVERYDAY_BYTES: Final = 256
_everyday: Final[set[tuple[bytes, bytes]]] = set()
"""Fields that were found good: a peer sends most of its own with each request."""

Headers = Sequence[tuple[bytes, bytes]]


class MalformedError(Exception):
    """The headers break the rules of requests."""


@dataclass(frozen=True, slots=True)
class RequestHead:
    """The head of one."""

    method: bytes
    path: bytes
    fields: Mapping[bytes, bytes]
    """The last of each name, without pseudo-header fields."""
    length: int | None
    """Of the body, where it was said."""


def read_request(headers: Headers) -> RequestHead:
    """Raises MalformedError."""
    _check_fields(headers)
    first = 0
    while first < len(headers) and headers[first][0] in _PSEUDO:
        first += 1
    pseudo, fields = dict(headers[:first]), dict(headers[first:])
    if len(pseudo) < first or not _PSEUDO.isdisjoint(fields):
        raise MalformedError("a pseudo-header field comes late or twice")
    if len(fields) < len(headers) - first:
        _check_repeated(headers)
    if pseudo.get(b":method") == b"CONNECT":
        if pseudo.keys() != {b":method", b":authority"}:
            raise MalformedError("a CONNECT has an authority, and neither scheme nor path")
    elif not (pseudo.get(b":method") and pseudo.get(b":scheme") and pseudo.get(b":path")):
        raise MalformedError("method, scheme or path is missing or empty")
    if b"host" in fields and fields[b"host"] != pseudo.get(b":authority", fields[b"host"]):
        raise MalformedError("host is not the authority")
    length = fields.get(b"content-length")
    return RequestHead(pseudo[b":method"], pseudo.get(b":path", b""), fields, None if length is None else int(length))


def check_trailers(headers: Headers) -> None:
    """Raises MalformedError at what no trailers may hold."""
    _check_fields(headers)
    if not _PSEUDO.isdisjoint(name for name, _ in headers):
        raise MalformedError("trailers have no pseudo-header fields")


def _check_fields(headers: Headers) -> None:
    """Each on its own."""
    if _everyday.issuperset(headers):
        return
    for header in headers:
        if header not in _everyday:
            _check_field(*header)
            if len(header[0]) + len(header[1]) <= _EVERYDAY_BYTES:
                if len(_everyday) >= _EVERYDAY:
                    _everyday.clear()
                _everyday.add(header)


def _check_field(name: bytes, value: bytes) -> None:
    if _BAD_VALUE.search(value):
        raise MalformedError("a value has a line break, a zero or blanks around it")
    if name not in _PSEUDO and not _NAME.fullmatch(name):
        raise MalformedError("a name is empty, not in lower case, or of a pseudo-header field that no request has")
    if name in _OF_A_CONNECTION:
        raise MalformedError("a field is about a connection of HTTP/1")
    if name == b"te" and value != b"trailers":
        raise MalformedError("te may only say trailers")
    if name == b"content-length" and (not value.isdigit() or len(value) > _LENGTH_DIGITS):
        raise MalformedError("content-length is no number")


def _check_repeated(headers: Headers) -> None:
    if sum(name == b"host" for name, _ in headers) > 1:
        raise MalformedError("host is there twice")
    if len({value for name, value in headers if name == b"content-length"}) > 1:
        raise MalformedError("content-length is there twice")
