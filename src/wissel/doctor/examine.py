"""Envoy's own account of itself (its config dump, its clusters, its counters) becomes findings."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from wissel.config import Config
from wissel.config.model import Cluster
from wissel.core.names import CLUSTER_HEADER, NAMESPACE, OWNED
from wissel.doctor.dump import (
    EXT_PROC,
    HTTP_OPTIONS,
    PER_ROUTE,
    ROUTER,
    TLS,
    Chain,
    Message,
    action_of,
    endpoints,
    is_literal,
    is_removed,
    leads_to,
    named_clusters,
    processor_cluster,
    read_chains,
    read_clusters,
    router_of,
    seconds,
    shown_address,
    type_name,
    type_of,
)
from wissel.envoy import PROCESSOR_CLUSTER, message_timeout, override_modes, processors, verified_namespace
from wissel.envoy.plans import MEBIBYTE

Severity = Literal["ok", "warning", "problem"]

LONG_SECONDS: Final = 600.0
"""A clock that bounds a whole answer must not be shorter."""
QUIET_SECONDS: Final = 300.0
"""How long a model may think without a word; also Envoy's default for a silent stream."""
SLACK_SECONDS: Final = 1.0
"""Of Envoy's patience with one message, beside what the classifier may take: large bodies, busy moments."""
SMALL_BODY: Final = 4 * MEBIBYTE
"""Below it, an image in a request is soon too large."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    what: str
    """The setting, the counter or the part; the same word for the same check."""
    severity: Severity
    why: str
    change: str = ""
    """What to change; empty where nothing is to be."""


@dataclass(frozen=True, slots=True)
class Probe:
    """What came back for `GET /v1/models` through Envoy, and what Envoy counted meanwhile."""

    url: str
    status: int | None
    """None where nothing answered."""
    has_request_id: bool
    streams: int
    """The ext_proc streams that were begun."""


def examine(
    config_dump: Message, stats: Mapping[str, int], clusters: Message, config: Config, *, workers: int = 1
) -> list[Finding]:
    """What `/config_dump?include_eds`, `/stats` and `/clusters` of Envoy's admin say, against the configuration.

    Each processor in the configuration stands for so many workers.
    """
    wanted = _wanted(config)
    chains = chains_to_models(read_chains(config_dump), config)
    findings = list(_inspect_reach(chains))
    known = read_clusters(config_dump)
    for chain in chains:
        findings += _inspect_manager(chain)
        findings += _inspect_routes(chain, wanted)
        if (found := _filter(chain, known, config)) is None:
            findings.append(_missing(chain))
            continue
        findings += _inspect_filter(chain, found, config)
        findings += _inspect_buffer(chain, found, wanted)
        findings += _inspect_processors(known, clusters, found, config, workers)
    findings += _inspect_upstreams(known, wanted, config)
    findings += _inspect_stats(stats)
    # Two chains may share a processor's cluster, and then its findings.
    return list(dict.fromkeys(findings))


def chains_to_models(chains: Iterable[Chain], config: Config) -> list[Chain]:
    """Those that serve what wissel decides on; an Envoy may have others."""
    wanted = _wanted(config)
    return [chain for chain in chains if any(leads_to(route, wanted) for _, route in chain.routes)]


def _wanted(config: Config) -> set[str]:
    return {user.cluster for user in (*config.models, *config.passthrough)}


def judge(probe: Probe) -> Finding:
    """Whether Envoy asked wissel about a request that was sent to find out."""
    if probe.status is None:
        why = f"GET {probe.url} was not answered, so nobody knows whether Envoy asks wissel"
        return Finding("probe", "warning", why, "run the doctor where callers can reach Envoy")
    if probe.has_request_id and probe.streams:
        return Finding("probe", "ok", f"GET {probe.url} was answered by wissel ({probe.status})")
    if probe.streams:
        why = f"Envoy asked a processor about GET {probe.url}, and the answer ({probe.status}) is not wissel's"
        return Finding("probe", "problem", why, "see whether wissel runs, and that Envoy's grpc_service leads to it")
    why = f"GET {probe.url} was answered ({probe.status}) and no processor was asked"
    return Finding("probe", "problem", why, "put the ext_proc filter into the filter chain that serves this address")


# --- The chain that a request goes through -----------------------------------------------------------------------


def _inspect_reach(chains: list[Chain]) -> Iterator[Finding]:
    yield _found(
        "cluster_header",
        any(action_of(route).get("cluster_header") == CLUSTER_HEADER for chain in chains for _, route in chain.routes),
        f"requests are routed by {CLUSTER_HEADER}",
        f"no route of this Envoy reads {CLUSTER_HEADER}, so no decision has an effect",
        f"give the models' route `cluster_header: {CLUSTER_HEADER}` in place of a cluster",
    )


def _missing(chain: Chain) -> Finding:
    upstream = any(type_of(each) == EXT_PROC for each in router_of(chain).get("upstream_http_filters", []))
    why = f"{chain.name} serves models and has no ext_proc filter that asks wissel"
    if upstream:
        why += "; the one among the upstream filters runs when the route is already chosen"
    return Finding("filter", "problem", why, "put the filter of `wissel envoy` before the router in http_filters")


def _inspect_manager(chain: Chain) -> Iterator[Finding]:
    taken = sorted(name for name in OWNED if not is_removed(chain.manager, name))
    yield _found(
        "callers_headers",
        not taken,
        "callers cannot bring x-wissel-* headers",
        f"{chain.name}: a caller's own {', '.join(taken)} stays on its request until wissel takes it away",
        "add early_header_mutation_extensions that remove x-wissel-*, as `wissel envoy` writes them",
    )
    idle = seconds(chain.manager.get("stream_idle_timeout", "300s"))
    yield _found(
        "stream_idle_timeout",
        idle == 0 or idle >= QUIET_SECONDS,
        "a model may think in silence",
        f"{chain.name}: a stream that is silent for {idle:g} s is ended, and a model that thinks is silent for longer",
        "set stream_idle_timeout to 900s",
        severity="warning",
    )
    bound = seconds(chain.manager.get("common_http_protocol_options", {}).get("max_stream_duration", "0s"))
    yield _found(
        "max_stream_duration",
        _is_long(bound),
        "no clock bounds a whole answer in the connection manager",
        f"{chain.name}: every answer is cut after {bound:g} s",
        "leave common_http_protocol_options.max_stream_duration out",
    )


def _inspect_routes(chain: Chain, wanted: set[str]) -> Iterator[Finding]:
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
        yield _found(
            "route_timeout",
            _is_long(timeout),
            "the route bounds no answer",
            f"{where}: an answer that takes longer than {timeout:g} s is cut",
            "set the route's timeout to 0s (without one it is 15 s)",
        )
        silence = seconds(action.get("idle_timeout", "0s"))
        yield _found(
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
            yield _fails_open(where)
        if "processing_mode" in changed:
            yield from _inspect_mode(where, changed["processing_mode"])


# --- The filter --------------------------------------------------------------------------------------------------


def _filter(chain: Chain, known: Mapping[str, Message], config: Config) -> Message | None:
    """The chain's ext_proc filter that asks wissel, as it stands before the router; None without one."""
    before_router: list[Message] = []
    for each in chain.filters:
        if type_of(each) == ROUTER:
            break
        if type_of(each) == EXT_PROC and not each.get("disabled"):
            before_router.append(each["typed_config"])
    ours = [each for each in before_router if _asks_us(each, known, config)]
    # Under another name, at an address that the file does not know: if there is one only, it is meant.
    return ours[0] if ours else before_router[0] if len(before_router) == 1 else None


