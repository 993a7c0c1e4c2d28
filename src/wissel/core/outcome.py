"""What became of a request, as far as the model that served it is concerned.

Not every error is the model's: a refusal of ours, a body too large for Envoy
or a client that hung up says nothing about the variant. `blame` tells them
apart by Envoy's `response.code_details`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from wissel.core.snapshot import Price

Blame = Literal["variant", "nobody"]
"""Whether a response is evidence about the variant that was asked."""

Fault = Literal["", "operator", "unexplained"]
"""Whose fault a refusal of the upstream's is, where that is not plainly the caller's. `operator`: a credential or an
account of ours is refused, or a model that is not there; `unexplained`: so it may be, as the caller named nothing of
what is missing or forbidden."""

UPSTREAM_DETAILS: Final = (
    "via_upstream",
    "upstream_reset_before_response_started",
    "upstream_reset_after_response_started",
    "response_timeout",
    "upstream_per_try_timeout",
    "upstream_per_try_idle_timeout",
    "upstream_max_stream_duration_reached",
    "no_healthy_upstream",
)
"""Envoy's response code details that begin so speak of the upstream; all others are local replies of another cause."""

REFUSALS: Final = frozenset({"content_filter", "refusal", "safety"})
"""Finish reasons of a model that would not answer, over all APIs."""

OVERFLOW: Final = "{overflow"
"""In the details of a reset: a circuit breaker of Envoy's own is full, and the upstream was never asked."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens, as the model counted them."""

    input_tokens: int = 0
    """Of the whole prompt, cached ones included."""
    output_tokens: int = 0
    """All that are paid for, reasoning included."""
    cached_tokens: int = 0
    """Of the input, those read from the provider's cache."""
    reasoning_tokens: int = 0
    """Of the output, those that the caller does not see."""
    written_tokens: int = 0
    """Of the input, those written into the provider's cache."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the request ended."""

    status: int
    """HTTP status; 0 if the response never began."""
    duration: float
    """Seconds from the request's first message to the last that was seen of the response."""
    api: str
    """The name of the call's API."""
    code_details: str = ""
    """Envoy's `response.code_details`; empty where Envoy does not send it."""
    headers_after: float | None = None
    """Seconds from the request's first message to the response's headers; None if they never came."""
    complete: bool = False
    """Whether the end of the response was seen; False as well where its body was not read."""
    hung_up: bool = False
    """Whether the stream was gone before the response ended: the client left, or the upstream in mid-answer."""
    usage: Usage | None = None
    """None where the model did not say."""
    cost_usd: float | None = None
    """None without usage or without a price."""
    finish_reasons: tuple[str, ...] = ()
    """In the model's words, one for each choice."""
    response_model: str = ""
    """What the response says that served it; empty where it does not say."""
    error: str = ""
    """The type or code of an error that the body told; `truncated` for a stream without an end."""
    ttft: float | None = None
    """Seconds from the request's first message to the first token of a stream."""
    time_per_output_chunk: float | None = None
    """Mean seconds between two chunks of output."""
    time_per_output_token: float | None = None
    """Mean seconds for a token after the first."""
    chunks: int = 0
    """Events of a stream that carried output."""
    seen_tokens: int = 0
    """Of the output, by the size of what was seen of it; what was hidden is not among them."""
    unread: str = ""
    """Why a body that was there could not be read; empty where it could."""
    fault: Fault = ""
    """Whose fault it is that the upstream refused the request."""
    attempts: int = 1
    """How many models were asked; all but the last of them failed."""
    retry_after: float | None = None
    """Seconds for which a server that refused the request asked to be left alone."""

    @property
    def is_evidence(self) -> bool:
        """Whether this counts for or against the variant."""
        return not self.hung_up and blame(self.status, self.code_details) == "variant"

    @property
    def is_error(self) -> bool:
        """Whether the model failed; an answer may begin with 200 and fail later."""
        return self.status >= 500 or self.status == 0 or (self.status < 400 and bool(self.error))

    @property
    def is_refused(self) -> bool:
        """Whether the upstream would not have the request; where no arm's will, the caller is to blame."""
        return 400 <= self.status < 500

    @property
    def is_refusal(self) -> bool:
        """Whether the model would not answer."""
        return not REFUSALS.isdisjoint(self.finish_reasons)


def failed_attempt(outcome: Outcome) -> Outcome:
    """What is known of the first model where another one had to answer: that it failed."""
    return Outcome(status=503, duration=outcome.duration, api=outcome.api)


Ended = Callable[[Outcome | None], None]
"""Told once what became of a request: None if it never left, or nothing is known of it."""


def blame(status: int, code_details: str) -> Blame:
    """Who a response speaks about; without details an answer is taken for the upstream's own."""
    if status == 0:
        return "nobody"
    if not code_details:
        return "variant"
    if code_details == "stream_idle_timeout":
        # 504 says that the request was complete, so it was the model that stayed silent; 408, the caller.
        return "variant" if status == 504 else "nobody"
    return "variant" if code_details.startswith(UPSTREAM_DETAILS) and OVERFLOW not in code_details else "nobody"


def cost(usage: Usage, price: Price) -> float:
    """USD."""
    return price.of(usage.input_tokens, usage.output_tokens, usage.cached_tokens) / 1_000_000
