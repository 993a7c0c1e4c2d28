"""The canonical form: what any provider's format says, in words that belong to none of them.

    a format's bytes -> these values -> another format's bytes

An answer is a row of parts and the reason why it stopped; a stream of one is the
same told bit by bit. Each format knows how it says these things, and no format
knows another.
"""

from dataclasses import dataclass, field
from typing import Final, Literal

from wissel.apis.shapes import Json
from wissel.core.outcome import Usage
from wissel.errors import UpstreamError

# What an assistant says.


@dataclass(frozen=True, slots=True)
class Text:
    text: str


@dataclass(frozen=True, slots=True)
class Declined:
    """Words that say why nothing else is said."""

    text: str


@dataclass(frozen=True, slots=True)
class Reasoning:
    """What a model thought before it spoke."""

    text: str
    signature: str = ""
    """By which its provider knows its own thought again."""
    hidden: str = ""
    """The thought as only its provider can read it, where it is not told as text."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    id: str
    name: str
    arguments: str
    """As JSON; empty where there are none."""


Part = Text | Declined | Reasoning | ToolCall


# How an answer ends.

Reason = Literal["end", "sequence", "pause", "length", "context", "tools", "refusal"]
"""Why a model stopped: it had said all, met a sequence that ends it, wants to be asked to go on, used up the tokens for
its answer or those of its context, waits for tools, or would not answer."""


@dataclass(frozen=True, slots=True)
class Stop:
    reason: Reason
    sequence: str = ""
    """The one that was met, where it is told."""


END: Final = Stop("end")


@dataclass(frozen=True, slots=True)
class WholeAnswer:
    id: str
    """As its server wrote it; empty where it has none."""
    model: str
    """That says it answered; empty where none does."""
    created: int
    """Unix time; 0 where it is not told."""
    parts: tuple[Part, ...]
    stop: Stop
    usage: Usage | None
    """None where it was not told."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """A provider answered with an error."""

    status: int
    """Of HTTP, or the one that such an error would have had."""
    message: str
    code: str | None = None
    param: str | None = None
    request_id: str = ""
    """By which the provider finds it in its logs."""


# A stream of an answer. Parts are numbered in the order in which they begin; several may be open at once.


@dataclass(frozen=True, slots=True)
class Started:
    """First of all, unless there is trouble at once."""

    id: str
    model: str
    created: int
    usage: Usage | None
    """What is known of it so far."""


@dataclass(frozen=True, slots=True)
class PartBegan:
    index: int
    part: Part
    """What is known of it: a call's id and name, a thought that is hidden. Its text comes in deltas."""


@dataclass(frozen=True, slots=True)
class Delta:
    """More of a part's text, or of a call's arguments."""

    index: int
    text: str


@dataclass(frozen=True, slots=True)
class Signed:
    """The signature of a thought, behind its text."""

    index: int
    signature: str


@dataclass(frozen=True, slots=True)
class PartEnded:
    index: int


@dataclass(frozen=True, slots=True)
class Ended:
    """Last of all; every part has ended."""

    stop: Stop
    usage: Usage | None


@dataclass(frozen=True, slots=True)
class Failed:
    """Last of all: the answer is broken off, and the caller is told why."""

    trouble: Trouble


Event = Started | PartBegan | Delta | Signed | PartEnded | Ended | Failed


# What the caller of an answer is to be told besides.


@dataclass(frozen=True, slots=True)
class Occasion:
    """What writing an answer needs to know of the request."""

    id: str
    """Of the request: names what its answer's server left without a name."""
    model: str
    """As the answer calls it where its server does not."""
    now: int
    """Unix time, likewise."""
    input_tokens: int = 0
    """About as many as the prompt has, told where a format wants a number before it is counted."""
    with_usage: bool = True
    """Whether a stream tells its usage, in formats that do so on request only."""
    repeated: Json = field(default_factory=dict[str, object])
    """What Responses say again of what was asked: `tools`, `tool_choice` and others, in their own words."""


class CutError(UpstreamError):
    """A stream was cut before the answer had ended, so the caller must see it cut as well."""


MOST_HELD: Final = 8 * 1024 * 1024
"""Characters of one answer that are held while it streams, for formats that say at the end again what was said. No
model answers at such length in words."""
COST_OF_EVENT: Final = 8
"""What each delta adds to them, however short it is."""
COST_OF_PART: Final = 512
"""What each part adds."""

TOO_LONG: Final = Trouble(502, "the provider's answer is too long to be translated", "answer_too_long")
