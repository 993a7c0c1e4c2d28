"""What the configuration says about Envoy becomes a plan: where it listens, who decides and where requests may go."""

from dataclasses import dataclass
from typing import Literal

from wissel.apis.providers import OTHER_CREDENTIALS
from wissel.config import Config, host_and_port, worker_address
from wissel.config.model import Cluster, ClusterTls, Credential, Discovery
from wissel.core.identity import CREDENTIAL_HEADERS
from wissel.core.names import DISCOVERY_CLUSTER
from wissel.errors import ConfigError

PROCESSOR_CLUSTER = "wissel_ext_proc"
UNDECIDED_CLUSTER = "wissel_undecided"
"""It has no server: where requests go that nobody decided."""
SYSTEM_CA = "/etc/ssl/certs/ca-certificates.crt"
"""Where Debian, Alpine and Envoy's own image keep the public authorities."""
CONNECT_TIMEOUT = 5.0
MEBIBYTE = 1024 * 1024
MESSAGE_TIMEOUT = 5.0
"""Seconds for the processor to read one message, of 32 MiB as well, beside what the classifier may take."""


_CREDENTIALS = tuple(sorted({*CREDENTIAL_HEADERS, *OTHER_CREDENTIALS}))


@dataclass(frozen=True, slots=True)
class ClusterTLS:
    """Speak TLS to a cluster, and believe it only with a certificate for `sni` signed under `ca`."""

    sni: str
    """A DNS name or an IP address."""
    ca: str = SYSTEM_CA
    """A file of PEM certificates on Envoy's machine."""


@dataclass(frozen=True, slots=True)
class Probing:
    """How Envoy finds out whether a server is well: by a GET that is answered 200."""

    path: str
    interval: float
    timeout: float
    """Both in seconds."""


@dataclass(frozen=True, slots=True)
class Signing:
    """What AWS's servers want a request signed for."""

    service: str
    region: str


@dataclass(frozen=True, slots=True)
class UpstreamCluster:
    """The servers of one model, or of several."""

    name: str
    servers: tuple[tuple[str, int], ...]
    """Of each its `host:port` and its weight."""
    tls: ClusterTLS | None = None
    probing: Probing | None = None
    connect_timeout: float = CONNECT_TIMEOUT
    """Seconds."""
    signing: Signing | None = None

    def host_of(self, server: str) -> str:
        """What is asked for there: the server's own name, unless its certificate has another."""
        return self.tls.sni if self.tls else server


@dataclass(frozen=True, slots=True)
class Watched:
    """Clusters come from a file on Envoy's machine, which is replaced by renaming."""

    path: str


@dataclass(frozen=True, slots=True)
class Polled:
    """Clusters come from an admin listener of wissel, which is asked again and again."""

    address: str
    every: float
    """Seconds."""
    tls: ClusterTLS | None = None
    token: str | None = None
    """The file on Envoy's machine with the token to show."""


@dataclass(frozen=True, slots=True)
class EnvoyPlan:
    """Where Envoy listens, who decides for it and where requests may go."""

    listen: str
    admin: str
    processors: tuple[str, ...]
    """Each `host:port` or `unix:/path`; Envoy balances over them and retries on another."""
    clusters: tuple[UpstreamCluster, ...]
    discovery: Watched | Polled | None = None
    """Where the clusters are learnt while Envoy runs; None where they stand in the bootstrap."""
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
    credential_headers: tuple[str, ...] = _CREDENTIALS
    """Where some server is shown a credential."""


def plan(config: Config, *, workers: int = 1) -> EnvoyPlan:
    """What the configuration says about Envoy, where each processor in it stands for so many workers.

    Raises ConfigError where that is too little for a bootstrap.
    """
    if config.envoy is None:
        raise ConfigError(["envoy: this section is missing; it says where Envoy listens and what its clusters are"])
    clusters = {cluster.name: _planned(cluster, config) for cluster in config.envoy.clusters}
    wanted = {user.cluster for user in (*config.models, *config.passthrough)}
    problems = [f'envoy.clusters: no cluster is named "{name}"' for name in sorted(wanted - clusters.keys())]
    ours = (name for name in (PROCESSOR_CLUSTER, DISCOVERY_CLUSTER, UNDECIDED_CLUSTER) if name in clusters)
    problems += [f'envoy.clusters: "{name}" is wissel\'s own; take another name' for name in ours]
    if problems:
        raise ConfigError(problems)
    return EnvoyPlan(
        listen=config.envoy.listen,
        admin=config.envoy.admin,
        processors=processors(config, workers=workers),
        clusters=tuple(clusters.values()),
        discovery=_discovery(config.envoy.discovery),
        allow_headers=tuple(sorted(config.access.allow_headers)) if config.access else (),
        verified_namespace=verified_namespace(config),
        max_body_bytes=config.listen.max_body_bytes,
        message_timeout=message_timeout(config),
        origins=tuple(sorted(config.envoy.cors.origins)) if config.envoy.cors else (),
        upgrades=any(entry.upgrade for entry in config.passthrough),
        credential_headers=_credential_headers(config),
    )


def _credential_headers(config: Config) -> tuple[str, ...]:
    """Those of every model's, so that none of them leaves with a request that is another's."""
    named = {each.credential.header for each in config.models if isinstance(each.credential, Credential)}
    return tuple(sorted({*_CREDENTIALS, *(name for name in named if name)}))


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


def _planned(cluster: Cluster, config: Config) -> UpstreamCluster:
    servers = tuple((each.address, each.weight) for each in cluster.servers)
    check = cluster.health_check
    probing = Probing(check.path, check.interval, check.timeout) if check else None
    waits = [each.timeouts.connect for each in config.models if each.cluster == cluster.name]
    connect = max([each for each in waits if each is not None], default=CONNECT_TIMEOUT)
    tls = _tls(cluster.tls, cluster.servers[0].address)
    signing = Signing(cluster.aws.service, cluster.aws.region) if cluster.aws else None
    return UpstreamCluster(cluster.name, servers, tls, probing, connect, signing)


def _tls(tls: ClusterTls | bool, address: str) -> ClusterTLS | None:
    host, _ = host_and_port(address)
    match tls:
        case False:
            return None
        case True:
            return ClusterTLS(host)
        case given:
            return ClusterTLS(given.sni or host, given.ca or SYSTEM_CA)


def _discovery(written: Discovery | Literal["static"]) -> Watched | Polled | None:
    match written:
        case "static":
            return None
        case Discovery(file=str(path)):
            return Watched(path)
        case Discovery(rest=address):
            assert address is not None  # it has one of the two
            token = written.token.file if written.token else None
            return Polled(address, written.poll, _tls(written.tls, address), token)
