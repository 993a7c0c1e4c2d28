"""How long a worker takes from its start to ready, and how much memory it then holds.

    python -m tests.bench.start [--runs 7] [--json]

Each run starts `wissel serve` with the embedding classifier, whose export must
be there already, waits for `/readyz`, has one request classified, and reads
the resident memory. Medians over the runs.
"""

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any, Final

import aiohttp
import yaml
from tests.bench.process import resident_mb

from wissel.demo.parts import free_port
from wissel.demo.stage import is_ready
from wissel.runtime.child import running

START_SECONDS: Final = 60.0


def _document() -> dict[str, Any]:
    routes = [
        {"name": "code", "domain": "programming", "action": "fix", "description": "fixing bugs in code", "target": "m"},
        {"name": "talk", "description": "small talk", "target": "m"},
    ]
    return {
        "listen": {"ext_proc": f"127.0.0.1:{free_port()}", "admin": f"127.0.0.1:{free_port()}"},
        "models": [{"name": "m", "cluster": "up"}],
        "entrypoints": ["auto"],
        "intent": {"fallback": "talk", "deadline_ms": 2000},
        "routes": routes,
        "access": {"rules": [{"id": "all", "effect": "permit"}]},
    }


def _one() -> tuple[float, float]:
    """(seconds to ready, resident MB)."""
    with tempfile.TemporaryDirectory(prefix="wissel-bench-") as home:
        path = Path(home, "wissel.yaml")
        document = _document()
        path.write_text(yaml.safe_dump(document))
        return asyncio.run(_start(path, f"http://{document['listen']['admin']}"))


async def _start(path: Path, admin: str) -> tuple[float, float]:
    command = [sys.executable, "-m", "wissel", "serve", "-c", str(path), "--data", str(path.parent)]
    async with aiohttp.ClientSession(admin) as session:
        began = perf_counter()
        async with running(
            command, log=path.with_suffix(".log"), ready=lambda: is_ready(session, "/readyz"), deadline=START_SECONDS
        ) as process:
            seconds = perf_counter() - began
            question = {"model": "auto", "messages": [{"role": "user", "content": "why does my loop never end?"}]}
            async with session.post("/v1/route", json=question) as answer:
                answer.raise_for_status()
            return seconds, resident_mb(process.pid)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.start", description="Start and memory.")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    found = [_one() for _ in range(asked.runs)]
    figures = {
        "ready_seconds": round(statistics.median(seconds for seconds, _ in found), 2),
        "resident_mb": round(statistics.median(megabytes for _, megabytes in found), 1),
    }
    if asked.json:
        print(json.dumps(figures))
    else:
        print(f"start to ready: {figures['ready_seconds']} s (aim: under 3)")
        print(f"resident memory with the embedding classifier: {figures['resident_mb']} MB (aim: at most 350)")


if __name__ == "__main__":
    main()
