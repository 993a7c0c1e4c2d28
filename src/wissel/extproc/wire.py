# xds-protos ships no type stubs; this file alone meets them.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportAttributeAccessIssue=false, reportUnknownParameterType=false
"""Between ext_proc's protobuf messages and the exchange's events and steps.

The only place that knows protobuf. Header values travel as `raw_value`: Envoy
ignores `value`, and would set the header to the empty string.
"""

from collections.abc import Iterator, Mapping
from functools import lru_cache
from struct import Struct
from typing import Any, Final, assert_never

from envoy.service.ext_proc.v3.external_processor_pb2 import ProcessingRequest
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import DecodeError

from wissel.core.names import CLUSTER_HEADER, MODEL_HEADER, NAMESPACE, ROUTE_HEADER, SERVICE, VARIANT_HEADER
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
from wissel.extproc.mutation import ImmediateResponse, Metadata, Mutation

METHOD: Final = f"/{SERVICE}/Process"

_ATTRIBUTES: Final = "envoy.filters.http.ext_proc"
_DOUBLE: Final = Struct("<d")
_REMEMBERED: Final = 4096
_REPEATED: Final = frozenset({CLUSTER_HEADER, MODEL_HEADER, ROUTE_HEADER, VARIANT_HEADER})
"""Headers that are kept as bytes: their values are names out of the configuration, and never a caller's or a secret."""
_REPEATED_METADATA: Final = frozenset({"route", "target", "model", "variant", "reason", "revision"})
"""Members of metadata that are kept as bytes, for the same reason."""
_BODY_MODES: Final[tuple[BodyMode, ...]] = (
    "none", "streamed", "buffered", "buffered_partial", "full_duplex_streamed", "grpc",
)  # fmt: skip


class MalformedMessageError(Exception):
    """The peer sent something that is no ProcessingRequest: it does not speak ext_proc."""


def decode(data: bytes) -> tuple[Event, Protocol | None]:
    """One message of Envoy's. Raises MalformedMessageError."""
    message = ProcessingRequest()
    try:
        message.ParseFromString(data)
    except DecodeError as error:
        raise MalformedMessageError("not a ProcessingRequest") from error
    protocol = None
    if message.HasField("protocol_config"):
        config = message.protocol_config
        protocol = Protocol(_mode(config.request_body_mode), _mode(config.response_body_mode))
    return _event(message), protocol


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
            return ResponseHeaders(_headers(found.headers), found.end_of_stream, _attributes(message))
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


def encode(step: Reply | Refuse) -> bytes:
    """One answer to Envoy."""
    match step:
        case Reply():
            return _reply(step)
        case Refuse(immediate, metadata):
            return _field(_IMMEDIATE_RESPONSE, _refusal(immediate)) + _metadata(metadata)
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
# The request's body mode becomes NONE with it; Envoy has the whole body by then.
_READ_BODY: Final = _field(_MODE_OVERRIDE, _number(4, _BODY_MODES.index("streamed")))


def _reply(step: Reply) -> bytes:
    common = _common(step.mutation) if step.mutation else b""
    if step.chunk is not None:
        streamed = _field(1, step.chunk) + _number(2, step.end_of_stream)
        common += _field(3, _field(3, streamed))  # body_mutation.streamed_response
    answer = _field(_PHASES[step.phase], _field(1, common) if common else b"")
    if step.metadata:
        answer += _metadata(step.metadata)
    if step.skip_body:
        answer += _SKIP_BODY
    if step.read_body:
        answer += _READ_BODY
    return answer


def _common(mutation: Mutation) -> bytes:
    """A CommonResponse."""
    headers = b"".join(
        [
            _repeated_header(name, value) if name in _REPEATED else _set_header(name, value)
            for name, value in mutation.set_headers.items()
        ]
    )
    headers += b"".join([_field(2, name.encode()) for name in mutation.remove_headers])
    common = _field(2, headers) if headers else b""
    if mutation.body is not None:
        common += _field(3, _field(1, mutation.body))  # body_mutation.body
    if mutation.reroute:
        common += _number(5, 1)  # clear_route_cache
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


def _metadata(metadata: Metadata) -> bytes:
    """A Struct with one member, which is one of ours."""
    fields = b"".join(
        [
            _repeated_value(name, value) if name in _REPEATED_METADATA else _value(name, value)
            for name, value in metadata.items()
        ]
    )
    return _field(_DYNAMIC_METADATA, _member(NAMESPACE, _field(5, fields)))


def _value(name: str, value: str | float) -> bytes:
    return _member(name, _field(3, value.encode()) if isinstance(value, str) else _double(2, value))


_repeated_value = lru_cache(_REMEMBERED)(_value)


def _member(name: str, value: bytes) -> bytes:
    """An entry of Struct's map."""
    return _field(1, _field(1, name.encode()) + _field(2, value))
