"""How the intent of a conversation is found: classifiers and routes."""

from collections.abc import Callable
from typing import Annotated, Any, Literal, cast

from pydantic import BeforeValidator, Discriminator, Field, Tag

from wissel.config.model.forms import BaseUrl, Duration, HeaderName, Name, TagName, Text, quote
from wissel.config.model.section import SecretRef, Section
from wissel.core.harness import BLOCKS


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


class StaticClassifier(Section):
    """A table of words that learns what embedding scores: twenty times faster and less often right; the first stage of
    a cascade. The encoder that teaches it is held as well."""

    type: Literal["static"]
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
    """Milliseconds for all attempts together, less than `intent.deadline_ms`; a little under it if not given."""
    attempts: Annotated[int, Field(gt=0, le=10)] = 2
    """Endpoints that are asked before it gives up."""


def _classifier_tag(value: Any) -> str:  # whatever stands in the file
    found: Any = cast("dict[str, Any]", value).get("type") if isinstance(value, dict) else getattr(value, "type", None)
    return f"<{found}>"


Stage = Annotated[
    Annotated[EmbeddingClassifier, Tag("<embedding>")]
    | Annotated[StaticClassifier, Tag("<static>")]
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
    own examples. A static stage that fewer than fifty of them, over all routes, speak for is left out."""
    max_escalated: Annotated[float, Field(ge=0, le=1)] = 0.5
    """The share of requests that each stage, a static one aside, may pass on; beyond it the stage's own answer
    counts."""


Classifier = Annotated[
    Annotated[EmbeddingClassifier, Tag("<embedding>")]
    | Annotated[StaticClassifier, Tag("<static>")]
    | Annotated[ArchRouterClassifier, Tag("<arch_router>")]
    | Annotated[RemoteClassifier, Tag("<remote>")]
    | Annotated[CascadeClassifier, Tag("<cascade>")],
    Discriminator(_classifier_tag),
]


class PackagedEncoder(Section):
    """One whose weights come as packages that `make` installs."""

    type: Literal["joint", "minilm", "use", "strong"] = "joint"
    """joint knows sixteen languages: MiniLM and the multilingual Universal Sentence Encoder together. minilm is English
    alone, use is cheaper and less sure. strong is joint and, for the requests it is least sure of, all-mpnet-base-v2
    beside USE, whose weights `make strong` installs."""
    max_escalated: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Of strong: the share of requests for which the large encoder is asked."""


class FolderEncoder(Section):
    """One of your own."""

    path: Text
    """A folder that `wissel encoder export` wrote."""


class RemoteEncoder(Section):
    """One behind a server that speaks OpenAI's embeddings API."""

    endpoint: BaseUrl
    """Its base URL, up to /v1."""
    model: Text
    """The name under which it serves the encoder."""
    api_key: SecretRef | None = None
    """What it wants as bearer token."""
    batch: Annotated[int, Field(gt=0, le=2048)] = 64
    """Texts of one call."""
    timeout_ms: Annotated[int, Field(gt=0, le=60_000)] = 5000
    """Milliseconds for one call; what a request waits is `intent.deadline_ms`."""


def _encoder_tag(value: Any) -> str:  # whatever stands in the file
    for name in ("path", "endpoint"):
        if name in cast("dict[str, Any]", value) if isinstance(value, dict) else hasattr(value, name):
            return f"<{name}>"
    return "<type>"


Encoder = Annotated[
    Annotated[PackagedEncoder, Tag("<type>")]
    | Annotated[FolderEncoder, Tag("<path>")]
    | Annotated[RemoteEncoder, Tag("<endpoint>")],
    Discriminator(_encoder_tag),
]


class Pin(Section):
    """Keeps a session on the route of its first request whose intent was found; access rules apply all the same."""

    header: HeaderName
    """The header that names the session; requests without it are classified each. Callers do not share sessions."""
    keep: Annotated[Duration, Field(ge=1)] = 1800.0
    """How long a route is kept after the session's last request. Each process keeps its own, so a session whose
    requests several workers or replicas serve is pinned in each of them apart, by the first that it meets there."""


class Intent(Section):
    """How the intent of a conversation is found."""

    classifier: Classifier = Field(default_factory=lambda: EmbeddingClassifier(type="embedding"))
    """Which classifier scores the routes."""
    encoder: Encoder = Field(default_factory=PackagedEncoder)
    """What turns texts into vectors, for the embedding classifier and for tiers: {type: joint}, {path: FOLDER} or
    {endpoint: URL, model: NAME}."""
    read: Annotated[int, Field(ge=64, le=16_384)] = 1024
    """Tokens of a conversation that are read, the newest first; of one turn never more than 256."""
    threshold: Annotated[Literal["auto"] | Annotated[float, Field(ge=-1, le=1)], BeforeValidator(_auto_or(-1))] = "auto"
    """The score below which the intent is "other"; auto learns it from the routes' own phrases."""
    deadline_ms: Annotated[int, Field(gt=0, le=60_000)] = 150
    """Milliseconds that a request waits for the classifier; after them it takes the fallback."""
    strip: tuple[TagName, ...] = BLOCKS
    """Tags of what clients put around a person's words: complete blocks of them are no intent, and a turn that holds
    nothing else is nobody's. A list of your own takes the place of the one that is known of Claude Code, Codex, Cline,
    Cursor and others; an empty one leaves everything in."""
    fallback: Name | None = None
    """The route for intent "other", and for a classifier that is late or fails; required where there are routes."""
    pin: Pin | None = None
    """Where sessions keep their route; without it each conversation stays on its own unless another is clearly
    better."""

    @property
    def stages(self) -> tuple[tuple[str, Classifier], ...]:
        """Every classifier that is asked, with its place in the file: a cascade's, or the only one."""
        place = "intent.classifier"
        if isinstance(self.classifier, CascadeClassifier):
            return tuple((f"{place}.stages[{at}]", stage) for at, stage in enumerate(self.classifier.stages))
        return ((place, self.classifier),)


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
