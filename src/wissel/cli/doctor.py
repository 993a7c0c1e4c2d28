"""Whether Envoy and wissel are really together."""

import asyncio
import dataclasses
from typing import TYPE_CHECKING, Annotated

import typer

from wissel.cli._output import ConfigOption, JsonOption, WorkersOption, honest_exits, print_json

if TYPE_CHECKING:
    from wissel.doctor import Finding


def doctor(
    config: ConfigOption,
    envoy: Annotated[str | None, typer.Option(help="URL of Envoy's admin; by default as in the file.")] = None,
    workers: WorkersOption = 1,
    as_json: JsonOption = False,
) -> None:
    """Find out whether Envoy asks wissel, and whether its settings are safe; exit 1 if something must change."""
    from wissel.config import load
    from wissel.doctor import diagnose

    with honest_exits():
        findings = asyncio.run(diagnose(load(config), envoy=envoy, workers=workers))
    problems = [each for each in findings if each.severity == "problem"]
    if as_json:
        print_json({"ok": not problems, "findings": [dataclasses.asdict(each) for each in findings]})
    else:
        _show(findings)
    raise typer.Exit(1 if problems else 0)


def _show(findings: "list[Finding]") -> None:
    """What is wrong first; what is fine on one line each."""
    for severity, mark in (("problem", "✗"), ("warning", "!"), ("ok", "✓")):
        for each in findings:
            if each.severity == severity:
                typer.echo(f"{mark} {each.what}: {each.why}")
                if each.change:
                    typer.echo(f"    {each.change}")
