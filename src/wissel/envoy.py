"""A plan of where things are becomes Envoy's whole bootstrap.

Everything here follows from one idea: **a request that wissel did not decide
goes nowhere.** Callers cannot bring a routing header, since all `x-wissel-*`
are taken from them before any filter runs; the one route to a model wants
`x-wissel-cluster`; the filter fails closed; and what is left over, such as a
processor that hung up without a word, meets a route that answers 503.

The second idea is time. An answer of a language model may take minutes and
say nothing for long, so no clock bounds a whole stream: neither the route's
nor the one on the call to the processor. Silence is bounded instead.
"""

import ipaddress
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Literal

import yaml

from wissel.config import Config, host_and_port, worker_address
from wissel.config.model import Cluster
from wissel.errors import ConfigError

CLUSTER_HEADER = "x-wissel-cluster"
NAMESPACE = "wissel"
"""Of the dynamic metadata that wissel emits."""
PROCESSOR_CLUSTER = "wissel_ext_proc"
HEALTH_SERVICE = "envoy.service.ext_proc.v3.ExternalProcessor"
"""The name under which wissel's gRPC health service answers Envoy."""
SYSTEM_CA = "/etc/ssl/certs/ca-certificates.crt"
"""Where Debian, Alpine and Envoy's own image keep the public authorities."""
MEBIBYTE = 1024 * 1024
MESSAGE_TIMEOUT = 5.0
"""Seconds for the processor to read one message, of 32 MiB as well, beside what the classifier may take."""

