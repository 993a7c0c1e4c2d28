"""What the world is told of a rollout's moves, and asked before the last one.

An event is posted again until somebody takes it, beside everything else, and
given up after `TRIES`. A confirmation is asked for once in `CONFIRM_INTERVAL`;
a URL that cannot be asked does not agree.
"""

import asyncio
from collections.abc import Mapping
from typing import Any, Final

import aiohttp
import structlog

from wissel.core.rollouts.rollout import Event, Move, Rollout
from wissel.core.rollouts.spec import Delivery
from wissel.runtime.origin import origin

log = structlog.get_logger(__name__)

TRIES: Final = 4

SECONDS: Final = 2.0
"""What one call may take: a query and a confirmation together less than the controller's lease lasts."""

CONFIRM_INTERVAL: Final = 10.0
"""Seconds after which a webhook that did not agree to a promotion is asked again."""


class Webhooks:
    """Of all rollouts of one replica."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session
        self._asked: dict[str, float] = {}
        """When a promotion was last asked for."""
        self._deliveries: set[asyncio.Task[None]] = set()

    async def confirm(self, delivery: Delivery, rollout: Rollout, now: float) -> bool:
        """Whether every URL agrees to the promotion; False also where they were asked a moment ago."""
        asked = self._asked.get(rollout.name)
        if asked is not None and 0 <= now - asked < CONFIRM_INTERVAL:
            return False
        self._asked[rollout.name] = now
        body = _body(delivery, rollout, {"type": "confirm_promotion"})
        return all(await asyncio.gather(*(self._post(url, body) for url in delivery.confirmations)))

    def tell(self, delivery: Delivery, move: Move) -> None:
        """Post every event of a move that was made; nobody waits for it."""
        for event in move.events:
            for url in delivery.events:
                body = _body(delivery, move.rollout, _event_view(event))
                task = asyncio.create_task(self._deliver(url, body))
                self._deliveries.add(task)
                task.add_done_callback(self._deliveries.discard)

    def close(self) -> None:
        """Give up what is still on its way."""
        for task in self._deliveries:
            task.cancel()

    async def _deliver(self, url: str, body: Mapping[str, Any]) -> None:
        for attempt in range(TRIES):
            if await self._post(url, body):
                return
            await asyncio.sleep(2.0**attempt)
        log.warning("webhook_undelivered", to=origin(url), tries=TRIES)

    async def _post(self, url: str, body: Mapping[str, Any]) -> bool:
        try:
            async with asyncio.timeout(SECONDS), self._session.post(url, json=body) as response:
                return 200 <= response.status < 300
        except (aiohttp.ClientError, TimeoutError) as error:
            # Its own words may hold the URL, and that a token.
            log.warning("webhook_failed", to=origin(url), problem=type(error).__name__)
            return False


def _event_view(event: Event) -> dict[str, Any]:
    return {"type": event.kind, "reason": event.reason, "by": event.by, "step": event.step, "weight": event.weight}


def _body(delivery: Delivery, rollout: Rollout, event: Mapping[str, Any]) -> dict[str, Any]:
    """What a webhook gets; `revision` and `attempt` tell the same rollout's runs apart."""
    return {
        "rollout": rollout.name,
        "stable": delivery.spec.stable,
        "canary": delivery.spec.canary,
        "revision": rollout.revision,
        "attempt": rollout.attempt,
        "phase": rollout.phase,
        "event": dict(event),
    }
