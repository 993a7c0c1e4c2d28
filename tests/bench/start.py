"""How long a worker takes from its start to ready, and how much memory it then holds.

    python -m tests.bench.start [--runs 7] [--json]

Each run starts `wissel serve` with the default encoder, and with MiniLM alone,
whose exports must be there already, waits for `/readyz`, has one request
classified, and reads the resident memory and what the start took of the CPU:
on a busy machine it waits longer than it works. Medians over the runs.
"""

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, Final

import aiohttp
import yaml
from tests.bench.process import cpu_seconds, resident_mb

from wissel.demo.parts import free_port
from wissel.demo.stage import is_ready
from wissel.runtime.child import running

START_SECONDS: Final = 60.0
ENCODERS: Final = ("joint", "minilm")


@dataclass(frozen=True, slots=True)
class Start:
    """Of one worker, or medians of several."""

    ready_seconds: float
    cpu_seconds: float
    """Of all threads until ready."""
    resident_mb: float


def _document(encoder: str) -> dict[str, Any]:
    routes = [
        {"name": "code", "domain": "programming", "action": "fix", "description": "fixing bugs in code", "target": "m"},
        {"name": "talk", "description": "small talk", "target": "m"},
    ]
    return {
        "listen": {"ext_proc": f"127.0.0.1:{free_port()}", "admin": f"127.0.0.1:{free_port()}"},
        "models": [{"name": "m", "cluster": "up"}],
        "entrypoints": ["auto"],
        "intent": {"fallback": "talk", "deadline_ms": 2000, "encoder": {"type": encoder}},
        "routes": routes,
        "access": {"rules": [{"id": "all", "effect": "permit"}]},
    }


def _one(encoder: str) -> Start:
    with tempfile.TemporaryDirectory(prefix="wissel-bench-") as home:
        path = Path(home, "wissel.yaml")
        document = _document(encoder)
        path.write_text(yaml.safe_dump(document))
        return asyncio.run(_start(path, f"http://{document['listen']['admin']}"))


async def _start(path: Path, admin: str) -> Start:
    command = [sys.executable, "-m", "wissel", "serve", "-c", str(path), "--data", str(path.parent)]
    async with aiohttp.ClientSession(admin) as session:
        began = perf_counter()
        async with running(
            command, log=path.with_suffix(".log"), ready=lambda: is_ready(session, "/readyz"), deadline=START_SECONDS
        ) as process:
            seconds, spent = perf_counter() - began, cpu_seconds(process.pid)
            question = {"model": "auto", "messages": [{"role": "user", "content": "why does my loop never end?"}]}
            async with session.post("/v1/route", json=question) as answer:
                answer.raise_for_status()
            return Start(seconds, spent, resident_mb(process.pid))


def _median(found: Sequence[Start]) -> Start:
    columns = zip(*((each.ready_seconds, each.cpu_seconds, each.resident_mb) for each in found), strict=True)
    return Start(*(round(statistics.median(column), 2) for column in columns))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.start", description="Start and memory.")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    rounds = [{encoder: _one(encoder) for encoder in ENCODERS} for _ in range(asked.runs)]
    figures = {encoder: _median([each[encoder] for each in rounds]) for encoder in ENCODERS}
    if asked.json:
        print(json.dumps({encoder: asdict(each) for encoder, each in figures.items()}))
        return
    for encoder, each in figures.items():
        print(f"{encoder}: ready after {each.ready_seconds} s ({each.cpu_seconds} s of CPU), {each.resident_mb} MB")
    print("aims for joint: 1.5 s, 420 MB")


if __name__ == "__main__":
    main()
