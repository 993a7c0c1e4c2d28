"""What an exchange hears of Envoy, its events, and what it wants done, its steps."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from wissel.apis.windows import Slices
from wissel.core.access import Principal
from wissel.core.affinity import MadeId
from wissel.core.feedback import Feedback
from wissel.core.request import Head, Request
from wissel.core.snapshot import Model
from wissel.extproc.itinerary import Errand
from wissel.extproc.mutation import ImmediateResponse, Metadata, Mutation

BodyMode = Literal["none", "streamed", "buffered", "buffered_partial", "full_duplex_streamed", "grpc"]
Phase = Literal[
    "request_headers", "request_body", "request_trailers", "response_headers", "response_body", "response_trailers"
]


# What Envoy says.


@dataclass(frozen=True, slots=True)
class Protocol:
    """The filter's modes, as its first message carries them."""

    request_body: BodyMode
    response_body: BodyMode


@dataclass(frozen=True, slots=True)
class RequestHeaders:
    headers: Mapping[str, str]
    """Lower-cased, pseudo headers included; of repeated ones the values joined by a comma."""
    end_of_stream: bool = False
    attributes: Mapping[str, str] = field(default_factory=dict[str, str])
    metadata: Mapping[str, Mapping[str, Any]] = field(default_factory=dict[str, Mapping[str, Any]])
    """Dynamic metadata that Envoy is configured to forward, by namespace."""


@dataclass(frozen=True, slots=True)
class RequestBody:
    data: bytes | bytearray
    end_of_stream: bool


@dataclass(frozen=True, slots=True)
class RequestTrailers:
    pass


@dataclass(frozen=True, slots=True)
class ResponseHeaders:
    headers: Mapping[str, str]
    end_of_stream: bool = False
    attributes: Mapping[str, str] = field(default_factory=dict[str, str])
    metadata: Mapping[str, Mapping[str, Any]] = field(default_factory=dict[str, Mapping[str, Any]])
    """As of a request's headers."""

    @property
    def details(self) -> str:
        """Where the answer came from, in Envoy's words; empty where it does not say."""
        return self.attributes.get("response.code_details", "")


@dataclass(frozen=True, slots=True)
class ResponseBody:
    data: bytes
    end_of_stream: bool


@dataclass(frozen=True, slots=True)
class ResponseTrailers:
    pass


Event = RequestHeaders | RequestBody | RequestTrailers | ResponseHeaders | ResponseBody | ResponseTrailers


def is_local_reply(event: Event) -> bool:
    """Whether Envoy answered by itself before any filter saw the request, as it does to an upgrade."""
    details = event.attributes.get("response.code_details") if isinstance(event, ResponseHeaders) else None
    return bool(details) and details != "via_upstream"


# What is to be done.


@dataclass(frozen=True, slots=True)
class Identify:
    """Ask the router who is calling; the answer goes to `identified`."""

    head: Head


@dataclass(frozen=True, slots=True)
class Read:
    """Do this work, in slices where it is long, and then what it returns."""

    work: "Slices[list[Step]]"
    caller: Principal
    size: int
    """Bytes of the body."""


@dataclass(frozen=True, slots=True)
class Decide:
    """Ask the router for a decision; the answer goes to `decided`."""

    subject: Request | Head
    caller: Principal


@dataclass(frozen=True, slots=True)
class Score:
    """Ask the ledger to count what a caller thinks of an answer; what it says goes to `scored`."""

    feedback: Feedback
    caller: Principal


@dataclass(frozen=True, slots=True)
class Made:
    """Tell the router what the answer is called that the caller has kept."""

    made: MadeId
    model: Model | None = None
    """That answers in the place of the one that was chosen; None where that did."""


@dataclass(frozen=True, slots=True)
class Unmade:
    """Tell the router that an answer is deleted."""

    made: MadeId


@dataclass(frozen=True, slots=True)
class Reply:
    """Answer one message."""

    phase: Phase
    mutation: Mutation | None = None
    metadata: Metadata | None = None
    chunk: bytes | None = None
    """Of a body in FULL_DUPLEX_STREAMED, handed back."""
    end_of_stream: bool = False
    """Whether `chunk` is the last."""
    skip_body: bool = False
    """Ask Envoy to send no request body after these headers."""
    stay: bool = False
    """Ask Envoy to keep the stream until the response is over, of which nothing is read."""
    read_body: bool = False
    """Ask Envoy to send the response's body after these headers, in chunks."""
    errand: Errand | None = None
    """Where the request goes; with the answer that decides it. None where that is one model, which a header names."""


@dataclass(frozen=True, slots=True)
class Refuse:
    """Answer the caller; Envoy sends nothing more of this request."""

    response: ImmediateResponse
    metadata: Metadata


@dataclass(frozen=True, slots=True)
class Fail:
    """End the stream with an error, so that Envoy fails the request; the reason is for our log."""

    why: str


@dataclass(frozen=True, slots=True)
class Heed:
    """Ask the server of this model for the usage of no stream any more: it refuses to be asked."""

    model: Model


Step = Identify | Read | Decide | Score | Made | Unmade | Reply | Refuse | Fail | Heed
