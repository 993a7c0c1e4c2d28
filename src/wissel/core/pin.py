"""A session keeps the route that its first clear request found.

Which session a request belongs to is the caller's word for it, in a header,
together with who the caller is: nobody can pin, or learn, another's session.
What is pinned is the route and nothing after it, so access, ability and splits
are asked about each request as if the classifier had just named the route.
"""

from collections.abc import Container
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from wissel.core.access import Principal
from wissel.core.request import Request
from wissel.runtime.bounded import Bounded

SESSIONS: Final = 65_536
"""That are pinned at once, about 20 MB; beyond it the one that has been silent longest is let go."""


@dataclass(frozen=True, slots=True)
class PinPolicy:
    """`intent.pin`, as the decision reads it."""

    header: str
    """Lower case; its value names the session."""
    keep: float
    """Seconds after a session's last request for which its route is kept."""


@dataclass(frozen=True, slots=True)
class Pin:
    """What a request's session is called here, and for how long its route is kept."""

    policy: PinPolicy
    session: bytes
    """A digest, so that what is remembered has one size, whatever callers send."""


def pin_of(policy: PinPolicy | None, request: Request, caller: Principal) -> Pin | None:
    """None where sessions are not pinned, or the request names none."""
    value = request.headers.get(policy.header, "") if policy else ""
    if policy is None or not value:
        return None
    # No header's value holds a NUL, so no two sessions read the same.
    named = f"{policy.header}\0{caller.id}\0{value}"
    return Pin(policy, sha256(named.encode("utf-8", "surrogatepass")).digest())


class Pins:
    """The sessions of this process and their routes; they outlive a reload that leaves the route in place.

    Mutable, as `Thresholds` are: decisions read it, and requests that were served write it.
    """

    def __init__(self, size: int = SESSIONS) -> None:
        self._routes: Bounded[bytes, tuple[str, float]] = Bounded(size)
        """Route and end by session."""

    def route(self, pin: Pin, routes: Container[str], now: float) -> str | None:
        """The route that the session is on; None where it is on none, on one that is gone, or was silent too long."""
        route, until = self._routes.peek(pin.session) or ("", now)
        return route if now < until and route in routes else None

    def keep(self, pin: Pin, route: str, routes: Container[str], now: float) -> None:
        """A request of the session was served on `route`. Of two that came at once the first one counts."""
        self._routes.put(pin.session, (self.route(pin, routes, now) or route, now + pin.policy.keep))
