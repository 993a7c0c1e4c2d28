"""What serves: models, and paths that are no LLM calls."""

from typing import Annotated

from pydantic import Field

from wissel.config.model.forms import ApiName, ClusterName, Name, PathPrefix, SetOf, Text
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


class Model(Section):
    """A model that can serve requests."""

    name: Name
    """What policies, metrics and clients call it."""
    cluster: ClusterName
    """The Envoy cluster that serves it."""
    upstream_model: Text = Field(default_factory=lambda data: data["name"])
    """What the body's `model` says upstream; the name if not given."""
    apis: SetOf[ApiName] = frozenset(("chat", "completions"))
    """The APIs that it serves."""
    accepts: SetOf[Modality] = frozenset(("text",))
    """What it can read. Of embeddings: where this is not given, whatever its server takes."""
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
    names_models: bool = True
    """Whether a form or a JSON object that is sent there names a model in `model`. Where rules speak of models it is
    then read, is under them like any call, and may not be larger than `listen.max_body_bytes`. With false it goes past
    unread, as large uploads must."""
