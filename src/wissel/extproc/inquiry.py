"""Whose fault it is that an upstream refused a request.

Most refusals are the callers': what they asked cannot be had. A few speak of
how wissel is set up: 401 and 402 of a credential or an account that is ours,
403 and 404 of something that the caller never named. Those two are held against
nobody until several callers have met them.
"""

from typing import Final

from wissel.apis.ids import named_in
from wissel.core.access import ANONYMOUS
from wissel.core.decision import Routed
from wissel.core.outcome import Fault

OURS: Final = frozenset({401, 402})
"""Statuses that speak of a credential and of its account, and so of whoever showed it."""
UNEXPLAINED: Final = frozenset({403, 404})
"""Statuses whose words are looked at."""

MOST_READ: Final = 4096
"""Bytes of a refusal."""


class Inquiry:
    """Of one request's answer."""

    __slots__ = ("_decision", "_ids", "_is_open", "_read", "fault")

    def __init__(self, decision: Routed, ids: frozenset[str]) -> None:
        """`ids` are those that the caller named."""
        self._decision = decision
        self._ids = ids
        self._is_open = False
        self._read = b""
        self.fault: Fault = ""

    def opened(self, status: int, coding: str, *, end_of_stream: bool) -> bool:
        """The answer's headers came; whether its body should be read for what it names."""
        if status in OURS and self._is_shown_by_us:
            self.fault = "operator"
        elif status in UNEXPLAINED and self._is_judged and (self._is_shown_by_us or self._is_lost(status)):
            self._is_open = coding in {"", "identity"}
            if end_of_stream and self._is_open:
                self.closed()
        return self._is_open

    def feed(self, data: bytes) -> None:
        """Of the body, as it comes."""
        if self._is_open and len(self._read) < MOST_READ:
            self._read += data[:MOST_READ]

    def closed(self) -> None:
        """The answer is complete."""
        if self._is_open:
            self._is_open = False
            text = self._read.decode(errors="replace")
            self.fault = "" if named_in(text, self._ids) else "unexplained"

    @property
    def _is_judged(self) -> bool:
        """Outside of splits and rollouts there is nobody to hold it against."""
        return self._decision.split is not None

    @property
    def _is_shown_by_us(self) -> bool:
        """Whether the credential that the upstream saw was wissel's, or there should have been one of wissel's."""
        credential = self._decision.model.credential
        if credential is None:
            return self._decision.principal is not ANONYMOUS
        return credential.kind == "secret"

    def _is_lost(self, status: int) -> bool:
        """Whether the upstream asks for no credential and lacks what was asked for."""
        return status == 404 and self._decision.model.credential is None
