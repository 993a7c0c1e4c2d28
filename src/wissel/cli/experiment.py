"""`wissel experiment`: what the variants of a plain split came to, over the admin API."""

from typing import Annotated

import typer

from wissel.cli._admin import DEFAULT_ADMIN, AdminClient, AdminOption
from wissel.cli._output import JsonOption, honest_exits, out, print_json

app = typer.Typer(name="experiment", help="How the variants of a split differ.", no_args_is_help=True)


@app.command("list")
def list_all(admin: AdminOption = DEFAULT_ADMIN, as_json: JsonOption = False) -> None:
    """Every split, and how many requests each of its variants has served."""
    from wissel.admin.terminal import experiments_table

    with honest_exits():
        told = AdminClient(admin).get("experiments")
    if as_json:
        print_json(told)
    else:
        out.print(experiments_table(told["experiments"]))


@app.command()
def get(
    name: Annotated[str, typer.Argument(help="The split's name.", show_default=False)],
    admin: AdminOption = DEFAULT_ADMIN,
    as_json: JsonOption = False,
) -> None:
    """Each variant against the first, with intervals that may be read at any time."""
    from wissel.admin.terminal import experiment_tree

    with honest_exits():
        told = AdminClient(admin).get("experiments", name)
    if as_json:
        print_json(told)
    else:
        out.print(experiment_tree(told))
