"""What Envoy says itself: its own errors, and a line of the access log for each request."""

from dataclasses import dataclass

from wissel.core.names import NAMESPACE
from wissel.envoy.fields import Fields, typed
from wissel.envoy.plans import MEBIBYTE

_LOGGED = (
    "route",
    "intent_reason",
    "score",
    "target",
    "model",
    "plan",
    "left_out",
    "served",
    "attempts",
    "variant",
    "reason",
    "principal",
    "revision",
    "input_tokens",
    "output_tokens",
    "cost_usd",
    "ttft_ms",
)


@dataclass(frozen=True, slots=True)
class _Reply:
    """One of Envoy's errors, as callers read it."""

    condition: str
    """In CEL."""
    kind: str
    """Its type in OpenAI's words."""
    anthropics: str
    """And in Anthropic's."""
    code: str
    message: str
    status: int | None = None
    """In place of Envoy's."""


_SPEAKS_MESSAGES = "request.path.matches('/messages(/|[?]|$)')"
"""Whether the path, also below another base path, is one of Anthropic's messages."""


def local_replies(max_body_bytes: int) -> list[Fields]:
    """Envoy's own errors in the shape of the API that was called, and without its view of the network behind it.

    The processor's refusals are local replies as well and already have the shape: they say `application/json`.
    """
    too_large = f"the request body is larger than the {max_body_bytes // MEBIBYTE} MiB that this gateway takes"
    late = "the answer took too long"
    away = "the gateway cannot decide on requests at the moment"
    lost = "the model's server could not be reached"
    no_upgrade = "upgrades are not supported here; send the request over HTTP"
    unusable = "the request cannot be served: %RESPONSE_CODE_DETAILS%"
    undecided = "response.code_details.matches('^(ext_proc_|header_mutation_|cluster_not_found|spurious|unhandled)')"
    refused = "response.code_details == 'upgrade_failed'"
    wrong = "invalid_request_error"
    found = (
        _Reply("response.code == 413", wrong, "request_too_large", "request_too_large", too_large),
        _Reply("response.code in [408, 504]", "server_error", "timeout_error", "timeout", late),
        _Reply(undecided, "server_error", "api_error", "gateway_unavailable", away),
        _Reply("response.code >= 500", "server_error", "api_error", "upstream_unavailable", lost),
        # Clients that try a websocket first take this one for a sign to go on over HTTP, and not for an outage.
        _Reply(refused, wrong, wrong, "upgrade_not_supported", no_upgrade, status=426),
        _Reply("true", wrong, wrong, "bad_request", unusable),
    )
    return [mapped for each in found for mapped in (_anthropics(each), _openais(each))]


def _anthropics(reply: _Reply) -> Fields:
    told = {"type": reply.anthropics, "message": reply.message, "param": None, "code": reply.code}
    return _mapped(reply, f"({reply.condition}) && {_SPEAKS_MESSAGES}", {"type": "error", "error": told})


def _openais(reply: _Reply) -> Fields:
    told = {"message": reply.message, "type": reply.kind, "param": None, "code": reply.code}
    return _mapped(reply, reply.condition, {"error": told})


def _mapped(reply: _Reply, condition: str, body: Fields) -> Fields:
    ours = "'content-type' in response.headers && response.headers['content-type'] == 'application/json'"
    return {
        "filter": {
            "extension_filter": {
                "name": "envoy.access_loggers.extension_filters.cel",
                "typed_config": typed(
                    "envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter",
                    expression=f"!({ours}) && ({condition})",
                ),
            }
        },
        **({"status_code": reply.status} if reply.status else {}),
        "body_format_override": {"json_format": body, "content_type": "application/json"},
    }


def access_log() -> Fields:
    line: Fields = {
        "time": "%START_TIME%",
        "request_id": "%REQ(X-REQUEST-ID)%",
        "method": "%REQ(:METHOD)%",
        # Without the query: some callers put their key there.
        "path": "%PATH(NQ)%",
        "status": "%RESPONSE_CODE%",
        "details": "%RESPONSE_CODE_DETAILS%",
        "flags": "%RESPONSE_FLAGS%",
        "duration_ms": "%DURATION%",
        "bytes_received": "%BYTES_RECEIVED%",
        "bytes_sent": "%BYTES_SENT%",
        "cluster": "%UPSTREAM_CLUSTER_RAW%",
        "upstream": "%UPSTREAM_HOST%",
        "wissel": {key: f"%DYNAMIC_METADATA({NAMESPACE}:{key})%" for key in _LOGGED},
        "ext_proc": "%FILTER_STATE(envoy.filters.http.ext_proc:PLAIN)%",
    }
    return {
        "name": "envoy.access_loggers.stdout",
        "typed_config": typed(
            "envoy.extensions.access_loggers.stream.v3.StdoutAccessLog", log_format={"json_format": line}
        ),
    }