def _asks_us(found: Message, known: Mapping[str, Message], config: Config) -> bool:
    name = processor_cluster(found)
    addresses = {shown_address(each) for each in endpoints(known.get(name, {}))}
    return name == PROCESSOR_CLUSTER or bool(addresses & set(config.processors))


def _inspect_filter(chain: Chain, found: Message, config: Config) -> Iterator[Finding]:
    where = chain.name
    yield Finding("filter", "ok", f"{where} asks wissel before it routes")
    if found.get("failure_mode_allow"):
        yield _fails_open(where)
    else:
        yield Finding("failure_mode_allow", "ok", "a request that was not decided is refused")
    yield _found(
        "observability_mode",
        not found.get("observability_mode"),
        "Envoy waits for wissel's answers",
        f"{where}: Envoy shows wissel its requests and waits for no answer",
        "remove observability_mode",
    )
    yield _found(
        "disable_immediate_response",
        not found.get("disable_immediate_response"),
        "wissel may refuse a request itself",
        f"{where}: each of wissel's refusals becomes an error of Envoy's",
        "remove disable_immediate_response",
    )
    yield from _inspect_clocks(where, found, config)
    yield from _inspect_mode(where, found.get("processing_mode", {}))
    yield from _inspect_mode_override(where, found)
    kept = not found.get("disable_clear_route_cache") and found.get("route_cache_action") != "RETAIN"
    yield _found(
        "clear_route_cache",
        kept,
        "a decision chooses the route anew",
        f"{where}: the route is kept as it was before wissel decided",
        "remove disable_clear_route_cache, and leave route_cache_action at DEFAULT",
    )
    yield from _inspect_metadata(where, found.get("metadata_options", {}), config)
    yield _found(
        "response_attributes",
        "response.code_details" in found.get("response_attributes", []),
        "wissel can tell a model's errors from Envoy's",
        f"{where}: wissel is not told where an error comes from, and blames models for errors of Envoy",
        "add response.code_details to response_attributes",
    )
    yield _found(
        "retry_policy",
        "retry_policy" in found.get("grpc_service", {}),
        "a stream that one processor does not take goes to another",
        f"{where}: a stream that one processor does not take is an error, though another could serve it",
        "give grpc_service the retry_policy of `wissel envoy`",
        severity="warning",
    )


