"""Where attacks are tried: a real Envoy before wissel, one attacker, and one bystander whose numbers count.

attack -> a bystander's latencies before, during and after, and what wissel's memory came to -> Found
"""

import asyncio
import itertools
import json
import resource
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import aiohttp

from redteam.attack import MEBIBYTE, Attack
from wissel.demo.stage import Stage, running_stage
from wissel.runtime.child import running

TESTS: Final = Path(__file__).parents[1]
PACE: Final = 0.02
"""Seconds between two requests of the bystander."""
ALWAYS_FINE: Final = 0.1
"""Seconds: a bystander's p99 that is no harm, whatever it was before."""
TIMES_WORSE: Final = 3
ALLEY: Final = "alley"
"""The cluster where attackers' requests end."""
_DAYS: Final = itertools.count()
"""So that no text of the bystander was met before."""
MOST_MEMORY: Final = 700 * MEBIBYTE


@dataclass(frozen=True)
class Span:
    """What the bystander met."""

    seconds: tuple[float, ...]
    wrong: int
    """Answers other than 200, and those of another model than the one that was meant."""

    def quantile(self, q: float) -> float:
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) - 1, int(q * len(ordered)))]


@dataclass(frozen=True)
class Found:
    attack: Attack
    before: Span
    during: Span
    after: Span
    memory: int
    """Bytes that wissel had in memory at most."""
    answers: Mapping[str, int]
    """What the attacker was told, by status."""

    @property
    def missed(self) -> list[str]:
        """The aims that are missed."""
        allowed = max(TIMES_WORSE * self.before.quantile(0.99), ALWAYS_FINE)
        worst = self.during.quantile(0.99)
        return [
            *([f"p99 {worst * 1000:.0f} ms of {allowed * 1000:.0f}"] if worst > allowed else []),
            *([f"{self.during.wrong} wrong answers"] if self.during.wrong else []),
            *([f"{self.memory // MEBIBYTE} MiB"] if self.memory > MOST_MEMORY else []),
            *(["the attack never arrived"] if not self.answers else []),
        ]


def document(bounds: Mapping[str, int]) -> dict[str, Any]:
    keys = [{"id": name, "sha256": sha256(name.encode()).hexdigest()} for name in ("attacker", "bystander")]
    rules = [
        {"id": "all", "effect": "permit"},
        {"id": "not-this", "effect": "forbid", "models": ["secret"], "principals": ["attacker"]},
    ]
    return {
        "redis": "embedded",
        "models": [
            {"name": "open", "cluster": "street"},
            {"name": "other", "cluster": "street"},
            {"name": "attacked", "cluster": ALLEY, "apis": ["chat", "responses", "embeddings"], "upstream_model": "o"},
            {"name": "secret", "cluster": "street"},
        ],
        "entrypoints": ["auto"],
        "intent": {"fallback": "anything"},
        "routes": [
            {"name": "travel", "description": "Booking flights and planning journeys", "target": "open"},
            {"name": "anything", "description": "Small talk about anything else", "target": "other"},
        ],
        "passthrough": [{"path_prefix": "/v1/audio", "cluster": ALLEY}],
        "access": {"keys": keys, "rules": rules},
        **({"listen": {"bounds": dict(bounds)}} if bounds else {}),
    }


@asynccontextmanager
async def running_field(home: Path, bounds: Mapping[str, int]) -> AsyncIterator[Stage]:
    async with running_stage(document(bounds), home) as stage:
        # What an attacker sends may be read for as long as it takes: by a process of its own.
        alley = stage.upstreams[ALLEY]
        await alley.go_down()
        port = alley.address.rsplit(":", 1)[1]
        command = [sys.executable, "-m", "wissel.demo.upstream", "--name", ALLEY, "--port", port]
        async with running(command, log=home / "alley.log", ready=lambda: _answers(alley.address)):
            yield stage


async def _answers(address: str) -> bool:
    async with aiohttp.ClientSession() as session:
        try:
            return (await session.get(f"http://{address}/v1/models")).ok
        except aiohttp.ClientError:
            return False


async def tried(stage: Stage, attack: Attack, *, seconds: float) -> Found:
    """One attack, of `seconds`."""
    host = stage.envoy.url.removeprefix("http://")
    command = [sys.executable, "-m", "redteam.striker", attack.name, host, "attacker", str(seconds)]
    pipe = asyncio.subprocess.PIPE
    striker = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, cwd=TESTS)
    assert striker.stdin is not None
    assert striker.stdout is not None
    try:
        async with aiohttp.ClientSession() as session:
            await striker.stdout.readline()
            watch = partial(_watched, session, stage, attack.asks)
            await watch(0.3)
            before = await watch(seconds)
            watching = asyncio.create_task(_most_memory(stage.process_id))
            striker.stdin.write(b"go\n")
            during = await watch(seconds)
            said = await striker.stdout.readline()
            watching.cancel()
            after = await watch(seconds / 2)
    finally:
        if striker.returncode is None:
            striker.kill()
        await striker.wait()
    for upstream in stage.upstreams.values():
        upstream.requests.clear()
    return Found(attack, before, during, after, await _finished(watching), json.loads(said or b"{}"))


async def _watched(session: aiohttp.ClientSession, stage: Stage, asked: str, seconds: float) -> Span:
    took: list[float] = []
    wrong = 0
    until = time.perf_counter() + seconds
    while (began := time.perf_counter()) < until:
        headers = {"authorization": "Bearer bystander"}
        said = f"book a flight from Lisbon on day {next(_DAYS)}"
        body = {"model": asked, "messages": [{"role": "user", "content": said}]}
        async with session.post(f"{stage.envoy.url}/v1/chat/completions", json=body, headers=headers) as response:
            await response.read()
            wrong += (response.status, response.headers.get("x-wissel-model")) != (200, "open")
        took.append(time.perf_counter() - began)
        await asyncio.sleep(max(0.0, PACE - took[-1]))
    return Span(tuple(took), wrong)


class _Peak:
    value = 0


async def _most_memory(process_id: int) -> None:
    while True:
        _Peak.value = max(_Peak.value, resident(process_id))
        await asyncio.sleep(0.02)


def resident(process_id: int) -> int:
    """Bytes of memory that a process has."""
    return int(Path(f"/proc/{process_id}/statm").read_text().split()[1]) * resource.getpagesize()


async def _finished(watching: asyncio.Task[None]) -> int:
    await asyncio.wait([watching])
    found, _Peak.value = _Peak.value, 0
    return found


def table(found: Sequence[Found]) -> str:
    def row(each: Found) -> str:
        spans = " | ".join(
            f"{span.quantile(0.5) * 1000:.0f} / {span.quantile(0.99) * 1000:.0f}"
            for span in (each.before, each.during, each.after)
        )
        answers = ", ".join(f"{count} × {status}" for status, count in sorted(each.answers.items()))
        missed = "; ".join(each.missed) or "held"
        return f"| {each.attack.says} | {spans} | {each.memory // MEBIBYTE} | {answers} | {missed} |"

    head = "| attack | before, ms p50 / p99 | during | after | memory, MiB | told the attacker | |"
    return "\n".join([head, "|---|---|---|---|---|---|---|", *map(row, found)])
