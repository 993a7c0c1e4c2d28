"""What wissel costs a request: CPU of the processor, and time that the caller waits longer.

    python -m tests.bench.path [--requests 400] [--rounds 5] [--json]

Five installations side by side, each a real Envoy with one thread in front of
the same upstream (another Envoy that answers at once), loaded in turns:

    A  no filter
    B  the floor: grpc.aio, parses the same messages, decides nothing
    C  wissel's whole decision, the intent remembered
    D  C with a text that the embedding classifier has not seen
    E  C with the answer's stream read for usage (to the others the answer is text, which is not read)

The processor's CPU is what the kernel says that its process used; the time is
the caller's, on one machine with everything else. Medians over the rounds.
"""

import argparse
import asyncio
import itertools
import json
import statistics
import sys
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from typing import Any, Final

from rich.console import Console
from rich.table import Table
from tests.bench.installed import Side, ground, installation, load, planned_for, upstreams

from wissel.demo.parts import free_port
from wissel.envoy import EnvoyPlan, bootstrap

SIZES: Final = (512, 32 * 1024)
"""Bytes of a request's body."""
CONCURRENCIES: Final = (1, 32)


@dataclass(frozen=True, slots=True)
class Figure:
    """One row of the table."""

    side: str
    concurrency: int
    body_bytes: int
    p50_ms: float
    added_ms: float
    """Over side A of the same rounds."""
    cpu_us: float | None
    """Of the processor, for one request."""