def _inspect_metadata(where: str, options: Message, config: Config) -> Iterator[Finding]:
    yield _found(
        "metadata",
        NAMESPACE in options.get("receiving_namespaces", {}).get("untyped", []),
        "decisions reach the access log",
        f"{where}: Envoy drops what wissel tells about its decisions",
        f"add {NAMESPACE} to metadata_options.receiving_namespaces.untyped",
        severity="warning",
    )
    if (needed := verified_namespace(config)) is not None:
        yield _found(
            "verified_identity",
            needed in options.get("forwarding_namespaces", {}).get("untyped", []),
            "identities that Envoy has verified reach wissel",
            f"{where}: wissel is not shown {needed}, where access.envoy_identity looks for callers",
            f"add {needed} to metadata_options.forwarding_namespaces.untyped",
        )


def _fails_open(where: str) -> Finding:
    return Finding(
        "failure_mode_allow",
        "problem",
        f"{where}: with wissel away, requests go on undecided and past every access rule",
        "set failure_mode_allow to false",
    )


def _inspect_clocks(where: str, found: Message, config: Config) -> Iterator[Finding]:
    needed = config.intent.deadline_ms / 1000
    message = seconds(found.get("message_timeout", "0.2s"))
    streamed = found.get("processing_mode", {}).get("request_body_mode") == "FULL_DUPLEX_STREAMED"
    yield _found(
        "message_timeout",
        streamed or message >= needed + SLACK_SECONDS,
        "Envoy waits longer for an answer than wissel for its classifier",
        f"{where}: Envoy waits {message:g} s for an answer; the classifier alone may take {needed:g} s",
        f"set message_timeout to {message_timeout(config):g}s (without one it is 0.2 s)",
        severity="warning" if message > needed else "problem",
    )
    stream = seconds(found.get("grpc_service", {}).get("timeout", "0s"))
    yield _found(
        "grpc_timeout",
        _is_long(stream),
        "no clock bounds the call to wissel",
        f"{where}: the call to wissel ends after {stream:g} s, and with it a longer answer",
        "leave grpc_service.timeout out",
    )


def _inspect_mode(where: str, mode: Message) -> Iterator[Finding]:
    allowed: dict[str, tuple[tuple[str, ...], str]] = {
        "request_header_mode": (("DEFAULT", "SEND"), "wissel does not see who asks for what"),
        "request_body_mode": (("BUFFERED", "FULL_DUPLEX_STREAMED"), "wissel cannot decide on this form of a body"),
        "response_header_mode": (("DEFAULT", "SEND"), "wissel does not see how models do"),
        "response_body_mode": (("NONE", "STREAMED"), "answers are held back or cannot be read"),
    }
    for name, (good, trouble) in allowed.items():
        value = mode.get(name, "NONE" if "body" in name else "DEFAULT")
        yield _found(
            name,
            value in good,
            f"{name} is {value}",
            f"{where}: {name} is {value}, and {trouble}",
            f"set processing_mode.{name} to {' or '.join(each for each in good if each != 'DEFAULT')}",
        )


