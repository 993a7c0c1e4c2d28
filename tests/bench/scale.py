"""A large fleet on one Redis: what Redis, a replica and the controller do.

    python -m tests.bench.scale [--replicas 1000] [--rollouts 20] [--limits 50] [--rounds 5] [--rate 2] [--json]

Every replica is real code with a name of its own: it serves `rate` requests a second of rollouts in turn, and flushes
once a second; one after the other, so that a machine of two cores can be all of them. What Redis does for a
round of all is measured by its own account of CPU, bytes and memory, and is what it does each second where all flush
once a second: above one core it cannot. Then come the looks at every rollout, and half of the replicas are gone and
folded. Every request draws three of the limits. Without `--redis` a server of its own is started.
"""

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from time import perf_counter, process_time
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from wissel.core.limits import Charge, Drawn, Used
from wissel.core.rollouts.measures import OBSERVATIONS
from wissel.errors import WisselError
from wissel.store.base import Scope
from wissel.store.connection import RedisConnection
from wissel.store.counters import Counters
from wissel.store.embedded import embedded_redis
from wissel.store.feedback import FeedbackStore
from wissel.store.keys import Keys
from wissel.store.limits import Limiter
from wissel.store.recorder import Recorder

LOOK_AIM: Final = 1.0
"""Seconds that a look may take."""

ARMS: Final = ("stable", "canary")

_SEEN: Final = {each.name: {"rate": 0, "duration": 0.5, "amount": 120}[each.kind] for each in OBSERVATIONS}
"""Of a request that went well."""

_DAY_US: Final = 86_400_000_000
_PLENTY: Final = 1_000_000_000
_DRAWS: Final = 2_000


@dataclass(frozen=True, slots=True)
class Size:
    """Of a fleet."""

    replicas: int
    rollouts: int
    limits: int
    rate: int
    """Requests that one replica serves in a second."""


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one size; Redis's are for all replicas flushing once."""

    redis_flush_cores: float
    """Seconds of CPU of Redis: cores, where all flush once a second."""
    redis_draw_cores: float
    """For the limits of every request of that second."""
    redis_bytes_in: float
    redis_memory_mb: float
    replica_flush_ms: float
    """CPU of one replica for one flush of all rollouts."""
    look_ms: float
    """Median time of a look at one rollout."""
    longest_look_ms: float
    controller_ms: float
    """CPU of the controller for one look at every rollout."""
    fold_ms: float
    """Time to fold half of the replicas, for one rollout."""
    is_exact: bool
    """Whether every request is in the sums, before and after."""


async def measure(url: str, size: Size, *, rounds: int) -> Figures:
    """One size, on an empty Redis. Raises StoreError."""
    connection, keys = RedisConnection(url, deadline=60.0), Keys("scale")
    counters = Counters(connection, keys)
    scopes = [Scope(f"rollout-{number}", "r1", 1, 1) for number in range(size.rollouts)]
    turns = count()
    cpu_before, bytes_before = await _account(connection)
    own_before = process_time()
    serving = 0.0
    for replica in range(size.replicas):
        serving += await _live(connection, keys, f"replica-{replica}", scopes, turns, rate=size.rate, rounds=rounds)
    flushes = size.replicas * rounds
    replica_cpu = (process_time() - own_before - serving) / flushes
    cpu_after, bytes_after = await _account(connection)
    memory = await connection.run("INFO", "memory")
    looks, controller, served = await _looks(counters, scopes)
    exact = sum(served) == flushes * size.rate
    folding = perf_counter()
    # All that have written are silent by now; half of them is enough to see what one costs.
    await Counters(connection, keys, gone_after=0.0).fold(scopes[0])
    folded = (perf_counter() - folding) / 2
    exact = exact and (await _served(counters, scopes[0], closed=True)) == served[0]
    draw_cpu = await _draws(connection, keys, size)
    await connection.close()
    return Figures(
        redis_flush_cores=(cpu_after - cpu_before) / rounds,
        redis_draw_cores=draw_cpu * size.replicas * size.rate,
        redis_bytes_in=(bytes_after - bytes_before) / rounds,
        redis_memory_mb=int(memory["used_memory"]) / 2**20,
        replica_flush_ms=1000 * replica_cpu,
        look_ms=1000 * statistics.median(looks),
        longest_look_ms=1000 * max(looks),
        controller_ms=1000 * controller,
        fold_ms=1000 * folded,
        is_exact=exact,
    )


