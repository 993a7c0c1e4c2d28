"""What is to be known of Envoy: by `wissel envoy`, and by `wissel serve` where Envoy learns its clusters from it."""

from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, Tag, model_validator

from wissel.config.model.forms import (
    AbsoluteFile,
    Address,
    BasePath,
    ClusterName,
    Duration,
    Form,
    ProcessorAddress,
    RequestPath,
    SetOf,
    Text,
    host_and_port,
)
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


class HealthCheck(Section):
    """A request that Envoy sends each server now and then; one that does not answer 200 is left out."""

    path: RequestPath = "/health"
    """What is asked for with GET, without a credential."""
    interval: Annotated[Duration, Field(ge=0.1, le=3600)] = 10.0
    """Between two requests to one server."""
    timeout: Annotated[Duration, Field(ge=0.01, le=600)] = 2.0
    """For one answer."""


class Aws(Section):
    """Requests are signed for AWS, with Signature Version 4."""

    service: Annotated[str, Form(r"[a-z0-9-]{1,64}", "a service as AWS signs for it, such as bedrock")] = "bedrock"
    """What is signed for."""
    region: Annotated[str, Form(r"[a-z0-9-]{1,64}", "a region of AWS, such as eu-central-1")]
    """Where it is."""


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
    aws: Aws | None = None
    """How Envoy signs what goes there, body included, in place of any credential; its keys it finds itself, as AWS's
    own clients do: in its environment, its profile, or the role of its machine or pod."""
    health_check: HealthCheck | None = None
    """How Envoy finds out which servers are well; from requests alone if not given."""

    @model_validator(mode="after")
    def _some_server(self) -> Self:
        if (self.address is None) == (self.addresses is None):
            raise ValueError("should have either address or addresses")
        hosts = {host_and_port(each.address)[0] for each in self.servers}
        if len(hosts) > 1 and (self.tls is True or (isinstance(self.tls, ClusterTls) and self.tls.sni is None)):
            raise ValueError("servers of several hosts need tls.sni: the name that the certificates of all have")
        if self.aws is not None and len(self.servers) > 1 and not self.tls:
            raise ValueError("a signature is for one host: give one address, or tls")
        return self

    @property
    def servers(self) -> tuple[ClusterAddress, ...]:
        """All of them; one without a weight where there is only `address`."""
        return self.addresses or (ClusterAddress(address=self.address or ""),)


class Cors(Section):
    """Web pages that may call from a browser; their tokens and keys are theirs to keep."""

    origins: Annotated[SetOf[Text], Field(min_length=1)]
    """Such as https://app.example; "*" for all, where every caller needs a key anyway."""


class EnvoyToken(Section):
    """A token that Envoy shows."""

    file: Text
    """The file on Envoy's machine that holds it; Envoy reads it at its start."""


class Discovery(Section):
    """Clusters that Envoy takes from `wissel serve` while both run."""

    model_config = ConfigDict(json_schema_extra=one_of("file", "rest"))

    file: AbsoluteFile | None = None
    """The JSON file that wissel writes and Envoy watches, absolute, in a folder that both see."""
    rest: Address | None = None
    """The admin listener of wissel as Envoy reaches it, which Envoy asks again and again: for an Envoy elsewhere."""
    token: EnvoyToken | None = None
    """What Envoy shows the admin listener that wants a token; `admin.viewer_token` is enough."""
    tls: Annotated[Annotated[bool, Tag("<word>")] | Annotated[ClusterTls, Tag("<mapping>")], WORD_OR_MAPPING] = False
    """How Envoy speaks to the admin listener, as of a cluster."""
    poll: Annotated[Duration, Field(ge=0.05, le=60)] = 0.25
    """Between two questions of Envoy's; it takes up to twice as long."""
    delay: Annotated[Duration, Field(ge=0, le=60)] = 1.5
    """After a change is published and nobody can say whether Envoy has it: how long until its clusters are named."""
    grace: Annotated[Duration, Field(ge=0, le=3600)] | None = None
    """How long a cluster that is named no more stays, since attempts that are under way still need it;
    `failover.deadline` and half a minute if not given."""

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.file is None) == (self.rest is None):
            raise ValueError("should have either file or rest")
        if self.file is not None and (self.token is not None or self.tls is not False):
            raise ValueError("token and tls are for rest; a file is read by who may read it")
        return self


class Envoy(Section):
    """Where Envoy listens and what its clusters are; a mesh that configures Envoy itself needs none of it."""

    listen: Address = "127.0.0.1:10000"
    """Where Envoy listens for callers."""
    admin: Address = "127.0.0.1:9901"
    """Where Envoy's own admin page listens."""
    processors: Annotated[tuple[ProcessorAddress, ...], Field(min_length=1)] | None = None
    """Every replica or worker of wissel; `listen.ext_proc` if not given."""
    cors: Cors | None = None
    """Which web pages may call; none if not given."""
    discovery: Annotated[
        Annotated[Literal["static"], Tag("<word>")] | Annotated[Discovery, Tag("<mapping>")], WORD_OR_MAPPING
    ] = "static"
    """static: clusters stand in the bootstrap, and a new one needs a new start of Envoy. With file or rest,
    `wissel serve` publishes them, and a model that is added to this file serves a second later."""
    clusters: tuple[Cluster, ...] = ()
    """The upstreams that models and passthrough name."""
