"""What a request waits for its limits, beside what Redis itself takes.

    python -m tests.bench.limits [--seconds 2] [--rounds 3] [--redis URL] [--json]

Four kinds of calls, loaded in turns by 1, 8 and 32 callers on one event loop:

    ping     PING, a connection for each caller: what Redis and its client cost
    script   a script that does nothing, batched as draws are: the floor of a draw
    draw     requests, tokens and a place at once, drawn and settled
    hot      a draw that was refused before: it is answered here

Each caller asks again as soon as it has its answer, so 8 and 32 of them keep
the loop busy without a pause, and wait for one another. The last rows are 32
callers who ask `RATE` times a second together, as a replica's requests come.
Without `--redis` a server of its own is started. Medians over the rounds.
"""

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from time import perf_counter
from typing import Final

from rich.console import Console
from rich.table import Table

from wissel.core.limits import Charge, Drawn, Exceeded, Used
from wissel.errors import WisselError
from wissel.store.batch import Batch
from wissel.store.connection import RedisConnection, Script
from wissel.store.embedded import embedded_redis
from wissel.store.keys import Keys
from wissel.store.limits import running_limiter

CONCURRENCIES: Final = (1, 8, 32)
RATE: Final = 2000
"""Requests a second of the paced rows: more than one replica serves."""
AIM_MS: Final = 2.0
"""Of the p99 of a draw."""
PATIENCE: Final = 5.0
"""Seconds that the floors may wait; a draw keeps its own deadline."""

_MINUTE: Final = 60_000_000
_PLENTY: Final = 1_000_000_000

Call = Callable[[int], Awaitable[None]]
"""Of one caller, by number."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One kind of call under one load."""

    what: str
    callers: int
    paced: bool
    calls_per_second: int
    p50_ms: float
    p99_ms: float
    late: int
    """Calls without an answer within their deadline, over all rounds."""


class LateError(Exception):
    """Redis did not answer within the limits' own deadline."""


@dataclass(frozen=True, slots=True)
class Load:
    """One load in one round."""

    per_second: int
    p50_ms: float
    p99_ms: float
    late: int


async def load(call: Call, callers: int, seconds: float, *, rate: int | None) -> Load:
    """As fast as answers come, or `rate` calls a second."""
    waits: list[float] = []
    late: list[int] = []
    began = perf_counter()
    turns = count()

    async def caller(number: int) -> None:
        while (now := perf_counter()) < began + seconds:
            due = began + next(turns) / rate if rate else now
            if due > now:
                await asyncio.sleep(due - now)
            asked = perf_counter()
            try:
                await call(number)
            except LateError:
                late.append(number)
            # From when it was due: a caller that was held up did wait.
            waits.append(perf_counter() - (due if rate else asked))

    await asyncio.gather(*(caller(number) for number in range(callers)))
    taken = perf_counter() - began
    waits.sort()
    p50, p99 = (waits[min(len(waits) - 1, int(len(waits) * share))] * 1000 for share in (0.5, 0.99))
    return Load(round(len(waits) / taken), p50, p99, len(late))


@asynccontextmanager
async def calls(url: str) -> AsyncGenerator[dict[str, Call]]:
    """The four kinds of calls, on one Redis."""
    async with AsyncExitStack() as stack:
        bare = RedisConnection(url, deadline=PATIENCE)
        stack.push_async_callback(bare.close)
        floor = Batch(bare, Script("return {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}"), deadline=PATIENCE)
        stack.push_async_callback(floor.close)
        limiter = await stack.enter_async_context(running_limiter(url, Keys("bench"), "bench"))

        async def ping(_: int) -> None:
            await bare.run("PING")

        async def script(number: int) -> None:
            await floor.call([f"wissel:{{bench}}:{number}"], ["nothing"])

        async def draw(number: int) -> None:
            who = f"caller-{number}"
            charges = (
                Charge("requests", "requests", "principal", who, _PLENTY, _MINUTE, 1),
                Charge("tokens", "tokens", "principal", who, _PLENTY, _MINUTE, 100),
                Charge("places", "concurrent", "principal", who, 1000, 0, 1),
            )
            drawn = await limiter.draw(charges, otherwise="forbid")
            if not isinstance(drawn, Drawn):
                raise LateError
            limiter.settle(drawn, Used(40, 20))

        async def hot(number: int) -> None:
            spent = Charge("hot", "requests", "principal", f"caller-{number}", 1, 86_400_000_000, 1)
            if not isinstance(await limiter.draw((spent,), otherwise="forbid"), Drawn | Exceeded):
                raise LateError

        yield {"ping": ping, "script": script, "draw": draw, "hot": hot}


async def measure(url: str, *, seconds: float, rounds: int) -> list[Figure]:
    """Every kind under every load, in turns."""
    loads = [(callers, None) for callers in CONCURRENCIES] + [(CONCURRENCIES[-1], RATE)]
    async with calls(url) as kinds:
        cells = [(what, callers, rate) for callers, rate in loads for what in kinds]
        for what, callers, rate in cells:
            await load(kinds[what], callers, 0.1, rate=rate)
        found = {cell: list[Load]() for cell in cells}
        for _ in range(rounds):
            for what, callers, rate in cells:
                found[what, callers, rate].append(await load(kinds[what], callers, seconds, rate=rate))
    return [
        Figure(
            what,
            callers,
            rate is not None,
            round(statistics.median(each.per_second for each in taken)),
            round(statistics.median(each.p50_ms for each in taken), 3),
            round(statistics.median(each.p99_ms for each in taken), 3),
            sum(each.late for each in taken),
        )
        for (what, callers, rate), taken in found.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.limits", description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each load in a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--redis", help="the URL of a Redis; without it one is started")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    try:
        figures = asyncio.run(_measured(asked.redis, asked.seconds, asked.rounds))
    except WisselError as error:
        sys.exit(str(error))
    if asked.json:
        print(json.dumps([asdict(each) for each in figures], indent=2))
        return
    table = Table(
        "call", "callers", "calls/s", "p50 ms", "p99 ms", "late", title=f"limits (aim: a draw's p99 under {AIM_MS} ms)"
    )
    for each in figures:
        callers = f"{each.callers}, {RATE}/s" if each.paced else str(each.callers)
        waits = (f"{each.p50_ms:.3f}", f"{each.p99_ms:.3f}")
        table.add_row(each.what, callers, str(each.calls_per_second), *waits, str(each.late))
    Console().print(table)


async def _measured(url: str | None, seconds: float, rounds: int) -> list[Figure]:
    async with AsyncExitStack() as stack:
        if url is None:
            home = stack.enter_context(tempfile.TemporaryDirectory(prefix="wissel-bench-"))
            url = await stack.enter_async_context(embedded_redis(Path(home)))
        return await measure(url, seconds=seconds, rounds=rounds)


if __name__ == "__main__":
    main()
