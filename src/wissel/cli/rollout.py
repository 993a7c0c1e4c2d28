"""`wissel rollout`: where rollouts stand, and what people do to them, over the admin API.

Exit codes are for CI: 0 unless the rollout is degraded or a verb was refused,
which is 1; a rollout that nobody knows is 2.
"""

import time
from collections.abc import Callable
from typing import Annotated, Any, Final

import typer
from rich.live import Live

from wissel.cli._admin import DEFAULT_ADMIN, AdminClient, AdminOption, RefusedByAdmin
from wissel.cli._output import ConfigOption, JsonOption, err, honest_exits, out, print_json
from wissel.errors import ConfigError

WATCH_SECONDS: Final = 1.0

app = typer.Typer(name="rollout", help="Where rollouts stand, and what to do to them.", no_args_is_help=True)

NameArgument = Annotated[str, typer.Argument(help="The rollout's name.", show_default=False)]


@app.command("list")
def list_all(admin: AdminOption = DEFAULT_ADMIN, as_json: JsonOption = False) -> None:
    """Every rollout, a line each."""
    from wissel.admin.terminal import standings_table

    with honest_exits():
        told = AdminClient(admin).get("rollouts")
    if as_json:
        print_json(told)
    else:
        out.print(standings_table(told["rollouts"]))


@app.command()
def get(
    name: NameArgument,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Follow it until it is promoted or taken back.")] = False,
    admin: AdminOption = DEFAULT_ADMIN,
    as_json: JsonOption = False,
) -> None:
    """Where one rollout stands; exit 1 if it is degraded."""
    with honest_exits():
        client = AdminClient(admin)
        show = _watch if watch else _show
        standing = show(lambda: client.get("rollouts", name), as_json)
    raise typer.Exit(1 if standing["phase"] == "degraded" else 0)


def _show(read: Callable[[], Any], as_json: bool) -> Any:
    from wissel.admin.terminal import standing_tree

    standing = read()
    if as_json:
        print_json(standing)
    else:
        out.print(standing_tree(standing))
    return standing


def _watch(read: Callable[[], Any], as_json: bool) -> Any:
    """The last standing; as JSON one object for each change."""
    from wissel.admin.terminal import standing_tree

    standing = read()
    if as_json:
        print_json(standing)
        while not _is_over(standing):
            time.sleep(WATCH_SECONDS)
            before, standing = standing, read()
            if standing != before:
                print_json(standing)
        return standing
    with Live(standing_tree(standing), console=out, auto_refresh=False) as live:
        while not _is_over(standing):
            time.sleep(WATCH_SECONDS)
            standing = read()
            live.update(standing_tree(standing), refresh=True)
    return standing


def _is_over(standing: Any) -> bool:
    return standing["phase"] in {"healthy", "degraded"}


@app.command()
def promote(
    name: NameArgument,
    full: Annotated[bool, typer.Option("--full", help="To 100 % at once.")] = False,
    admin: AdminOption = DEFAULT_ADMIN,
    as_json: JsonOption = False,
) -> None:
    """Leave this step now, whatever the evidence."""
    _act(name, "promote", admin, as_json, full=full)


def _verb(verb: str, does: str) -> None:
    def act(name: NameArgument, admin: AdminOption = DEFAULT_ADMIN, as_json: JsonOption = False) -> None:
        _act(name, verb, admin, as_json)

    app.command(verb, help=does)(act)


_verb("pause", "Stand still; what speaks against the canary still takes it back.")
_verb("resume", "Go on from where it stands.")
_verb("abort", "Take all traffic back to stable.")
_verb("retry", "Start an aborted rollout over.")
_verb("undo", "Take a finished promotion back.")


def _act(name: str, verb: str, admin: str, as_json: bool, **asked: Any) -> None:
    with honest_exits():
        answer = AdminClient(admin).act("rollouts", name, verb, **asked)
    if isinstance(answer, RefusedByAdmin):
        err.print(answer.message, markup=False)
        raise typer.Exit(1)
    if as_json:
        print_json(answer)
    else:
        typer.echo(f"{name}: {answer['phase']}, weight {answer['set_weight']} %: {answer['reason']}")


@app.command()
def history(name: NameArgument, admin: AdminOption = DEFAULT_ADMIN, as_json: JsonOption = False) -> None:
    """What happened to a rollout, who did it and why; the newest first."""
    from wissel.admin.terminal import history_table

    with honest_exits():
        told = AdminClient(admin).get("rollouts", name, "history")
    if as_json:
        print_json(told)
    else:
        out.print(history_table(told["history"]))


@app.command()
def simulate(
    config: ConfigOption,
    name: Annotated[str, typer.Option("--rollout", help="The rollout's name.", show_default=False)],
    stable: Annotated[str, typer.Option(help="How stable answers: error_rate=0.02,latency_p50=0.8,…")] = "",
    canary: Annotated[str, typer.Option(help="How the canary answers; what is not said is as stable's.")] = "",
    rps: Annotated[float, typer.Option(help="Requests a second, of both.", min=0.001)] = 5.0,
    runs: Annotated[int, typer.Option(help="Rollouts to simulate.", min=1)] = 200,
    as_json: JsonOption = False,
) -> None:
    """Predict how long a rollout takes, and the chance of a wrong verdict; nothing is served."""
    from dataclasses import asdict

    from wissel.config import compile_rollouts, load
    from wissel.evaluation.predict import behaviour_of, predict
    from wissel.evaluation.simulation import ModelBehaviour

    with honest_exits():
        specs = {each.spec.name: each.spec for each in compile_rollouts(load(config))}
        if name not in specs:
            raise ConfigError([f'--rollout: no rollout is named "{name}"'])
        today = behaviour_of("--stable", stable, ModelBehaviour())
        found = predict(specs[name], today, behaviour_of("--canary", canary, today), rps=rps, runs=runs)
    if as_json:
        print_json(asdict(found))
        return
    typical, low, high = (f"{seconds / 60:.1f}" for seconds in found.seconds)
    typer.echo(f"{found.runs} rollouts: " + ", ".join(f"{end} {share:.1%}" for end, share in found.shares.items()))
    typer.echo(
        f"minutes until then: {typical} (5 to 95 %: {low} to {high}); canary requests: {found.canary_requests:g}"
    )
    right = f"worse in {', '.join(found.worse_in)}" if found.worse_in else "no worse"
    typer.echo(f"wrong verdicts, as this canary is {right}: {found.wrong:.1%}")
    if found.left_out:
        typer.echo(f"not simulated: {'; '.join(found.left_out)}")
