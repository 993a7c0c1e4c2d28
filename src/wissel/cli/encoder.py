"""Encoders: from weights to what serving reads."""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

import typer

from wissel.cli._output import JsonOption, err, honest_exits, print_json

SLOWER = {
    "mixed": "the weights of some products stay as they are, a third slower",
    "fp32": "all weights stay as they are, twice as slow",
}

app = typer.Typer(help="What turns texts into vectors.", no_args_is_help=True)


@app.callback()
def options() -> None:
    pass


@app.command()
def export(
    source: Annotated[
        str,
        typer.Argument(
            help="joint, minilm, use or strong, whose weights are packages; or a folder of sentence-transformers or "
            "transformers: BERT, RoBERTa, XLM-R, MPNet and their like."
        ),
    ] = "joint",
    out: Annotated[
        Path | None, typer.Option(help="Of a folder: where the export goes; beside it if not given.")
    ] = None,
    pooling: Annotated[
        Literal["mean", "cls"] | None,
        typer.Option(help="How tokens become one vector, if the folder's files do not say."),
    ] = None,
    prefix: Annotated[
        str | None, typer.Option(help='What stands before every text, if the folder\'s files do not say: "query: ".')
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Turn weights into an int8 model, check it against them, and find out what it knows; needs wissel[torch]."""
    from wissel.encoders.export import own, packaged

    with honest_exits():
        if source in packaged.MADE_OF:
            folders = packaged.export(source)
            found = {"encoder": source, "folders": [str(each) for each in folders]}
            told = f"{source}: {', '.join(found['folders'])}"
        else:
            target = out or Path(f"{source.rstrip('/')}-exported")
            card = own.export(Path(source), target, pooling=pooling, prefix=prefix)
            found = {"folder": str(target), **dataclasses.asdict(card)}
            told = (
                f"{target}: {card.dimensions} dimensions, {card.precision}{', centred' if card.centred else ''}, "
                f"knows {', '.join(card.languages) or 'no language of those tried'}\n"
                f"name it in the configuration: intent: {{encoder: {{path: {target}}}}}"
            )
            if card.precision in SLOWER:
                err.print(f"eight bits change which texts are neighbours, so {SLOWER[card.precision]}")
    if as_json:
        print_json(found)
    else:
        typer.echo(told)
