"""What Envoy's admin says of its configuration, read into chains, routes and clusters.

Whether a listener, a route table or a cluster stands in the bootstrap or came
from a control plane makes no difference here.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from wissel.config import host_and_port
from wissel.core.names import ATTEMPT_STAGE, ATTEMPTS_NAMESPACE, CLUSTER_HEADER, STAGE_KEY

Message = Mapping[str, Any]
"""One message of Envoy's configuration, as its JSON shows it: what is at its default is not there."""

EXT_PROC: Final = "envoy.extensions.filters.http.ext_proc.v3.ExternalProcessor"
PER_ROUTE: Final = "envoy.extensions.filters.http.ext_proc.v3.ExtProcPerRoute"
MANAGER: Final = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
EARLY_MUTATION: Final = "envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation"
ROUTER: Final = "envoy.extensions.filters.http.router.v3.Router"
HTTP_OPTIONS: Final = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
PRIORITY_GROUP: Final = "envoy.extensions.router.cluster_specifiers.priority_group.v3.PriorityGroupClusterSpecifier"
MATCHED: Final = "envoy.extensions.common.matching.v3.ExtensionWithMatcher"
TLS: Final = "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"


@dataclass(frozen=True, slots=True)
class Chain:
    """One HTTP connection manager, with the routes that it uses."""

    listener: Message
    manager: Message
    is_secured: bool
    routes: tuple[tuple[Message, Message], ...]
    """Each with its virtual host."""

    @property
    def name(self) -> str:
        return f'listener "{self.listener.get("name", "")}"'

    @property
    def filters(self) -> list[Message]:
        return self.manager.get("http_filters", [])


def read_chains(config_dump: Message) -> Iterator[Chain]:
    """Every HTTP connection manager that serves."""
    tables = _route_tables(config_dump)
    for listener in _listeners(config_dump):
        default = [listener["default_filter_chain"]] if "default_filter_chain" in listener else []
        for chain in [*listener.get("filter_chains", []), *default]:
            for each in chain.get("filters", []):
                if type_of(each) == MANAGER:
                    manager = each["typed_config"]
                    table = manager.get("route_config") or tables.get(manager.get("rds", {}).get("route_config_name"))
                    hosts: list[Message] = table.get("virtual_hosts", []) if table else []
                    routes = tuple((host, route) for host in hosts for route in host.get("routes", []))
                    yield Chain(listener, manager, "transport_socket" in chain, routes)


def _listeners(config_dump: Message) -> Iterator[Message]:
    for section in config_dump.get("configs", []):
        for each in section.get("static_listeners", []):
            yield each["listener"]
        for each in section.get("dynamic_listeners", []):
            if active := each.get("active_state", {}).get("listener"):
                yield active


def _route_tables(config_dump: Message) -> dict[str | None, Message]:
    found = _dumped(config_dump, ("static_route_configs", "dynamic_route_configs"), "route_config")
    return {table.get("name"): table for table in found}


def read_clusters(config_dump: Message) -> dict[str, Message]:
    """By name, each with the endpoints that discovery gave it."""
    found = _dumped(config_dump, ("static_clusters", "dynamic_active_clusters"), "cluster")
    discovered = _dumped(config_dump, ("static_endpoint_configs", "dynamic_endpoint_configs"), "endpoint_config")
    assigned = {each.get("cluster_name"): each for each in discovered}
    return {cluster["name"]: {"load_assignment": assigned.get(cluster["name"], {}), **cluster} for cluster in found}


def _dumped(config_dump: Message, lists: tuple[str, ...], key: str) -> Iterator[Message]:
    for section in config_dump.get("configs", []):
        for name in lists:
            yield from (each[key] for each in section.get(name, []) if key in each)


def endpoints(cluster: Message) -> Iterator[Message]:
    """The addresses that a cluster is configured with."""
    for locality in cluster.get("load_assignment", {}).get("endpoints", []):
        for each in locality.get("lb_endpoints", []):
            if "endpoint" in each:
                yield each["endpoint"].get("address", {})


def shown_address(address: Message) -> str:
    """As the configuration of wissel writes it: `host:port`, `[host]:port` or `unix:/path`."""
    if "pipe" in address:
        return f"unix:{address['pipe']['path']}"
    where: Message = address.get("socket_address", {})
    host = str(where.get("address", ""))
    return f"{f'[{host}]' if ':' in host else host}:{where.get('port_value', 0)}"


