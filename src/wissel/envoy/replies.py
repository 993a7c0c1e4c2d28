"""What Envoy says itself: its own errors, and a line of the access log for each request."""

from wissel.core.names import NAMESPACE
from wissel.envoy.fields import Fields, typed
from wissel.envoy.plans import MEBIBYTE

_LOGGED = (
    "route",
    "intent_reason",
    "score",
    "target",
    "model",
    "variant",
    "reason",
    "principal",
    "revision",
    "input_tokens",
    "output_tokens",
    "cost_usd",
    "ttft_ms",
)


def local_replies(max_body_bytes: int) -> list[Fields]:
    """Envoy's own errors in the shape of OpenAI's, and without its view of the network behind it.

    The processor's refusals are local replies as well and already have the shape: they say `application/json`.
    """
    too_large = f"the request body is larger than the {max_body_bytes // MEBIBYTE} MiB that this gateway takes"
    late = "the answer took too long"
    away = "the gateway cannot decide on requests at the moment"
    lost = "the model's server could not be reached"
    no_upgrade = "upgrades are not supported here; send the request over HTTP"
    unusable = "the request cannot be served: %RESPONSE_CODE_DETAILS%"
    return [
        _local_reply("response.code == 413", "invalid_request_error", "request_too_large", too_large),
        _local_reply("response.code in [408, 504]", "server_error", "timeout", late),
        _local_reply(
            "response.code_details.matches('^(ext_proc_|header_mutation_|cluster_not_found|spurious|unhandled)')",
            "server_error",
            "gateway_unavailable",
            away,
        ),
        _local_reply("response.code >= 500", "server_error", "upstream_unavailable", lost),
        {
            **_local_reply(
                "response.code_details == 'upgrade_failed'",
                "invalid_request_error",
                "upgrade_not_supported",
                no_upgrade,
            ),
            # Clients that try a websocket first take this one for a sign to go on over HTTP, and not for an outage.
            "status_code": 426,
        },
        _local_reply("true", "invalid_request_error", "bad_request", unusable),
    ]


def _local_reply(condition: str, kind: str, code: str, message: str) -> Fields:
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
        "body_format_override": {
            "json_format": {"error": {"message": message, "type": kind, "param": None, "code": code}},
            "content_type": "application/json",
        },
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
