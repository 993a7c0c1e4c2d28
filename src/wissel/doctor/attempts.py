"""Fallbacks: whether Envoy can ask one model after the other, and what an attempt takes with it."""

import json
from collections.abc import Iterator, Mapping
from typing import Final

from wissel.config import Config
from wissel.core.names import ATTEMPTS_NAMESPACE, HELD_STAGE
from wissel.doctor.dump import (
    Chain,
    Message,
    action_of,
    attempt_stages,
    endpoints,
    leads_to,
    plan_of,
    undecided_clusters,
)
from wissel.doctor.finding import Finding, checked

PLANS_SINCE: Final = (1, 40)
"""Envoy's version that knows an order of clusters for each request."""
GUARD: Final = "envoy.reloadable_features.grpc_side_stream_flow_control"


def inspect_version(version: tuple[int, int] | None, config: Config) -> Iterator[Finding]:
    if version is None:
        return
    shown = ".".join(map(str, version))
    yield checked(
        "version",
        version >= PLANS_SINCE or not _has_fallbacks(config),
        f"Envoy is {shown}",
        f"Envoy {shown} cannot ask one model after the other, so no fallback is ever tried",
        "take Envoy 1.40 or later",
    )


def _has_fallbacks(config: Config) -> bool:
    return config.failover.accept_models or any(model.fallbacks for model in config.models)


def inspect_guard(runtime: Message | None, wanted: set[str], known: Mapping[str, Message]) -> Iterator[Finding]:
    """`runtime` is the entries of Envoy's /runtime; only where attempts pass a processor does it matter."""
    if runtime is None or not any(attempt_stages(known.get(name, {})) for name in wanted):
        return
    yield checked(
        "runtime_guard",
        str(runtime.get(GUARD, {}).get("final_value", "true")).lower() == "false",
        "large bodies at once that are tried again do Envoy no harm",
        f"{GUARD} is on: a few large bodies at once that pass the attempt stage end Envoy's process",
        f"set {GUARD} to false in layered_runtime, as `wissel envoy` writes it",
    )


def inspect_plans(
    chain: Chain, found: Message, wanted: set[str], known: Mapping[str, Message], config: Config
) -> Iterator[Finding]:
    """Of routes that ask for an order of attempts; `found` is the filter that asks wissel."""
    plans = [(route, plan) for _, route in chain.routes if (plan := plan_of(action_of(route))) is not None]
    if not plans:
        if _has_fallbacks(config):
            yield Finding(
                "fallbacks",
                "warning",
                f"{chain.name}: models have fallbacks, and no route asks for an order of attempts, so none is tried",
                "add the route of `wissel envoy` with the priority_group specifier",
            )
        return
    options = found.get("metadata_options", {})
    yield checked(
        "attempts_metadata",
        ATTEMPTS_NAMESPACE in options.get("receiving_namespaces", {}).get("untyped", []),
        "the route is told where a request goes",
        f"{chain.name}: Envoy drops {ATTEMPTS_NAMESPACE}, so its route never learns where a request goes",
        f"add {ATTEMPTS_NAMESPACE} to metadata_options.receiving_namespaces.untyped",
    )
    for route, plan in plans:
        action, where = action_of(route), f"{chain.name}, route {json.dumps(route.get('match', {}))}"
        served = sorted(name for name in undecided_clusters(plan) if any(endpoints(known.get(name, {}))))
        yield checked(
            "undecided",
            not served,
            "a request that was not decided leads to no server",
            f'{where}: a request that was not decided goes to "{", ".join(served)}"',
            "name in priority_groups only a cluster without endpoints, as `wissel envoy` does",
        )
        yield checked(
            "refresh_cluster_on_retry",
            bool(action.get("retry_policy", {}).get("refresh_cluster_on_retry")),
            "each attempt is at the next model",
            f"{where}: every attempt is at the same model, whatever its fallbacks are",
            "set retry_policy.refresh_cluster_on_retry to true",
        )
    for name in sorted(wanted & known.keys()):
        yield from _inspect_stage(name, known[name])
        if config.failover.holds:
            yield from _inspect_held(name, known[name])


def _inspect_stage(name: str, cluster: Message) -> Iterator[Finding]:
    stages = attempt_stages(cluster)
    yield checked(
        "attempt_stage",
        bool(stages),
        "an attempt is written for its own model",
        f'cluster "{name}": a further attempt goes there as it was written for another model, with its credential',
        "give the cluster the http_filters of `wissel envoy`",
    )
    for stage in stages:
        yield checked(
            "attempts_metadata",
            ATTEMPTS_NAMESPACE in stage.get("metadata_options", {}).get("forwarding_namespaces", {}).get("untyped", []),
            "the attempt stage is told what an attempt is made of",
            f'cluster "{name}": the attempt stage is not shown {ATTEMPTS_NAMESPACE}, and can write no attempt',
            f"add {ATTEMPTS_NAMESPACE} to its metadata_options.forwarding_namespaces.untyped",
        )
        yield checked(
            "attempt_fails_closed",
            not stage.get("failure_mode_allow"),
            "an attempt that could not be written is not made",
            f'cluster "{name}": with wissel away, a further attempt goes there as it was written for another model',
            "set failure_mode_allow of the attempt stage to false",
        )


def _inspect_held(name: str, cluster: Message) -> Iterator[Finding]:
    stages = attempt_stages(cluster, HELD_STAGE)
    sees = [
        each.get("processing_mode", {}).get("response_body_mode") == "FULL_DUPLEX_STREAMED"
        and "upstream.request_attempt_count" in each.get("response_attributes", [])
        and ATTEMPTS_NAMESPACE in each.get("metadata_options", {}).get("forwarding_namespaces", {}).get("untyped", [])
        for each in stages
    ]
    yield checked(
        "held_stage",
        bool(sees) and all(sees),
        "an answer begins with its first word",
        f'cluster "{name}": no filter holds its answers back until they say something, as failover wants',
        "give the cluster the http_filters of `wissel envoy`",
    )


def inspect_trailers(chain: Chain, found: Message, wanted: set[str]) -> Iterator[Finding]:
    """What becomes of a request with HTTP/2 trailers; Envoy 1.40 sends its body twice where routes retry."""
    if found.get("processing_mode", {}).get("request_body_mode") != "FULL_DUPLEX_STREAMED":
        yield Finding("request_trailers", "ok", "trailers behind a request's body are left out")
        return
    retries = any(
        "retry_policy" in action_of(route) or "retry_policy" in host
        for host, route in chain.routes
        if leads_to(route, wanted)
    )
    doubled = ", since Envoy's retry_policy would have it sent twice" if retries else ""
    yield Finding("request_trailers", "ok", f"a body with trailers behind it is refused with 400{doubled}")
