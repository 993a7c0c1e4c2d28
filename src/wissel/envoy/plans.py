"""What the configuration says about Envoy becomes a plan: where it listens, who decides and where requests may go."""

from dataclasses import dataclass
from typing import Literal

from wissel.config import Config, host_and_port, worker_address
from wissel.config.model import Cluster
from wissel.errors import ConfigError

PROCESSOR_CLUSTER = "wissel_ext_proc"
SYSTEM_CA = "/etc/ssl/certs/ca-certificates.crt"
"""Where Debian, Alpine and Envoy's own image keep the public authorities."""
MEBIBYTE = 1024 * 1024
MESSAGE_TIMEOUT = 5.0
"""Seconds for the processor to read one message, of 32 MiB as well, beside what the classifier may take."""


@dataclass(frozen=True, slots=True)
class ClusterTLS:
    """Speak TLS to a cluster, and believe it only with a certificate for `sni` signed under `ca`."""

    sni: str
    """A DNS name or an IP address."""
    ca: str = SYSTEM_CA
    """A file of PEM certificates on Envoy's machine."""


@dataclass(frozen=True, slots=True)
class UpstreamCluster:
    """The servers of one model, or of several."""

    name: str
    servers: tuple[tuple[str, int], ...]
    """Of each its `host:port` and its weight."""
    tls: ClusterTLS | None = None


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
    origins: tuple[str, ...] = ()
    """Of web pages that may call; "*" for all."""
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
        origins=tuple(sorted(config.envoy.cors.origins)) if config.envoy.cors else (),
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
    host, _ = host_and_port(cluster.servers[0].address)
    match cluster.tls:
        case False:
            tls = None
        case True:
            tls = ClusterTLS(host)
        case given:
            tls = ClusterTLS(given.sni or host, given.ca or SYSTEM_CA)
    return UpstreamCluster(cluster.name, tuple((each.address, each.weight) for each in cluster.servers), tls)
