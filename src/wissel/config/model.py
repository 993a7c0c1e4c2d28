"""The shapes of the configuration file, one class per section.

What one value must be is said here; what must be true between values (names
that exist, weights that add up) is in `references`. The docstring of a field
is its description in the JSON Schema, so it speaks to the operator.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal, Self, TypeVar, cast
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    PlainSerializer,
    Tag,
    WithJsonSchema,
    model_validator,
)
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from wissel.core.request import Api, Modality

T = TypeVar("T")

SECRET_HINT = "a secret is never written here: give {env: NAME} or {file: PATH}"  # noqa: S105  # a message
UNTRAINED = frozenset({"random", "length", "always_strong", "always_weak"})
"""Routers of tiers that learn nothing, and so have no folder."""
LOOPBACK_ADMIN = "127.0.0.1:8081"


@dataclass(frozen=True, slots=True)
class Form:
    """What a text must look like."""

    pattern: str
    """Also for the JSON Schema, so in the words that Python's and JavaScript's regular expressions share."""
    what: str
    """Completes "should be ...\"."""
    hidden: bool = False
    """Whether what was written might be a secret, and is not repeated."""

    def check(self, text: str) -> str:
        if re.fullmatch(self.pattern, text):
            return text
        found = f"has {len(text)} characters of another form" if self.hidden else f"is {quote(text)}"
        raise ValueError(f"should be {self.what}, and {found}")

    def __get_pydantic_core_schema__(self, source: type, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {**handler(schema), "pattern": f"^(?:{self.pattern})$"}


def quote(text: str, limit: int = 60) -> str:
    """The text as a message repeats it: on one line, and not for ever."""
    shown = text if len(text) <= limit else text[:limit] + "…"
    return f'"{shown}"'.replace("\n", "\\n").replace("\t", "\\t")


_HOST_PORT = r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}"
_KEY_SOURCE = r"principal|conversation|request|header:[!#$%&'*+.^_`|~0-9A-Za-z-]+|claim:[^\s:][^\s]*"


def _port_exists(address: str) -> str:
    if not address.startswith("unix:") and int(address.rpartition(":")[2]) >= 1 << 16:
        raise ValueError(f"the port should be at most 65535, and the address is {quote(address)}")
    return address


def _lower(text: str) -> str:
    return text.lower()


def _lower_header(source: str) -> str:
    return source.lower() if source.startswith("header:") else source


def _path_prefix(path: str) -> str:
    return path.lower().rstrip("/") or "/"


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ValueError, OSError, ZoneInfoNotFoundError):
        raise ValueError(f"no time zone is named {quote(name)}") from None
    return name


def unix_time(timestamp: str) -> float:
    """Of a `Timestamp`. Raises ValueError for a day or an hour that does not exist."""
    return datetime.fromisoformat(timestamp.upper()).timestamp()


def _timestamp(text: str) -> str:
    try:
        unix_time(text)
    except ValueError as error:
        raise ValueError(f"{quote(text)} does not exist: {error}") from None
    return text


def _no_password(url: str) -> str:
    if url == "embedded":
        return url
    try:
        password = urlsplit(url).password
    except ValueError as error:
        raise ValueError(f"should be a URL, and cannot be read as one: {error}") from error
    if password is not None or "password=" in url:
        raise ValueError("a password is never written here: give {url: {env: NAME}} or {url: {file: PATH}}")
    return url


