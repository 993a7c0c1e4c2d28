"""Where wissel listens, who may use its admin API, and the Redis of all replicas."""

from typing import Annotated, Self

from pydantic import Field, PlainSerializer, model_validator

from wissel.config.model.forms import Address, Duration, ProcessorAddress, Text
from wissel.config.model.section import SecretRef, Section

LOOPBACK_ADMIN = "127.0.0.1:8081"

_Names = Annotated[frozenset[Text], PlainSerializer(lambda found: sorted(found))]  # noqa: PLW0108  # sorted() has no signature to inspect


class ServerTls(Section):
    """TLS of a listener."""

    cert: Text
    """File of the certificate chain, PEM."""
    key: Text
    """File of the private key, PEM."""
    client_ca: Text | None = None
    """File of the authorities whose clients may connect (mutual TLS); without it any client may."""


_Many = Annotated[int, Field(ge=1, le=10_000_000)]


class Bounds(Section):
    """What a body that is read may hold: bounds that real traffic does not meet. A request beyond one is answered 400
    with its name."""

    model_name: Annotated[int, Field(ge=1, le=4096)] = 256
    """Characters of a model's name."""
    messages: _Many = 10_000
    """Messages, items or prompts of one call."""
    parts: _Many = 20_000
    """Content parts in all of them."""
    members: _Many = 1_000
    """Members of the outermost object, of a message and of a part."""
    values: _Many = 500_000
    """Values within the body, of all objects and arrays together."""
    depth: Annotated[int, Field(ge=2, le=200)] = 64
    """Objects and arrays within each other."""
    fields: _Many = 1_000
    """Fields of a form or a query, and models that one body names."""
    lines: _Many = 50_000
    """Lines of a file of JSON lines that goes to a passthrough."""
    uploads: _Many = 1_000
    """Bodies that one caller has begun to send to one process and not ended; one more is answered 429."""


class Listen(Section):
    """Where wissel listens."""

    ext_proc: ProcessorAddress = "127.0.0.1:50051"
    """Address of the external processor, for Envoy: host:port or unix:/path."""
    admin: Address = LOOPBACK_ADMIN
    """Address of the admin API and the console; beyond loopback it needs `admin.token` or
    `admin.tls.client_ca`."""
    tls: ServerTls | None = None
    """TLS of the external processor's listener; without it Envoy connects in plain text."""
    max_body_bytes: Annotated[int, Field(ge=1024, le=256 * 1024 * 1024)] = 32 * 1024 * 1024
    """A call with a larger body, or one that is larger when it is unpacked, is answered 413; `wissel envoy` gives Envoy
    the same limit. All bodies in flight may take four times as much memory, set at the start; over it the newest large
    request fails."""
    bounds: Bounds = Field(default_factory=Bounds)
    """What a body that is read may hold."""


class AdminTls(ServerTls):
    """TLS of the admin listener, and what its callers' certificates are good for."""

    client_ca: Text | None = None
    """File of the authorities that sign callers' certificates, PEM. Who shows none needs a token; probes need neither,
    and a certificate of another authority is refused."""
    operators: _Names = frozenset()
    """Names in certificates whose callers may do everything: a SAN, such as spiffe://mesh/ns/ops/sa/deploy or
    ops.example, or the common name of a certificate without any; "*" for every one."""
    viewers: _Names = frozenset()
    """Names in certificates whose callers may look and change nothing, as in `operators`."""

    @model_validator(mode="after")
    def _together(self) -> Self:
        if (self.client_ca is None) != (not self.operators and not self.viewers):
            raise ValueError("client_ca and the operators and viewers whose certificates it signs come together")
        return self


class Affinity(Section):
    """How what is asked about an answer that its model keeps finds the model."""

    keep: Annotated[Duration, Field(ge=60, le=365 * 86_400)] = 30 * 86_400.0
    """How long it is remembered, in Redis, where an answer was made: as long as the models' servers keep answers. An
    answer takes about 400 bytes."""


class Admin(Section):
    """The admin API and the console."""

    token: SecretRef | None = None
    """What callers of the admin API must send as bearer token; without `tls.client_ca` it
    is required if `listen.admin` is not loopback."""
    viewer_token: SecretRef | None = None
    """A token for those who only look: it reads everything and changes nothing; it needs `token` beside it."""

    tls: AdminTls | None = None
    """TLS of the admin listener, with certificates of its callers beside tokens or in their place."""

    @model_validator(mode="after")
    def _two(self) -> Self:
        if self.viewer_token is not None and self.token is None:
            raise ValueError("viewer_token needs token beside it: without one everybody here may do everything")
        return self


class Redis(Section):
    """A Redis whose URL holds a password."""

    url: SecretRef
    """The URL, kept in an environment variable or a file."""
