"""The configuration as the decision reads it: complete, checked and immutable.

`config.compile` builds one from the file; the controller publishes another
whenever a rollout moves. A request is decided by the one snapshot it began
with, so no decision ever mixes two configurations.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

from wissel.core.access import Principal, RuleBook
from wissel.core.bounds import Bounds
from wissel.core.conversation import ConversationIds
from wissel.core.harness import Harness
from wissel.core.pin import PinPolicy
from wissel.core.request import Modality
from wissel.core.split import Split, Variant
from wissel.core.tier import Tier


@dataclass(frozen=True, slots=True)
class Price:
    """USD per million tokens."""

    input: float = 0.0
    output: float = 0.0
    cached_input: float | None = None
    """Of input that the provider read from its cache; None: as other input."""

    @property
    def is_free(self) -> bool:
        """Whether no use at all costs anything."""
        return not (self.input or self.output or self.cached_input)

    def of(self, input_tokens: int, output_tokens: int, cached_tokens: int = 0) -> float:
        """Millionths of a USD; `cached_tokens` are some of the input's."""
        cached = self.input if self.cached_input is None else self.cached_input
        fresh = input_tokens - cached_tokens
        return fresh * self.input + cached_tokens * cached + output_tokens * self.output


@dataclass(frozen=True, slots=True)
class Credential:
    """What authenticates the request upstream."""

    kind: Literal["secret", "forward"]
    """`secret` is sent in place of the caller's own credential; `forward` passes the caller's on."""
    secret: str = field(default="", repr=False)
    header: str = ""
    """That shows the secret; empty: the provider's."""
    prefix: str = ""
    """Before the secret, where there is a `header`."""


@dataclass(frozen=True, slots=True)
class Model:
    """A model that can serve, under the name that policies and clients use."""

    name: str
    cluster: str
    """The Envoy cluster that serves it."""
    upstream_model: str
    """What the body's `model` says when it leaves."""
    apis: frozenset[str]
    accepts: frozenset[Modality]
    """What it reads."""
    context: int | None = None
    """Tokens of input and output together; None if unlimited or unknown."""
    credential: Credential | None = None
    price: Price | None = None
    embeds: frozenset[Modality] | None = None
    """What it makes vectors of; None where the file does not say, and only its server knows."""
    provider: str = "openai"
    """Whose habits its server has, a row of `apis.providers`."""
    base_path: str = "/v1"
    """Where its server has what callers ask for under `/v1`; empty for the root."""
    is_signed: bool = False
    """Whether Envoy signs what its server gets, which then sees no other credential."""
    api_version: str | None = None
    """Of its server's API, where the provider wants one named with each request."""
    forward_headers: frozenset[str] = frozenset()
    """Of a caller's headers that are withheld from servers, those that its server gets."""
    stream_usage: Literal["ask", "never"] = "ask"
    """Whether its streams are asked to tell their usage."""
    defaults: Mapping[str, str] = field(default_factory=dict[str, str])
    """Members of a body that its server gets where the caller wrote none, and their values as JSON."""
    drop_params: frozenset[str] = frozenset()
    """Members of a body that its server does not get."""
    fallbacks: tuple[str, ...] = ()
    """Models that are asked in this order where it fails."""
    first_token: float | None = None
    """Seconds that it may take to begin an answer; None: until the silence is too long for Envoy."""


@dataclass(frozen=True, slots=True)
class Route:
    """An intent in the operator's words, and what serves it."""

    name: str
    target: str
    description: str = ""
    domain: str = ""
    action: str = ""
    examples: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Passthrough:
    """Paths that are no LLM calls and go on under the same access rules."""

    path_prefix: str
    cluster: str
    upgrade: bool = False
    """Whether a connection may be upgraded there, as to a websocket."""
    reads_models: bool = False
    """Whether what a body there names as `model` is under the rules."""
    credential: Credential | None = None
    provider: str = "openai"
    base_path: str = "/v1"
    api_version: str | None = None
    forward_headers: frozenset[str] = frozenset()
    """These five as of `Model`."""


@dataclass(frozen=True, slots=True)
class Failover:
    """How a plan is walked."""

    attempts: int = 3
    """At most, the first included."""
    deadline: float = 120.0
    """Seconds after which no further one begins."""
    statuses: tuple[int, ...] = (429, 529)
    """With which a model has failed as well, besides all from 500."""
    holds: bool = False
    """Whether an answer begins only with its first word, so that what fails before it is followed."""
    on_refusal: bool = False
    """Whether a refusal before the first word is a failure too."""
    accept_models: bool = False
    """Whether a caller's `models` say what follows, in place of the file."""


@dataclass(frozen=True, slots=True)
class Health:
    """`health`: when a model is left alone for a while."""

    failures: int = 5
    """So many, and at least half of its attempts."""
    window: float = 30.0
    """Seconds in which they are counted."""
    cooldown: float = 20.0
    """Seconds for which it is left out of plans, and then tried."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What Envoy's edge must know before a request is decided."""

    allow_headers: frozenset[str] = frozenset()
    """`x-wissel-*` headers that callers may set themselves."""
    upgrades: tuple[str, ...] = ()
    """Path prefixes where a connection may be upgraded."""
    passthrough: tuple[Passthrough, ...] = ()
    """Those of the snapshot, which say where a body is read that is no call's."""
    max_body_bytes: int = 32 * 1024 * 1024
    """A larger body is refused where it is read."""
    bounds: Bounds = field(default_factory=Bounds)
    """What a body that is read may hold."""
    failover: Failover = Failover()


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A caller's key: only the hash of its secret is known."""

    principal: Principal
    sha256: str
    """Hex, of the whole secret as the caller sends it."""


