"""What became of a request, as far as the model that served it is concerned.

Not every error is the model's: a refusal of ours, a body too large for Envoy
or a client that hung up says nothing about the variant. `blame` tells them
apart by Envoy's `response.code_details`.
"""

from dataclasses import dataclass
from typing import Literal

Blame = Literal["variant", "nobody"]
"""Whether a response is evidence about the variant that was asked."""

UPSTREAM_DETAILS = ("via_upstream", "upstream_reset", "response_timeout", "upstream_response_timeout")
"""Envoy's response code details that begin so speak of the upstream; all others are local replies of another cause."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the request ended."""

    status: int
    """HTTP status; 0 if the response never began."""
    duration: float
    """Seconds from the request's first message to the response's headers."""
    code_details: str = ""
    """Envoy's `response.code_details`; empty where Envoy does not send it."""

    @property
    def is_evidence(self) -> bool:
        """Whether this counts for or against the variant."""
        return blame(self.status, self.code_details) == "variant"

    @property
    def is_error(self) -> bool:
        return self.status >= 500 or self.status == 0


def blame(status: int, code_details: str) -> Blame:
    """Who a response speaks about; without details an answer is taken for the upstream's own."""
    if status == 0:
        return "nobody"
    return "variant" if not code_details or code_details.startswith(UPSTREAM_DETAILS) else "nobody"
