"""A model's server is killed while callers go on, and none of them notices: the next model of the plan answers."""

import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from time import perf_counter
from typing import Final

import aiohttp
from rich.console import Console

from wissel.demo.stage import Stage

LOST: Final = "llama-3.1-8b"
"""The model; its fallbacks are in the file."""

_CALLERS: Final = 4
_BEFORE: Final = 0.5
"""Seconds for which it serves."""
_AFTER: Final = 1.0
"""Seconds for which callers go on without it."""
_LATENCY: Final = 0.02
"""Seconds that it takes to answer, so that it has requests before it when it is killed."""


@dataclass(frozen=True, slots=True)
class Lost:
    """How that went."""

    model: str
    requests: int
    failures: int
    """Answers that no model gave."""
    served: Mapping[str, int]
    """By the model that answered."""
    slowest_ms: float

    @property
    def unnoticed(self) -> bool:
        """Whether no caller saw that it was gone, though others had to answer in its place."""
        return self.failures == 0 and len(self.served) > 1


async def lose_model(stage: Stage, *, key: str) -> Lost:
    """Kill the model's server in the midst of its callers; it comes back in the end."""
    server = stage.upstreams[stage.cluster_of[LOST]]
    usual, server.behaviour.latency = server.behaviour.latency, _LATENCY
    until = perf_counter() + _BEFORE + _AFTER
    async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as tasks:
        callers = [tasks.create_task(_call_until(until, stage, session, key)) for _ in range(_CALLERS)]
        await asyncio.sleep(_BEFORE)
        await server.go_down()
    server.behaviour.latency = usual
    await server.come_back()
    met = [each for caller in callers for each in caller.result()]
    served = Counter(model for model, _ in met if model)
    failures = len(met) - served.total()
    return Lost(LOST, len(met), failures, dict(served), round(1000 * max(seconds for _, seconds in met), 1))


async def _call_until(until: float, stage: Stage, session: aiohttp.ClientSession, key: str) -> list[tuple[str, float]]:
    """Which model answered each request, "" where none did, and after how many seconds."""
    body = {"model": LOST, "messages": [{"role": "user", "content": "Are you still there?"}]}
    headers = {"authorization": f"Bearer {key}"}
    met: list[tuple[str, float]] = []
    while (began := perf_counter()) < until:
        url = f"{stage.envoy.url}/v1/chat/completions"
        async with session.post(url, json=body, headers=headers) as answer:
            await answer.read()
            model = answer.headers.get("x-wissel-model", "") if answer.status == 200 else ""
        met.append((model, perf_counter() - began))
    return met


def tell_loss(lost: Lost, console: Console) -> None:
    """A line or two."""
    colour = "green" if lost.unnoticed else "red"
    served = ", ".join(f"{model} {count}" for model, count in lost.served.items())
    console.print(f"\n[{colour}]{lost.model}[/]'s server was killed while {_CALLERS} callers went on:")
    console.print(
        f"  {lost.requests} requests, {lost.failures} of them failed; answered by {served}; "
        f"the slowest took {lost.slowest_ms:.0f} ms",
        highlight=False,
    )
