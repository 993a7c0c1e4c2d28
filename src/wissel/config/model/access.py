"""Who may use what, and how much: keys, tokens, rules and limits."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from wissel.config.model.forms import (
    SORTED,
    Day,
    Duration,
    HeaderName,
    Hours,
    LimitedPer,
    MoneyRate,
    Name,
    NameOrAny,
    OwnHeader,
    PathPattern,
    SetOf,
    Sha256,
    Text,
    Timestamp,
    WholeRate,
    ZoneName,
    unix_time,
)
from wissel.config.model.section import HeaderCondition, Section
from wissel.core.request import MAX_OUTPUT_TOKENS

Algorithm = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"
]  # fmt: skip
"""Of signatures by a private key: what a public key verifies, nobody can sign with it."""


class Jwt(Section):
    """An issuer whose JSON Web Tokens are taken as bearer tokens."""

    issuer: Text
    """What the token's `iss` must be."""
    audience: Annotated[tuple[Text, ...], Field(min_length=1)]
    """What the token's `aud` must name one of."""
    jwks: Text
    """Where the issuer's public keys are: an https:// URL, or a file."""
    algorithms: SetOf[Algorithm] = frozenset(("RS256", "ES256"))
    """The signatures that are taken."""
    principal_claim: Text = "sub"
    """The claim that names the caller; a path such as user.id."""
    groups_claim: Text = "groups"
    """The claim that lists the caller's groups; a path such as realm_access.roles."""
    clock_skew: Duration = 5.0
    """How far the issuer's clock may differ from ours, for the beginning and the end of a token."""
    prefix: str = "jwt:"
    """Put before the caller's name, so that no token can speak for an API key; rules name it with the prefix."""


class EnvoyIdentity(Section):
    """An identity that another filter of Envoy's has verified before."""

    namespace: Text = "envoy.filters.http.jwt_authn"
    """The namespace of the dynamic metadata that it is left in; `wissel envoy` tells Envoy to forward it, and the
    filter that verifies stands before wissel's."""
    principal_claim: Text = "payload.sub"
    """Where the caller's name is."""
    groups_claim: Text = "payload.groups"
    """Where the caller's groups are."""
    prefix: str = "envoy:"
    """Put before the caller's name, as in `jwt`."""


class When(Section):
    """Times; all that is given must hold."""

    days: Annotated[SetOf[Day], Field(min_length=1)] | None = None
    """Days of the week; a window that goes past midnight belongs to the day on which it begins."""
    hours: Hours | None = None
    """From one time of the day until before another, such as "09:00-17:30"; "22:00-06:00" ends on the next day."""
    zone: ZoneName = "UTC"
    """The time zone of days and hours, such as Europe/Amsterdam."""
    since: Timestamp | None = None
    """The first moment, as RFC 3339 with its distance from UTC, such as 2027-01-31T09:00:00Z."""
    until: Timestamp | None = None
    """The moment at which it is over, as in `since`."""

    @model_validator(mode="after")
    def _some(self) -> Self:
        if self.days is None and self.hours is None and self.since is None and self.until is None:
            raise ValueError("should have at least one of days, hours, since, until")
        if self.since is not None and self.until is not None and unix_time(self.since) >= unix_time(self.until):
            raise ValueError("until should come after since")
        return self


class Key(Section):
    """An API key of a caller."""

    id: Name
    """The principal that it stands for."""
    sha256: Sha256
    """SHA-256 of the whole secret as the caller sends it, in hex."""
    groups: Annotated[frozenset[Text], SORTED] = frozenset()
    """The groups that the principal belongs to."""


class Rule(Section):
    """One line of the policy: it speaks of the requests that match all that it names."""

    id: Name
    """What refusals, logs and metrics call it."""
    effect: Literal["permit", "forbid"]
    """A forbid wins over every permit."""
    principals: SetOf[Text] | None = None
    """Callers, by the id of their key."""
    groups: SetOf[Text] | None = None
    """Groups of callers."""
    models: SetOf[NameOrAny] | None = None
    """Concrete models, or "*"; access is decided before a split chooses among its models."""
    routes: SetOf[NameOrAny] | None = None
    """Routes, or "*"; a rule that names routes says nothing about a model asked for directly."""
    paths: Annotated[tuple[PathPattern, ...], Field(min_length=1)] | None = None
    """Shell patterns of request paths, such as "/v1/*"; letter case does not matter."""
    headers: Annotated[dict[HeaderName, HeaderCondition], Field(min_length=1)] | None = None
    """Conditions on request headers; all of them must hold."""
    when: When | None = None
    """When the rule speaks; always if not given."""
    shadow: bool = False
    """Count what the rule would change, and change nothing."""


class Limit(Section):
    """How much may be used; everything that is given applies at once."""

    id: Name
    """What refusals, logs and metrics call it."""
    per: LimitedPer
    """Whom it counts apart: each principal, group, model or route, or each value of a header (header:NAME)."""
    requests: WholeRate | None = None
    """Requests in a time, such as 600/m; all of them may come at once, and they come back evenly."""
    tokens: WholeRate | None = None
    """Tokens of input and output in a time, such as 200000/m; estimated before, and settled by what was used."""
    concurrent: Annotated[int, Field(gt=0, le=1_000_000)] | None = None
    """Requests at the same time."""
    usd: MoneyRate | None = None
    """Dollars in a second, minute, hour or day (UTC), such as 500/d, by the prices of the models."""

    @model_validator(mode="after")
    def _some(self) -> Self:
        if self.requests is None and self.tokens is None and self.concurrent is None and self.usd is None:
            raise ValueError("should have at least one of requests, tokens, concurrent, usd")
        return self


class Access(Section):
    """Who may use what: a forbid wins, and what no rule permits is forbidden."""

    keys: tuple[Key, ...] = ()
    """API keys of callers; `wissel keys` makes more of them while serving."""
    jwt: tuple[Jwt, ...] = ()
    """Issuers of JSON Web Tokens."""
    spiffe: bool | Literal["x-forwarded-client-cert"] = False
    """Take a peer's SPIFFE id as its identity: true for Envoy's attributes, or the header, which Envoy must set."""
    envoy_identity: EnvoyIdentity | None = None
    """Take an identity that Envoy has verified itself, such as with jwt_authn."""
    rules: tuple[Rule, ...] = ()
    """The policy."""
    limits: tuple[Limit, ...] = ()
    """How much callers may use, over all replicas; a request must fit into every limit that speaks of it."""
    default_output_tokens: Annotated[int, Field(ge=0, le=MAX_OUTPUT_TOKENS)] = 1024
    """Tokens that limits reserve for an answer where the request does not say how long it may be. So much is kept where
    a caller leaves before the end, or a model does not say what an answer came to."""
    on_store_failure: Literal["local", "permit", "forbid"] = "local"
    """What limits do while Redis is away: each replica counts its part, all pass, or all are refused."""
    allow_headers: Annotated[
        frozenset[OwnHeader],
        SORTED,
    ] = frozenset()
    """x-wissel-* headers that callers may set themselves; the others are removed from their requests."""
