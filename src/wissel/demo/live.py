"""What goes on while a visitor looks around: callers with all kinds of questions, and the two rollouts again and again.

The good canary is taken back after a while and the bad one tried anew, so
there is always something that moves in the console.
"""

import asyncio
import itertools
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import aiohttp

from wissel.demo.delivery import EXPECTED, call_for_ever, fail_often, is_over, standings
from wissel.demo.stage import Stage

_CALLERS: Final = 4
_PAUSE: Final = 0.5
"""Mean seconds between two questions of one caller."""
BETWEEN: Final = 0.3
"""Seconds between two rounds of the rollouts' callers: slower than in the story, so that there is time to look."""
REST: Final = 20.0
"""Seconds that a rollout stays as it ended, before it begins again."""


@dataclass(frozen=True, slots=True)
class Question:
    """What some caller asks now and then."""

    model: str
    prompt: str
    key: str
    stream: bool = False


async def go_on(
    stage: Stage, questions: Sequence[Question], *, key: str, between: float = BETWEEN, rest: float = REST
) -> None:
    """Until cancelled; `key` is that of the rollouts' callers."""
    fail_often(stage)
    async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as tasks:
        for number in range(_CALLERS):
            tasks.create_task(_patiently(partial(_ask_for_ever, stage, session, questions, number)))
        for name in EXPECTED:
            tasks.create_task(_patiently(partial(call_for_ever, stage, session, name, key, between=between)))
            tasks.create_task(_patiently(partial(_again_and_again, stage, session, name, rest)))


async def _patiently(work: Callable[[], Awaitable[None]]) -> None:
    """A visitor may stop Envoy or wissel to see what happens: then it is tried again."""
    while True:
        try:
            await work()
        except aiohttp.ClientError:
            await asyncio.sleep(1)


async def _ask_for_ever(
    stage: Stage, session: aiohttp.ClientSession, questions: Sequence[Question], number: int
) -> None:
    for turn in itertools.count():
        asked = random.choice(questions)
        body = {
            "model": asked.model,
            "messages": [{"role": "user", "content": asked.prompt}],
            "stream": asked.stream,
        }
        headers = {"authorization": f"Bearer {asked.key}", "x-session-id": f"visitor-{number}-{turn}"}
        async with session.post(f"{stage.envoy.url}/v1/chat/completions", json=body, headers=headers) as response:
            await response.read()
        await asyncio.sleep(random.uniform(0.5, 1.5) * _PAUSE)


async def _again_and_again(stage: Stage, session: aiohttp.ClientSession, name: str, rest: float) -> None:
    while True:
        await asyncio.sleep(1)
        standing = next(each for each in await standings(stage, session) if each["name"] == name)
        if not is_over(standing):
            continue
        await asyncio.sleep(rest)
        if standing["phase"] == "healthy":
            await _say(stage, session, name, "undo")
        await _say(stage, session, name, "retry")


async def _say(stage: Stage, session: aiohttp.ClientSession, name: str, verb: str) -> None:
    # A visitor may have said something else meanwhile: a verb that no longer fits is refused, and that is fine.
    async with session.post(f"{stage.admin}/v1/rollouts/{name}/{verb}", json={"by": "demo"}) as response:
        await response.read()