async def _measure(requests: int, rounds: int, names: str, say: Console) -> list[Figure]:
    figures: list[Figure] = []
    async with _sides(names) as sides:
        fresh = itertools.count()
        for concurrency, size in itertools.product(CONCURRENCIES, SIZES):
            samples: dict[str, list[tuple[float, float]]] = {side.name: [] for side in sides}
            for turn in range(rounds + 1):
                say.print(f"concurrency {concurrency}, {size} bytes, round {turn} of {rounds}", style="dim")
                for side in sides:
                    count = requests if side.name != "D" else max(50, requests // 4)
                    sample = await load(side, _bodies(side.name, size, fresh), count, concurrency)
                    if turn:  # the first one only warms up
                        samples[side.name].append(sample)
            p50 = {name: statistics.median(each[0] for each in found) for name, found in samples.items()}
            figures += [
                Figure(
                    side.name,
                    concurrency,
                    size,
                    round(p50[side.name], 3),
                    round(p50[side.name] - p50["A"], 3),
                    None if side.process_id is None else round(statistics.median(e[1] for e in samples[side.name]), 1),
                )
                for side in sides
            ]
    return figures


def _bodies(side: str, size: int, fresh: Iterator[int]) -> Iterator[bytes]:
    """Chat requests of `size` bytes; only side D asks something new each time, in a short last turn."""
    while True:
        question = f"why does loop number {next(fresh)} never end?" if side == "D" else "why does my loop never end?"
        body: dict[str, Any] = {
            "model": "auto",
            "stream": side == "E",
            "messages": [{"role": "user", "content": question}],
        }
        body["metadata"] = {"padding": "x" * max(0, size - len(json.dumps(body)) - 32)}
        data = json.dumps(body).encode()
        if side == "D":
            yield data
            continue
        while True:
            yield data


@asynccontextmanager
async def _sides(names: str) -> AsyncGenerator[list[Side]]:
    async with ground() as built:
        upstream = f"127.0.0.1:{free_port()}"
        stream_upstream = f"127.0.0.1:{free_port()}"
        await built.envoy("upstream", upstreams(upstream, stream_upstream), upstream)
        sides: list[Side] = []
        for name in names:
            document = _document(stream_upstream if name == "E" else upstream)
            planned = planned_for(document)
            process_id = None
            if name == "B":
                address = document["listen"]["ext_proc"]
                command = [sys.executable, "-m", "tests.bench.floor_processor", address, "up"]
                process_id = await built.start("floor", command, address)
            elif name != "A":
                process_id = await built.processor(name, "wissel", document)
            fields: Any = _without_filter(planned) if name == "A" else bootstrap(planned)
            if name == "B":
                # The floor has no health service, and needs none to be measured.
                fields["static_resources"]["clusters"][0].pop("health_checks")
            await built.envoy(f"{name}-envoy", fields, planned.listen)
            sides.append(Side(name, planned.listen, process_id))
        yield sides


def _document(upstream: str) -> dict[str, Any]:
    routes = [
        {
            "name": "code",
            "domain": "programming",
            "action": "fix",
            "description": "fixing bugs in code",
            "target": "ab",
        },
        {"name": "talk", "description": "small talk", "target": "a"},
    ]
    return installation(
        upstream,
        models=[{"name": "a", "cluster": "up"}, {"name": "b", "cluster": "up"}],
        intent={"fallback": "talk", "deadline_ms": 2000},
        routes=routes,
        splits=[{"name": "ab", "variants": [{"model": "a", "weight": 50}, {"model": "b", "weight": 50}]}],
    )


def _without_filter(planned: EnvoyPlan) -> dict[str, Any]:
    """The same bootstrap, where the caller's request goes to the upstream unasked."""
    fields: Any = bootstrap(planned)
    manager = fields["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    manager["http_filters"] = [each for each in manager["http_filters"] if "ext_proc" not in each["name"]]
    host = manager["route_config"]["virtual_hosts"][0]
    host["routes"] = [route for route in host["routes"] if "cluster_header" in route["route"]]
    for route in host["routes"]:
        route["route"].pop("cluster_header")
        route["route"].pop("cluster_not_found_response_code", None)
        route["route"]["cluster"] = "up"
    return fields


def _verdicts(figures: list[Figure]) -> dict[str, float]:
    """The aims, as ratios and differences of this one run; those whose sides were measured."""
    by = {(each.side, each.concurrency, each.body_bytes): each for each in figures}
    measured = {side for side, _, _ in by}
    found: dict[str, float] = {}
    if {"B", "C"} <= measured:
        cells = itertools.product(CONCURRENCIES, SIZES)
        cpu = [(by["C", *cell].cpu_us or 0) / (by["B", *cell].cpu_us or 1) for cell in cells]
        found["C's CPU over B's, worst row (aim: at most 1)"] = round(max(cpu), 2)
        b, c = (by[name, 1, SIZES[0]] for name in "BC")
        found["C's added p50 over B's, concurrency 1, 0.5 KB (aim: at most 0.75)"] = round(c.added_ms / b.added_ms, 2)
    if {"C", "D"} <= measured:
        c, d = (by[name, 1, SIZES[0]] for name in "CD")
        found["D's p50 over C's in ms, concurrency 1, 0.5 KB (aim: at most 2)"] = round(d.p50_ms - c.p50_ms, 2)
    return found


def _show(figures: list[Figure], console: Console) -> None:
    table = Table(title="Cost of one request")
    for name in ("side", "concurrency", "body bytes", "p50 ms", "added ms", "processor CPU µs"):
        table.add_column(name, justify="right")
    for each in figures:
        cpu = "" if each.cpu_us is None else f"{each.cpu_us:.0f}"
        table.add_row(
            each.side, str(each.concurrency), str(each.body_bytes), f"{each.p50_ms:.2f}", f"{each.added_ms:.2f}", cpu
        )
    console.print(table)
    for what, value in _verdicts(figures).items():
        console.print(f"{what}: {value}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.path", description="What wissel costs.")
    parser.add_argument("--requests", type=int, default=400, help="of each side in a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sides", default="ABCDE", help="which to compare, A among them (default: all)")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    say = Console(stderr=True)
    figures = asyncio.run(_measure(asked.requests, asked.rounds, asked.sides, say))
    if asked.json:
        print(json.dumps({"figures": [asdict(each) for each in figures], "aims": _verdicts(figures)}, indent=2))
    else:
        _show(figures, Console())


if __name__ == "__main__":
    main()
