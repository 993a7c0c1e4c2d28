"""Whose fault it is that an upstream refused a request.

Most refusals are the callers': what they asked cannot be had. A few speak of
how wissel is set up: 401 and 402 of a credential or an account that is ours,
403 and 404 of something that the caller never named. Those two are held against
nobody until several callers have met them.
"""

from typing import Final

from wissel.apis.body import Body
from wissel.apis.ids import ids_in, named_in
from wissel.core.access import ANONYMOUS
from wissel.core.decision import Routed
from wissel.core.outcome import Fault
from wissel.extproc.excerpt import Excerpt

OURS: Final = frozenset({401, 402})
"""Statuses that speak of a credential and of its account, and so of whoever showed it."""
UNEXPLAINED: Final = frozenset({403, 404})
"""Statuses whose words are looked at."""

MOST_READ: Final = 4096
"""Bytes of a refusal."""


class Inquiry:
    """Of one request's answer."""

    __slots__ = ("_decision", "_excerpt", "_ids", "fault")

    def __init__(self, decision: Routed, body: Body) -> None:
        self._decision = decision
        # Outside of splits and rollouts there is nobody to hold it against.
        self._ids = ids_in(body) if decision.split is not None else None
        self._excerpt = Excerpt(MOST_READ)
        self.fault: Fault = ""

    def opened(self, status: int, coding: str, *, end_of_stream: bool) -> bool:
        """The answer's headers came; whether its body should be read for what it names."""
        if status in OURS and self._is_shown_by_us:
            self.fault = "operator"
        elif status in UNEXPLAINED and self._ids is not None and self._is_shown_by_us | self._is_lost(status):
            self._excerpt.is_wanted = coding in {"", "identity"}
            if end_of_stream:
                self.closed()
        return self._excerpt.is_wanted

    def feed(self, data: bytes) -> None:
        """Of the body, as it comes."""
        self._excerpt.feed(data)

    def closed(self) -> None:
        """The answer is complete."""
        if (read := self._excerpt.closed()) is not None:
            self.fault = "" if named_in(read.decode(errors="replace"), self._ids or frozenset()) else "unexplained"

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