Name = Annotated[
    str,
    Form(
        r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,127}",
        "a name of at most 128 letters, digits and . _ : / @ + -, beginning with a letter or digit",
    ),
]
NameOrAny = Annotated[str, Form(r"\*|[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,127}", 'a name, or "*" for all')]
ClusterName = Annotated[str, Form(r"[!-~]{1,255}", "the name of an Envoy cluster, without spaces")]
Text = Annotated[str, Form(r"[\s\S]*\S[\s\S]*", "some text")]
HeaderName = Annotated[str, Form(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", "the name of a header"), AfterValidator(_lower)]
OwnHeader = Annotated[
    str,
    Form(r"[Xx]-[Ww][Ii][Ss][Ss][Ee][Ll]-[0-9A-Za-z_.-]+", 'the name of a header that begins with "x-wissel-"'),
    AfterValidator(_lower),
]
KeySourceName = Annotated[
    str,
    Form(_KEY_SOURCE, "one of principal, conversation, request, header:NAME, claim:NAME"),
    AfterValidator(_lower_header),
]
Address = Annotated[
    str, Form(_HOST_PORT, 'an address such as "127.0.0.1:8081" or "[::1]:8081"'), AfterValidator(_port_exists)
]
ProcessorAddress = Annotated[
    str,
    Form(rf"{_HOST_PORT}|unix:/\S+", 'an address such as "127.0.0.1:50051" or "unix:/run/wissel.sock"'),
    AfterValidator(_port_exists),
]
BaseUrl = Annotated[
    str,
    Form(r"https?://[^\s?#@]+", "a URL that begins with http:// or https://, such as http://127.0.0.1:8000/v1"),
]
PathPattern = Annotated[
    str,
    Form(r"[/*][^\s?#]*", 'a pattern of paths that begins with "/" or "*", such as "/v1/*"'),
    AfterValidator(_lower),
]
PathPrefix = Annotated[
    str,
    Form(r"/(?:[^\s?#/]+/?)*", 'a path that begins with "/", without "//", "?" and "#"'),
    AfterValidator(_path_prefix),
]
Sha256 = Annotated[
    str,
    Form(r"[0-9A-Fa-f]{64}", "the SHA-256 of the secret, 64 hex digits (`wissel keys` makes one)", hidden=True),
    AfterValidator(_lower),
]
RedisUrl = Annotated[
    str,
    Form(
        r"embedded|(?:rediss?|unix)://\S+",
        '"embedded" or a URL that begins with redis://, rediss:// or unix://',
        hidden=True,
    ),
    AfterValidator(_no_password),
]
LimitedPer = Annotated[
    str,
    Form(
        r"principal|group|model|route|header:[!#$%&'*+.^_`|~0-9A-Za-z-]+",
        "one of principal, group, model, route, header:NAME",
    ),
    AfterValidator(_lower_header),
]
WholeRate = Annotated[str, Form(r"[1-9][0-9]{0,11}/[smhd]", "a number in a time, such as 600/m (s, m, h or d)")]
MoneyRate = Annotated[
    str,
    Form(
        r"(?:[1-9][0-9]{0,6}(?:\.[0-9]{1,9})?|0\.[0-9]{0,8}[1-9])/[smhd]",
        "dollars in a time, such as 500/d or 0.50/h (s, m, h or d)",
    ),
]
Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
Hours = Annotated[
    str,
    Form(
        r"(?:[01][0-9]|2[0-3]):[0-5][0-9]-(?:(?:[01][0-9]|2[0-3]):[0-5][0-9]|24:00)",
        'two times of the day, such as "09:00-17:30"',
    ),
]
ZoneName = Annotated[
    str, Form(r"[A-Za-z0-9_+/-]{1,64}", "the name of a time zone, such as Europe/Amsterdam"), AfterValidator(_zone)
]
Timestamp = Annotated[
    str,
    Form(
        r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(?:[Zz]|[+-][0-9]{2}:[0-9]{2})",
        'a time such as "2027-01-31T09:00:00Z", with Z or a distance from UTC',
    ),
    AfterValidator(_timestamp),
]
_UNIT_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


def _duration(value: Any) -> Any:  # whatever stands in the file
    if isinstance(value, float):
        return value
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)", value) if isinstance(value, str) else None
    if found is None:
        shown = quote(value) if isinstance(value, str) else "something else"
        raise ValueError(f'should be a duration such as "150ms", "30s", "10m" or "1h", and is {shown}')
    return float(found[1]) * _UNIT_SECONDS[found[2]]


Duration = Annotated[
    float,
    BeforeValidator(_duration),
    PlainSerializer(lambda seconds: f"{seconds}s"),
    WithJsonSchema({"type": "string", "pattern": r"^\d+(\.\d+)?(ms|s|m|h|d)$"}),
]
"""Written with its unit, read in seconds."""

_AMOUNT = r"^\d+(\.\d+)?(%|ms|s)?$"

Amount = Annotated[
    str,
    Form(r"\d+(?:\.\d+)?(?:%|ms|s)?", 'a number, a share such as "10%" or a duration such as "1500ms"'),
    WithJsonSchema({"anyOf": [{"type": "number", "minimum": 0}, {"type": "string", "pattern": _AMOUNT}]}),
]

SetOf = Annotated[
    frozenset[T],
    Field(min_length=1),
    # Sorted, so that equal sets have one revision.
    PlainSerializer(lambda found: sorted(found)),  # noqa: PLW0108  # sorted() itself has no signature to inspect
]


class Section(BaseModel):
    """What every part of the file shares: unknown keys are errors, and nothing changes once read."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


def _shape(value: Any) -> str:
    return "<mapping>" if isinstance(value, dict | BaseModel) else "<word>"


WORD_OR_MAPPING = Discriminator(_shape)
"""For `word | {...}`: the error is then about the form that was written."""


def _one_of(*names: str) -> Callable[[dict[str, Any]], None]:
    def restrict(schema: dict[str, Any]) -> None:
        schema["oneOf"] = [{"required": [name]} for name in names]

    return restrict


class Secret(Section):
    """A secret kept elsewhere: in an environment variable or a file."""

    model_config = ConfigDict(json_schema_extra=_one_of("env", "file"))

    env: Annotated[str, Form(r"[A-Za-z_][A-Za-z0-9_]*", "the name of an environment variable", hidden=True)] | None = (
        None
    )
    """The environment variable that holds it."""
    file: Text | None = None
    """The file that holds it, relative to the working directory; white space around it is cut off."""

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.env is None) == (self.file is None):
            raise ValueError("should have either env or file")
        return self


def _never_inline(value: Any) -> Any:
    if _shape(value) != "<mapping>":
        raise ValueError(SECRET_HINT)
    return value


SecretRef = Annotated[Secret, BeforeValidator(_never_inline)]


def _forward(value: Any) -> Any:
    if value != "forward":
        raise ValueError(f"{SECRET_HINT}, or forward to pass the caller's own on")
    return value


CredentialRef = Annotated[
    Annotated[Secret, Tag("<mapping>")] | Annotated[Literal["forward"], BeforeValidator(_forward), Tag("<word>")],
    WORD_OR_MAPPING,
]


class ServerTls(Section):
    """TLS of a listener."""

    cert: Text
    """File of the certificate chain, PEM."""
    key: Text
    """File of the private key, PEM."""
    client_ca: Text | None = None
    """File of the authorities whose clients may connect (mutual TLS); without it any client may."""


class Listen(Section):
    """Where wissel listens."""

    ext_proc: ProcessorAddress = "127.0.0.1:50051"
    """Address of the external processor, for Envoy: host:port or unix:/path."""
    admin: Address = LOOPBACK_ADMIN
    """Address of the admin API and the console; beyond loopback it needs `admin.token`."""
    tls: ServerTls | None = None
    """TLS of the external processor's listener; without it Envoy connects in plain text."""
    max_body_bytes: Annotated[int, Field(ge=1024, le=256 * 1024 * 1024)] = 32 * 1024 * 1024
    """A call with a larger body is answered 413; `wissel envoy` gives Envoy the same limit."""


class Admin(Section):
    """The admin API and the console."""

    token: SecretRef | None = None
    """What callers of the admin API must send as bearer token; required if `listen.admin` is not loopback."""
    viewer_token: SecretRef | None = None
    """A token for those who only look: it reads everything and changes nothing; it needs `token` beside it."""

    @model_validator(mode="after")
    def _two(self) -> Self:
        if self.viewer_token is not None and self.token is None:
            raise ValueError("viewer_token needs token beside it: without one everybody here may do everything")
        return self


class Redis(Section):
    """A Redis whose URL holds a password."""

    url: SecretRef
    """The URL, kept in an environment variable or a file."""


class Price(Section):
    """What a model costs, in USD per million tokens."""

    input: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    """Of the prompt."""
    output: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    """Of the answer."""


class Model(Section):
    """A model that can serve requests."""

    name: Name
    """What policies, metrics and clients call it."""
    cluster: ClusterName
    """The Envoy cluster that serves it."""
    upstream_model: Text = Field(default_factory=lambda data: data["name"])
    """What the body's `model` says upstream; the name if not given."""
    apis: SetOf[Api] = frozenset(("chat", "completions"))
    """The APIs that it serves."""
    accepts: SetOf[Modality] = frozenset(("text",))
    """What it can read."""
    context: Annotated[int, Field(gt=0)] | None = None
    """Tokens of input and output together; without it no request is too long."""
    credential: CredentialRef | None = None
    """What authenticates the request upstream; `forward` passes the caller's own credential on."""
    price: Price | None = None
    """What it costs; without it nothing is counted as spent."""


class Passthrough(Section):
    """Paths that are no LLM calls."""

    path_prefix: PathPrefix
    """Paths that are this one or lie below it."""
    cluster: ClusterName
    """The Envoy cluster that serves them."""
    upgrade: bool = False
    """Whether a connection may be upgraded there, as to a websocket; anywhere else an upgrade is refused."""


def _auto_or(least: int) -> Callable[[Any], Any]:
    """Reads `auto`, or a number from `least` to 1."""

    def read(value: Any) -> Any:  # whatever stands in the file
        try:
            if value == "auto" or least <= float(value) <= 1:
                return value if value == "auto" else float(value)
        except (TypeError, ValueError):
            pass
        shown = quote(value) if isinstance(value, str) else "something else"
        raise ValueError(f"should be auto or a number from {least} to 1, and is {shown}")

    return read


class EmbeddingClassifier(Section):
    """Compares the conversation with the routes' phrases by sentence embeddings."""

    type: Literal["embedding"]
    """Which classifier."""


RouterProfile = Literal["arch_router", "plano_orchestrator"]


class ArchRouterClassifier(Section):
    """A router model in this process, through PyTorch; needs wissel[torch]."""

    type: Literal["arch_router"]
    """Which classifier."""
    model: Text
    """A local path, or a hub id that is downloaded. The weights are not wissel's: Arch-Router's own carry a research
    licence that is not an open one, so read what you name here before you use it."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where it computes; auto takes a GPU where there is one."""
    dtype: Literal["auto", "bfloat16", "float32"] = "auto"
    """The numbers that it computes with; auto takes what is fast on the device."""
    profile: RouterProfile = "arch_router"
    """The family of the model, which says how it is asked: Arch-Router, or its successor Plano-Orchestrator."""
    budget: Annotated[int, Field(gt=0)] | None = None
    """Tokens of instructions and conversation together that it is shown; the family's own if not given."""


class RemoteClassifier(Section):
    """A router model behind servers that speak OpenAI's protocol, such as vLLM."""

    type: Literal["remote"]
    """Which classifier."""
    endpoints: Annotated[tuple[BaseUrl, ...], Field(min_length=1)]
    """Their base URLs, up to /v1; one that fails is left alone for a while."""
    model: Text
    """The name under which they serve the router model."""
    api_key: SecretRef | None = None
    """What they want as bearer token."""
    profile: RouterProfile = "arch_router"
    """The family of the model, which says how it is asked."""
    budget: Annotated[int, Field(gt=0)] | None = None
    """Tokens of instructions and conversation together that it is shown; the family's own if not given."""
    guide: Literal["json_schema", "choice", "guided_choice", "regex", "grammar", "none"] = "json_schema"
    """How the servers are held to the legal answers: json_schema is OpenAI's own way, choice is vLLM's (guided_choice
    before 0.11), regex SGLang's, grammar llama.cpp's."""
    timeout_ms: Annotated[int, Field(gt=0, le=60_000)] | None = None
    """Milliseconds for all attempts together; a little under `intent.deadline_ms` if not given."""
    attempts: Annotated[int, Field(gt=0, le=10)] = 2
    """Endpoints that are asked before it gives up."""


def _classifier_tag(value: Any) -> str:  # whatever stands in the file
    found: Any = cast("dict[str, Any]", value).get("type") if isinstance(value, dict) else getattr(value, "type", None)
    return f"<{found}>"


Stage = Annotated[
    Annotated[EmbeddingClassifier, Tag("<embedding>")]
    | Annotated[ArchRouterClassifier, Tag("<arch_router>")]
    | Annotated[RemoteClassifier, Tag("<remote>")],
    Discriminator(_classifier_tag),
]


def _two_or_more(value: Any) -> Any:  # whatever stands in the file
    if isinstance(value, list) and len(cast("list[Any]", value)) < 2:
        raise ValueError("should be at least two classifiers, the cheapest first")
    return cast("Any", value)


class CascadeClassifier(Section):
    """Cheap classifiers first; what they are not sure of goes on to the next."""

    type: Literal["cascade"]
    """Which classifier."""
    stages: Annotated[tuple[Stage, ...], Field(min_length=2), BeforeValidator(_two_or_more)]
    """The classifiers, the cheapest first; one that is late or fails leaves the answer of the one before it."""
    margin: Annotated[Literal["auto"] | Annotated[float, Field(ge=0, le=1)], BeforeValidator(_auto_or(0))] = "auto"
    """How near another answer a stage's scores may come before the next one is asked; auto learns it from the routes'
    own examples."""
    max_escalated: Annotated[float, Field(ge=0, le=1)] = 0.5
    """The share of requests that each stage may pass on; beyond it the stage's own answer counts."""


Classifier = Annotated[
    Annotated[EmbeddingClassifier, Tag("<embedding>")]
    | Annotated[ArchRouterClassifier, Tag("<arch_router>")]
    | Annotated[RemoteClassifier, Tag("<remote>")]
    | Annotated[CascadeClassifier, Tag("<cascade>")],
    Discriminator(_classifier_tag),
]


class Intent(Section):
    """How the intent of a conversation is found."""

    classifier: Classifier = Field(default_factory=lambda: EmbeddingClassifier(type="embedding"))
    """Which classifier scores the routes."""
    threshold: Annotated[Literal["auto"] | Annotated[float, Field(ge=-1, le=1)], BeforeValidator(_auto_or(-1))] = "auto"
    """The score below which the intent is "other"; auto learns it from the routes' own phrases."""
    deadline_ms: Annotated[int, Field(gt=0, le=60_000)] = 150
    """Milliseconds that a request waits for the classifier; after them it takes the fallback."""
    fallback: Name | None = None
    """The route for intent "other", and for a classifier that is late or fails; required where there are routes."""


class Route(Section):
    """An intent in your words, and what serves it."""

    name: Name
    """What metrics, rules and headers call it."""
    target: Name
    """The model, split, rollout or tier that serves it."""
    description: Text | None = None
    """What requests of this intent are about; the classifier reads it."""
    domain: Text | None = None
    """The field that it belongs to, such as programming."""
    action: Text | None = None
    """What is done there, such as fix."""
    examples: tuple[Text, ...] = ()
    """What users would write."""


class Variant(Section):
    """One arm of a split."""

    model: Name
    """The model that serves it."""
    weight: Annotated[int, Field(ge=0, le=1_000_000)]
    """Its share, as a part of the sum of all weights; 0 serves nobody."""
    name: Name = Field(default_factory=lambda data: data["model"])
    """What metrics and headers call it; the model's name if not given."""


class Split(Section):
    """Traffic divided among models by a targeting key."""

    name: Name
    """What routes, aliases and callers name."""
    key: Annotated[tuple[KeySourceName, ...], Field(min_length=1)] = ("header:x-session-id", "conversation")
    """Where the targeting key is, first one present: principal, conversation, request, header:NAME or claim:NAME."""
    variants: Annotated[tuple[Variant, ...], Field(min_length=1)]
    """The arms; a request without a key gets the first."""


class QualityRouter(Section):
    """What predicts how often the strong model answers better."""

    type: Literal[
        "similarity",
        "factorization",
        "neighbours",
        "intent",
        "encoder",
        "causal",
        "random",
        "length",
        "always_strong",
        "always_weak",
    ]
    """Which kind of router; the last four learn nothing."""
    path: Text | None = None
    """The folder that `wissel tier train` wrote, relative to the working directory."""

    @model_validator(mode="after")
    def _trained(self) -> Self:
        if (self.path is None) != (self.type in UNTRAINED):
            wrong = "no path: it learns nothing" if self.path else "path: the folder that `wissel tier train` wrote"
            raise ValueError(f"the router {quote(self.type)} should have {wrong}")
        return self


class Tier(Section):
    """A strong and a weak target, between which each request's predicted difficulty decides."""

    model_config = ConfigDict(json_schema_extra=_one_of("strong_share", "threshold"))

    name: Name
    """What routes, aliases and callers name."""
    strong: Name
    """The model, split or rollout for hard requests."""
    weak: Name
    """The model, split or rollout for the others."""
    router: QualityRouter
    """What predicts the win rate of the strong end."""
    strong_share: Annotated[float, Field(gt=0, lt=1)] | None = None
    """The part of the requests that the strong end may have; the threshold moves to hold it."""
    threshold: Annotated[float, Field(ge=0, le=1)] | None = None
    """A fixed win rate at or above which the strong end is asked."""
    threshold_min: Annotated[float, Field(ge=0, le=1)] = 0.0
    """The lowest that a moving threshold may get, whatever the share is then."""
    threshold_max: Annotated[float, Field(ge=0, le=1)] = 1.0
    """The highest."""
    fallback: Literal["strong", "weak"] = "strong"
    """The end for requests without text, and for a router that is late or fails."""
    deadline_ms: Annotated[int, Field(gt=0, le=60_000)] = 150
    """Milliseconds that a request waits for the router; after them it takes the fallback."""

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.strong_share is None) == (self.threshold is None):
            raise ValueError("should have either strong_share or threshold")
        if self.threshold_min > self.threshold_max:
            raise ValueError("threshold_min should be at most threshold_max")
        return self


