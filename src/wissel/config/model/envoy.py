"""What `wissel envoy` needs to know of Envoy."""

from typing import Annotated, Self

from pydantic import ConfigDict, Field, Tag, model_validator

from wissel.config.model.forms import Address, BasePath, ClusterName, ProcessorAddress, SetOf, Text, host_and_port
from wissel.config.model.section import WORD_OR_MAPPING, Section, one_of


class ClusterTls(Section):
    """TLS towards an upstream."""

    sni: Text | None = None
    """The server name to ask for and to verify; the host of the address if not given."""
    ca: Text | None = None
    """File of the authorities to trust, PEM; the system's if not given."""


class ClusterAddress(Section):
    """One of several servers."""

    address: Address
    """Its host:port."""
    weight: Annotated[int, Field(ge=1, le=1000)] = 1
    """Its share of the requests, beside the others'."""


class Cluster(Section):
    """An upstream of Envoy."""

    model_config = ConfigDict(json_schema_extra=one_of("address", "addresses"))

    name: ClusterName
    """What models and passthrough name."""
    address: Address | None = None
    """Its host:port."""
    addresses: Annotated[tuple[ClusterAddress, ...], Field(min_length=1)] | None = None
    """Several in place of `address`."""
    path: BasePath | None = None
    """Where its servers have what callers ask for under /v1, such as /openai/v1; /v1 if not given. This is read by
    `wissel serve` as well."""
    tls: Annotated[Annotated[bool, Tag("<word>")] | Annotated[ClusterTls, Tag("<mapping>")], WORD_OR_MAPPING] = False
    """true for TLS with the system's authorities, or a mapping with sni and ca."""

    @model_validator(mode="after")
    def _some_server(self) -> Self:
        if (self.address is None) == (self.addresses is None):
            raise ValueError("should have either address or addresses")
        hosts = {host_and_port(each.address)[0] for each in self.servers}
        if len(hosts) > 1 and (self.tls is True or (isinstance(self.tls, ClusterTls) and self.tls.sni is None)):
            raise ValueError("servers of several hosts need tls.sni: the name that the certificates of all have")
        return self

    @property
    def servers(self) -> tuple[ClusterAddress, ...]:
        """All of them; one without a weight where there is only `address`."""
        return self.addresses or (ClusterAddress(address=self.address or ""),)


class Cors(Section):
    """Web pages that may call from a browser; their tokens and keys are theirs to keep."""

    origins: Annotated[SetOf[Text], Field(min_length=1)]
    """Such as https://app.example; "*" for all, where every caller needs a key anyway."""


class Envoy(Section):
    """What `wissel envoy` writes into Envoy's bootstrap; a mesh that configures Envoy itself needs none of it."""

    listen: Address = "127.0.0.1:10000"
    """Where Envoy listens for callers."""
    admin: Address = "127.0.0.1:9901"
    """Where Envoy's own admin page listens."""
    processors: Annotated[tuple[ProcessorAddress, ...], Field(min_length=1)] | None = None
    """Every replica or worker of wissel; `listen.ext_proc` if not given."""
    cors: Cors | None = None
    """Which web pages may call; none if not given."""
    clusters: tuple[Cluster, ...] = ()
    """The upstreams that models and passthrough name."""
