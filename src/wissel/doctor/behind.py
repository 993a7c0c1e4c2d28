"""What stands behind the filter: the processors that Envoy asks, and the models' clusters."""

from collections.abc import Iterator, Mapping

from wissel.config import Config
from wissel.config.model import Cluster
from wissel.doctor.dump import (
    HTTP_OPTIONS,
    TLS,
    Message,
    endpoints,
    is_literal,
    processor_cluster,
    shown_address,
    type_name,
)
from wissel.doctor.finding import ENVOYS_BREAKER, MANY_STREAMS, Finding, checked
from wissel.envoy import digest, has_wanted, plan, processors, published
from wissel.errors import ConfigError


def inspect_processors(
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
    yield _inspect_breakers(name, known.get(name, {}))
    yield checked(
        "health_checks",
        bool(known.get(name, {}).get("health_checks")),
        "Envoy asks processors for their health",
        f'cluster "{name}" has no health checks: a processor that stops costs requests before Envoy notices',
        "give the cluster the grpc_health_check of `wissel envoy`",
        severity="warning",
    )


def _inspect_breakers(name: str, cluster: Message) -> Finding:
    """Each request that is being answered holds a stream to a processor for as long as its model speaks."""
    levels: list[Message] = cluster.get("circuit_breakers", {}).get("thresholds", [])
    usual: Message = {}
    level = next((each for each in levels if each.get("priority", "DEFAULT") == "DEFAULT"), usual)
    least = min(int(level.get(breaker, ENVOYS_BREAKER)) for breaker in ("max_requests", "max_pending_requests"))
    return checked(
        "circuit_breakers",
        least >= MANY_STREAMS,
        "processors may be asked about many requests at once",
        f'cluster "{name}" takes {least} requests at once, and refuses every further one with 503',
        f"set circuit_breakers of the cluster to {MANY_STREAMS} or more, as `wissel envoy` writes them",
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


def inspect_upstreams(known: Mapping[str, Message], wanted: set[str], config: Config) -> Iterator[Finding]:
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
    return checked(
        "upstream_tls",
        (believed or remote) and validation.get("trust_chain_verification") != "ACCEPT_UNTRUSTED",
        f'cluster "{name}" is believed only with the right certificate',
        f'cluster "{name}": Envoy does not check who answers, and sends it prompts and credentials',
        "set trusted_ca and match_typed_subject_alt_names in its validation_context",
    )


def inspect_published(version: str | None, config: Config) -> Iterator[Finding]:
    """Whether Envoy has learnt the clusters that the file has; `version` is that of what it has."""
    if version is None or config.envoy is None or config.envoy.discovery == "static":
        return
    try:
        wanted = digest(published(plan(config)))
    except ConfigError as error:
        yield Finding("discovery", "problem", f"the file has no clusters to publish: {error}", "mend the file")
        return
    if not version:
        yield Finding(
            "discovery",
            "problem",
            "Envoy has learnt no clusters from wissel, so a model that is added to the file is never served",
            "start Envoy with the bootstrap of `wissel envoy`, and see that it reaches envoy.discovery",
        )
        return
    yield checked(
        "discovery",
        has_wanted(version, wanted),
        f"Envoy has the clusters that wissel publishes, version {version}",
        f"Envoy has the clusters of version {version}, and the file makes {wanted}",
        "see config_problem in /readyz, and in Envoy's log why it has refused an update",
    )