def _inspect_mode_override(where: str, found: Message) -> Iterator[Finding]:
    if found.get("processing_mode", {}).get("request_body_mode") == "FULL_DUPLEX_STREAMED":
        return
    listed = [_comparable(mode) for mode in found.get("allowed_override_modes", [])]
    missing = [mode for mode in map(_comparable, override_modes()) if listed and mode not in listed]
    may = found.get("allow_mode_override") and not found.get("send_body_without_waiting_for_header_response")
    yield _found(
        "mode_override",
        bool(may) and not missing,
        "wissel may choose for each request what it reads",
        f"{where}: Envoy ignores wissel's wish to read more, or less, of one request",
        "set allow_mode_override to true, with the allowed_override_modes of `wissel envoy`",
        severity="warning",
    )


def _comparable(mode: Message) -> dict[str, Any]:
    """As Envoy compares: without the mode of request headers, and defaults written out."""
    bodies = dict.fromkeys(("request_body_mode", "response_body_mode"), "NONE")
    return {key: value for key, value in {**bodies, **mode}.items() if key != "request_header_mode"}


def _inspect_buffer(chain: Chain, found: Message, wanted: set[str]) -> Iterator[Finding]:
    if found.get("processing_mode", {}).get("request_body_mode") == "FULL_DUPLEX_STREAMED":
        return
    of_listener = int(chain.listener.get("per_connection_buffer_limit_bytes", MEBIBYTE))
    limits = [_body_limit(host, route) or of_listener for host, route in chain.routes if leads_to(route, wanted)]
    yield _found(
        "buffer_limit",
        min(limits) >= SMALL_BODY,
        f"requests of up to {min(limits) / MEBIBYTE:g} MiB are taken",
        f"{chain.name}: a request of more than {min(limits) / MEBIBYTE:g} MiB is refused before wissel has read it",
        f"set the route's request_body_buffer_limit to {32 * MEBIBYTE}",
        severity="warning",
    )


def _body_limit(host: Message, route: Message) -> int:
    names = ("request_body_buffer_limit", "per_request_buffer_limit_bytes")
    return next((int(level[name]) for level in (route, host) for name in names if name in level), 0)


# --- What stands behind ------------------------------------------------------------------------------------------


def _inspect_processors(
    known: Mapping[str, Message], clusters: Message, found: Message, config: Config, workers: int
) -> Iterator[Finding]:
    name = processor_cluster(found)
    statuses = [each for each in clusters.get("cluster_statuses", []) if each.get("name") == name]
    hosts = [host for status in statuses for host in status.get("host_statuses", [])]
    ill = {shown_address(host["address"]): trouble for host in hosts if (trouble := _trouble(host))}
    if not hosts:
        why = f'cluster "{name}", where Envoy looks for wissel, has no endpoint'
        yield Finding("processors", "problem", why, "start wissel, and see that its address is in this cluster")
    elif ill:
        told = ", ".join(f"{address} ({trouble})" for address, trouble in ill.items())
        all_ill = len(ill) == len(hosts)
        why = f"{len(ill)} of {len(hosts)} processors cannot be used: {told}"
        yield Finding("processors", "problem" if all_ill else "warning", why, "see their logs and /readyz")
    else:
        yield Finding("processors", "ok", f"{len(hosts)} processors, and all are healthy")
    there = {shown_address(host["address"]) for host in hosts}
    expected = processors(config, workers=workers) if config.envoy else ()
    absent = [address for address in expected if address not in there and is_literal(address)]
    if hosts and absent:
        yield Finding(
            "processors",
            "problem",
            f'cluster "{name}" lacks {", ".join(absent)}, so nothing is ever sent there',
            "write the bootstrap again: `wissel envoy`, with --workers as wissel is served",
        )
    yield _found(
        "health_checks",
        bool(known.get(name, {}).get("health_checks")),
        "Envoy asks processors for their health",
        f'cluster "{name}" has no health checks: a processor that stops costs requests before Envoy notices',
        "give the cluster the grpc_health_check of `wissel envoy`",
        severity="warning",
    )


def _trouble(host: Message) -> str:
    """Why Envoy does not use a host; empty if it does."""
    status: Message = host.get("health_status", {})
    if status.get("failed_active_health_check"):
        return "its health check fails"
    if status.get("failed_outlier_check"):
        return "put aside after errors"
    told = status.get("eds_health_status", "HEALTHY")
    return "" if told in {"HEALTHY", "UNKNOWN"} else str(told).lower()


