"""The evidence that a look at a rollout wants: counters from Redis, numbers from Prometheus.

What cannot be had is said to be missing, which is no verdict; it raises nothing.
"""

import asyncio
from typing import Any, Final

import aiohttp
import structlog

from wissel.core.rollouts.arms import canary_share
from wissel.core.rollouts.evidence import Evidence, Missing
from wissel.core.rollouts.rollout import Rollout
from wissel.core.rollouts.spec import Delivery
from wissel.errors import StoreError
from wissel.store.base import Scope
from wissel.store.counters import Counters

log = structlog.get_logger(__name__)

QUERY_SECONDS: Final = 2.0
"""What a query may take: with a webhook's confirmation less than the controller's lease lasts."""


class Measurements:
    """Of all rollouts of one configuration namespace."""

    def __init__(self, counters: Counters, session: aiohttp.ClientSession) -> None:
        self._counters = counters
        self._session = session

    async def evidence(self, delivery: Delivery, rollout: Rollout) -> Evidence | Missing:
        """Of the step that set the weight, over closed windows."""
        try:
            tallied = await self._counters.read(scope_of(rollout))
        except StoreError as error:
            return Missing(str(error))
        values = await asyncio.gather(*(self._query(delivery, query) for query in delivery.queries.values()))
        return Evidence(
            revision=rollout.revision,
            attempt=rollout.attempt,
            step=rollout.window,
            canary=tallied.arm("canary"),
            stable=tallied.arm("baseline" if delivery.spec.baseline else "stable"),
            share=canary_share(rollout, delivery.spec),
            queries=dict(zip(delivery.queries, values, strict=True)),
            mixed=tallied.mixed,
        )

    async def _query(self, delivery: Delivery, query: str) -> float | None:
        """One number from Prometheus; None where there is none."""
        try:
            async with (
                asyncio.timeout(QUERY_SECONDS),
                self._session.get(f"{delivery.prometheus}/api/v1/query", params={"query": query}) as response,
            ):
                body: Any = await response.json()
                (sample,) = body["data"]["result"]
                return float(sample["value"][1])
        except (aiohttp.ClientError, TimeoutError, KeyError, TypeError, ValueError) as error:
            log.warning("query_failed", rollout=delivery.spec.name, query=query, problem=repr(error))
            return None


def scope_of(rollout: Rollout) -> Scope:
    """What is counted of its step."""
    return Scope(rollout.name, rollout.revision, rollout.attempt, rollout.window)