def is_literal(address: str) -> bool:
    """Whether Envoy shows the address as it is written here, and not what a name became."""
    return address.startswith("unix:") or not re.search("[A-Za-z]", host_and_port(address)[0])


def version_of(config_dump: Message) -> tuple[int, int] | None:
    """Envoy's own, major and minor; None where it does not tell."""
    for section in config_dump.get("configs", []):
        build = section.get("bootstrap", {}).get("node", {}).get("user_agent_build_version", {}).get("version", {})
        if build:
            return int(build.get("major_number", 0)), int(build.get("minor_number", 0))
    return None


def processor_cluster(ext_proc: Message) -> str:
    """Where an ext_proc filter finds its processor; empty where Envoy leaves that to gRPC's own library."""
    return ext_proc.get("grpc_service", {}).get("envoy_grpc", {}).get("cluster_name", "")


def router_of(chain: Chain) -> Message:
    nothing: Message = {}
    return next((each["typed_config"] for each in chain.filters if type_of(each) == ROUTER), nothing)


def leads_to(route: Message, wanted: set[str]) -> bool:
    """Whether a route leads to what wissel decides on."""
    action = action_of(route)
    return is_decided(action) or bool(named_clusters(action) & wanted)


def is_decided(action: Message) -> bool:
    """Whether wissel says where the request goes: in a header, or in metadata with an order of attempts."""
    return action.get("cluster_header") == CLUSTER_HEADER or plan_of(action) is not None


def plan_of(action: Message) -> Message | None:
    """What a route has that asks one cluster after the other, in an order of wissel's; None without."""
    found = action.get("inline_cluster_specifier_plugin", {}).get("extension", {}).get("typed_config", {})
    ours = type_name(found) == PRIORITY_GROUP and found.get("override_metadata_namespace") == ATTEMPTS_NAMESPACE
    return found if ours else None


def undecided_clusters(plan: Message) -> set[str]:
    """Where a request goes that asks for an order of attempts and has none."""
    return {each["cluster_name"] for group in plan.get("priority_groups", []) for each in group.get("clusters", [])}


def attempt_stages(cluster: Message, stage: str = ATTEMPT_STAGE) -> list[Message]:
    """The ext_proc filters that each attempt at a cluster passes and that ask about this side of it."""
    options: Message = cluster.get("typed_extension_protocol_options", {}).get(HTTP_OPTIONS, {})
    filters = [each.get("typed_config", {}) for each in options.get("http_filters", [])]
    inner = [
        each.get("extension_config", {}).get("typed_config", {}) if type_name(each) == MATCHED else each
        for each in filters
    ]
    return [
        each
        for each in inner
        if type_name(each) == EXT_PROC
        and {"key": STAGE_KEY, "value": stage} in each.get("grpc_service", {}).get("initial_metadata", [])
    ]


def action_of(route: Message) -> Message:
    return route.get("route", {})


def named_clusters(action: Message) -> set[str]:
    """Where a route leads without a decision, for all that wissel says."""
    weighted = [each.get("name") for each in action.get("weighted_clusters", {}).get("clusters", [])]
    return {name for name in (action.get("cluster"), *weighted) if name}


def is_removed(manager: Message, name: str) -> bool:
    """Whether the header is taken from each request before any filter runs."""
    return any(
        _matches(mutation.get("remove_on_match", {}).get("key_matcher", {}), name) or mutation.get("remove") == name
        for extension in manager.get("early_header_mutation_extensions", [])
        if type_of(extension) == EARLY_MUTATION
        for mutation in extension["typed_config"].get("mutations", [])
    )


def _matches(matcher: Message, text: str) -> bool:
    """Envoy's StringMatcher."""
    if matcher.get("ignore_case"):
        matcher = {key: value.lower() if isinstance(value, str) else value for key, value in matcher.items()}
    match matcher:
        case {"exact": str(word)}:
            return text == word
        case {"prefix": str(word)}:
            return text.startswith(word)
        case {"suffix": str(word)}:
            return text.endswith(word)
        case {"contains": str(word)}:
            return word in text
        case {"safe_regex": {"regex": str(pattern)}}:
            return re.fullmatch(pattern, text) is not None
        case _:
            return False


def type_of(extension: Message) -> str:
    return type_name(extension.get("typed_config", {}))


def type_name(message: Message) -> str:
    return str(message.get("@type", "")).rpartition("/")[2]


def seconds(duration: str) -> float:
    return float(duration.removesuffix("s"))