_LOGGED = (
    "route",
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

Fields = dict[str, object]
"""One message of Envoy's configuration, as YAML will show it."""


@dataclass(frozen=True, slots=True)
class TLS:
    """Speak TLS to a cluster, and believe it only with a certificate for `sni` signed under `ca`."""

    sni: str
    """A DNS name or an IP address."""
    ca: str = SYSTEM_CA
    """A file of PEM certificates on Envoy's machine."""


@dataclass(frozen=True, slots=True)
class UpstreamCluster:
    """The servers of one model, or of several."""

    name: str
    address: str
    """`host:port`."""
    tls: TLS | None = None


@dataclass(frozen=True, slots=True)
class EnvoyPlan:
    """Where Envoy listens, who decides for it and where requests may go."""

    listen: str
    admin: str
    processors: tuple[str, ...]
    """Each `host:port` or `unix:/path`; Envoy balances over them and retries on another."""
    clusters: tuple[UpstreamCluster, ...]
    allow_headers: tuple[str, ...] = ()
    """The `x-wissel-*` headers that callers may set themselves."""
    verified_namespace: str | None = None
    """The dynamic metadata in which another filter, such as jwt_authn, leaves an identity for the processor."""
    request_body_mode: Literal["BUFFERED", "FULL_DUPLEX_STREAMED"] = "BUFFERED"
    response_body_mode: Literal["NONE", "STREAMED"] = "NONE"
    """What the processor sees of answers unless it asks for more; with FULL_DUPLEX_STREAMED it cannot ask."""
    upgrades: bool = False
    """Whether connections may be upgraded to websockets; wissel then says where."""
    max_body_bytes: int = 32 * MEBIBYTE
    """A larger request is answered 413 by Envoy; with FULL_DUPLEX_STREAMED the processor has to count."""
    message_timeout: float = MESSAGE_TIMEOUT
    """How long the processor may have one message: a backstop behind its own deadlines, and never Envoy's 200 ms."""
    idle_timeout: float = 900.0
    """How long a stream may be silent: a model that thinks before it answers says nothing for minutes."""


def plan(config: Config, *, workers: int = 1) -> EnvoyPlan:
    """What the configuration says about Envoy, where each processor in it stands for so many workers.

    Raises ConfigError where that is too little for a bootstrap.
    """
    if config.envoy is None:
        raise ConfigError(["envoy: this section is missing; it says where Envoy listens and what its clusters are"])
    clusters = {cluster.name: _planned(cluster) for cluster in config.envoy.clusters}
    wanted = {user.cluster for user in (*config.models, *config.passthrough)}
    problems = [f'envoy.clusters: no cluster is named "{name}"' for name in sorted(wanted - clusters.keys())]
    if PROCESSOR_CLUSTER in clusters:
        problems.append(f'envoy.clusters: "{PROCESSOR_CLUSTER}" is wissel\'s own; take another name')
    if problems:
        raise ConfigError(problems)
    return EnvoyPlan(
        listen=config.envoy.listen,
        admin=config.envoy.admin,
        processors=processors(config, workers=workers),
        clusters=tuple(clusters.values()),
        allow_headers=tuple(sorted(config.access.allow_headers)) if config.access else (),
        verified_namespace=verified_namespace(config),
        max_body_bytes=config.listen.max_body_bytes,
        message_timeout=message_timeout(config),
        upgrades=any(entry.upgrade for entry in config.passthrough),
    )


def processors(config: Config, *, workers: int = 1) -> tuple[str, ...]:
    """Every worker's address, of every processor in the configuration."""
    return tuple(worker_address(first, worker) for first in config.processors for worker in range(workers))


def message_timeout(config: Config) -> float:
    """Seconds that Envoy has to wait for an answer."""
    return MESSAGE_TIMEOUT + config.intent.deadline_ms / 1000


def verified_namespace(config: Config) -> str | None:
    """The dynamic metadata that Envoy has to forward; None where wissel takes no identity from it."""
    source = config.access.envoy_identity if config.access else None
    return source.namespace if source else None


def _planned(cluster: Cluster) -> UpstreamCluster:
    match cluster.tls:
        case False:
            tls = None
        case True:
            tls = TLS(host_and_port(cluster.address)[0])
        case given:
            tls = TLS(given.sni or host_and_port(cluster.address)[0], given.ca or SYSTEM_CA)
    return UpstreamCluster(cluster.name, cluster.address, tls)


def render(plan: EnvoyPlan) -> str:
    """The bootstrap as YAML, the same text for the same plan."""
    header = "# Envoy's bootstrap with wissel in front of every model. Written by `wissel envoy`; do not edit.\n"
    if plan.allow_headers:
        header += (
            f"# Callers may set {', '.join(plan.allow_headers)}: the long pattern matches every other x-wissel-*.\n"
        )
    return header + yaml.safe_dump(bootstrap(plan), sort_keys=False, width=120, allow_unicode=True)


def bootstrap(plan: EnvoyPlan) -> Fields:
    """The bootstrap as plain data."""
    return {
        "node": {"id": "wissel-envoy", "cluster": "wissel"},
        "admin": {"address": _address(plan.admin)},
        "overload_manager": _overload_manager(),
        "static_resources": {
            "listeners": [_listener(plan)],
            "clusters": [_processor_cluster(plan.processors), *(_upstream(cluster) for cluster in plan.clusters)],
        },
    }


# --- From the caller to the filter -------------------------------------------------------------------------------


def _listener(plan: EnvoyPlan) -> Fields:
    manager = _typed(
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="wissel",
        use_remote_address=True,
        # Access rules read the path; it must be the one that the upstream will understand.
        normalize_path=True,
        merge_slashes=True,
        path_with_escaped_slashes_action="UNESCAPE_AND_FORWARD",
        early_header_mutation_extensions=[_callers_headers_removed(plan.allow_headers)],
        common_http_protocol_options={"idle_timeout": "3600s"},
        http2_protocol_options={"max_concurrent_streams": 1024},
        request_headers_timeout="10s",
        # To send a request takes a caller seconds; who trickles one for longer only holds a buffer.
        request_timeout="120s",
        stream_idle_timeout=_seconds(plan.idle_timeout),
        access_log=[_access_log()],
        local_reply_config={"mappers": _local_replies(plan.max_body_bytes)},
        upgrade_configs=[{"upgrade_type": "websocket"}] if plan.upgrades else [],
        http_filters=[
            {"name": "envoy.filters.http.ext_proc", "typed_config": _ext_proc(plan)},
            {
                "name": "envoy.filters.http.router",
                "typed_config": _typed("envoy.extensions.filters.http.router.v3.Router", suppress_envoy_headers=True),
            },
        ],
        route_config=_routes(plan.max_body_bytes),
    )
    return {
        "name": "wissel",
        "address": _address(plan.listen),
        # Of requests and answers in flight; a whole request is held under `request_body_buffer_limit`.
        "per_connection_buffer_limit_bytes": MEBIBYTE,
        "filter_chains": [
            {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
        ],
    }


def _callers_headers_removed(allowed: Iterable[str]) -> Fields:
    # Before ext_proc, so that they are gone even where it does not run. With `_` too: many servers read it as `-`.
    # `x-envoy-*` would let a caller set this request's timeout and retries, and so spoil a canary's record.
    ours = "x[-_]wissel[-_]" + _anything_but(
        {name.lower().removeprefix("x-wissel-") for name in allowed if name.lower().startswith("x-wissel-")}
    )
    patterns = {"safe_regex": {"regex": ours}}, {"prefix": "x-envoy-"}
    return {
        "name": "envoy.http.early_header_mutation.header_mutation",
        "typed_config": _typed(
            "envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation",
            mutations=[{"remove_on_match": {"key_matcher": pattern}} for pattern in patterns],
        ),
    }


def _anything_but(words: Collection[str]) -> str:
    """A regular expression for every string but these, without the look-ahead that RE2 has not."""
    if not words:
        return ".*"
    heads = sorted({word[0] for word in words if word})
    branches = [f"{re.escape(head)}{_anything_but({word[1:] for word in words if word[:1] == head})}" for head in heads]
    branches.append(f"[^{re.escape(''.join(heads))}].*" if heads else ".+")
    optional = "" if "" in words else "?"
    return f"(?:{'|'.join(branches)}){optional}"


def _routes(max_body_bytes: int) -> Fields:
    # One route, decided or not: without the header it leads to no cluster, which is 503. A route of its own with a
    # `direct_response` reads better but takes no part in `request_body_buffer_limit`, and it is the one that stands
    # while the body arrives.
    route: Fields = {
        "match": {"prefix": "/"},
        "route": {
            "cluster_header": CLUSTER_HEADER,
            "cluster_not_found_response_code": "SERVICE_UNAVAILABLE",
            "auto_host_rewrite": True,
            "timeout": "0s",
            # Only where the upstream has not seen the request: a second try must never be a second answer.
            "retry_policy": {"retry_on": "connect-failure,refused-stream", "num_retries": 1},
        },
        "request_body_buffer_limit": max_body_bytes,
        "request_headers_to_remove": ["x-envoy-external-address"],
    }
    return {"name": "wissel", "virtual_hosts": [{"name": "models", "domains": ["*"], "routes": [route]}]}


# --- The filter and its processors -------------------------------------------------------------------------------


def _ext_proc(plan: EnvoyPlan) -> Fields:
    streamed = plan.request_body_mode == "FULL_DUPLEX_STREAMED"
    return _typed(
        "envoy.extensions.filters.http.ext_proc.v3.ExternalProcessor",
        grpc_service={
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
                        "typed_config": _typed("envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"),
                    }
                ],
                # A processor that is gone has the fewest requests, so a draw is won by it three times in four: with
                # three further draws one request in thirteen would fail until a health check notices.
                "host_selection_retry_max_attempts": 16,
            },
        },
        failure_mode_allow=False,
        status_on_error={"code": "ServiceUnavailable"},
        message_timeout=_seconds(plan.message_timeout),
        processing_mode=_mode(plan.request_body_mode, plan.response_body_mode),
        # With a streamed body Envoy would ignore each override.
        allow_mode_override=not streamed,
        allowed_override_modes=[] if streamed else override_modes(),
        request_attributes=[
            "source.address",
            "connection.mtls",
            "connection.uri_san_peer_certificate",
        ],
        response_attributes=["response.code_details"],
        metadata_options=_metadata_options(plan.verified_namespace),
        # A change that Envoy would drop silently is a bug of the processor, and a wrong request: refuse it.
        mutation_rules={"disallow_is_error": True},
    )


