"""What can be made of a configuration file without serving it: a check, its schema, an Envoy that fits it."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wissel.cli._output import ConfigOption, JsonOption, WorkersOption, honest_exits, print_json
from wissel.errors import ConfigError

if TYPE_CHECKING:
    from wissel.config import Config
    from wissel.core.snapshot import Snapshot


def check(
    config: ConfigOption,
    offline: Annotated[
        bool, typer.Option("--offline", help="Do not ask redis what it is and where rollouts stand.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Say everything that is wrong with a configuration; exit 0 if nothing is, else 2."""
    try:
        loaded, snapshot = _checked(config)
    except ConfigError as error:
        if as_json:
            print_json({"ok": False, "problems": error.problems})
            raise typer.Exit(2) from None
        with honest_exits():
            raise
    from wissel.config import caller_notes, passthrough_notes, price_notes
    from wissel.offline.store import store_notes
    from wissel.offline.uncovered import uncovered

    notes = [*uncovered(loaded, snapshot), *caller_notes(loaded), *passthrough_notes(loaded), *price_notes(loaded)]
    notes += [] if offline else asyncio.run(store_notes(loaded))
    if as_json:
        print_json({"ok": True, "revision": snapshot.revision, "notes": notes})
        return
    rules = "no access rules" if snapshot.rules is None else f"{len(snapshot.rules.rules)} access rules"
    typer.echo(
        f"{config}: ok, revision {snapshot.revision}: {len(snapshot.models)} models, {len(snapshot.routes)} routes, "
        f"{len(snapshot.splits)} splits, {len(snapshot.tiers)} tiers, {rules}"
    )
    for note in notes:
        typer.echo(f"note: {note}")


def _checked(path: Path) -> "tuple[Config, Snapshot]":
    from wissel.classifiers.problems import problems as classifier_problems
    from wissel.config import compile_snapshot, load
    from wissel.tiers.grading import grader_problems

    config = load(path)
    snapshot = compile_snapshot(config)
    if problems := [*classifier_problems(config.intent), *grader_problems(config.tiers)]:
        raise ConfigError(problems)
    return config, snapshot


def schema() -> None:
    """Print the JSON Schema of the configuration file, for editors."""
    from wissel.config import json_schema

    print_json(json_schema())


def envoy(
    config: ConfigOption,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write to a file instead.")] = None,
    workers: WorkersOption = 1,
) -> None:
    """Print an Envoy bootstrap that fits the configuration."""
    from wissel.config import load
    from wissel.envoy import plan, render

    with honest_exits():
        text = render(plan(load(config), workers=workers))
        if output is None:
            typer.echo(text, nl=False)
            return
        try:
            output.write_text(text)
        except OSError as error:
            raise ConfigError([f'--output: cannot write "{output}": {error.strerror}']) from error