async def _live(
    connection: RedisConnection,
    keys: Keys,
    name: str,
    scopes: list[Scope],
    turns: "count[int]",
    *,
    rate: int,
    rounds: int,
) -> float:
    """A replica for so many flushes; the CPU that serving took, which is not the store's."""
    now = 1000.0
    recorder = Recorder(Counters(connection, keys), FeedbackStore(connection, keys), name, clock=lambda: now)
    serving = 0.0
    for _ in range(rounds):
        began = process_time()
        for _ in range(rate):
            served = next(turns)
            ticket = recorder.began(scopes[served % len(scopes)], ARMS[served // len(scopes) % 2], f"{name}-{served}")
            ticket.observed.update(_SEEN)
            ticket.ended()
        serving += process_time() - began
        now += 1.0
        await recorder.flush()
    return serving


async def _looks(counters: Counters, scopes: list[Scope]) -> tuple[list[float], float, list[int]]:
    """How long each look took, the CPU of all of them, and how many requests are known of each rollout."""
    times: list[float] = []
    before = process_time()
    for scope in scopes:
        began = perf_counter()
        await counters.read(scope)
        times.append(perf_counter() - began)
    controller = process_time() - before
    return times, controller, [await _served(counters, scope, closed=False) for scope in scopes]


async def _served(counters: Counters, scope: Scope, *, closed: bool) -> int:
    return sum(arm.served for arm in (await counters.read(scope, closed=closed)).arms.values())


async def _draws(connection: RedisConnection, keys: Keys, size: Size) -> float:
    """CPU of Redis for the draw of one request and its settlement, by its own account."""
    limiter = Limiter(connection, keys, "bench")
    before, _ = await _account(connection)
    drawn = 0
    for at in range(0, _DRAWS, 50):
        charges = [
            (
                Charge(
                    f"limit-{number % size.limits}", "requests", "principal", f"caller-{number}", _PLENTY, _DAY_US, 1
                ),
                Charge(f"limit-{number % size.limits}", "tokens", "principal", f"caller-{number}", _PLENTY, _DAY_US, 9),
                Charge(f"limit-{number % size.limits}", "concurrent", "principal", f"caller-{number}", _PLENTY, 0, 1),
            )
            for number in range(at, at + 50)
        ]
        for found in await asyncio.gather(*(limiter.draw(each, otherwise="forbid") for each in charges)):
            if isinstance(found, Drawn):
                drawn += 1
                limiter.settle(found, Used(7, 0))
        await limiter.flush()
    after, _ = await _account(connection)
    await limiter.close()
    return (after - before) / max(1, drawn)


async def _account(connection: RedisConnection) -> tuple[float, int]:
    """(seconds of CPU, bytes that came in) of Redis so far."""
    told: dict[str, Any] = {**await connection.run("INFO", "cpu"), **await connection.run("INFO", "stats")}
    return float(told["used_cpu_user"]) + float(told["used_cpu_sys"]), int(told["total_net_input_bytes"])


async def run(size: Size, *, rounds: int, url: str | None) -> Figures:
    """Measure on the Redis at `url`, or on one of its own."""
    async with AsyncExitStack() as stack:
        if url is None:
            home = stack.enter_context(tempfile.TemporaryDirectory(prefix="wissel-scale-"))
            url = await stack.enter_async_context(embedded_redis(Path(home)))
        return await measure(url, size, rounds=rounds)


def report(size: Size, figures: Figures) -> Table:
    table = Table(
        "what",
        "figure",
        title=f"{size.replicas} replicas, {size.rollouts} rollouts, {size.limits} limits, {size.rate} request/s each",
    )
    rows = {
        "Redis, flushes: cores": f"{figures.redis_flush_cores:.2f}",
        "Redis, draws: cores": f"{figures.redis_draw_cores:.2f}",
        "Redis, comes in: MB/s": f"{figures.redis_bytes_in / 1e6:.1f}",
        "Redis, memory: MB": f"{figures.redis_memory_mb:.0f}",
        "a replica, one flush of all rollouts: ms of CPU": f"{figures.replica_flush_ms:.1f}",
        "a look at one rollout: ms (longest)": f"{figures.look_ms:.0f} ({figures.longest_look_ms:.0f})",
        "the controller, a look at all: ms of CPU": f"{figures.controller_ms:.0f}",
        "folding half of the replicas, one rollout: ms": f"{figures.fold_ms:.0f}",
        "every request counted once": "yes" if figures.is_exact else "NO",
    }
    for row in rows.items():
        table.add_row(*row)
    return table


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replicas", type=int, default=1000)
    parser.add_argument("--rollouts", type=int, default=20)
    parser.add_argument("--limits", type=int, default=50)
    parser.add_argument("--rate", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--redis")
    parser.add_argument("--json", action="store_true")
    words = parser.parse_args()
    size = Size(words.replicas, words.rollouts, words.limits, words.rate)
    try:
        figures = asyncio.run(run(size, rounds=words.rounds, url=words.redis))
    except WisselError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if words.json:
        print(json.dumps({**asdict(size), **asdict(figures)}, indent=2))
    else:
        Console().print(report(size, figures))
    return 0 if figures.is_exact and figures.longest_look_ms <= 1000 * LOOK_AIM else 1


if __name__ == "__main__":
    sys.exit(main())