@dataclass(frozen=True, slots=True)
class ManagedKey:
    """A key that was made while serving; `wsl-<id>-<secret>` to its caller."""

    id: str
    """Public: it may be logged."""
    principal: Principal
    sha256: str
    """As of `ApiKey`."""
    expires: float | None = None
    """Unix time."""
    previous_sha256: str = ""
    """Of the secret before the last rotation; it goes on for a while."""
    previous_until: float = 0.0

    def hashes(self, now: float) -> tuple[str, ...]:
        """Of the secrets that are taken now."""
        return (self.sha256, self.previous_sha256) if now < self.previous_until else (self.sha256,)


@dataclass(frozen=True, slots=True)
class TokenIssuer:
    """Who may sign JSON Web Tokens, and how they are read."""

    issuer: str
    audiences: tuple[str, ...]
    """One of them must be the token's."""
    jwks: str
    """URL or path of the public keys."""
    algorithms: frozenset[str]
    principal_claim: str = "sub"
    groups_claim: str = "groups"
    clock_skew: float = 5.0
    """Seconds by which its clock may differ."""
    prefix: str = "jwt:"
    """Before the principal's id, so that no token speaks for a key."""


@dataclass(frozen=True, slots=True)
class VerifiedIdentity:
    """Where another filter of Envoy's leaves an identity that it has verified."""

    namespace: str
    """Of the dynamic metadata."""
    principal_claim: str
    groups_claim: str
    prefix: str


SpiffeSource = Literal["", "attributes", "x-forwarded-client-cert"]
"""Where the mesh identity of a peer is read; "" for nowhere."""


Per = Literal["principal", "group", "header", "model", "route"]
"""Whom a limit counts apart."""

OnStoreFailure = Literal["local", "permit", "forbid"]
"""What limits do without Redis: count in each replica its part, let pass, or refuse."""


@dataclass(frozen=True, slots=True)
class Rate:
    """So much in so many seconds."""

    amount: int
    seconds: int


@dataclass(frozen=True, slots=True)
class Limit:
    """One line of `access.limits`: everything that it names applies at once."""

    id: str
    per: Per
    header: str = ""
    """Whose values are counted apart, where `per` is header."""
    requests: Rate | None = None
    tokens: Rate | None = None
    concurrent: int | None = None
    usd: Rate | None = None
    """In nano-USD."""


@dataclass(frozen=True)
class Snapshot:
    """Everything that a decision depends on besides the request."""

    revision: str
    """A hash of the configuration's meaning: the same on every replica."""
    models: Mapping[str, Model]
    splits: Mapping[str, Split]
    """Splits and rollouts alike: to a request a rollout is a split."""
    routes: Mapping[str, Route]
    """In the order of the file."""
    entrypoints: frozenset[str]
    aliases: Mapping[str, str]
    fallback: str
    """The route for intent "other" and for a classifier that gave no answer; "" if there are no routes."""
    passthrough: tuple[Passthrough, ...] = ()
    """Longest prefix first."""
    keys: Mapping[str, ApiKey] = field(default_factory=dict[str, ApiKey])
    """By the SHA-256 of the secret, in hex."""
    rules: RuleBook | None = None
    """None where `access` is not configured: then everyone may use everything."""
    managed: Mapping[str, ManagedKey] = field(default_factory=dict[str, ManagedKey])
    """By their public ids, as they are in the store now; a revocation makes another snapshot."""
    issuers: tuple[TokenIssuer, ...] = ()
    spiffe: SpiffeSource = ""
    verified: VerifiedIdentity | None = None
    limits: tuple[Limit, ...] = ()
    """All of them apply to each request."""
    on_store_failure: OnStoreFailure = "local"
    default_output_tokens: int = 0
    """Reserved for an answer of which the caller does not say how long it may be."""
    terms: Terms = Terms()
    tiers: Mapping[str, Tier] = field(default_factory=dict[str, Tier])
    pin: PinPolicy | None = None
    """None where sessions keep no route."""
    health: Health = Health()
    keep_origins: float = 30 * 86_400.0
    """Seconds for which it is remembered where an answer was made."""
    conversation: ConversationIds = field(default_factory=ConversationIds)
    """Where clients name the session that a request belongs to."""

    @property
    def harness(self) -> Harness:
        """What is no person's of what clients send as a person's words."""
        return self.conversation.harness

    def arms(self, target: str) -> tuple[Variant, ...]:
        """What can serve `target`: a split's variants, the model as its only one, or those of a tier's both ends.

        Raises KeyError for a name that is none of these; a compiled snapshot has none in its routes.
        """
        if tier := self.tiers.get(target):
            return tuple(arm for _, end in tier.ends for arm in self.arms(end))
        if split := self.splits.get(target):
            return split.variants
        model = self.models[target]
        return (Variant(model.name, model.name, 1),)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Every name that a caller may put into `model`, sorted."""
        return tuple(sorted({*self.entrypoints, *self.aliases, *self.models, *self.splits, *self.tiers}))

    def with_tiers(self, calibrated: Mapping[str, Tier]) -> "Snapshot":
        """The same configuration with what the tiers' graders know of their win rates."""
        return replace(self, tiers={**self.tiers, **calibrated})

    def with_splits(self, moved: Mapping[str, Split]) -> "Snapshot":
        """The same configuration after rollouts have moved."""
        return replace(self, splits={**self.splits, **moved})