class HeaderCondition(Section):
    """What a header's value must be."""

    model_config = ConfigDict(json_schema_extra=_one_of("exact", "prefix", "suffix"))

    exact: str | None = None
    """The whole value."""
    prefix: str | None = None
    """How it begins."""
    suffix: str | None = None
    """How it ends."""

    @model_validator(mode="after")
    def _one(self) -> Self:
        if sum(value is not None for value in (self.exact, self.prefix, self.suffix)) != 1:
            raise ValueError("should have exactly one of exact, prefix, suffix")
        return self


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
    prefix: str = "jwt:"
    """Put before the caller's name, so that no token can speak for an API key; rules name it with the prefix."""


class EnvoyIdentity(Section):
    """An identity that another filter of Envoy's has verified before."""

    namespace: Text = "envoy.filters.http.jwt_authn"
    """The namespace of the dynamic metadata that it is left in; Envoy must be told to forward it to wissel."""
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


class Weight(Section):
    """A step that gives the canary a share of the keys."""

    set_weight: Annotated[int, Field(ge=0, le=100)]
    """Percent of the targeting keys."""


class PauseFor(Section):
    """How long to stand still."""

    duration: Duration | None = None
    """Such as 10m; without it the rollout waits until it is promoted by hand."""


class Pause(Section):
    """A step that stands still."""

    pause: PauseFor
    """{duration: 10m}, or {} to wait until promoted."""


