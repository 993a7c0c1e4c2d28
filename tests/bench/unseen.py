"""How many texts that nobody has seen one installation classifies in a second, through Envoy, by encoder.

    python -m tests.bench.unseen DATA.jsonl [--rounds 5] [--texts 200] [--json]

A row of the data is a text (the last of its `messages`, or `prompt`) and its
route (`routes`, `route` or `subject`): SGD's turns are short, MMLU's questions
long. Each route gets ten of its texts as examples; 16 callers ask the others,
each once, of three installations in turns: MiniLM alone on the first 256
tokens, the default encoder, and the default behind a static first stage.
"""

import asyncio
import json
import random
import statistics
import time
from collections import defaultdict
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from tests.bench.installed import Side, ground, installation, load, planned_for, upstreams

from wissel.demo.parts import free_port
from wissel.envoy import bootstrap

CALLERS: Final = 16
EXAMPLES: Final = 10
SEED: Final = 7
DEADLINE_MS: Final = 20_000
"""Long, for a text that is given up would be a quick one."""

MINILM: Final = "minilm 256"

SIDES: Final[Mapping[str, tuple[str, dict[str, Any]]]] = {
    MINILM: ("tests.bench.minilm_processor", {"encoder": {"type": "minilm"}}),
    "joint": ("wissel", {}),
    "static, joint": (
        "wissel",
        {"classifier": {"type": "cascade", "stages": [{"type": "static"}, {"type": "embedding"}]}},
    ),
}
"""By name, the module that serves and what the section `intent` says."""


@dataclass(frozen=True, slots=True)
class Rate:
    """Of one side; medians over the rounds."""

    side: str
    texts_a_second: float
    cpu_ms: float
    """Of the processor, for one text."""
    rate_over_minilm: float
    """Of the same round, as a ratio."""
    cpu_over_minilm: float


def read(path: Path) -> dict[str, list[str]]:
    """Texts by route, each once. The first of several routes that are right counts."""
    found: dict[str, dict[str, None]] = defaultdict(dict)
    # Some questions have a line separator of Unicode in them.
    for row in map(json.loads, filter(None, path.read_text("utf-8").split("\n"))):
        route = row.get("route") or row.get("subject") or row["routes"][0]
        found[route][row["prompt"] if "prompt" in row else row["messages"][-1]["content"]] = None
    return {route: list(texts) for route, texts in found.items() if len(texts) > EXAMPLES}


async def measure(by_route: Mapping[str, Sequence[str]], rounds: int, count: int) -> list[Rate]:
    """All sides meet the same texts, in turns, so that a busy machine slows them alike."""
    rng = random.Random(SEED)
    drawn = {route: rng.sample(texts, len(texts)) for route, texts in by_route.items()}
    asked = list(dict.fromkeys(text for texts in drawn.values() for text in texts[EXAMPLES:]))
    rng.shuffle(asked)
    rounds = min(rounds, len(asked) // count - 1)
    samples: dict[str, list[tuple[float, float]]] = defaultdict(list)
    async with _sides({route: texts[:EXAMPLES] for route, texts in drawn.items()}) as sides:
        for turn in range(rounds + 1):
            bodies = [_body(text) for text in asked[turn * count : (turn + 1) * count]]
            for side in sides:
                began = time.perf_counter()
                _, cpu_us = await load(side, iter(bodies), count, CALLERS)
                if turn:  # the first one only warms up
                    samples[side.name].append((count / (time.perf_counter() - began), cpu_us / 1000))
    return [
        Rate(name, *map(statistics.median, zip(*found, strict=True)), *_over(found, samples[MINILM]))
        for name, found in samples.items()
    ]


def _over(found: Sequence[tuple[float, float]], base: Sequence[tuple[float, float]]) -> list[float]:
    rows = [(rate / own, cpu / spent) for (rate, cpu), (own, spent) in zip(found, base, strict=True)]
    return [statistics.median(column) for column in zip(*rows, strict=True)]


def _body(text: str) -> bytes:
    return json.dumps({"model": "auto", "messages": [{"role": "user", "content": text}]}).encode()


@asynccontextmanager
async def _sides(examples: Mapping[str, Sequence[str]]) -> AsyncGenerator[list[Side]]:
    routes = [{"name": name, "target": "m", "examples": list(texts)} for name, texts in examples.items()]
    async with ground() as built:
        upstream = f"127.0.0.1:{free_port()}"
        await built.envoy("upstream", upstreams(upstream, f"127.0.0.1:{free_port()}"), upstream)
        sides: list[Side] = []
        for number, (name, (module, intent)) in enumerate(SIDES.items()):
            document = installation(
                upstream,
                models=[{"name": "m", "cluster": "up"}],
                intent={"fallback": "none", "deadline_ms": DEADLINE_MS, **intent},
                routes=[*routes, {"name": "none", "target": "m"}],
            )
            planned = planned_for(document)
            process_id = await built.processor(f"side-{number}", module, document)
            await built.envoy(f"envoy-{number}", bootstrap(planned), planned.listen)
            sides.append(Side(name, planned.listen, process_id))
        yield sides


def main(
    data: Annotated[Path, typer.Argument(help="JSONL: texts and their routes.")],
    rounds: Annotated[int, typer.Option(min=1)] = 5,
    texts: Annotated[int, typer.Option(min=1, help="Of a round; the first round only warms up.")] = 200,
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Measures and prints."""
    found = asyncio.run(measure(read(data), rounds, texts))
    if as_json:
        print(json.dumps([asdict(each) for each in found], indent=2))
        return
    for each in found:
        print(
            f"{each.side}: {each.texts_a_second:.0f} texts/s, {each.rate_over_minilm:.2f} times {MINILM}; "
            f"{each.cpu_ms:.2f} ms of CPU, {each.cpu_over_minilm:.2f} times"
        )


if __name__ == "__main__":
    typer.run(main)
