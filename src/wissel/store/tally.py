"""What one replica counts in one scope, in memory.

Everything is counted twice, as two cumulative sums that never go down. `known`
has every outcome as soon as it is known. `closed` is what the analysis reads:
it grows by whole windows of start time, in order, each when all its outcomes
are known. Were outcomes taken as they come, the sums would lean to whatever
ends sooner, and errors mostly do.

A request that has not ended `PATIENCE` after its window is counted as it then
stands, in every arm alike: unanswered is an error, an answer still flowing is
none. Of one key at most `COUNTED_PER_KEY` requests a period are evidence, taken
by when they start; the others are only counted as served.
"""

from collections.abc import Callable, Iterable
from typing import Final

import mmh3

from wissel.core.evidence import COUNTED_PER_KEY, Observed, sub_bucket
from wissel.store.base import Scope, Served
from wissel.store.sums import Sums, Vector, merge, observe, serve, text_of

WINDOW: Final = 1.0
"""Seconds of start time that are closed together."""

PATIENCE: Final = 120.0
"""Seconds after its end for which a window waits for outcomes."""

PERIOD: Final = 30.0
"""Seconds in which a key is counted `COUNTED_PER_KEY` times at most."""

MOST_KEYS: Final = 200_000
"""Distinct keys that a scope counts; the sample-ratio test has long spoken by then."""

CLOSED: Final = "c"
KNOWN: Final = "k"
"""Fields are named `c/ARM/VECTOR` and `k/ARM/VECTOR`."""

NO_ARM: Final = ""
MIXED: Final = "mixed"
"""The vector of what belongs to no arm: `k//mixed`."""


class Ticket:
    """One request under way. Whoever watches it fills in `observed`, and at the end says once how it went."""

    __slots__ = ("_began_at", "_tally", "observed", "served", "window")

    def __init__(self, served: Served, tally: "Tally", window: "Window", began_at: float) -> None:
        self.served: Final = served
        self.window: Final = window
        self.observed: dict[Observed, float] = {}
        """Durations in seconds, events as 0 or 1, amounts. `error` is 0 unless said otherwise."""
        self._tally = tally
        self._began_at = began_at

    def ended(self) -> None:
        """The outcome is known and speaks of the arm: `observed` says what it was."""
        self._tally.ended(self)

    def dropped(self) -> None:
        """The request says nothing of the arm: the caller hung up, or it never left."""
        self._tally.dropped(self)

    def mixed(self) -> None:
        """Another arm served the request than the one it was assigned to: it is left out, and counted as that."""
        self._tally.mixed(self)

    def stands(self, now: float) -> None:
        """Make the request's state at `now` its outcome."""
        if "latency" not in self.observed:
            self.observed["latency"] = now - self._began_at
            self.observed["error"] = 1


class Window:
    """Requests that started in the same second."""

    __slots__ = ("arms", "ends", "is_closed", "tickets")

    def __init__(self, ends: float) -> None:
        self.ends: Final = ends
        self.arms: dict[str, Sums] = {}
        self.tickets: set[Ticket] = set()
        """Those whose outcome is not known."""
        self.is_closed = False


