"""How well the configuration's routes are found, and whether they can be told apart."""

import asyncio
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.table import Table

from wissel.cli._output import ConfigOption, JsonOption, honest_exits, out, print_json
from wissel.errors import ConfigError

if TYPE_CHECKING:
    from wissel.evaluation.intent import Evaluation

_CHANCE: Final = 0.05
"""A difference that chance makes less often than this is called real."""


def evaluate(
    config: Annotated[Path | None, typer.Option("--config", "-c", help="The configuration file.")] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help='JSONL, a row for each turn: "messages" up to it as OpenAI has them, or the whole "body" of a call of '
            'any "api", the "route" that is right ("other" for none) or several "routes", and, where rows are turns '
            'of one conversation, its id as "conversation".'
        ),
    ] = None,
    report: Annotated[Path | None, typer.Option(help="Also write a page of HTML with plots.")] = None,
    compare: Annotated[
        tuple[Path, Path] | None, typer.Option(help="Two saved results instead: is the difference real?")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure the configured classifier on labelled conversations, or compare two saved results.

    Whoever gets the fallback route belongs to no other: rows labelled with it and with "other" count as the same.
    What is late is measured and counts all the same. Exit 1 if no row was answered.
    """
    if compare is not None:
        _compare(*compare, as_json=as_json)
        return
    if config is None or data is None:
        raise typer.BadParameter("give --config and --data, or --compare with two saved results")
    from wissel.config import load
    from wissel.evaluation.intent import evaluate as measure
    from wissel.evaluation.intent_report import render

    with honest_exits():
        found = asyncio.run(measure(load(config), data, clashes=True))
        if report is not None:
            _write(report, render(found))
    view = found.view()
    if as_json:
        print_json(view)
    else:
        _show(found, view)
    raise typer.Exit(1 if found.failed == view["count"] else 0)


def _show(found: "Evaluation", view: dict[str, Any]) -> None:
    from wissel.evaluation.intent_report import summary

    table = Table(show_header=False, box=None, pad_edge=False)
    for name, value in summary(view):
        table.add_row(name, value)
    out.print(table, markup=False, highlight=False)
    for each in found.confusions:
        typer.echo(f'{each.count} of "{each.wanted}" taken for "{each.predicted}": {each.messages[0][:100]!r}')
    if found.untold:
        typer.echo(f"and {found.untold} more rows, of rarer confusions")


def lint_routes(
    config: ConfigOption,
    data: Annotated[
        Path | None, typer.Option(help="What users write, as `wissel eval` reads it: are its languages understood?")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Find routes whose descriptions overlap or say too little; exit 1 if there are any."""
    from wissel.classifiers.encoders import load as load_encoder
    from wissel.config import classifier_keys, compile_snapshot, load
    from wissel.encoders.base import encode_with
    from wissel.evaluation.intent import read_rows
    from wissel.evaluation.route_lint import lint

    with honest_exits():
        loaded = load(config)
        snapshot = compile_snapshot(loaded)
        encoder, knowledge = load_encoder(loaded.intent.encoder, keys=classifier_keys(loaded.intent))
        said = (
            [row.conversation.last_user for row in read_rows(data, snapshot.routes, snapshot.harness)] if data else []
        )
        remarks = lint(
            snapshot.routes.values(),
            encode_with(encoder.read),
            fallback=snapshot.fallback,
            known=knowledge,
            traffic=said,
        )
    if as_json:
        print_json({"ok": not remarks, "remarks": [dataclasses.asdict(each) for each in remarks]})
    else:
        for each in remarks:
            typer.echo(f"{each.kind}: {', '.join(each.routes)}: {each.what}\n    {each.suggestion}")
        if not remarks:
            typer.echo(f"{len(snapshot.routes)} routes, nothing to remark")
    raise typer.Exit(1 if remarks else 0)


def _compare(first: Path, second: Path, *, as_json: bool) -> None:
    from wissel.evaluation.intent import compare

    with honest_exits():
        found = compare(first, second)
    if as_json:
        print_json(dataclasses.asdict(found))
        return
    a, b = found.accuracies
    verdict = "the difference is real" if found.p_value < _CHANCE else "the difference may be chance"
    typer.echo(
        f"{first}: {a:.4f}\n{second}: {b:.4f}\nright in one only: {found.only_first} and {found.only_second}; "
        f"McNemar p = {found.p_value:.3g}: {verdict if a != b else 'no difference'}"
    )


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, "utf-8")
    except OSError as error:
        raise ConfigError([f'--report: cannot write "{path}": {error.strerror}']) from error
