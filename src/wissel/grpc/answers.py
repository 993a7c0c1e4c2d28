"""How an answer begins and ends: a status becomes trailers, and what is no gRPC is told so in plain HTTP."""

from dataclasses import dataclass
from typing import Final

from hpack import NeverIndexedHeaderTuple

from wissel.grpc.frames import Status, percent_encode
from wissel.grpc.requests import RequestHead

Headers = list[tuple[bytes, bytes]]

RESPONSE: Final[Headers] = [(b":status", b"200"), (b"content-type", b"application/grpc")]
_OK: Final[Headers] = [(b"grpc-status", b"0")]


@dataclass(frozen=True, slots=True)
class PlainAnswer:
    """An answer of HTTP's own."""

    headers: Headers
    body: bytes


def _plain(status: bytes, name: bytes, value: bytes, sentence: bytes) -> PlainAnswer:
    length = b"%d" % len(sentence)
    return PlainAnswer(
        [(b":status", status), (name, value), (b"content-type", b"text/plain"), (b"content-length", length)], sentence
    )


_NOT_POST: Final = _plain(b"405", b"allow", b"POST", b"this port speaks gRPC, whose calls are POST\n")
_NOT_GRPC: Final = _plain(b"415", b"accept", b"application/grpc", b"this port speaks gRPC: application/grpc\n")


def refuse(request: RequestHead) -> PlainAnswer | None:
    """The answer to a request that is not gRPC at all."""
    if request.method != b"POST":
        return _NOT_POST
    kind = request.fields.get(b"content-type", b"")
    if not kind.startswith(b"application/grpc") or kind[16:17] not in (b"", b"+", b";"):
        return _NOT_GRPC
    return None


def trailers(status: Status, message: str) -> Headers:
    """The end of a call."""
    if status is Status.OK and not message:
        return _OK
    found = [(b"grpc-status", b"%d" % status)]
    if message:
        # Never indexed: messages vary, and the peer chooses how many of them our compression table remembers.
        found.append(NeverIndexedHeaderTuple(b"grpc-message", percent_encode(message)))
    return found
