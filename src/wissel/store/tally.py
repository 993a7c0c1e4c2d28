"""What one replica counts in one scope, in memory.

Everything is counted twice, as two cumulative sums that never go down. `known`
has every outcome as soon as it is known. `closed` is what the analysis reads:
it grows by whole windows of start time, in order, each when all its outcomes
are known. Were outcomes taken as they come, the sums would lean to whatever
ends sooner, and errors mostly do.

A request that has not ended `PATIENCE` after its window is counted as it then
stands, in every arm alike: unanswered is an error, an answer still flowing is
none. So that a guard need not wait for it, `known` also has how many began. Of
one key at most `COUNTED_PER_KEY` requests a period are evidence, and of one caller
at most a share of the arm's, taken by when they start; the others are only
counted as served.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Final

import mmh3

from wissel.core.rollouts.callers import SHARE, Callers
from wissel.core.rollouts.evidence import COUNTED_PER_KEY, sub_bucket
from wissel.core.rollouts.measures import ERROR, LATENCY, Observed
from wissel.store.base import Scope, Served
from wissel.store.sums import Counts, Vectors, measured

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

Part = tuple[str, str]
"""What changes together: (CLOSED or KNOWN, arm)."""


class Ticket:
    """One request under way. Whoever watches it fills in `observed`, and at the end says once how it went."""

    __slots__ = ("_tally", "arm", "began_at", "bucket", "is_counted", "observed", "window")

    def __init__(
        self, tally: "Tally", window: "TallyWindow", arm: str, bucket: int, began_at: float, *, is_counted: bool
    ) -> None:
        self.arm = arm
        self.bucket = bucket
        self.is_counted = is_counted
        self.window = window
        self.began_at = began_at
        self.observed: dict[Observed, float] = {}
        """Durations in seconds, events as 0 or 1, amounts. `error` is 0 unless said otherwise."""
        self._tally = tally

    @property
    def served(self) -> Served:
        """What feedback on the request is to be counted for."""
        return Served(self._tally.scope, self.arm, self.bucket, self.is_counted)

    def ended(self) -> None:
        """The outcome is known and speaks of the arm: `observed` says what it was."""
        self._tally.ended(self)

    def dropped(self) -> None:
        """The request says nothing of the arm: the caller hung up, or it never left."""
        self._tally.dropped(self)

    def mixed(self) -> None:
        """Another arm served the request than the one it was assigned to: it is left out, and counted as that."""
        self._tally.dropped(self)
        self._tally.mixed()


class TallyWindow:
    """Requests that started in the same second."""

    __slots__ = ("arms", "ends", "is_closed", "tickets")

    def __init__(self, ends: float) -> None:
        self.ends: Final = ends
        self.arms: dict[str, Counts] = {}
        self.tickets: set[Ticket] = set()
        """Those whose outcome is not known."""
        self.is_closed = False


class Tally:
    """The counts of one scope; `clock` never goes back."""

    def __init__(
        self,
        scope: Scope,
        clock: Callable[[], float],
        *,
        patience: float = PATIENCE,
        callers: Callers | None = None,
    ) -> None:
        self.scope: Final = scope
        self._callers = callers or Callers()
        self._clock = clock
        self._patience = patience
        self._windows: list[TallyWindow] = []
        self._under_way = 0
        self._closed: dict[str, Counts] = {}
        self._known: dict[str, Counts] = {}
        self._mixed = 0
        self._changed: set[Part] = set()
        self._period = 0.0
        self._seen: dict[str, int] = {}
        """How often each key was seen in this period."""
        self._fresh: list[bytes] = []
        self.met: dict[bytes, str] = {}
        """The arm of every distinct key's first request, by the key's hash."""
        self.used_at = clock()
        """When a request last began, was scored, or was left out."""

    @property
    def is_idle(self) -> bool:
        """Whether nothing is under way."""
        return not self._windows and not self._under_way

    def began(self, arm: str, key: str, caller: str = "", share: float = SHARE) -> Ticket:
        """A request was dealt to `arm` by its targeting key; one caller's are at most a `share` of the evidence."""
        now = self.used_at = self._clock()
        if now // PERIOD != self._period:
            self._period = now // PERIOD
            self._seen.clear()
        seen = self._seen.get(key, 0)
        self._seen[key] = seen + 1
        is_counted = seen < COUNTED_PER_KEY and self._callers.admits((self.scope, arm), caller, share)
        if is_counted:
            self._meet(arm, key)
        window = self._window(now)
        ticket = Ticket(self, window, arm, sub_bucket(key), now, is_counted=is_counted)
        window.tickets.add(ticket)
        self._under_way += 1
        _counts(self._known, arm).begun += 1
        self._changed.add((KNOWN, arm))
        return ticket

    def ended(self, ticket: Ticket) -> None:
        self._let_go(ticket)
        known = _counts(self._known, ticket.arm)
        window = None if ticket.window.is_closed else _counts(ticket.window.arms, ticket.arm)
        self._changed.add((KNOWN, ticket.arm))
        observed = ticket.observed
        failed = bool(observed.setdefault(ERROR.name, 0))
        known.serve(failed=failed)
        if window:
            window.serve(failed=failed)
        if ticket.is_counted:
            seen = measured(observed)
            known.observe(ticket.bucket, seen)
            if window:
                window.observe(ticket.bucket, seen)

    def dropped(self, ticket: Ticket) -> None:
        self._let_go(ticket)
        _counts(self._known, ticket.arm).gone += 1
        self._changed.add((KNOWN, ticket.arm))

    def mixed(self) -> None:
        """A request was served by another arm than its key was dealt to: it is left out, and counted as that."""
        self.used_at = self._clock()
        self._mixed += 1
        self._changed.add((KNOWN, NO_ARM))

    def told(self, served: Served, observed: Mapping[Observed, float]) -> None:
        """What is said of a request later, as feedback is. It has no window: it comes when it comes, in arms alike."""
        self.used_at = self._clock()
        seen = measured(observed)
        for kind, arms in ((CLOSED, self._closed), (KNOWN, self._known)):
            _counts(arms, served.arm).observe(served.bucket, seen)
            self._changed.add((kind, served.arm))

    def close(self, *, last: bool = False) -> None:
        """Close the windows that are due. With `last` nothing more begins, and what is under way will not be known."""
        now = self._clock()
        for ticket in [ticket for window in self._windows for ticket in window.tickets] if last else ():
            self.dropped(ticket)
        due = 0
        for window in self._windows:
            if not last and (now < window.ends or (window.tickets and now < window.ends + self._patience)):
                break
            self._close(window, now)
            due += 1
        del self._windows[:due]

    def fresh_keys(self) -> list[bytes]:
        """Hashes of the keys that were met since this was asked last."""
        fresh, self._fresh = self._fresh, []
        return fresh

    def changed(self) -> set[Part]:
        """What changed since this was asked last."""
        changed, self._changed = self._changed, set()
        return changed

    def vectors(self, parts: Collection[Part]) -> Vectors:
        """The cumulative numbers, by `KIND/ARM/VECTOR`."""
        found: Vectors = {}
        for kind, arm in parts:
            if arm == NO_ARM:
                found[f"{kind}/{NO_ARM}/{MIXED}"] = {0: self._mixed}
                continue
            counts = (self._closed if kind == CLOSED else self._known)[arm]
            found |= {f"{kind}/{arm}/{name}": dict(vector) for name, vector in counts.vectors().items()}
        return found

    def _window(self, now: float) -> TallyWindow:
        if not self._windows or self._windows[-1].ends <= now:
            self._windows.append(TallyWindow((now // WINDOW + 1) * WINDOW))
        return self._windows[-1]

    def _meet(self, arm: str, key: str) -> None:
        if len(self.met) >= MOST_KEYS:
            return
        name = mmh3.mmh3_x64_128_digest(key.encode("utf-8", "surrogatepass"))[:8]
        if name not in self.met:
            self.met[name] = arm
            self._fresh.append(name)

    def _let_go(self, ticket: Ticket) -> None:
        self._under_way -= 1
        ticket.window.tickets.discard(ticket)

    def _close(self, window: TallyWindow, now: float) -> None:
        for ticket in window.tickets:
            observed: dict[Observed, float] = {ERROR.name: 0, **ticket.observed}
            if LATENCY.name not in observed:
                observed |= {ERROR.name: 1, LATENCY.name: now - ticket.began_at}
            counts = _counts(window.arms, ticket.arm)
            counts.serve(failed=bool(observed[ERROR.name]))
            if ticket.is_counted:
                counts.observe(ticket.bucket, measured(observed))
        for arm, counts in window.arms.items():
            _counts(self._closed, arm).add(counts)
            self._changed.add((CLOSED, arm))
        window.is_closed = True


def _counts(arms: dict[str, Counts], arm: str) -> Counts:
    counts = arms.get(arm)
    if counts is None:
        counts = arms[arm] = Counts()
    return counts
