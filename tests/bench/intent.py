"""How often intents are right on public data, by classifiers built from a configuration.

    python -m tests.bench.intent [--clinc FOLDER] [--sgd FOLDER] [--split test] [--json]

Each row of the tables is one `wissel eval`, on a configuration made from the
data. CLINC150 (train.jsonl, val.jsonl and test.jsonl): a route an intent, all
150 of them, examples drawn from the training rows, every message of the split
asked, those out of scope too. SGD (routes.json and turns.jsonl): a route a
domain, described by what the data set's own schema says of it, no example of
what users say; every turn of every conversation asked.
"""

import asyncio
import dataclasses
import json
import random
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table

from wissel.config import parse
from wissel.core.intent import OTHER
from wissel.errors import ConfigError, WisselError
from wissel.evaluation.intent import Evaluation, evaluate

SECTIONS: Mapping[str, Mapping[str, Any]] = {
    "embedding": {"classifier": {"type": "embedding"}},
    "static": {"classifier": {"type": "static"}},
    "cascade": {"classifier": {"type": "cascade", "stages": [{"type": "static"}, {"type": "embedding"}]}},
    "strong": {"classifier": {"type": "embedding"}, "encoder": {"type": "strong"}},
}
"""What the `intent` section says, by the name under which it is reported."""

FALLBACK = "general"
EVERY = "all"


@dataclasses.dataclass(frozen=True)
class SingleTurns:
    """One classifier on CLINC150 with so many examples a route; shares are in percent."""

    classifier: str
    examples: str
    draw: int
    accuracy: float
    """In scope, the best route whatever its score."""
    with_threshold: float
    """The same where messages below the learned threshold are out of scope."""
    other_recall: float
    """Messages out of scope that the threshold finds."""
    other_auroc: float
    calibration_error: float
    cpu_ms: float
    """Of one message in scope."""
    passed_on: float
    """Messages in scope that a stage after the first answered."""
    cpu_ms_of_all: float
    """Of one message, those out of scope with them, of which a first stage passes on nearly every one."""


@dataclasses.dataclass(frozen=True)
class Conversations:
    """One classifier on SGD, zero-shot; shares are in percent."""

    classifier: str
    turns: float
    conversations: float
    last_turn_only: float
    calibration_error: float
    cpu_ms: float
    """Of one turn."""


def clinc_config(train: Path, kind: str, examples: int | None, draw: int) -> str:
    """A whole configuration: `examples` of each intent, all of them if None. Raises ConfigError for the data."""
    by_route: dict[str, list[str]] = {}
    for row in map(json.loads, _text(train).splitlines()):
        if row["route"] != OTHER:
            by_route.setdefault(row["route"], []).append(row["messages"][-1]["content"])
    rng = random.Random(draw)
    return _config(
        kind,
        [
            {"name": name, "examples": texts if examples is None else rng.sample(texts, examples)}
            for name, texts in sorted(by_route.items())
        ],
    )


def sgd_config(routes: Path, kind: str) -> str:
    """A whole configuration: a route a domain, by its description and phrases. Raises ConfigError for the data."""
    return _config(
        kind,
        [
            {"name": each["name"], "description": each["description"], "examples": each["phrases"]}
            for each in json.loads(_text(routes))
        ],
        # Every turn of the data belongs to a domain.
        threshold=-1,
    )


def _config(kind: str, routes: Sequence[Mapping[str, Any]], **intent: Any) -> str:
    return json.dumps(
        {
            "models": [{"name": "m", "cluster": "c"}],
            "entrypoints": ["auto"],
            "routes": [{**route, "target": "m"} for route in (*routes, {"name": FALLBACK})],
            "intent": {"fallback": FALLBACK, **SECTIONS[kind], **intent},
        }
    )


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except OSError as error:
        raise ConfigError([f'"{path}" cannot be read: {error.strerror}']) from error


