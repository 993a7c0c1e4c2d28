"""Whose servers speak the APIs, and what each wants besides a body: a row a provider.

A model's `provider` names its row, and a request that goes on is given what the
row says: the credential as the provider reads it, the headers that it demands,
its path. A provider is added by a row. What callers send for a gateway, or for
an account that is not theirs to choose, is withheld from every one of them.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Final


@dataclass(frozen=True, slots=True)
class CredentialHeader:
    """How a secret is shown."""

    name: str
    """Lower case."""
    prefix: str = ""
    """Before the secret."""


BEARER: Final = CredentialHeader("authorization", "Bearer ")


@dataclass(frozen=True, slots=True)
class Versions:
    """How servers are asked where each request names the version of their API that is meant."""

    field: str
    """Of the query."""
    path: str
    """In place of the provider's."""
    deployments: str
    """What follows it where a model is asked under its own path."""
    deployed: frozenset[str]
    """What is asked there, as it follows `/v1`."""


@dataclass(frozen=True, slots=True)
class Provider:
    """The habits of one provider's servers, and of servers that follow it."""

    name: str
    """As `models[].provider` has it."""
    apis: frozenset[str]
    """What its servers speak at all."""
    usual: frozenset[str]
    """What a model is taken to speak where the file does not say."""
    native: frozenset[str]
    """The APIs whose format is its own: a model that speaks no other is taken for one of its own."""
    credential: CredentialHeader
    credential_by_api: Mapping[str, CredentialHeader]
    """Where an API wants another."""
    headers: Mapping[str, str]
    """That its servers demand, lower case; what a caller says there itself stands."""
    path: str
    """Where its servers have what callers ask for under `/v1`."""
    versions: Versions | None
    """None where no version is named."""

    def shows(self, api: str) -> CredentialHeader:
        """How a call of an API shows its secret; "" for what is no call."""
        return self.credential_by_api.get(api, self.credential)


_OF_OPENAI: Final = frozenset({"chat", "completions", "responses", "embeddings"})


def _like_openai(name: str, *apis: str, path: str = "/v1", credential: CredentialHeader = BEARER) -> Provider:
    """Servers that speak some of OpenAI's APIs, and perhaps Anthropic's, and differ by little else."""
    return Provider(
        name=name,
        apis=frozenset(apis),
        usual=frozenset({"chat", "completions"}) & frozenset(apis),
        native=frozenset(),
        credential=credential,
        credential_by_api={},
        headers={},
        path=path,
        versions=None,
    )


OPENAI: Final = replace(_like_openai("openai", *_OF_OPENAI), native=_OF_OPENAI)

ANTHROPIC: Final = Provider(
    name="anthropic",
    apis=frozenset({"messages", "chat"}),
    usual=frozenset({"messages"}),
    native=frozenset({"messages"}),
    credential=CredentialHeader("x-api-key"),
    # What Anthropic has of OpenAI's API is for OpenAI's clients, and they know one way.
    credential_by_api={"chat": BEARER},
    headers={"anthropic-version": "2023-06-01"},
    path="/v1",
    versions=None,
)

AZURE: Final = replace(
    _like_openai("azure", *_OF_OPENAI, path="/openai/v1", credential=CredentialHeader("api-key")),
    versions=Versions(
        field="api-version",
        path="/openai",
        deployments="/deployments",
        deployed=frozenset({"/chat/completions", "/completions", "/embeddings"}),
    ),
)

_ROWS: Final = (
    OPENAI,
    ANTHROPIC,
    AZURE,
    # The endpoints that they have for OpenAI's clients; their own formats are others.
    _like_openai("gemini", "chat", "embeddings", path="/v1beta/openai"),
    _like_openai("bedrock", "chat", "responses", path="/openai/v1"),
    _like_openai("mistral", "chat", "embeddings"),
    _like_openai("groq", "chat", "responses", path="/openai/v1"),
    _like_openai("together", "chat", "completions", "embeddings"),
    # Servers of one's own; they read one way to show a key, whatever the API.
    _like_openai("vllm", "messages", *_OF_OPENAI),
    _like_openai("ollama", "messages", *_OF_OPENAI),
)
"""Facts of their documentation; docs/envoy.md says where each stands."""

PROVIDERS: Final[Mapping[str, Provider]] = {row.name: row for row in _ROWS}
"""By name."""


def provider_of(apis: Collection[str]) -> Provider:
    """Whose a server is that speaks these APIs and no others, where the file does not say."""
    return next((row for row in (OPENAI, ANTHROPIC) if row.native.issuperset(apis)), OPENAI)


def usual_apis(provider: str | None) -> frozenset[str]:
    """What a model of this provider speaks where the file does not say; of any server where that is not said either."""
    return PROVIDERS[provider or OPENAI.name].usual


OF_ACCOUNTS: Final = frozenset({"openai-organization", "openai-project", "x-goog-user-project"})
"""Headers that say which account pays, or whose data is meant: they belong to the credential beside them."""

OTHER_CREDENTIALS: Final = frozenset({"api-key", "x-goog-api-key", "x-amz-security-token", "ocp-apim-subscription-key"})
"""Headers in which servers take credentials that wissel itself never takes."""

OF_THE_WAY: Final = frozenset({"cookie", "proxy-authorization", "x-forwarded-client-cert"})
"""Headers that were meant for a gateway or a proxy on the way, and for nobody behind it."""

WITHHELD: Final = OF_ACCOUNTS | OTHER_CREDENTIALS | OF_THE_WAY
"""Headers of callers that no server gets unless `forward_headers` names them; the first two go on as well where the
caller's own credential does."""


def header_name(written: str) -> str:
    """The name under which a lower-case header is withheld: many servers read `_` as `-`."""
    return written.replace("_", "-")