class Inspection(Section):
    """What an analysis step asks for."""

    duration: Duration = 0.0
    """How long it takes at least."""
    proof: Literal["non_inferior"] | None = None
    """Ask for proof that the canary is no worse, not only for no sign that it is."""


class AnalysisStep(Section):
    """A step that waits until a look at the evidence finds nothing against the canary."""

    analysis: Inspection
    """{} for one good look; {duration: 5m}, {proof: non_inferior}."""


def _step_shape(value: Any) -> str:  # whatever stands in the file
    found = cast("dict[str, Any]", value if isinstance(value, dict) else getattr(value, "__dict__", {}))
    return next((f"<{name}>" for name in ("set_weight", "pause", "analysis") if name in found), "<set_weight>")


Step = Annotated[
    Annotated[Weight, Tag("<set_weight>")]
    | Annotated[Pause, Tag("<pause>")]
    | Annotated[AnalysisStep, Tag("<analysis>")],
    Discriminator(_step_shape),
]


class Metric(Section):
    """What a canary is judged by: a fixed limit, a guard, or a comparison with stable."""

    name: Name
    """A built-in metric, such as error_rate or latency_p95, or a name of yours for what `query` gives."""
    query: Text | None = None
    """A Prometheus query that gives one number; takes fixed limits only, and needs `analysis.prometheus`."""
    max: Amount | None = None
    """The canary's value may not be higher."""
    min: Amount | None = None
    """The canary's value may not be lower."""
    guard: bool = False
    """Act at once when `max` is passed, as soon as min_requests (50) are in."""
    allowed_increase: Amount | None = None
    """How much higher than stable's the canary's value may be: a number, or a share such as 10%."""
    allowed_decrease: Amount | None = None
    """How much lower than stable's it may be."""
    failure_limit: Annotated[int, Field(ge=0)] = 0
    """How many blocks of min_requests may miss a fixed limit before the rollout fails."""
    min_requests: Annotated[int, Field(gt=0)] | None = None
    """Canary requests that a guard needs (50), and in a block of a fixed limit (100)."""
    dry_run: bool = False
    """Measure and tell, and do nothing."""

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        comparisons = [each for each in (self.allowed_increase, self.allowed_decrease) if each is not None]
        limits = [each for each in (self.max, self.min) if each is not None]
        if (len(comparisons) == 1) == bool(limits):
            raise ValueError("should have either max or min, or one of allowed_increase and allowed_decrease")
        if self.guard and (self.max is None or self.min is not None):
            raise ValueError("a guard should have max alone")
        if self.guard and self.query:
            raise ValueError("a guard looks at requests; a query takes a fixed limit without guard")
        if comparisons and (self.failure_limit or self.min_requests or self.query):
            raise ValueError("a comparison takes neither failure_limit nor min_requests nor query")
        return self