def single_turns(found: Evaluation, kind: str, examples: str, draw: int) -> SingleTurns:
    """The figures of one run."""
    view = found.view()
    inside = [answer for answer, out in zip(found.answers, found.outside, strict=True) if not out]
    outside = [answer for answer, out in zip(found.answers, found.outside, strict=True) if out]
    classifier = SECTIONS[kind]["classifier"]
    first = classifier.get("stages", [classifier])[0]["type"]
    return SingleTurns(
        kind,
        examples,
        draw,
        accuracy=_percent([answer.leading for answer in inside]),
        with_threshold=_percent([answer.right for answer in inside]),
        other_recall=_percent([answer.right for answer in outside]),
        other_auroc=view["other_auroc"],
        calibration_error=100 * view["calibration_error"],
        cpu_ms=sum(answer.cpu_ms for answer in inside) / len(inside),
        passed_on=_percent([answer.classifier != first for answer in inside]),
        cpu_ms_of_all=view["cpu_ms"],
    )


def _percent(rights: Sequence[bool]) -> float:
    return 100 * sum(rights) / max(1, len(rights))


def _run(config: str, rows: Path) -> Evaluation:
    return asyncio.run(evaluate(parse(config), rows))


def _clinc(folder: Path, split: str, kind: str, examples: str, draw: int) -> SingleTurns:
    config = clinc_config(folder / "train.jsonl", kind, None if examples == EVERY else int(examples), draw)
    return single_turns(_run(config, folder / f"{split}.jsonl"), kind, examples, draw)


def _sgd(folder: Path, kind: str) -> Conversations:
    view = _run(sgd_config(folder / "routes.json", kind), folder / "turns.jsonl").view()
    return Conversations(
        kind,
        turns=100 * view["turn_accuracy"],
        conversations=100 * view["conversation_accuracy"],
        last_turn_only=100 * view["baselines"]["last_turn"],
        calibration_error=100 * view["calibration_error"],
        cpu_ms=view["cpu_ms"],
    )


def main(
    clinc: Annotated[Path | None, typer.Option(help="A folder with CLINC150.")] = None,
    sgd: Annotated[Path | None, typer.Option(help="A folder with SGD.")] = None,
    split: Annotated[Literal["val", "test"], typer.Option(help="CLINC150's rows that are asked.")] = "test",
    examples: Annotated[list[str] | None, typer.Option(help="A route's examples, or all; may be repeated.")] = None,
    draws: Annotated[int, typer.Option(min=1, help="How often so many examples are drawn.")] = 3,
    classifier: Annotated[
        list[str] | None, typer.Option(help=f"Which of {', '.join(SECTIONS)}; may be repeated.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Measures and prints; exits with 2 if the model or the data are missing."""
    kinds = classifier or ["embedding", "cascade"]
    if strange := set(kinds) - set(SECTIONS):
        raise typer.BadParameter(f'"{min(strange)}" is none of {", ".join(SECTIONS)}')
    try:
        tables: dict[str, Sequence[SingleTurns | Conversations]] = {
            "clinc": [
                _clinc(clinc, split, kind, count, draw)
                for count in examples or ["10", EVERY]
                for draw in range(1 if count == EVERY else draws)
                for kind in kinds
            ]
            if clinc
            else [],
            "sgd": [_sgd(sgd, kind) for kind in classifier or ("embedding",)] if sgd else [],
        }
    except WisselError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(2) from error
    if as_json:
        print(json.dumps({name: [dataclasses.asdict(row) for row in rows] for name, rows in tables.items()}, indent=2))
        return
    console = Console()
    for name, rows in tables.items():
        if rows:
            # Piped, a console is 80 columns wide, which cuts figures off.
            console.print(_table(name, rows), width=max(console.width, 120))


def _table(name: str, rows: Sequence[SingleTurns | Conversations]) -> Table:
    table = Table(title=name)
    for field in dataclasses.fields(rows[0]):
        table.add_column(field.name.replace("_", " "), justify="right")
    for row in rows:
        values = dataclasses.astuple(row)
        table.add_row(*(f"{value:.3f}" if isinstance(value, float) else str(value) for value in values))
    return table


if __name__ == "__main__":
    typer.run(main)
