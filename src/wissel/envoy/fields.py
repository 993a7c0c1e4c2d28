"""Small pieces of Envoy's configuration that several parts of it are made of."""

import ipaddress
from collections.abc import Iterable

from wissel.config import host_and_port

Fields = dict[str, object]
"""One message of Envoy's configuration, as YAML will show it."""


def typed(name: str, /, **fields: object) -> Fields:
    return {"@type": f"type.googleapis.com/{name}", **fields}


def seconds(value: float) -> str:
    return f"{value:g}s"


def many() -> Fields:
    # Envoy's default of 1024 is soon reached by answers that stream for minutes; limits are wissel's to set.
    breakers = ("max_connections", "max_pending_requests", "max_requests", "max_retries")
    return {"thresholds": [dict.fromkeys(breakers, 65536)]}


def http_options(**fields: object) -> Fields:
    name = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    return {name: typed(name, **fields)}


def endpoints(name: str, addresses: Iterable[str]) -> Fields:
    return {
        "cluster_name": name,
        "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(each)}} for each in addresses]}],
    }


def discovery(addresses: Iterable[str], *, many_addresses: bool = False) -> str:
    if all(address.startswith("unix:") or is_ip(host_and_port(address)[0]) for address in addresses):
        return "STATIC"
    # A public provider answers each look-up with other addresses; following them all would cut answers in flight.
    return "LOGICAL_DNS" if many_addresses else "STRICT_DNS"


def address(address: str) -> Fields:
    if address.startswith("unix:"):
        return {"pipe": {"path": address.removeprefix("unix:")}}
    host, port = host_and_port(address)
    return {"socket_address": {"address": host, "port_value": port}}


def is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
