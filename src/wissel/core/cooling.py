"""A model that keeps failing is left out of plans for a while, and then tried by one request.

    well -(failures in the window, or a refusal that says when to come back)-> resting
    resting -(its time is over)-> one trial -> well | resting

Each process knows what its own requests came to, and hears of others through
the store. Nothing is forbidden by it: who may serve is decided elsewhere, and
where nobody else can, a model that rests is asked all the same.
"""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from wissel.core.decision import Routed
from wissel.core.outcome import Outcome
from wissel.core.plan import NOBODY, Resting, Why
from wissel.core.snapshot import Health, Model, Snapshot

LONGEST_REST: Final = 600.0
"""Seconds, whatever a server's `retry-after` says."""
SHORTEST_REST: Final = 1.0

_RESULTS: Final = 64
"""Of a model's latest attempts, that are looked back at."""

Result = Literal["failed", "served"]


@dataclass(frozen=True, slots=True)
class Rest:
    """A model is left alone."""

    why: Why
    until: float
    """Unix time."""


Told = Callable[[str, Rest | None], object]
"""Hears that a model rests from now on, or, with None, that it serves again."""


class Cooling:
    """Which models rest, as one process knows it; `tell` hears what it found out itself.

    Mutable, as `Pins` are: decisions read it, and requests that are over write it. All times are Unix time.
    """

    def __init__(self, tell: Told = lambda _model, _rest: None) -> None:
        self._tell = tell
        self._results: dict[str, deque[tuple[float, Result]]] = {}
        self._rests: dict[str, Rest] = {}
        self._trials: dict[str, float] = {}
        """How long the trial of a model may take; meanwhile it rests on."""

    @property
    def rests(self) -> Mapping[str, Rest]:
        """What rests or is tried, by model."""
        return self._rests

    def resting(self, now: float) -> Resting:
        """The models that are not to be asked, and why."""
        if not self._rests:
            return NOBODY
        return {
            name: rest.why
            for name, rest in self._rests.items()
            if _is_on(rest.until, now) or _is_on(self._trials.get(name, now), now)
        }

    def asked(self, model: str, now: float, health: Health) -> None:
        """A request goes to the model: if its rest is over, that is its trial."""
        rest = self._rests.get(model)
        if rest is not None and not _is_on(rest.until, now) and not _is_on(self._trials.get(model, now), now):
            self._trials[model] = now + health.cooldown

    def ended(self, decision: Routed, outcome: Outcome, snapshot: Snapshot, now: float) -> None:
        """A request is over: all that were asked have failed, but perhaps the last."""
        began, health = decision.at, snapshot.health
        for model in decision.candidates[: outcome.attempts - 1]:
            # How it failed is not seen; with a caller's own credential that may be the caller's own doing.
            if not _is_callers(model):
                self.attempted(model.name, "failed", now, health, began=began)
        served = decision.served_after(outcome.attempts)
        result = _result(outcome, snapshot.terms.failover.statuses)
        if result is None or (_is_callers(served) and result == "failed" and outcome.status < 500):
            return
        self.attempted(served.name, result, now, health, outcome.retry_after, began=began)

    def attempted(
        self,
        model: str,
        result: Result,
        now: float,
        health: Health,
        retry_after: float | None = None,
        *,
        began: float | None = None,
    ) -> None:
        """What one attempt came to that `began` then, or just now.

        `retry_after` are the seconds for which its server wants to be left alone. What began before a rest was over
        says nothing of how the model is by now.
        """
        rest = self._rests.get(model)
        is_trial = rest is not None and not _is_on(rest.until, now if began is None else began)
        if result == "served":
            self._note(model, now, result)
            if is_trial:
                self._recover(model)
        elif retry_after is not None:
            self._rest(model, "busy", now + min(max(retry_after, SHORTEST_REST), LONGEST_REST))
        elif rest is None:
            results = self._note(model, now, result)
            recent = [each for at, each in results if at > now - health.window]
            failed = recent.count("failed")
            if failed >= health.failures and 2 * failed >= len(recent):
                self._rest(model, "failing", now + health.cooldown)
        elif is_trial:
            self._rest(model, "failing", now + health.cooldown)

    def heard(self, told: Mapping[str, Rest], now: float) -> None:
        """What other processes have met."""
        for model, rest in told.items():
            known = self._rests.get(model)
            if _is_on(rest.until, now) and (known is None or known.until < rest.until):
                self._rests[model] = rest
                self._trials.pop(model, None)

    def keep(self, models: Mapping[str, Model]) -> None:
        """Forget what is not configured any more."""
        for name in {*self._results, *self._rests} - models.keys():
            self._forget(name)

    def _note(self, model: str, now: float, result: Result) -> deque[tuple[float, Result]]:
        results = self._results.setdefault(model, deque(maxlen=_RESULTS))
        results.append((now, result))
        return results

    def _rest(self, model: str, why: Why, until: float) -> None:
        known = self._rests.get(model)
        rest = Rest(why, max(until, known.until if known else 0.0))
        self._forget(model)
        self._rests[model] = rest
        self._tell(model, rest)

    def _recover(self, model: str) -> None:
        del self._rests[model]
        self._trials.pop(model, None)
        self._tell(model, None)

    def _forget(self, model: str) -> None:
        for kept in (self._results, self._rests, self._trials):
            kept.pop(model, None)


def _is_on(until: float, now: float) -> bool:
    """Whether a rest is not over; one longer than any may be is that of a clock that went back, or nonsense."""
    return now < until <= now + LONGEST_REST


def _is_callers(model: Model) -> bool:
    """Whether its server knows the caller, and not us."""
    return model.credential is not None and model.credential.kind == "forward"


def _result(outcome: Outcome, statuses: tuple[int, ...]) -> Result | None:
    """What the last attempt says of its model; None where it says nothing."""
    if not outcome.is_evidence:
        return None
    return "failed" if outcome.is_error or outcome.status in statuses else "served"
