"""The second half of the demo: two new models are rolled out, one good and one that fails too often.

Callers' requests come through Envoy all the while, and what is shown is what
the admin API says: nobody tells the rollouts which model is which.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Final

import aiohttp
from rich.console import Console
from rich.live import Live

from wissel.admin.terminal import side_by_side
from wissel.core.rollouts.rollout import Phase
from wissel.demo.stage import Stage
from wissel.runtime.background import beside

GOOD: Final = "chat-next"
BAD: Final = "chat-cheap"
EXPECTED: Final[dict[str, Phase]] = {GOOD: "healthy", BAD: "degraded"}
ERROR_RATE: Final = 0.3
"""Of the bad one."""

SECONDS: Final = 50.0
"""After which the demo does not wait for them any longer."""

_AT_ONCE: Final = 4
_BETWEEN: Final = 0.05


@dataclass(frozen=True, slots=True)
class Delivered:
    """How one rollout ended."""

    name: str
    phase: Phase
    canary_requests: int
    """That the new model's server got."""
    reason: str

    @property
    def is_as_expected(self) -> bool:
        return self.phase == EXPECTED[self.name]


async def deliver(stage: Stage, console: Console, *, key: str, quiet: bool) -> list[Delivered]:
    """Send requests until both rollouts are over, and show them."""
    fail_often(stage)
    began = perf_counter()
    async with aiohttp.ClientSession() as session:
        now = await standings(stage, session)
        if not quiet:
            console.print("\nTwo new models take over from gpt-4o-mini, if what they answer is good enough:\n")
        async with _load(stage, session, key):
            with Live(side_by_side(now), console=console, auto_refresh=False, transient=quiet) as live:
                while perf_counter() - began < SECONDS and not all(is_over(each) for each in now):
                    await asyncio.sleep(0.5)
                    now = await standings(stage, session)
                    live.update(side_by_side(now), refresh=True)
    return [
        Delivered(each["name"], each["phase"], stage.upstreams[_cluster(stage, each["name"])].served, each["reason"])
        for each in now
    ]


def sum_up(delivered: list[Delivered], console: Console) -> None:
    """A line for each."""
    for each in delivered:
        did = {"healthy": "promoted", "degraded": "rolled back"}.get(each.phase, each.phase)
        colour = "green" if each.is_as_expected else "red"
        console.print(f"[{colour}]{each.name}[/] {did} after {each.canary_requests} canary requests: {each.reason}")


@asynccontextmanager
async def _load(stage: Stage, session: aiohttp.ClientSession, key: str) -> AsyncGenerator[None]:
    """Callers of every rollout, as long as the block runs."""
    async with beside(*(call_for_ever(stage, session, name, key) for name in EXPECTED)):
        yield


async def call_for_ever(
    stage: Stage, session: aiohttp.ClientSession, name: str, key: str, *, between: float = _BETWEEN
) -> None:
    """Ask for a rollout, some at once and `between` seconds later again."""
    while True:
        await asyncio.gather(*(_ask(stage, session, name, key) for _ in range(_AT_ONCE)), asyncio.sleep(between))


async def _ask(stage: Stage, session: aiohttp.ClientSession, name: str, key: str) -> None:
    body = {"model": name, "messages": [{"role": "user", "content": "What is new?"}]}
    headers = {"authorization": f"Bearer {key}"}
    async with session.post(f"{stage.envoy.url}/v1/chat/completions", json=body, headers=headers) as response:
        await response.read()


def fail_often(stage: Stage) -> None:
    """Make the bad canary's server what it is."""
    stage.upstreams[_cluster(stage, BAD)].behaviour.error_rate = ERROR_RATE


async def standings(stage: Stage, session: aiohttp.ClientSession) -> list[dict[str, Any]]:
    """Where every rollout stands, in the API's words."""
    async with session.get(f"{stage.admin}/v1/rollouts", raise_for_status=True) as response:
        return (await response.json())["rollouts"]


def is_over(standing: dict[str, Any]) -> bool:
    """Whether it was promoted or taken back."""
    return standing["phase"] in {"healthy", "degraded"}


def _cluster(stage: Stage, name: str) -> str:
    canary = next(each.canary for each in stage.config.rollouts if each.name == name)
    return stage.cluster_of[canary]
