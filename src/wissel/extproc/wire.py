# xds-protos ships no type stubs; this file alone meets them.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportAttributeAccessIssue=false, reportUnknownParameterType=false
"""Between ext_proc's protobuf messages and the exchange's events and steps.

The only place that knows protobuf. Header values travel as `raw_value`: Envoy
ignores `value`, and would set the header to the empty string.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from struct import Struct
from typing import Any, Final, assert_never

from envoy.service.ext_proc.v3.external_processor_pb2 import ProcessingRequest
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import DecodeError

from wissel.core.names import (
    ATTEMPTS_NAMESPACE,
    CLUSTER_HEADER,
    MODEL_HEADER,
    NAMESPACE,
    ROUTE_HEADER,
    SERVICE,
    VARIANT_HEADER,
)
from wissel.extproc.events import (
    BodyMode,
    Event,
    Phase,
    Protocol,
    Refuse,
    Reply,
    RequestBody,
    RequestHeaders,
    RequestTrailers,
    ResponseBody,
    ResponseHeaders,
    ResponseTrailers,
)
from wissel.extproc.itinerary import Errand, Fields, told
from wissel.extproc.mutation import ImmediateResponse, Metadata, Mutation
from wissel.grpc.frames import Part

METHOD: Final = f"/{SERVICE}/Process"

_ATTRIBUTES: Final = "envoy.filters.http.ext_proc"
_DOUBLE: Final = Struct("<d")
_REMEMBERED: Final = 4096
_REQUEST_BODY: Final = 4
_BYTES: Final = 2
"""Protobuf's wire type of bytes, text and messages."""
_MOST_AROUND: Final = 4096
"""Bytes of a message that is nearly all body, beside it."""
_REPEATED: Final = frozenset({CLUSTER_HEADER, MODEL_HEADER, ROUTE_HEADER, VARIANT_HEADER})
"""Headers that are kept as bytes: their values are names out of the configuration, and never a caller's or a secret."""
_REPEATED_METADATA: Final = frozenset({"route", "target", "model", "variant", "reason", "revision"})
"""Members of metadata that are kept as bytes, for the same reason."""
_BODY_MODES: Final[tuple[BodyMode, ...]] = (
    "none", "streamed", "buffered", "buffered_partial", "full_duplex_streamed", "grpc",
)  # fmt: skip


class MalformedMessageError(Exception):
    """The peer sent something that is no ProcessingRequest: it does not speak ext_proc."""


def decode(data: bytes | bytearray) -> tuple[Event, Protocol | None]:
    """One message of Envoy's; of a large one that comes in a buffer, the buffer becomes the body.

    Raises MalformedMessageError.
    """
    message = ProcessingRequest()
    large = _large_body(data) if isinstance(data, bytearray) else None
    try:
        message.ParseFromString(bytes(data) if large is None else large[2])
    except DecodeError as error:
        raise MalformedMessageError("not a ProcessingRequest") from error
    protocol = None
    if message.HasField("protocol_config"):
        config = message.protocol_config
        protocol = Protocol(_mode(config.request_body_mode), _mode(config.response_body_mode))
    if large is not None and isinstance(data, bytearray):
        start, end, _ = large
        del data[end:], data[:start]
        return RequestBody(data, message.request_body.end_of_stream), protocol
    return _event(message), protocol


def _large_body(data: bytearray) -> tuple[int, int, bytes] | None:
    """Where a request's body begins and ends in a message that is nearly all body, and the message without it.

    None for any other message: the library reads it.
    """
    for outer, at, end in _byte_fields(data, 0, len(data)):
        for inner, start, stop in _byte_fields(data, at, end) if outer == _REQUEST_BODY else ():
            around = len(data) - (stop - start)
            if inner == 1 and around <= _MOST_AROUND:
                inside = bytes(data[stop:end])
                return start, stop, bytes(data[: _tag_of(at, end)]) + _field(outer, inside) + bytes(data[end:])
    return None


def _tag_of(start: int, end: int) -> int:
    """Where the tag stands of a field whose bytes begin at `start`."""
    return start - sum(1 for _ in _varint(end - start)) - 1


