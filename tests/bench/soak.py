"""Mixed traffic for as long as one likes, and what is left behind afterwards.

    python -m tests.bench.soak --duration 600

A real Envoy, a real wissel with its redis, simulated models: whole answers,
streams, refusals, unreadable bodies, callers who hang up, and a configuration
that changes every few seconds. At the end every request that was served must
have been counted, no stream may be open, and memory may not have grown beyond
its first minute's by more than the allowance. Exit 1 if anything is left over.
"""

import argparse
import asyncio
import json
import random
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp
from prometheus_client.parser import text_string_to_metric_families
from tests.bench.process import resident_mb

from wissel.demo.stage import Stage, running_stage

ALLOWANCE_MB: Final = 30.0
"""What memory may grow by after the warm-up: allocators are not tidy, and caches fill."""

CALLERS: Final = 16
RELOAD_SECONDS: Final = 5.0

DOCUMENT: Final[dict[str, Any]] = {
    "redis": "embedded",
    "models": [
        {"name": "a", "cluster": "a", "price": {"input": 1, "output": 2}},
        {"name": "b", "cluster": "b"},
        {"name": "c", "cluster": "c", "apis": ["chat", "responses", "messages"]},
    ],
    "entrypoints": ["auto"],
    "aliases": {"fast": "c"},
    "intent": {"fallback": "talk", "deadline_ms": 2000},
    "routes": [
        {"name": "code", "domain": "programming", "action": "fix", "description": "fixing code", "target": "ab"},
        {"name": "talk", "description": "small talk", "examples": ["hello", "good morning"], "target": "c"},
    ],
    "splits": [{"name": "ab", "variants": [{"model": "a", "weight": 50}, {"model": "b", "weight": 50}]}],
}


@dataclass(slots=True)
class Tally:
    """What the callers saw."""

    answers: Counter[str] = field(default_factory=Counter[str])
    """By what was done and the status that came."""
    surprises: list[str] = field(default_factory=list[str])
    """What should not have happened."""


async def soak(duration: float, *, between_reloads: float = RELOAD_SECONDS) -> dict[str, Any]:
    """Run the whole; the report, whose `left_over` is empty if all is well."""
    with tempfile.TemporaryDirectory(prefix="wissel-soak-") as home:
        async with running_stage(DOCUMENT, Path(home)) as stage, aiohttp.ClientSession() as session:
            stage.upstreams["b"].behaviour.event_gap = 0.005
            tally = Tally()
            await _load(stage, session, tally, min(duration, 20.0), between_reloads)
            warm = resident_mb(stage.process_id)
            await _load(stage, session, tally, max(0.0, duration - 20.0), between_reloads)
            await _settled(stage, session)
            return await _report(stage, session, tally, warm)


async def _load(
    stage: Stage, session: aiohttp.ClientSession, tally: Tally, seconds: float, between_reloads: float
) -> None:
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    dice = random.Random(7)

    async def caller() -> None:
        while loop.time() < until:
            await _ask(stage, session, tally, dice)

    async def reloader() -> None:
        text, flipped = stage.path.read_text(), False
        while loop.time() + between_reloads < until:
            await asyncio.sleep(between_reloads)
            flipped = not flipped
            stage.path.write_text(text.replace("fast: c", "fast: a") if flipped else text)
        stage.path.write_text(text)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(reloader())
        for _ in range(CALLERS):
            tasks.create_task(caller())


async def _ask(stage: Stage, session: aiohttp.ClientSession, tally: Tally, dice: random.Random) -> None:
    kind = dice.choice(["whole", "whole", "stream", "hang up", "named", "unknown", "unreadable", "no path"])
    question = dice.choice(["my loop never ends", "hello there", f"why does test {dice.randrange(500)} fail?"])
    body: dict[str, Any] = {"model": "auto", "messages": [{"role": "user", "content": question}]}
    path, expected = "/v1/chat/completions", 200
    match kind:
        case "stream" | "hang up":
            body["stream"] = True
        case "named":
            body["model"] = "fast"
        case "unknown":
            body["model"], expected = "nobody", 404
        case "unreadable":
            expected = 400
        case "no path":
            path, expected = "/v1/nothing", 404
        case _:
            pass
    data = b"{" if kind == "unreadable" else json.dumps(body).encode()
    headers = {"x-session-id": f"s-{dice.randrange(1000)}", "content-type": "application/json"}
    try:
        async with session.post(f"{stage.envoy.url}{path}", data=data, headers=headers) as response:
            if kind == "hang up":
                await response.content.readany()
                response.close()
            else:
                await response.read()
            tally.answers[f"{kind} {response.status}"] += 1
            if response.status != expected:
                tally.surprises.append(f"{kind}: {response.status} where {expected} was due")
    except aiohttp.ClientError as error:
        tally.surprises.append(f"{kind}: {error!r}")


async def _settled(stage: Stage, session: aiohttp.ClientSession) -> None:
    """Wait until every stream is over, for as long as a slow machine may take."""
    for _ in range(200):
        page = await _metrics(stage, session)
        if page.get("wissel_streams", 0) == 0:
            return
        await asyncio.sleep(0.1)


async def _metrics(stage: Stage, session: aiohttp.ClientSession) -> Counter[str]:
    """Sums by the name of the sample."""
    async with session.get(f"{stage.admin}/metrics") as response:
        text = await response.text()
    sums: Counter[str] = Counter()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            sums[sample.name] += sample.value  # type: ignore[assignment]  # counts of a counter may be floats
    return sums


async def _report(stage: Stage, session: aiohttp.ClientSession, tally: Tally, warm: float) -> dict[str, Any]:
    page = await _metrics(stage, session)
    served = sum(upstream.served for upstream in stage.upstreams.values())
    routed = page["wissel_decisions_total"]
    told = page["wissel_response_duration_seconds_count"]
    grown = resident_mb(stage.process_id) - warm
    left_over = [*tally.surprises[:20]]
    if page["wissel_streams"]:
        left_over.append(f"{page['wissel_streams']:g} streams are still open")
    if not served <= routed:
        left_over.append(f"{served} requests reached models, {routed:g} decisions were counted")
    if told < served - page["wissel_hang_ups_total"]:
        left_over.append(f"{served} requests reached models, {told:g} responses were counted")
    if grown > ALLOWANCE_MB:
        left_over.append(f"memory grew by {grown:.1f} MB after the warm-up")
    return {
        "requests": sum(tally.answers.values()),
        "answers": dict(sorted(tally.answers.items())),
        "served_by_models": served,
        "decisions_counted": routed,
        "responses_counted": told,
        "hang_ups_counted": page["wissel_hang_ups_total"],
        "reloads": page["wissel_config_reloads_total"],
        "resident_mb_after_warm_up": round(warm, 1),
        "resident_mb_grown": round(grown, 1),
        "left_over": left_over,
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.soak", description="Soak everything.")
    parser.add_argument("--duration", type=float, default=60.0, help="seconds")
    asked = parser.parse_args()
    report = asyncio.run(soak(asked.duration))
    print(json.dumps(report, indent=2))
    sys.exit(1 if report["left_over"] else 0)


if __name__ == "__main__":
    main()