def _metadata_options(verified_namespace: str | None) -> Fields:
    received: Fields = {"receiving_namespaces": {"untyped": [NAMESPACE]}}
    if verified_namespace is None:
        return received
    return {"forwarding_namespaces": {"untyped": [verified_namespace]}, **received}


def _mode(request_body: str, response_body: str, *, response_headers: str = "SEND") -> Fields:
    return {
        "request_header_mode": "SEND",
        "request_body_mode": request_body,
        # Envoy demands trailers where the body is a stream.
        "request_trailer_mode": "SEND" if request_body == "FULL_DUPLEX_STREAMED" else "SKIP",
        "response_header_mode": response_headers,
        "response_body_mode": response_body,
        "response_trailer_mode": "SKIP",
    }


def override_modes() -> list[Fields]:
    """For one request: answers streamed past the processor, no body for it to read, no answer to see at all.

    Each in full: Envoy compares them with the mode that would result, and ignores silently what is not here.
    """
    return [
        mode
        for request_body in ("BUFFERED", "NONE")
        for mode in (
            _mode(request_body, "STREAMED"),
            _mode(request_body, "NONE"),
            _mode(request_body, "NONE", response_headers="SKIP"),
        )
    ]


def _processor_cluster(addresses: tuple[str, ...]) -> Fields:
    return {
        "name": PROCESSOR_CLUSTER,
        "type": _discovery(addresses),
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
                "grpc_health_check": {"service_name": HEALTH_SERVICE},
            }
        ],
        "circuit_breakers": _many(),
        "typed_extension_protocol_options": _http_options(
            explicit_http_config={
                "http2_protocol_options": {
                    "max_concurrent_streams": 65536,
                    "connection_keepalive": {"interval": "30s", "timeout": "10s"},
                }
            }
        ),
        "load_assignment": _endpoints(PROCESSOR_CLUSTER, addresses),
    }


# --- To the models -----------------------------------------------------------------------------------------------


