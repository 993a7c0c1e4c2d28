"""The shapes of the configuration file, one class per section.

What one value must be is said here; what must be true between values (names
that exist, weights that add up) is in `references`. The docstring of a field
is its description in the JSON Schema, so it speaks to the operator.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self, TypeVar
from urllib.parse import urlsplit

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


class Admin(Section):
    """The admin API and the console."""

    token: SecretRef | None = None
    """What callers of the admin API must send as bearer token; required if `listen.admin` is not loopback."""


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


class EmbeddingClassifier(Section):
    """Compares the conversation with the routes' phrases by sentence embeddings."""

    type: Literal["embedding"]
    """Which classifier."""


def _threshold(value: Any) -> Any:
    try:
        if value == "auto" or -1 <= float(value) <= 1:
            return value if value == "auto" else float(value)
    except (TypeError, ValueError):
        pass
    shown = quote(value) if isinstance(value, str) else "something else"
    raise ValueError(f"should be auto or a number from -1 to 1, and is {shown}")


class Intent(Section):
    """How the intent of a conversation is found."""

    classifier: EmbeddingClassifier = Field(default_factory=lambda: EmbeddingClassifier(type="embedding"))
    """Which classifier scores the routes."""
    threshold: Annotated[Literal["auto"] | Annotated[float, Field(ge=-1, le=1)], BeforeValidator(_threshold)] = "auto"
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
    """The model, split or tier that serves it."""
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
    """The model or split for hard requests."""
    weak: Name
    """The model or split for the others."""
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


class Key(Section):
    """An API key of a caller."""

    id: Name
    """The principal that it stands for."""
    sha256: Sha256
    """SHA-256 of the whole secret as the caller sends it, in hex."""
    groups: Annotated[frozenset[Text], PlainSerializer(lambda found: sorted(found))] = frozenset()  # noqa: PLW0108  # as above
    """The groups that the principal belongs to."""


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
    shadow: bool = False
    """Count what the rule would change, and change nothing."""


class Access(Section):
    """Who may use what: a forbid wins, and what no rule permits is forbidden."""

    keys: tuple[Key, ...] = ()
    """API keys of callers."""
    rules: tuple[Rule, ...] = ()
    """The policy."""
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
    models: Annotated[tuple[Model, ...], Field(min_length=1)]
    """The models that can serve."""
    entrypoints: tuple[Name, ...] = ()
    """Model names that are routed by intent, such as auto."""
    passthrough: tuple[Passthrough, ...] = ()
    """Paths that are no LLM calls and go on under the same access rules; any other path is refused."""
    aliases: dict[Name, Name] = Field(default_factory=dict)
    """Other names that clients may ask for, each for a model, split or tier."""
    intent: Intent = Field(default_factory=Intent)
    """How the intent of a conversation is found."""
    routes: tuple[Route, ...] = ()
    """The intents, and what serves each."""
    splits: tuple[Split, ...] = ()
    """Experiments: names behind which several models share the traffic."""
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
