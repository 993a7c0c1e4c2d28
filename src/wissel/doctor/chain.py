"""The filter chain and the routes that a request goes through, up to the filter that asks wissel."""

import json
from collections.abc import Iterator

from wissel.core.names import CLUSTER_HEADER, OWNED
from wissel.doctor.dump import (
    EXT_PROC,
    PER_ROUTE,
    Chain,
    Message,
    action_of,
    is_decided,
    is_removed,
    leads_to,
    named_clusters,
    router_of,
    seconds,
    type_name,
    type_of,
)
from wissel.doctor.filter import fails_open, inspect_mode
from wissel.doctor.finding import QUIET_SECONDS, Finding, checked, is_long


def inspect_reach(chains: list[Chain]) -> Iterator[Finding]:
    yield checked(
        "cluster_header",
        any(is_decided(action_of(route)) for chain in chains for _, route in chain.routes),
        "requests are routed as wissel decides",
        f"no route of this Envoy reads {CLUSTER_HEADER}, so no decision has an effect",
        f"give the models' route `cluster_header: {CLUSTER_HEADER}` in place of a cluster",
    )


def missing(chain: Chain) -> Finding:
    upstream = any(type_of(each) == EXT_PROC for each in router_of(chain).get("upstream_http_filters", []))
    why = f"{chain.name} serves models and has no ext_proc filter that asks wissel"
    if upstream:
        why += "; the one among the upstream filters runs when the route is already chosen"
    return Finding("filter", "problem", why, "put the filter of `wissel envoy` before the router in http_filters")


def inspect_manager(chain: Chain) -> Iterator[Finding]:
    taken = sorted(name for name in OWNED if not is_removed(chain.manager, name))
    yield checked(
        "callers_headers",
        not taken,
        "callers cannot bring x-wissel-* headers",
        f"{chain.name}: a caller's own {', '.join(taken)} stays on its request until wissel takes it away",
        "add early_header_mutation_extensions that remove x-wissel-*, as `wissel envoy` writes them",
    )
    idle = seconds(chain.manager.get("stream_idle_timeout", "300s"))
    yield checked(
        "stream_idle_timeout",
        idle == 0 or idle >= QUIET_SECONDS,
        "a model may think in silence",
        f"{chain.name}: a stream that is silent for {idle:g} s is ended, and a model that thinks is silent for longer",
        "set stream_idle_timeout to 900s",
        severity="warning",
    )
    bound = seconds(chain.manager.get("common_http_protocol_options", {}).get("max_stream_duration", "0s"))
    yield checked(
        "max_stream_duration",
        is_long(bound),
        "no clock bounds a whole answer in the connection manager",
        f"{chain.name}: every answer is cut after {bound:g} s",
        "leave common_http_protocol_options.max_stream_duration out",
    )


def inspect_routes(chain: Chain, wanted: set[str]) -> Iterator[Finding]:
    for host, route in chain.routes:
        if not leads_to(route, wanted):
            continue
        action, where = action_of(route), f"{chain.name}, route {json.dumps(route.get('match', {}))}"
        if direct := sorted(named_clusters(action) & wanted):
            yield Finding(
                "cluster_header",
                "problem",
                f'{where}: requests go to "{direct[0]}" whatever wissel decides',
                f"replace the cluster by `cluster_header: {CLUSTER_HEADER}`",
            )
        timeout = seconds(action.get("timeout", "15s"))
        yield checked(
            "route_timeout",
            is_long(timeout),
            "the route bounds no answer",
            f"{where}: an answer that takes longer than {timeout:g} s is cut",
            "set the route's timeout to 0s (without one it is 15 s)",
        )
        silence = seconds(action.get("idle_timeout", "0s"))
        yield checked(
            "route_idle_timeout",
            silence == 0 or silence >= QUIET_SECONDS,
            "the route lets a model think in silence",
            f"{where}: a stream that is silent for {silence:g} s is ended",
            "set the route's idle_timeout to 900s, or leave it out",
            severity="warning",
        )
        for level in (host, route):
            yield from _inspect_override(where, level)


def _inspect_override(where: str, level: Message) -> Iterator[Finding]:
    """What a virtual host or a route changes of the filter."""
    for override in level.get("typed_per_filter_config", {}).values():
        if type_name(override) != PER_ROUTE:
            continue
        changed = override.get("overrides", {})
        if override.get("disabled"):
            yield Finding(
                "per_route",
                "problem",
                f"{where}: the filter is disabled here, and its requests go undecided",
                "remove `disabled` from ExtProcPerRoute",
            )
        if changed.get("failure_mode_allow"):
            yield fails_open(where)
        if "processing_mode" in changed:
            yield from inspect_mode(where, changed["processing_mode"])