def _upstream(cluster: UpstreamCluster) -> Fields:
    secured = cluster.tls is not None
    # A secured server may choose HTTP/2, by ALPN.
    protocol: Fields = {"auto_config": {}} if secured else {"explicit_http_config": {"http_protocol_options": {}}}
    host = cluster.tls.sni if cluster.tls else cluster.address
    fields: Fields = {
        "name": cluster.name,
        "type": _discovery([cluster.address], many_addresses=secured),
        "connect_timeout": "5s",
        "circuit_breakers": _many(),
        "typed_extension_protocol_options": _http_options(
            # uvicorn, and so vLLM, hangs up after 5 s without a request: who hangs up first loses no request.
            common_http_protocol_options={"idle_timeout": "60s" if secured else "4s"},
            **protocol,
        ),
        "load_assignment": _endpoints(cluster.name, [cluster.address], hostname=host),
    }
    if cluster.tls:
        fields["transport_socket"] = _tls_socket(cluster.tls)
    return fields


def _tls_socket(tls: TLS) -> Fields:
    # Without a validation context Envoy believes any certificate, without a SAN any that the authority signed.
    named = _is_ip(tls.sni)
    context: Fields = {} if named else {"sni": tls.sni}
    return {
        "name": "envoy.transport_sockets.tls",
        "typed_config": _typed(
            "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
            **context,
            common_tls_context={
                "validation_context": {
                    "trusted_ca": {"filename": tls.ca},
                    "match_typed_subject_alt_names": [
                        {"san_type": "IP_ADDRESS" if named else "DNS", "matcher": {"exact": tls.sni}}
                    ],
                }
            },
        ),
    }


# --- What Envoy says itself --------------------------------------------------------------------------------------


def _local_replies(max_body_bytes: int) -> list[Fields]:
    """Envoy's own errors in the shape of OpenAI's, and without its view of the network behind it.

    The processor's refusals are local replies as well and already have the shape: they say `application/json`.
    """
    too_large = f"the request body is larger than the {max_body_bytes // MEBIBYTE} MiB that this gateway takes"
    late = "the answer took too long"
    away = "the gateway cannot decide on requests at the moment"
    lost = "the model's server could not be reached"
    no_upgrade = "an upgrade, such as to WebSocket, is not served here"
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
        _local_reply(
            "response.code_details == 'upgrade_failed'", "invalid_request_error", "upgrade_refused", no_upgrade
        ),
        _local_reply("true", "invalid_request_error", "bad_request", unusable),
    ]


def _local_reply(condition: str, kind: str, code: str, message: str) -> Fields:
    ours = "'content-type' in response.headers && response.headers['content-type'] == 'application/json'"
    return {
        "filter": {
            "extension_filter": {
                "name": "envoy.access_loggers.extension_filters.cel",
                "typed_config": _typed(
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


def _access_log() -> Fields:
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
        "typed_config": _typed(
            "envoy.extensions.access_loggers.stream.v3.StdoutAccessLog", log_format={"json_format": line}
        ),
    }


# --- Small pieces ------------------------------------------------------------------------------------------------


def _typed(name: str, /, **fields: object) -> Fields:
    return {"@type": f"type.googleapis.com/{name}", **fields}


def _seconds(value: float) -> str:
    return f"{value:g}s"


def _overload_manager() -> Fields:
    return {
        "resource_monitors": [
            {
                "name": "envoy.resource_monitors.global_downstream_max_connections",
                "typed_config": _typed(
                    "envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
                    max_active_downstream_connections=50_000,
                ),
            }
        ]
    }


def _many() -> Fields:
    # Envoy's default of 1024 is soon reached by answers that stream for minutes; limits are wissel's to set.
    breakers = ("max_connections", "max_pending_requests", "max_requests", "max_retries")
    return {"thresholds": [dict.fromkeys(breakers, 65536)]}


def _http_options(**fields: object) -> Fields:
    name = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    return {name: _typed(name, **fields)}


def _endpoints(name: str, addresses: Iterable[str], *, hostname: str = "") -> Fields:
    named: Fields = {"hostname": hostname} if hostname else {}
    return {
        "cluster_name": name,
        "endpoints": [
            {"lb_endpoints": [{"endpoint": {"address": _address(address), **named}} for address in addresses]}
        ],
    }


def _discovery(addresses: Iterable[str], *, many_addresses: bool = False) -> str:
    if all(address.startswith("unix:") or _is_ip(host_and_port(address)[0]) for address in addresses):
        return "STATIC"
    # A public provider answers each look-up with other addresses; following them all would cut answers in flight.
    return "LOGICAL_DNS" if many_addresses else "STRICT_DNS"


def _address(address: str) -> Fields:
    if address.startswith("unix:"):
        return {"pipe": {"path": address.removeprefix("unix:")}}
    host, port = host_and_port(address)
    return {"socket_address": {"address": host, "port_value": port}}


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
