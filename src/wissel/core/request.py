"""What a caller asks for, whichever API it came through.

`apis.requests` parses bodies into these types once, at the edge; after that
nobody looks at JSON again. An API is known here by its name alone; what there
is to know of its format is a row of `apis.table`.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from wissel.core.affinity import Lead, MadeId

Modality = Literal["text", "image", "audio", "file", "video"]
"""What a model `accepts`, and a request carries."""

Role = Literal["system", "user", "assistant", "tool"]

BYTES_PER_TOKEN = 4
"""Of English prose in common tokenizers; good enough to know that a prompt cannot fit."""

MAX_OUTPUT_TOKENS = 10_000_000
"""More than any model answers; a caller's number may have thousands of digits."""

READ_CHARS = 4096
"""So much of a prompt is graded: as much as the classifier of intents reads, so that one encoding serves both."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One message of a conversation, reduced to its text."""

    role: Role
    text: str


@dataclass(frozen=True, slots=True)
class Conversation:
    """All turns of one request, oldest first."""

    turns: tuple[Turn, ...] = ()

    @property
    def system(self) -> str:
        """The instructions, joined; empty where there are none."""
        return "\n".join(turn.text for turn in self.turns if turn.role == "system")

    @property
    def first_user(self) -> str:
        """What the conversation began with."""
        return next((turn.text for turn in self.turns if turn.role == "user"), "")

    @property
    def last_user(self) -> str:
        """What is asked now; empty if no user turn carries text."""
        return next((turn.text for turn in reversed(self.turns) if turn.role == "user" and turn.text), "")


@dataclass(frozen=True, slots=True)
class Head:
    """A request before its body: enough to know who calls and what for."""

    kind: Literal["llm", "models", "feedback", "kept", "other"]
    """An LLM call, the list of models, a score for an answer, a request about an answer that is kept, or something that
    only a passthrough may let on."""
    method: str
    path: str
    """Normalised: lower case, single slashes, no query, no trailing slash."""
    headers: Mapping[str, str]
    """Lower-cased names; of repeated headers the values joined by a comma."""
    api: str | None = None
    """The name of an LLM call's API."""
    models: tuple[str, ...] = ()
    """What another call names in its path and query, and in its body where that is read."""
    attributes: Mapping[str, str] = field(default_factory=dict[str, str])
    """Of Envoy's, about the connection."""
    metadata: Mapping[str, Mapping[str, Any]] = field(default_factory=dict[str, Mapping[str, Any]])
    """What Envoy's other filters have left, by namespace."""
    carries: bool = False
    """Whether there is a body, or more to come after an upgrade, and so more than the head to name a model in."""
    about: MadeId | None = None
    """The answer that is asked about; None where a list of them is, and of every other kind."""
    call_path: str = ""
    """The path of the call that made it."""


@dataclass(frozen=True, slots=True)
class Request:
    """An LLM call, understood."""

    api: str
    """Its name."""
    path: str
    """Normalised, as in `Head`."""
    model: str
    """As the caller wrote it: a model, an alias or an entrypoint."""
    conversation: Conversation = field(default_factory=Conversation)
    needs: frozenset[str] = frozenset({"text"})
    """Every modality that the content carries, and each kind of a part, in quotes, that is none that is known."""
    input_tokens: int = 0
    """An estimate of all that is billed, media included."""
    context_tokens: int = 0
    """An estimate of what a model has to hold at once: of a batch its longest item; of media the least."""
    max_output_tokens: int = 0
    """What the caller reserves for each answer; 0 where not said."""
    answers: int = 1
    """How many are asked for; 0 where nothing is generated."""
    only_counts: bool = False
    """Whether its tokens are to be counted, and nothing is to be generated."""
    stream: bool = False
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    """As in `Head`."""
    labels: Mapping[str, str] = field(default_factory=dict[str, str])
    """Short texts of the body beside its messages, by place: `user`, `metadata.session_id`."""
    keeps: bool = False
    """Whether the caller has its answer kept."""
    previous: MadeId | None = None
    """The answer that it goes on from."""
    goes_on_by: str = ""
    """The member that names it."""
    lead: Lead = ""
    """What became of that id, once it was asked for."""
    thread: str = ""
    """The key of the conversation that `previous` belongs to; empty where nobody knows."""
    fallbacks: tuple[str, ...] = ()
    """What the caller names to serve where the model does not, in its order; read where `failover.accept_models`."""


def first_of(texts: Iterable[str], most: int) -> Iterator[str]:
    """As many of them as make `most` characters; the last may go beyond."""
    for text in texts:
        if most <= 0:
            return
        most -= len(text)
        yield text


def question(text: str) -> str:
    """The part of a user's turn that is looked at."""
    return text.strip()[:READ_CHARS]


def estimate_tokens(text: str) -> int:
    """Tokens that `text` will take, rounded up; a word is one at least."""
    size = len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
    return max(-(-size // BYTES_PER_TOKEN), len(text.split()))
