"""The filter that asks wissel, and the cluster of processors that it asks.

The filter fails closed, and no clock bounds a whole stream.
"""

from wissel.core.names import ATTEMPTS_NAMESPACE, NAMESPACE, REQUEST_STAGE, SERVICE, STAGE_KEY
from wissel.envoy.fields import Fields, discovery, endpoints, http_options, many, seconds, typed
from wissel.envoy.plans import PROCESSOR_CLUSTER, EnvoyPlan


def ext_proc(plan: EnvoyPlan) -> Fields:
    streamed = plan.request_body_mode == "FULL_DUPLEX_STREAMED"
    return typed(
        "envoy.extensions.filters.http.ext_proc.v3.ExternalProcessor",
        grpc_service=grpc_service(REQUEST_STAGE),
        failure_mode_allow=False,
        status_on_error={"code": "ServiceUnavailable"},
        message_timeout=seconds(plan.message_timeout),
        processing_mode=_mode(plan.request_body_mode, plan.response_body_mode),
        # With a streamed body Envoy would ignore each override.
        allow_mode_override=not streamed,
        allowed_override_modes=[] if streamed else override_modes(),
        request_attributes=[
            "source.address",
            "connection.mtls",
            "connection.uri_san_peer_certificate",
        ],
        response_attributes=["response.code_details", "upstream.request_attempt_count"],
        metadata_options=_metadata_options(plan.verified_namespace),
        # A change that Envoy would drop silently is a bug of the processor, and a wrong request: refuse it.
        # `x-envoy-*` too: a request with fallbacks says there how often and how long it is tried.
        mutation_rules={"disallow_is_error": True, "allow_envoy": True},
    )


def grpc_service(stage: str) -> Fields:
    """How a processor is asked, and about what."""
    return {
        "envoy_grpc": {"cluster_name": PROCESSOR_CLUSTER, "skip_envoy_headers": True},
        # No `timeout`: it would bound the whole stream, and with it the longest answer.
        "retry_policy": {
            # `reset` too: a processor that died before its first answer has decided nothing.
            "retry_on": "connect-failure,refused-stream,reset,unavailable",
            "num_retries": 2,
            "retry_back_off": {"base_interval": "0.01s", "max_interval": "0.1s"},
            "retry_host_predicate": [
                {
                    "name": "envoy.retry_host_predicates.previous_hosts",
                    "typed_config": typed("envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"),
                }
            ],
            # A processor that is gone has the fewest requests, so a draw is won by it three times in four: with
            # three further draws one request in thirteen would fail until a health check notices.
            "host_selection_retry_max_attempts": 16,
        },
        "initial_metadata": [{"key": STAGE_KEY, "value": stage}],
    }


def _metadata_options(verified_namespace: str | None) -> Fields:
    received: Fields = {"receiving_namespaces": {"untyped": [NAMESPACE, ATTEMPTS_NAMESPACE]}}
    if verified_namespace is None:
        return received
    return {"forwarding_namespaces": {"untyped": [verified_namespace]}, **received}


def _mode(
    request_body: str, response_body: str, *, response_headers: str = "SEND", response_trailers: str = "SKIP"
) -> Fields:
    return {
        "request_header_mode": "SEND",
        "request_body_mode": request_body,
        # Envoy demands trailers where the body is a stream.
        "request_trailer_mode": "SEND" if request_body == "FULL_DUPLEX_STREAMED" else "SKIP",
        "response_header_mode": response_headers,
        "response_body_mode": response_body,
        "response_trailer_mode": response_trailers,
    }


def override_modes() -> list[Fields]:
    """For one request: answers streamed past the processor, no body to read, no answer to see, an answer to outlast.

    Each in full: Envoy compares them with the mode that would result, and ignores silently what is not here.
    """
    return [
        mode
        for request_body in ("BUFFERED", "NONE")
        for mode in (
            _mode(request_body, "STREAMED"),
            _mode(request_body, "NONE"),
            _mode(request_body, "NONE", response_headers="SKIP"),
            _mode(request_body, "NONE", response_trailers="SEND"),
        )
    ]


def processor_cluster(addresses: tuple[str, ...]) -> Fields:
    return {
        "name": PROCESSOR_CLUSTER,
        "type": discovery(addresses),
        "connect_timeout": "1s",
        "lb_policy": "LEAST_REQUEST",
        # Rather none than one that said NOT_SERVING.
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}},
        "health_checks": [
            {
                "timeout": "2s",
                "interval": "1s",
                "no_traffic_interval": "1s",
                "unhealthy_threshold": 2,
                "healthy_threshold": 1,
                "grpc_health_check": {"service_name": SERVICE},
            }
        ],
        "circuit_breakers": many(),
        "typed_extension_protocol_options": http_options(
            explicit_http_config={
                "http2_protocol_options": {
                    "max_concurrent_streams": 65536,
                    "connection_keepalive": {"interval": "30s", "timeout": "10s"},
                }
            }
        ),
        "load_assignment": endpoints(PROCESSOR_CLUSTER, addresses),
    }
