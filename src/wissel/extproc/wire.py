# xds-protos ships no type stubs; this file alone meets them.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportAttributeAccessIssue=false, reportUnknownParameterType=false
"""Between ext_proc's protobuf messages and the exchange's events and steps.

The only place that knows protobuf. Header values travel as `raw_value`: Envoy
ignores `value`, and would set the header to the empty string.
"""

from typing import Any, Final, assert_never

from envoy.service.ext_proc.v3.external_processor_pb2 import (
    BodyMutation,
    CommonResponse,
    HeadersResponse,
    ProcessingRequest,
    ProcessingResponse,
)
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import DecodeError

from wissel.core.names import NAMESPACE, SERVICE
from wissel.extproc.exchange import (
    BodyMode,
    Event,
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
        value = header.raw_value.decode("utf-8", "surrogateescape") if header.raw_value else header.value
        name = header.key.lower()
        headers[name] = f"{headers[name]},{value}" if name in headers else value
    return headers


def _attributes(message: Any) -> dict[str, str]:
    if _ATTRIBUTES not in message.attributes:
        return {}
    return {name: _text(value) for name, value in message.attributes[_ATTRIBUTES].fields.items()}


def _text(value: Any) -> str:
    kind = value.WhichOneof("kind")
    return value.string_value if kind == "string_value" else str(getattr(value, kind)) if kind else ""


def _forwarded_metadata(message: Any) -> dict[str, dict[str, Any]]:
    if not message.HasField("metadata_context"):
        return {}
    read: Any = MessageToDict
    return {name: read(fields) for name, fields in message.metadata_context.filter_metadata.items()}


def encode(step: Reply | Refuse) -> bytes:
    """One answer to Envoy."""
    response = ProcessingResponse()
    match step:
        case Reply():
            _reply(response, step)
        case Refuse(immediate, metadata):
            _refusal(response.immediate_response, immediate)
            _set_metadata(response, metadata)
        case _:
            assert_never(step)
    return response.SerializeToString()


def _reply(response: Any, step: Reply) -> None:
    match step.phase:
        case "request_headers" | "response_headers":
            target: HeadersResponse = getattr(response, step.phase)
            target.SetInParent()
            if step.mutation:
                _set_common(target.response, step.mutation)
        case "request_body" | "response_body":
            body = getattr(response, step.phase)
            body.SetInParent()
            if step.mutation:
                _set_common(body.response, step.mutation)
            if step.chunk is not None:
                streamed = body.response.body_mutation.streamed_response
                streamed.body = step.chunk
                streamed.end_of_stream = step.end_of_stream
        case "request_trailers" | "response_trailers":
            getattr(response, step.phase).SetInParent()
        case _:
            assert_never(step.phase)
    if step.metadata:
        _set_metadata(response, step.metadata)
    if step.skip_body:
        # Only the request's body mode changes; DEFAULT (0) elsewhere keeps what is configured.
        response.mode_override.request_body_mode = _BODY_MODES.index("none")
    if step.read_body:
        # The request's body mode becomes NONE with it, which changes nothing any more.
        response.mode_override.response_body_mode = _BODY_MODES.index("streamed")


def _set_common(common: CommonResponse, mutation: Mutation) -> None:
    for name, value in mutation.set_headers.items():
        option = common.header_mutation.set_headers.add()
        option.header.key = name
        option.header.raw_value = value.encode("utf-8", "surrogateescape")
        # Envoy overwrites by default and ignores this; other data planes read it.
        option.append_action = 2
    common.header_mutation.remove_headers.extend(mutation.remove_headers)
    if mutation.body is not None:
        common.body_mutation.CopyFrom(BodyMutation(body=mutation.body))
    common.clear_route_cache = mutation.reroute


def _refusal(target: Any, immediate: ImmediateResponse) -> None:
    target.status.code = immediate.status
    target.body = immediate.body
    target.details = immediate.details
    for name, value in immediate.headers.items():
        option = target.headers.set_headers.add()
        option.header.key = name
        option.header.raw_value = value.encode()


def _set_metadata(response: Any, metadata: Metadata) -> None:
    fields = response.dynamic_metadata.fields[NAMESPACE].struct_value.fields
    for name, value in metadata.items():
        if isinstance(value, str):
            fields[name].string_value = value
        else:
            fields[name].number_value = value