class Tally:
    """The counts of one scope; `clock` never goes back."""

    def __init__(self, scope: Scope, clock: Callable[[], float], *, patience: float = PATIENCE) -> None:
        self.scope: Final = scope
        self._clock = clock
        self._patience = patience
        self._windows: list[Window] = []
        self._closed: dict[str, Sums] = {}
        self._known: dict[str, Sums] = {}
        self._dirty: set[tuple[str, str]] = set()
        self._mixed = 0
        self._period = 0.0
        self._counted: dict[str, int] = {}
        self._fresh: list[bytes] = []
        self.met: dict[bytes, str] = {}
        """The arm of every distinct key's first request, by the key's hash."""
        self.used_at = clock()
        """When a request last began or ended."""

    @property
    def is_idle(self) -> bool:
        """Whether nothing is under way."""
        return not self._windows

    def began(self, arm: str, key: str) -> Ticket:
        """A request was dealt to `arm` by its targeting key."""
        now = self.used_at = self._clock()
        window = self._window(now)
        seen = self._seen(key, now)
        if not seen:
            self._meet(arm, key)
        served = Served(self.scope, arm, sub_bucket(key), is_counted=seen < COUNTED_PER_KEY)
        ticket = Ticket(served, self, window, now)
        window.tickets.add(ticket)
        return ticket

    def ended(self, ticket: Ticket) -> None:
        if not ticket.served.is_counted:
            self._serve(ticket)
            return
        ticket.observed.setdefault("error", 0)
        self._serve(ticket)
        observe(self._known[ticket.served.arm], ticket.served.bucket, ticket.observed)
        if not ticket.window.is_closed:
            observe(ticket.window.arms[ticket.served.arm], ticket.served.bucket, ticket.observed)

    def dropped(self, ticket: Ticket) -> None:
        self.used_at = self._clock()
        ticket.window.tickets.discard(ticket)

    def mixed(self, ticket: Ticket) -> None:
        self.dropped(ticket)
        self._mixed += 1
        self._dirty.add((KNOWN, NO_ARM))

    def feedback(self, served: Served, score: float) -> None:
        """Somebody scored a request in [0, 1]. It has no window: feedback comes when it comes, in every arm alike."""
        self.used_at = self._clock()
        for name, arms in ((CLOSED, self._closed), (KNOWN, self._known)):
            observe(arms.setdefault(served.arm, {}), served.bucket, {"feedback": score})
            self._dirty.add((name, served.arm))

    def close(self, *, last: bool = False) -> None:
        """Close the windows that are due. With `last` nothing more begins, and what is under way will not be known."""
        now = self._clock()
        due = 0
        for window in self._windows:
            if not last and (now < window.ends or (window.tickets and now < window.ends + self._patience)):
                break
            self._close(window, () if last else window.tickets, now)
            due += 1
        del self._windows[:due]

    def restart(self) -> None:
        """Forget what was counted; only what comes from now on will be."""
        self._closed.clear()
        self._known.clear()
        self._dirty.clear()
        self._mixed = 0

    def fresh_keys(self) -> list[bytes]:
        """Hashes of the keys that were met since this was asked last."""
        fresh, self._fresh = self._fresh, []
        return fresh

    def changed(self) -> set[str]:
        """The names of the fields that may have changed since this was asked last."""
        fields: set[str] = set()
        for kind, arm in self._dirty:
            fields.update(self._fields(kind, arm))
        self._dirty.clear()
        return fields

    def everything(self) -> set[str]:
        """The names of all fields."""
        kinds = ((CLOSED, self._closed), (KNOWN, self._known))
        named = {name for kind, arms in kinds for arm in arms for name in self._fields(kind, arm)}
        return named.union(self._fields(KNOWN, NO_ARM)) if self._mixed else named

    def text(self, field: str) -> str:
        """What is to be written into a field."""
        return text_of(self._vector(field))

    def _fields(self, kind: str, arm: str) -> Iterable[str]:
        if arm == NO_ARM:
            return [f"{kind}/{NO_ARM}/{MIXED}"]
        arms = self._closed if kind == CLOSED else self._known
        return [f"{kind}/{arm}/{vector}" for vector in arms[arm]]

    def _vector(self, field: str) -> Vector:
        kind, rest = field.split("/", 1)
        arm, vector = rest.rsplit("/", 1)
        if arm == NO_ARM:
            return {0: self._mixed}
        return (self._closed if kind == CLOSED else self._known)[arm][vector]

    def _window(self, now: float) -> Window:
        if not self._windows or self._windows[-1].ends <= now:
            self._windows.append(Window((now // WINDOW + 1) * WINDOW))
        return self._windows[-1]

    def _seen(self, key: str, now: float) -> int:
        """How often this period has seen the key before."""
        period = now // PERIOD
        if period != self._period:
            self._period = period
            self._counted.clear()
        seen = self._counted.get(key, 0)
        self._counted[key] = seen + 1
        return seen

    def _meet(self, arm: str, key: str) -> None:
        if len(self.met) >= MOST_KEYS:
            return
        name = mmh3.mmh3_x64_128_digest(key.encode("utf-8", "surrogatepass"))[:8]
        if name not in self.met:
            self.met[name] = arm
            self._fresh.append(name)

    def _serve(self, ticket: Ticket) -> None:
        self.used_at = self._clock()
        arm, window, failed = ticket.served.arm, ticket.window, bool(ticket.observed.get("error"))
        window.tickets.discard(ticket)
        serve(self._known.setdefault(arm, {}), failed=failed)
        self._dirty.add((KNOWN, arm))
        if not window.is_closed:
            serve(window.arms.setdefault(arm, {}), failed=failed)

    def _close(self, window: Window, waiting: Iterable[Ticket], now: float) -> None:
        for ticket in waiting:
            ticket.stands(now)
            arm = window.arms.setdefault(ticket.served.arm, {})
            serve(arm, failed=bool(ticket.observed.get("error")))
            if ticket.served.is_counted:
                observe(arm, ticket.served.bucket, {"error": 0, **ticket.observed})
        for name, sums in window.arms.items():
            merge(self._closed.setdefault(name, {}), sums)
            self._dirty.add((CLOSED, name))
        window.is_closed = True
