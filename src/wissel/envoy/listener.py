"""A plan becomes the whole bootstrap: one listener with the filter, one route, and the clusters."""

import re
from collections.abc import Collection, Iterable

import yaml

from wissel.core.names import CLUSTER_HEADER, PREFIX
from wissel.envoy.attempts import RUNTIME, cluster_specifier, retry_policy, undecided_cluster, unplanned
from wissel.envoy.discovery import discovery_clusters, published, secrets, source
from wissel.envoy.fields import Fields, address, seconds, typed
from wissel.envoy.plans import MEBIBYTE, EnvoyPlan
from wissel.envoy.processor import ext_proc, processor_cluster
from wissel.envoy.replies import access_log, local_replies

CORS = "envoy.filters.http.cors"
_CORS_API = "envoy.extensions.filters.http.cors.v3"


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
    found = plan.discovery
    own = [processor_cluster(plan.processors), *discovery_clusters(found)]
    models = published(plan).values() if found is None else ()
    kept = secrets(found)
    return {
        "node": {"id": "wissel-envoy", "cluster": "wissel"},
        "admin": {"address": address(plan.admin)},
        "overload_manager": _overload_manager(),
        **({} if found is None else {"dynamic_resources": source(found)}),
        "static_resources": {
            "listeners": [_listener(plan)],
            "clusters": [*own, *models, undecided_cluster()],
            **({"secrets": kept} if kept else {}),
        },
        "layered_runtime": RUNTIME,
    }


def _listener(plan: EnvoyPlan) -> Fields:
    manager = typed(
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="wissel",
        use_remote_address=True,
        # Access rules read the path; it must be the one that the upstream will understand.
        normalize_path=True,
        merge_slashes=True,
        path_with_escaped_slashes_action="UNESCAPE_AND_FORWARD",
        early_header_mutation_extensions=[_callers_headers_removed(plan.allow_headers)],
        common_http_protocol_options={"idle_timeout": "3600s"},
        http_protocol_options=_http1(),
        http2_protocol_options={"max_concurrent_streams": 1024},
        # The body has no clock here: an upload may take minutes as long as bytes keep coming, and of what wissel reads
        # it keeps the time itself.
        request_headers_timeout="10s",
        stream_idle_timeout=seconds(plan.idle_timeout),
        access_log=[access_log()],
        local_reply_config={"mappers": local_replies(plan.max_body_bytes)},
        upgrade_configs=[{"upgrade_type": "websocket"}] if plan.upgrades else [],
        http_filters=[
            # Before the processor: a browser asks without a credential whether a page may call.
            *([{"name": CORS, "typed_config": typed(f"{_CORS_API}.Cors")}] if plan.origins else []),
            {"name": "envoy.filters.http.ext_proc", "typed_config": ext_proc(plan)},
            {
                "name": "envoy.filters.http.router",
                "typed_config": typed("envoy.extensions.filters.http.router.v3.Router", suppress_envoy_headers=True),
            },
        ],
        route_config=_routes(plan),
    )
    return {
        "name": "wissel",
        "address": address(plan.listen),
        # Of requests and answers in flight; a whole request is held under `request_body_buffer_limit`.
        "per_connection_buffer_limit_bytes": MEBIBYTE,
        "filter_chains": [
            {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
        ],
    }


def _http1() -> Fields:
    return {
        # nginx speaks HTTP/1.0 to what stands behind it unless told otherwise, and need not name a host.
        "accept_http_10": True,
        "default_host_for_http_10": "wissel",
        # Java's clients offer to upgrade to TLS, others to HTTP/2: they go on without, as HTTP has it.
        "ignore_http_11_upgrade": [{"prefix": "TLS/", "ignore_case": True}, {"exact": "h2c", "ignore_case": True}],
    }


def _callers_headers_removed(allowed: Iterable[str]) -> Fields:
    # Before ext_proc, so that they are gone even where it does not run. With `_` too: many servers read it as `-`.
    # `x-envoy-*` would let a caller set this request's timeout and retries, and so spoil a canary's record.
    ours = "x[-_]wissel[-_]" + anything_but(
        {name.lower().removeprefix(PREFIX) for name in allowed if name.lower().startswith(PREFIX)}
    )
    patterns = {"safe_regex": {"regex": ours}}, {"prefix": "x-envoy-"}
    return {
        "name": "envoy.http.early_header_mutation.header_mutation",
        "typed_config": typed(
            "envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation",
            mutations=[{"remove_on_match": {"key_matcher": pattern}} for pattern in patterns],
        ),
    }


def anything_but(words: Collection[str]) -> str:
    """A regular expression for every string but these, without the look-ahead that RE2 has not."""
    if not words:
        return ".*"
    heads = sorted({word[0] for word in words if word})
    branches = [f"{re.escape(head)}{anything_but({word[1:] for word in words if word[:1] == head})}" for head in heads]
    branches.append(f"[^{re.escape(''.join(heads))}].*" if heads else ".+")
    optional = "" if "" in words else "?"
    return f"(?:{'|'.join(branches)}){optional}"


def _routes(plan: EnvoyPlan) -> Fields:
    # One model or several, as the decision says; undecided it leads to no cluster, which is 503. A route of its own
    # with a `direct_response` reads better but takes no part in `request_body_buffer_limit`, and it is the one that
    # stands while the body arrives.
    one = _route(
        plan,
        unplanned(),
        cluster_header=CLUSTER_HEADER,
        # Only where the upstream has not seen the request: a second try must never be a second answer.
        retry_policy={"retry_on": "connect-failure,refused-stream", "num_retries": 1},
    )
    several = _route(
        plan, {"prefix": "/"}, inline_cluster_specifier_plugin=cluster_specifier(), retry_policy=retry_policy()
    )
    host: Fields = {
        "name": "models",
        "domains": ["*"],
        "routes": [one, several],
        # By its number an attempt's filters know that it is not the first.
        "include_request_attempt_count": True,
    }
    if plan.origins:
        host["typed_per_filter_config"] = {CORS: _cors(plan.origins)}
    return {"name": "wissel", "virtual_hosts": [host]}


def _route(plan: EnvoyPlan, match: Fields, **action: object) -> Fields:
    return {
        "match": match,
        "route": {
            **action,
            "cluster_not_found_response_code": "SERVICE_UNAVAILABLE",
            "auto_host_rewrite": True,
            "timeout": "0s",
        },
        "request_body_buffer_limit": plan.max_body_bytes,
        "request_headers_to_remove": ["x-envoy-external-address"],
    }


def _cors(origins: tuple[str, ...]) -> Fields:
    # No cookies: what a page may do rests on the key that it holds, never on who its visitor is.
    return typed(
        f"{_CORS_API}.CorsPolicy",
        allow_origin_string_match=[{"prefix": ""} if origin == "*" else {"exact": origin} for origin in origins],
        allow_methods="GET, HEAD, POST, DELETE, OPTIONS",
        allow_headers="*, authorization",
        expose_headers="x-wissel-request-id, x-wissel-model, retry-after",
        max_age="600",
    )


def _overload_manager() -> Fields:
    return {
        "resource_monitors": [
            {
                "name": "envoy.resource_monitors.global_downstream_max_connections",
                "typed_config": typed(
                    "envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
                    max_active_downstream_connections=50_000,
                ),
            }
        ]
    }