class Analysis(Section):
    """How a rollout is judged."""

    interval: Duration = 30.0
    """Time between two looks."""
    min_requests: Annotated[int, Field(gt=0)] = 100
    """Canary requests before a comparison says anything, in every step."""
    alpha: Annotated[float, Field(gt=0, lt=0.5)] = 0.01
    """Chance that a canary as good as stable is ever judged worse, over all comparisons together."""
    metrics: Annotated[tuple[Metric, ...], Field(min_length=1)]
    """What is measured; none of them may fail."""
    on_no_data: Literal["hold", "rollback", "continue"] = "hold"
    """What to do when it cannot be measured, after consecutive_error_limit looks."""
    inconclusive_limit: Annotated[int, Field(ge=0)] = 0
    """Inconclusive looks that are put up with before the rollout pauses for a human."""
    consecutive_error_limit: Annotated[int, Field(ge=0)] = 4
    """Looks in a row that may fail to measure."""
    prometheus: Annotated[str, Form(r"https?://\S+", "a URL that begins with http:// or https://")] | None = None
    """The Prometheus that answers `query`."""


class Target(Section):
    """Callers that get the canary whatever its weight; all conditions must hold."""

    headers: Annotated[dict[HeaderName, HeaderCondition], Field(min_length=1)] | None = None
    """Conditions on request headers."""
    claims: Annotated[dict[Text, HeaderCondition], Field(min_length=1)] | None = None
    """Conditions on claims of the caller's token."""

    @model_validator(mode="after")
    def _some(self) -> Self:
        if self.headers is None and self.claims is None:
            raise ValueError("should have headers or claims")
        return self


