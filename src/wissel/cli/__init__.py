"""The commands. Each is thin: it reads its options, calls one function and prints.

Exit codes: 0 ok, 1 a negative result, 2 bad usage or configuration. A module
holds a command, or a group of them; what they need that is heavy is imported
where it is used, so `wissel --help` is quick.
"""

import sys
from typing import Annotated

import structlog
import typer

from wissel import __version__
from wissel.cli import experiment, rollout
from wissel.cli.access import access_app, audit, keys_app
from wissel.cli.check import check, envoy, schema
from wissel.cli.doctor import doctor
from wissel.cli.encoder import app as encoder
from wissel.cli.eval import evaluate, lint_routes
from wissel.cli.explain import explain
from wissel.cli.serve import demo, serve
from wissel.cli.tier import app as tier

app = typer.Typer(
    name="wissel",
    help="An Envoy external processor for LLM traffic: each request goes to the model that its intent picks.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"wissel {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[  # noqa: ARG001 - its callback acts on it
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    # What commands print is for programs, too; warnings go beside it.
    structlog.configure(logger_factory=lambda *_: structlog.PrintLogger(sys.stderr))


for command in (serve, check, schema, envoy, explain, doctor, audit, demo):
    app.command()(command)
app.command("eval")(evaluate)
app.command("lint-routes")(lint_routes)

for group in (rollout.app, experiment.app, keys_app, access_app):
    app.add_typer(group)

app.add_typer(tier, name="tier")
app.add_typer(encoder, name="encoder")


def main() -> None:
    """The console script."""
    app()
