"""What one request draws from limits: it goes back unless the request goes on."""

from time import perf_counter
from types import TracebackType
from typing import Protocol

from wissel.core.access import Principal
from wissel.core.decision import Denied
from wissel.core.limits import Charge, Drawn, Exceeded, Unchecked, Used
from wissel.core.refusals import exceeded, uncounted
from wissel.core.snapshot import OnStoreFailure, Snapshot
from wissel.telemetry.counting import Telemetry
from wissel.telemetry.tracing import step, tell_draw


class LimitKeeper(Protocol):
    """Keeps count over all replicas."""

    async def draw(
        self, charges: tuple[Charge, ...], *, otherwise: OnStoreFailure
    ) -> Drawn | Exceeded | Unchecked | None:
        """Draw all charges or none; None where nothing was drawn and the request may go on all the same."""
        ...

    def settle(self, drawn: Drawn, used: Used | None) -> None:
        """Put right what was estimated; `used` is None for a request that never went on."""
        ...


class Holding:
    """What one request has drawn so far; at the end of the block it goes back, unless it is kept."""

    def __init__(self, limiter: LimitKeeper, snapshot: Snapshot, caller: Principal, telemetry: Telemetry) -> None:
        self._limiter = limiter
        self._telemetry = telemetry
        self._snapshot = snapshot
        self._caller = caller
        self._drawn: list[Drawn] = []

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for drawn in self._drawn:
            self._limiter.settle(drawn, None)

    async def draw(self, charges: tuple[Charge, ...]) -> Denied | None:
        """Draw all charges, or say why not."""
        if not charges:
            return None
        began = perf_counter()
        with step("limit") as span:
            found = await self._limiter.draw(charges, otherwise=self._snapshot.on_store_failure)
            tell_draw(span, charges, found)
        self._telemetry.drew(found, perf_counter() - began)
        match found:
            case Drawn():
                self._drawn.append(found)
            case Exceeded():
                return exceeded(found, self._caller, self._snapshot.revision)
            case Unchecked():
                return uncounted(self._caller, self._snapshot.revision)
            case None:
                pass
        return None

    def keep(self) -> tuple[Drawn, ...]:
        """Everything drawn is the decision's now."""
        kept, self._drawn = tuple(self._drawn), []
        return kept