class Webhook(Section):
    """A URL that is told of a rollout, or asked."""

    type: Literal["event", "confirm_promotion"]
    """event: told of every move; confirm_promotion: asked before the last move, 2xx lets it happen."""
    url: Annotated[str, Form(r"https?://\S+", "a URL that begins with http:// or https://")]
    """Gets a POST with JSON."""


class Rollout(Section):
    """A new model that takes over step by step, or is taken back."""

    name: Name
    """What routes, aliases and callers name."""
    stable: Name
    """The model that serves today."""
    canary: Name
    """The model that is to take over."""
    key: Annotated[tuple[KeySourceName, ...], Field(min_length=1)] = ("header:x-session-id", "conversation")
    """Where the targeting key is looked for, as in a split; a request without one is served by stable."""
    match: Target | None = None
    """Callers that get the canary whatever its weight, while the rollout is under way."""
    baseline: bool = False
    """Compare the canary with an arm of its own size that stable's model serves, instead of with all of stable."""
    steps: Annotated[tuple[Step, ...], Field(min_length=1)]
    """In order: set_weight, pause, analysis; after the last one the canary is promoted to 100 %."""
    analysis: Analysis | None = None
    """How it is judged; without it only time and humans decide."""
    on_failure: Literal["rollback", "pause"] = "rollback"
    """What to do when the canary fails; a guard always rolls back."""
    webhooks: tuple[Webhook, ...] = ()
    """Who is told, and asked."""


