"""What an API is: one frozen row, whose parts are all that is known of its format.

Whatever serves, counts, checks or simulates an API asks its row, so an API is
added by a row of `table` and its functions. No part has a default: a row that
lacks one cannot be made.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from wissel.apis.body import Body, Splice
from wissel.apis.findings import Findings
from wissel.apis.models import ModelsShape
from wissel.apis.prompt import Prompt
from wissel.apis.shapes import Json
from wissel.apis.simulated import Answer
from wissel.apis.windows import Slices
from wissel.core.decision import Denied, ListedAnswer

Beginning = Literal["", "words", "error", "refusal"]
"""What an answer turns out to be; empty as long as nobody can tell."""
Operation = Literal["chat", "text_completion", "embeddings", "generate_content"]
"""The values of `gen_ai.operation.name` that the conventions know for a call of a model."""


@dataclass(frozen=True, slots=True)
class UsageOnAsk:
    """How a stream tells its usage that does so only where it is asked, in a chunk of its own."""

    ask: Callable[[Body], tuple[Splice, ...]]
    """What the request must say; nothing where it says so already, or never will."""
    is_chunk: Callable[[Json], bool]
    """Whether an event is nothing but usage."""
    other: re.Pattern[bytes]
    """In the beginning of an event: it is no chunk of usage, whatever follows."""


@dataclass(frozen=True, slots=True)
class KeptAnswers:
    """How servers keep answers, and what may be asked of them later."""

    asks_to_keep: Callable[[Json], bool]
    """Whether a call with these members has its answer kept."""
    id_in: Callable[[Json], object]
    """Its id, as an answer or an event of one tells it; anything but a text where it does not."""
    goes_on_by: str
    """The member by which a call goes on from an answer; empty where none does."""
    asks: frozenset[tuple[str, str]]
    """Methods, with the word that follows the id in the path."""
    listed: Callable[[ListedAnswer], dict[str, Any]] | None
    """How a list shows one, by what is known without its server; None where there are no lists."""


@dataclass(frozen=True, slots=True)
class Simulation:
    """How the simulated upstream speaks an API."""

    question: Callable[[Json], str]
    """The caller's last words in a request."""
    whole: Callable[[Answer], dict[str, Any]]
    events: Callable[[Answer], Iterator[bytes]] | None
    """The answer as server-sent events; None where the API has no stream."""


@dataclass(frozen=True, slots=True)
class Api:
    """An LLM call that is understood: a POST of JSON that names a `model`."""

    name: str
    """As `models[].apis` has it."""
    paths: tuple[str, ...]
    """Normalised; below the first one is what is kept."""
    counting_paths: tuple[str, ...]
    """Normalised: where a call with the same body is answered by how many tokens it is, and nothing is generated."""
    counted: Callable[[int], dict[str, Any]] | None
    """The answer there, of so many tokens; None where there are no such paths."""
    marker: str
    """A header that its clients send with whatever they ask, and no others; empty where there is none."""
    operation: Operation
    """`gen_ai.operation.name` of its spans and metrics."""
    read: Callable[[Prompt, Json], Slices[None]]
    """Gathers what a request's body asks. Raises UnreadableError where two readers could disagree."""
    output_limits: tuple[str, ...]
    """The members that reserve tokens for the answer; the first that is there holds."""
    usage_on_ask: UsageOnAsk | None
    """None where usage is told unasked."""
    learn: Callable[[Findings, Json], None]
    """Learns from an answer, or from an event of one."""
    output: Callable[[Json], int]
    """How many bytes of the answer's words an event, or a whole answer, carries; 0 for an event with none."""
    begins: Callable[[Json], Beginning]
    """What an answer is that begins with this event, or is this as a whole."""
    error: Callable[[Denied], bytes]
    """The body that tells a refusal to its clients."""
    models: ModelsShape
    """How its clients read the list of models."""
    kept: KeptAnswers | None
    """None where its servers keep nothing."""
    simulation: Simulation
