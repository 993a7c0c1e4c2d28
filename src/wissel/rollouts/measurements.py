"""The evidence that a look at a rollout wants: counters from Redis, numbers from Prometheus.

What cannot be had is said to be missing, which is no verdict; it raises nothing.
"""

import asyncio
import json
import math
from collections.abc import Mapping
from typing import Any, Final, cast

import aiohttp
import structlog

from wissel.core.quoting import quoted
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

    async def _query(self, delivery: Delivery, query: str) -> float | Missing:
        """One number from Prometheus, or why there is none."""
        found = await self._ask(f"{delivery.prometheus}/api/v1/query", query)
        if isinstance(found, Missing):
            log.warning("query_without_number", rollout=delivery.spec.name, query=query, problem=found.reason)
        return found

    async def _ask(self, url: str, query: str) -> float | Missing:
        try:
            async with (
                asyncio.timeout(QUERY_SECONDS),
                self._session.get(url, params={"query": query}) as response,
            ):
                answer = await response.read()
                status = response.status
        except TimeoutError:
            return Missing(f"prometheus did not answer within {QUERY_SECONDS:g} s")
        except aiohttp.ClientError as error:
            # Its own words may hold the URL, and that a password.
            return Missing(f"prometheus cannot be reached: {type(error).__name__}")
        try:
            said: Any = json.loads(answer)
        except ValueError:
            said = None
        if not isinstance(said, dict):
            return Missing(f"prometheus answered {status} without JSON")
        return number_in(cast("Mapping[str, Any]", said))


def number_in(said: Mapping[str, Any]) -> float | Missing:
    """The one number of an answer to an instant query: a scalar, or a vector of one series."""
    if said.get("status") != "success":
        return Missing(f"prometheus refused the query: {quoted(str(said.get('error') or said.get('errorType')))}")
    try:
        kind, result = said["data"]["resultType"], said["data"]["result"]
        match kind:
            case "scalar":
                number = float(result[1])
            case "vector" if len(result) == 1:
                number = float(result[0]["value"][1])
            case "vector" if not result:
                return Missing("the query found no series")
            case "vector":
                return Missing(f"the query gave {len(result)} series; aggregate them, as with sum(…) or max(…)")
            case _:
                return Missing(f"the query gave a {quoted(str(kind))}; it should give one number")
    except (KeyError, IndexError, TypeError, ValueError):
        return Missing("the answer is none of a query of Prometheus")
    # Without traffic a share is 0/0: that says nothing of the canary, and nothing that a human could put right.
    return number if math.isfinite(number) else Missing(f"the query gave {number}, as it does without data")


def scope_of(rollout: Rollout) -> Scope:
    """What is counted of its step."""
    return Scope(rollout.name, rollout.revision, rollout.attempt, rollout.window)