class Key(Section):
    """An API key of a caller."""

    id: Name
    """The principal that it stands for."""
    sha256: Sha256
    """SHA-256 of the whole secret as the caller sends it, in hex."""
    groups: Annotated[frozenset[Text], PlainSerializer(lambda found: sorted(found))] = frozenset()  # noqa: PLW0108  # as above
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
    on_store_failure: Literal["local", "permit", "forbid"] = "local"
    """What limits do while Redis is away: each replica counts its part, all pass, or all are refused."""
    allow_headers: Annotated[
        frozenset[OwnHeader],
        PlainSerializer(lambda found: sorted(found)),  # noqa: PLW0108  # as above
    ] = frozenset()
    """x-wissel-* headers that callers may set themselves; the others are removed from their requests."""


class Telemetry(Section):
    """What wissel tells about itself."""

    prometheus: bool = True
    """Serve /metrics on the admin listener."""


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


class Envoy(Section):
    """What `wissel envoy` writes into Envoy's bootstrap; a mesh that configures Envoy itself needs none of it."""

    listen: Address = "127.0.0.1:10000"
    """Where Envoy listens for callers."""
    admin: Address = "127.0.0.1:9901"
    """Where Envoy's own admin page listens."""
    processors: Annotated[tuple[ProcessorAddress, ...], Field(min_length=1)] | None = None
    """Every replica or worker of wissel; `listen.ext_proc` if not given."""
    clusters: tuple[Cluster, ...] = ()
    """The upstreams that models and passthrough name."""


