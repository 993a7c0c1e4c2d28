"""What `wissel envoy` needs to know of Envoy."""

from typing import Annotated

from pydantic import Field, Tag

from wissel.config.model.forms import Address, ClusterName, ProcessorAddress, SetOf, Text
from wissel.config.model.section import WORD_OR_MAPPING, Section


class ClusterTls(Section):
    """TLS towards an upstream."""

    sni: Text | None = None
    """The server name to ask for and to verify; the host of the address if not given."""
    ca: Text | None = None
    """File of the authorities to trust, PEM; the system's if not given."""


class Cluster(Section):
    """An upstream of Envoy."""

    name: ClusterName
    """What models and passthrough name."""
    address: Address
    """Its host:port."""
    tls: Annotated[Annotated[bool, Tag("<word>")] | Annotated[ClusterTls, Tag("<mapping>")], WORD_OR_MAPPING] = False
    """true for TLS with the system's authorities, or a mapping with sni and ca."""


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
