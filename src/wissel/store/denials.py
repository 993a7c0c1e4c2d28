"""Every refusal becomes a line in the log and in the audit trail; of many that are alike, one in a while.

Refusals are alike if they have the same caller, code, rules and limit. The
first is told at once, those that follow are counted, and the next that is told
says how many there were. Writing happens beside the request path.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Final

import structlog

from wissel.core.decision import Denied
from wissel.core.quoting import cut
from wissel.errors import StoreError
from wissel.runtime.bounded import Bounded
from wissel.store.audit import Audit
from wissel.store.base import AuditEntry

log = structlog.get_logger(__name__)

QUIET_SECONDS: Final = 10.0
"""For which refusals that are alike are only counted."""

_MOST_KINDS: Final = 10_000
_MOST_WAITING: Final = 1000
_RETRY_SECONDS: Final = 1.0

_Alike = tuple[str, str, tuple[str, ...], str]


class Denials:
    """Tells of refusals; `audit` is None where there is no store."""

    def __init__(self, audit: Audit | None, *, clock: Callable[[], float] = monotonic) -> None:
        self._audit = audit
        self._clock = clock
        self._told: Bounded[_Alike, tuple[float, int]] = Bounded(_MOST_KINDS)
        self._waiting: deque[AuditEntry] = deque(maxlen=_MOST_WAITING)
        self._woken = asyncio.Event()

    def denied(self, decision: Denied, request_id: str) -> None:
        """A request was refused."""
        who = cut(decision.principal.id) if decision.principal else ""
        alike = (who, decision.code, decision.rule_ids, decision.limit_id)
        now = self._clock()
        told_at, unsaid = self._told.peek(alike) or (None, 0)
        if told_at is not None and now - told_at < QUIET_SECONDS:
            self._told.put(alike, (told_at, unsaid + 1))
            return
        self._told.put(alike, (now, 0))
        detail = {
            "status": decision.status,
            "code": decision.code,
            "route": decision.route,
            "rules": list(decision.rule_ids),
            "limit": decision.limit_id,
            "request_id": request_id,
            "revision": decision.revision,
            "more_like_it": unsaid,
        }
        log.info("denied", principal=who, why=decision.message, **detail)
        if self._audit is not None:
            self._waiting.append(AuditEntry("request", "denied", who, decision.message, detail))
            self._woken.set()

    async def run(self) -> None:
        """Write to the audit trail, for ever."""
        while self._audit is not None:
            await self._woken.wait()
            self._woken.clear()
            while self._waiting:
                entry = self._waiting.popleft()
                try:
                    await self._audit.add(entry)
                except StoreError as error:
                    log.warning("audit_not_written", error=str(error))
                    self._waiting.appendleft(entry)
                    await asyncio.sleep(_RETRY_SECONDS)
                except Exception:
                    # One entry that cannot be written must not end the trail.
                    log.exception("audit_entry_dropped")