class Config(Section):
    """Configuration of wissel, the Envoy external processor for LLM traffic."""

    listen: Listen = Field(default_factory=Listen)
    """Where wissel listens."""
    admin: Admin = Field(default_factory=Admin)
    """The admin API and the console."""
    redis: (
        Annotated[Annotated[RedisUrl, Tag("<word>")] | Annotated[Redis, Tag("<mapping>")], WORD_OR_MAPPING] | None
    ) = None
    """Where replicas share state: a URL without password, {url: {env: NAME}}, or embedded: a server of wissel's own."""
    namespace: Name = "default"
    """Installations that share a Redis and should not share state take different ones."""
    models: Annotated[tuple[Model, ...], Field(min_length=1)]
    """The models that can serve."""
    entrypoints: tuple[Name, ...] = ()
    """Model names that are routed by intent, such as auto."""
    passthrough: tuple[Passthrough, ...] = ()
    """Paths that are no LLM calls and go on under the same access rules; any other path is refused."""
    aliases: dict[Name, Name] = Field(default_factory=dict)
    """Other names that clients may ask for, each for a model, split, rollout or tier."""
    intent: Intent = Field(default_factory=Intent)
    """How the intent of a conversation is found."""
    routes: tuple[Route, ...] = ()
    """The intents, and what serves each."""
    splits: tuple[Split, ...] = ()
    """Experiments: names behind which several models share the traffic."""
    rollouts: tuple[Rollout, ...] = ()
    """Models that take over step by step, judged on evidence; they need `redis`."""
    tiers: tuple[Tier, ...] = ()
    """Names behind which a strong and a weak target share the traffic by difficulty."""
    access: Access | None = None
    """Who may use what; without it everyone may use everything."""
    telemetry: Telemetry = Field(default_factory=Telemetry)
    """What wissel tells about itself."""
    envoy: Envoy | None = None
    """Read by `wissel envoy` and `wissel demo` only: where Envoy listens and what its clusters are."""

    @property
    def processors(self) -> tuple[str, ...]:
        """Where Envoy finds wissel."""
        return (self.envoy.processors if self.envoy else None) or (self.listen.ext_proc,)


def host_and_port(address: str) -> tuple[str, int]:
    """The parts of a checked `host:port`; of an IPv6 address without the brackets."""
    host, _, port = address.rpartition(":")
    return host.removeprefix("[").removesuffix("]"), int(port)


def worker_address(address: str, worker: int) -> str:
    """Where a worker listens if the first of them listens on `address`: a port further on, or a socket beside it."""
    if worker == 0:
        return address
    if address.startswith("unix:"):
        return f"{address}.{worker}"
    host, _, port = address.rpartition(":")
    return f"{host}:{int(port) + worker}"


class _Strict(GenerateJsonSchema):
    """The file has no null: what is not wanted is left out."""

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        found = super().default_schema(schema)
        if found.get("default", "") is None:
            del found["default"]
        return found


def json_schema() -> dict[str, Any]:
    """The JSON Schema of the file, for editors and other programs."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Config.model_json_schema(schema_generator=_Strict),
    }