def _byte_fields(data: bytearray, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """The fields of bytes that a message begins with: number, begin and end; none from the first other field on."""
    while at < end and data[at] & 0x87 == _BYTES:
        number, length, shift, more = data[at] >> 3, 0, 0, True
        at += 1
        while more and at < end:
            length |= (data[at] & 0x7F) << shift
            more, shift, at = data[at] >= 0x80, shift + 7, at + 1
        if at + length > end:
            return
        yield number, at, at + length
        at += length


def _mode(number: int) -> BodyMode:
    return _BODY_MODES[number] if number < len(_BODY_MODES) else "grpc"


def _event(message: Any) -> Event:
    match message.WhichOneof("request"):
        case "request_headers":
            found = message.request_headers
            return RequestHeaders(
                _headers(found.headers), found.end_of_stream, _attributes(message), _forwarded_metadata(message)
            )
        case "request_body":
            return RequestBody(message.request_body.body, message.request_body.end_of_stream)
        case "request_trailers":
            return RequestTrailers()
        case "response_headers":
            found = message.response_headers
            return ResponseHeaders(
                _headers(found.headers), found.end_of_stream, _attributes(message), _forwarded_metadata(message)
            )
        case "response_body":
            return ResponseBody(message.response_body.body, message.response_body.end_of_stream)
        case "response_trailers":
            return ResponseTrailers()
        case _:
            raise MalformedMessageError("a ProcessingRequest without a request")


def _headers(found: Any) -> dict[str, str]:
    headers: dict[str, str] = {}
    for header in found.headers:
        # Header bytes are whatever the caller sent; no byte is lost this way, and ASCII reads as itself.
        raw = header.raw_value
        value = raw.decode("utf-8", "surrogateescape") if raw else header.value
        name = header.key.lower()
        headers[name] = f"{headers[name]},{value}" if name in headers else value
    return headers


def _attributes(message: Any) -> dict[str, str]:
    attributes = message.attributes
    if _ATTRIBUTES not in attributes:
        return {}
    return {name: _text(value) for name, value in attributes[_ATTRIBUTES].fields.items()}


def _text(value: Any) -> str:
    text = value.string_value
    if text:
        return text
    kind = value.WhichOneof("kind")
    return str(getattr(value, kind)) if kind else ""


def _forwarded_metadata(message: Any) -> dict[str, dict[str, Any]]:
    if not message.HasField("metadata_context"):
        return {}
    read: Any = MessageToDict
    return {name: read(fields) for name, fields in message.metadata_context.filter_metadata.items()}


def encode(step: Reply | Refuse) -> list[Part]:
    """One answer to Envoy, in parts: a large body is never copied into one."""
    match step:
        case Reply():
            is_large = step.mutation is not None and isinstance(step.mutation.body, tuple)
            return _reply(step) if is_large else [b"".join(_reply(step))]
        case Refuse(immediate, metadata):
            return [_field(_IMMEDIATE_RESPONSE, _refusal(immediate)) + _metadata(metadata)]
        case _:
            assert_never(step)


# Answers are put together byte by byte: a message is its fields one after the other, each a tag, a length and the
# bytes inside. Building the objects first, only to serialise them, costs four times as much.


def _field(number: int, data: bytes) -> bytes:
    """A field of bytes, text or a message; numbers beyond 15 do not occur."""
    length = len(data)
    if length < 0x80:
        return bytes((number << 3 | 2, length)) + data
    return bytes((number << 3 | 2, *_varint(length))) + data


def _around(number: int, parts: Sequence[Part]) -> list[Part]:
    """A field in parts: a body may be large, and lies within five fields."""
    return [bytes((number << 3 | 2, *_varint(sum(map(len, parts))))), *parts]


def _number(number: int, value: int) -> bytes:
    return bytes((number << 3, *_varint(value)))


def _double(number: int, value: float) -> bytes:
    return bytes((number << 3 | 1,)) + _DOUBLE.pack(value)


def _varint(value: int) -> Iterator[int]:
    while value >= 0x80:
        yield value & 0x7F | 0x80
        value >>= 7
    yield value


_OVERWRITE: Final = _number(3, 2)
"""append_action: OVERWRITE_IF_EXISTS_OR_ADD"""


_IMMEDIATE_RESPONSE: Final = 7
_DYNAMIC_METADATA: Final = 8
_MODE_OVERRIDE: Final = 9
_PHASES: Final[Mapping[Phase, int]] = {
    "request_headers": 1,
    "response_headers": 2,
    "request_body": 3,
    "response_body": 4,
    "request_trailers": 5,
    "response_trailers": 6,
}
"""ProcessingResponse's fields by the message that they answer."""

# Only the request's body mode changes, to NONE (0, which is not written); DEFAULT elsewhere keeps what is configured.
_SKIP_BODY: Final = _field(_MODE_OVERRIDE, b"")
# No body, but trailers: whether there are any or not, the stream ends with the answer then, and not before.
_STAY: Final = _field(_MODE_OVERRIDE, _number(6, 1))
# The request's body mode becomes NONE with it; Envoy has the whole body by then.
_READ_BODY: Final = _field(_MODE_OVERRIDE, _number(4, _BODY_MODES.index("streamed")))


def _reply(step: Reply) -> list[Part]:
    common = _common(step.mutation) if step.mutation else []
    if step.chunk is not None:
        streamed = [*_around(1, [step.chunk]), _number(2, step.end_of_stream)]
        common += _around(3, _around(3, streamed))  # body_mutation.streamed_response
    answer = _around(_PHASES[step.phase], _around(1, common) if common else [])
    if step.metadata or step.errand:
        answer.append(_metadata(step.metadata or {}, step.errand))
    if step.skip_body:
        answer.append(_SKIP_BODY)
    if step.stay:
        answer.append(_STAY)
    if step.read_body:
        answer.append(_READ_BODY)
    return answer


def _common(mutation: Mutation) -> list[Part]:
    """A CommonResponse."""
    headers = b"".join(
        [
            _repeated_header(name, value) if name in _REPEATED else _set_header(name, value)
            for name, value in mutation.set_headers.items()
        ]
    )
    headers += b"".join([_field(2, name.encode()) for name in mutation.remove_headers])
    common: list[Part] = [_field(2, headers)] if headers else []
    if mutation.body is not None:
        body = mutation.body
        common += _around(3, _around(1, (body,) if isinstance(body, bytes) else body))  # body_mutation.body
    if mutation.reroute:
        common.append(_number(5, 1))  # clear_route_cache
    return common


def _set_header(name: str, value: str) -> bytes:
    """One of HeaderMutation's `set_headers`; the value is `raw_value`."""
    header = _field(1, name.encode()) + _field(3, value.encode("utf-8", "surrogateescape"))
    # Envoy overwrites by default and ignores append_action; other data planes read it.
    return _field(1, _field(1, header) + _OVERWRITE)


_repeated_header = lru_cache(_REMEMBERED)(_set_header)


def _refusal(immediate: ImmediateResponse) -> bytes:
    headers = b"".join([_set_header(name, value) for name, value in immediate.headers.items()])
    return b"".join(
        (
            _field(1, _number(1, immediate.status)),
            _field(2, headers),
            _field(3, immediate.body),
            _field(5, immediate.details.encode()),
        )
    )


def _metadata(metadata: Metadata, errand: Errand | None = None) -> bytes:
    """A Struct with a member for each of our namespaces."""
    fields = b"".join(
        [
            _repeated_value(name, value) if name in _REPEATED_METADATA else _value(name, value)
            for name, value in metadata.items()
        ]
    )
    ours = _member(NAMESPACE, _field(5, fields)) if metadata else b""
    return _field(_DYNAMIC_METADATA, ours + _itinerary(errand) if errand else ours)


def _itinerary(errand: Errand) -> bytes:
    plan = _member("plan", _struct_value(told(errand)))
    return _member(ATTEMPTS_NAMESPACE, _field(5, _groups(errand.clusters) + plan))


@lru_cache(_REMEMBERED)
def _groups(clusters: tuple[str, ...]) -> bytes:
    """What Envoy's specifier of clusters reads: a group for each attempt."""
    groups: list[Fields] = [
        {"name": str(at), "clusters": [{"cluster_name": cluster, "weight": 1}]} for at, cluster in enumerate(clusters)
    ]
    return _member("priority_groups", _struct_value(groups))


def _struct_value(value: Any) -> bytes:
    """One of google.protobuf.Value's."""
    match value:
        case bool():
            return _number(4, int(value))
        case str():
            return _field(3, value.encode("utf-8", "backslashreplace"))
        case Mapping():
            return _field(5, b"".join([_member(name, _struct_value(each)) for name, each in value.items()]))
        case list() | tuple():
            return _field(6, b"".join([_field(1, _struct_value(each)) for each in value]))
        case _:
            return _double(2, float(value))


def _value(name: str, value: str | float) -> bytes:
    if isinstance(value, str):
        # A caller may be called anything, and protobuf's text is UTF-8.
        return _member(name, _field(3, value.encode("utf-8", "backslashreplace")))
    return _member(name, _double(2, value))


_repeated_value = lru_cache(_REMEMBERED)(_value)


def _member(name: str, value: bytes) -> bytes:
    """An entry of Struct's map."""
    return _field(1, _field(1, name.encode()) + _field(2, value))
