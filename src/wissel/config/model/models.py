"""What serves: models, and paths that are no LLM calls."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from wissel.apis.providers import usual_apis
from wissel.config.model.forms import (
    ApiName,
    ApiVersion,
    ClusterName,
    Duration,
    ForwardedHeaders,
    InJson,
    Name,
    ParamName,
    ParamNames,
    PathPrefix,
    ProviderName,
    SetOf,
    Text,
)
from wissel.config.model.section import CredentialRef, Section
from wissel.core.request import Modality


class Price(Section):
    """What a model costs, in USD per million tokens."""

    input: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    """Of the prompt."""
    output: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    """Of the answer."""
    cached_input: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    """Of the part of the prompt that the provider read from its cache; as `input` if not given."""


class Timeouts(Section):
    """How long a model's server may take."""

    connect: Duration | None = None
    """To accept a connection, 5 s if not given; of several models of one cluster the longest holds."""
    first_token: Duration | None = None
    """To begin an answer, counted from the whole request; of an answer that is no stream, to have written it. Later
    it has failed. What the chosen model says holds for its fallbacks of that request too."""


class Model(Section):
    """A model that can serve requests."""

    name: Name
    """What policies, metrics and clients call it."""
    cluster: ClusterName
    """The Envoy cluster that serves it."""
    upstream_model: Text = Field(default_factory=lambda data: data["name"])
    """What the body's `model` says upstream; the name if not given."""
    provider: ProviderName | None = None
    """Whose habits its server has: its path, which header shows the credential, what else it demands, and which APIs
    it has at all. If not given, anthropic where messages is the only API, else openai, which most servers follow."""
    api_version: ApiVersion | None = None
    """The version of azure's API that each request names; its calls then go to the deployment `upstream_model`.
    Without it they go to azure's /openai/v1, which wants none."""
    apis: SetOf[ApiName] = Field(default_factory=lambda data: usual_apis(data.get("provider")))
    """The APIs that it serves; if not given, messages of anthropic, else chat and completions, as far as its provider
    has them."""
    accepts: SetOf[Modality] = frozenset(("text",))
    """What it can read. Of embeddings: where this is not given, whatever its server takes."""
    context: Annotated[int, Field(gt=0)] | None = None
    """Tokens of input and output together; without it no request is too long."""
    credential: CredentialRef | None = None
    """What authenticates the request upstream: a secret, by default in the provider's header; `forward` passes the
    caller's own credential on."""
    forward_headers: ForwardedHeaders = frozenset()
    """Headers of callers that its server gets although they are withheld by default: cookies, other providers' keys,
    and what says which account pays, such as openai-organization."""
    stream_usage: Literal["ask", "never"] = "ask"
    """Whether a stream is asked to tell its usage, by `stream_options`, where the caller did not ask; never for servers
    that refuse it. What a server refuses is remembered until the next start."""
    defaults: Annotated[dict[ParamName, InJson], Field(max_length=32)] = Field(default_factory=dict[str, Any])
    """Members of a body that its server needs and callers may leave out, such as max_tokens: put in where the caller
    wrote none. A limit of the answer is put in only where the API that is called has it by that name."""
    drop_params: ParamNames = frozenset()
    """Members of a body that its server refuses, such as temperature: taken out, and named to the caller in
    x-wissel-dropped."""
    price: Price | None = None
    """What it costs; without it nothing is counted as spent."""
    fallbacks: tuple[Name, ...] = ()
    """Models that are asked in this order where it fails: those that the same caller may use and that can serve the
    request."""
    timeouts: Timeouts = Field(default_factory=Timeouts)
    """How long its server may take."""


class Passthrough(Section):
    """Paths that are no LLM calls."""

    path_prefix: PathPrefix
    """Paths that are this one or lie below it."""
    cluster: ClusterName
    """The Envoy cluster that serves them."""
    credential: CredentialRef | None = None
    """What authenticates the request upstream, as of a model; without it a key that wissel took goes nowhere."""
    provider: ProviderName | None = None
    """As of a model; if not given, that of the models of the same cluster where they have one, else openai."""
    api_version: ApiVersion | None = None
    """As of a model."""
    forward_headers: ForwardedHeaders = frozenset()
    """As of a model."""
    upgrade: bool = False
    """Whether a connection may be upgraded there, as to a websocket; anywhere else an upgrade is refused."""
    names_models: bool = True
    """Whether a form or a JSON object that is sent there names a model in `model`. Where rules speak of models it is
    then read, is under them like any call, and may not be larger than `listen.max_body_bytes`. With false it goes past
    unread, as large uploads must."""


class Health(Section):
    """When a model is left alone for a while, where others may serve in its place."""

    failures: Annotated[int, Field(ge=1, le=64)] = 5
    """So many failed attempts within `window`, and at least half of them all: then it is left out of plans. A model
    that answers 429 and says in retry-after when to come back is left out until then, 10 minutes at most."""
    window: Annotated[Duration, Field(ge=1, le=3600)] = 30.0
    """How far attempts are looked back at."""
    cooldown: Annotated[Duration, Field(ge=1, le=600)] = 20.0
    """How long it is left out; then one request tries it, and it serves again or is left out once more."""


class Failover(Section):
    """What happens where a model fails that has fallbacks, before anything of its answer went to the caller."""

    attempts: Annotated[int, Field(ge=1, le=10)] = 3
    """How many models are asked at most, the first included; 1 for no failover at all."""
    deadline: Duration = 120.0
    """After which no further model is asked, counted from the request."""
    statuses: Annotated[tuple[Annotated[int, Field(ge=400, le=599)], ...], Field(max_length=20)] = (429, 529)
    """With which a model has failed as well; all from 500 count anyway."""
    first_token: Literal["free", "held"] = "free"  # noqa: S105  of an answer
    """With `held` an answer begins for the caller once it says something: a model that begins and falls silent, or
    whose first event is an error, is followed by the next. `free` lets answers begin with their headers."""
    on_refusal: bool = False
    """Whether a model that refuses before its first word is followed by the next too; needs `first_token: held`."""
    accept_models: bool = False
    """Whether callers may say in the body's `models` who is asked in which order after the model, in place of its
    `fallbacks`; each has to be permitted to them as if they had named it. The member does not go on."""

    @property
    def holds(self) -> bool:
        """Whether an answer is held until it says something."""
        return self.first_token == "held"  # noqa: S105  of an answer

    @model_validator(mode="after")
    def _refusals_are_seen(self) -> Self:
        if self.on_refusal and not self.holds:
            raise ValueError("on_refusal needs first_token: held, as no refusal is seen before the answer has begun")
        return self