def _inspect_upstreams(known: Mapping[str, Message], wanted: set[str], config: Config) -> Iterator[Finding]:
    planned = {cluster.name: cluster for cluster in config.envoy.clusters} if config.envoy else {}
    for name in sorted(wanted):
        cluster = known.get(name)
        if cluster is None:
            why = f'the configuration names cluster "{name}", and Envoy has none of this name'
            yield Finding("clusters", "problem", why, "add the cluster to Envoy, or correct its name")
        else:
            yield _inspect_tls(name, cluster, planned.get(name))


def _inspect_tls(name: str, cluster: Message, planned: Cluster | None) -> Finding:
    context = cluster.get("transport_socket", {}).get("typed_config", {})
    if type_name(context) != TLS:
        wanted = planned is not None and planned.tls is not False
        public = any(shown_address(each).endswith(":443") for each in endpoints(cluster))
        why = f'cluster "{name}" is spoken to in plain text'
        change = "give the cluster a transport_socket with TLS, as `wissel envoy` writes it"
        if wanted or public:
            reason = "the configuration wants TLS" if wanted else "its port is 443"
            return Finding("upstream_tls", "problem", f"{why}, though {reason}", change)
        return Finding("upstream_tls", "ok", f"{why}, as the configuration has it")
    common: Message = context.get("common_tls_context", {})
    combined = common.get("combined_validation_context", {})
    validation: Message = common.get("validation_context") or combined.get("default_validation_context", {})
    # From a secret that another server delivers: what it holds is not in the dump.
    remote = "validation_context_sds_secret_config" in {**common, **combined}
    options: Message = cluster.get("typed_extension_protocol_options", {}).get(HTTP_OPTIONS, {})
    named = any(
        (
            validation.get("match_typed_subject_alt_names"),
            context.get("auto_sni_san_validation"),
            options.get("upstream_http_protocol_options", {}).get("auto_san_validation"),
        )
    )
    believed = any(key in validation for key in ("trusted_ca", "system_root_certs")) and named
    return _found(
        "upstream_tls",
        (believed or remote) and validation.get("trust_chain_verification") != "ACCEPT_UNTRUSTED",
        f'cluster "{name}" is believed only with the right certificate',
        f'cluster "{name}": Envoy does not check who answers, and sends it prompts and credentials',
        "set trusted_ca and match_typed_subject_alt_names in its validation_context",
    )


# --- What Envoy has counted --------------------------------------------------------------------------------------

_COUNTERS: Final[tuple[tuple[str, Severity, str, str], ...]] = (
    (
        "failure_mode_allowed", "problem", "requests went on undecided, since wissel failed",
        "set failure_mode_allow to false",
    ),
    (
        "spurious_msgs_received", "problem", "answers of wissel did not fit what Envoy had asked",
        "see that only wissel answers here, and that no other filter changes the processing mode",
    ),
    (
        "message_timeouts", "warning", "requests were refused, since wissel did not answer in time",
        "raise message_timeout, or give wissel more processors: see wissel_decision_duration_seconds",
    ),
    (
        "rejected_header_mutations", "problem", "changes to headers were dropped or refused",
        "let mutation_rules allow x-wissel-*, credentials and content-length",
    ),
    (
        "clear_route_cache_ignored", "problem", "decisions did not change the route",
        "see that no other filter has replaced wissel's answer",
    ),
    (
        "clear_route_cache_disabled", "problem", "decisions did not change the route: the filter keeps it",
        "remove disable_clear_route_cache, and leave route_cache_action at DEFAULT",
    ),
)  # fmt: skip


def _inspect_stats(stats: Mapping[str, int]) -> Iterator[Finding]:
    for name, severity, why, change in _COUNTERS:
        count = counted(stats, name)
        if count:
            yield Finding(name, severity, f"{why}, {count} times since Envoy started", change)
        else:
            yield Finding(name, "ok", "has not happened since Envoy started")


def counted(stats: Mapping[str, int], name: str) -> int:
    """A counter of the ext_proc filter, over all chains."""
    pattern = re.compile(rf"http\..+\.ext_proc\.(?:.+\.)?{name}")
    return sum(value for key, value in stats.items() if pattern.fullmatch(key))


def _found(what: str, holds: bool, fine: str, trouble: str, change: str, *, severity: Severity = "problem") -> Finding:
    return Finding(what, "ok", fine) if holds else Finding(what, severity, trouble, change)


def _is_long(duration: float) -> bool:
    """Whether a clock that bounds a whole answer is off, or leaves it time."""
    return duration == 0 or duration >= LONG_SECONDS
