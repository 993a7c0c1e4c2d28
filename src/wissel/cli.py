"""The commands. Each is thin: it reads its options, calls one function and prints.

Exit codes: 0 ok, 1 a negative result, 2 bad usage or configuration. Heavy
parts are imported by the command that needs them, so `wissel --help` is quick.
"""

import asyncio
import json
import os
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import structlog
import typer
from rich.console import Console
from rich.table import Table

from wissel import __version__
from wissel.errors import ConfigError, WisselError

if TYPE_CHECKING:
    from wissel.core.snapshot import Snapshot

app = typer.Typer(
    name="wissel",
    help="An Envoy external processor for LLM traffic: each request goes to the model that its intent picks.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

ConfigOption = Annotated[Path, typer.Option("--config", "-c", help="The configuration file.", show_default=False)]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]

out = Console()
err = Console(stderr=True, highlight=False, soft_wrap=True)


@contextmanager
def _honest_exits() -> Generator[None]:
    """Configuration mistakes are 2, a world that does not do its part is 1; neither is a traceback."""
    try:
        yield
    except ConfigError as error:
        for problem in error.problems:
            err.print(problem, markup=False)
        raise typer.Exit(2) from None
    except WisselError as error:
        err.print(f"error: {error}", markup=False)
        raise typer.Exit(1) from None


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"wissel {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


@app.command()
def serve(
    config: ConfigOption,
    data: Annotated[Path | None, typer.Option(help="Where `redis: embedded` keeps its data.")] = None,
    grace: Annotated[float, typer.Option(help="Seconds that requests in flight are given at the end.")] = 30.0,
    log_format: Annotated[str, typer.Option(help="console or json.")] = "json",
) -> None:
    """Serve Envoy: answer its ext_proc streams until SIGTERM."""
    from wissel.app import serve as run

    _configure_logs(log_format)
    with _honest_exits():
        asyncio.run(run(config, data=data or data_directory(), grace=grace))


@app.command()
def check(config: ConfigOption, as_json: JsonOption = False) -> None:
    """Say everything that is wrong with a configuration; exit 0 if nothing is, else 2."""
    try:
        snapshot = _checked(config)
    except ConfigError as error:
        if as_json:
            _print_json({"ok": False, "problems": error.problems})
            raise typer.Exit(2) from None
        with _honest_exits():
            raise
    if as_json:
        _print_json({"ok": True, "revision": snapshot.revision})
        return
    rules = "no access rules" if snapshot.rules is None else f"{len(snapshot.rules.rules)} access rules"
    typer.echo(
        f"{config}: ok, revision {snapshot.revision}: {len(snapshot.models)} models, {len(snapshot.routes)} routes, "
        f"{len(snapshot.splits)} splits, {len(snapshot.tiers)} tiers, {rules}"
    )


def _checked(path: Path) -> "Snapshot":
    from wissel.config import compile_snapshot, load
    from wissel.quality.serving import router_problems

    config = load(path)
    snapshot = compile_snapshot(config)
    if problems := router_problems(config.tiers):
        raise ConfigError(problems)
    return snapshot


@app.command()
def schema() -> None:
    """Print the JSON Schema of the configuration file, for editors."""
    from wissel.config import json_schema

    _print_json(json_schema())


@app.command()
def envoy(
    config: ConfigOption,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write to a file instead.")] = None,
) -> None:
    """Print an Envoy bootstrap that fits the configuration."""
    from wissel.config import load
    from wissel.envoy import plan, render

    with _honest_exits():
        text = render(plan(load(config)))
        if output is None:
            typer.echo(text, nl=False)
            return
        try:
            output.write_text(text)
        except OSError as error:
            raise ConfigError([f'--output: cannot write "{output}": {error.strerror}']) from error


@app.command()
def explain(
    config: ConfigOption,
    prompt: Annotated[str | None, typer.Argument(help="What the user says; or give --body.")] = None,
    model: Annotated[str, typer.Option(help="The model that is asked for.")] = "auto",
    caller: Annotated[str | None, typer.Option("--as", help="Decide for the key with this id.")] = None,
    header: Annotated[list[str] | None, typer.Option("--header", "-H", help="name: value; may be repeated.")] = None,
    path: Annotated[str, typer.Option(help="The call's path.")] = "/v1/chat/completions",
    body: Annotated[Path | None, typer.Option(help="A file with the whole body; - for standard input.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Show which model a request would get, and the whole reasoning; exit 1 if it would be refused."""
    from wissel.admin.views import decision_view
    from wissel.app import explain as decide

    if (prompt is None) == (body is None):
        raise typer.BadParameter("give either a prompt or --body")
    if body is not None:
        content = _read_body(body)
    else:
        content = json.dumps({"model": model, "messages": [{"role": "user", "content": prompt}]}).encode()
    with _honest_exits():
        decision = asyncio.run(decide(config, headers=_headers(header or []), body=content, caller=caller, call=path))
    view = decision_view(decision)
    if as_json:
        _print_json(view)
    else:
        _show_decision(view)
    raise typer.Exit(0 if view["status"] == 200 else 1)


def _read_body(path: Path) -> bytes:
    try:
        return sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
    except OSError as error:
        raise typer.BadParameter(f'cannot read "{path}": {error.strerror}') from error


def _headers(lines: list[str]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name.strip():
            raise typer.BadParameter(f'"{line}" should be "name: value"')
        headers[name.strip().lower()] = value.strip()
    return headers


def _show_decision(view: dict[str, Any]) -> None:
    table = Table(show_header=False, box=None, pad_edge=False)
    if error := view.get("error"):
        table.add_row("refused", f"{view['status']} {error['code']}: {error['message']}")
    shown: list[tuple[str, Callable[[Any], str]]] = [
        ("principal", str), ("route", str), ("intent", _intent_line), ("scores", _scores_line),
        ("rules", ", ".join), ("shadow_rules", ", ".join), ("target", str), ("tier", _tier_line),
        ("split", str), ("key", _key_line),
        ("bucket", str), ("variant", str), ("reason", str), ("model", str), ("upstream_model", str),
        ("cluster", str), ("unable", _unable_line), ("models", ", ".join), ("revision", str),
    ]  # fmt: skip
    for name, line in shown:
        value = view.get(name)
        if value not in (None, [], {}, ""):
            table.add_row(name.replace("_", " "), line(value))
    out.print(table, markup=False, highlight=False)


def _intent_line(intent: dict[str, Any]) -> str:
    score = "" if intent["score"] is None else f", score {intent['score']} against threshold {intent['threshold']}"
    return f"{intent['reason']}{score}{': ' + intent['detail'] if intent['detail'] else ''}"


def _tier_line(tier: dict[str, Any]) -> str:
    rate = "no win rate" if tier["win_rate"] is None else f"win rate {tier['win_rate']}"
    return f"{tier['name']} -> {tier['end']} ({tier['reason']}): {rate} against threshold {tier['threshold']}"


def _scores_line(scores: dict[str, float]) -> str:
    return "  ".join(f"{route} {score:.3f}" for route, score in list(scores.items())[:8])


def _key_line(key: dict[str, str]) -> str:
    return f"{key['source']} = {key['value']}"


def _unable_line(unable: list[dict[str, str]]) -> str:
    return "; ".join(f"{each['model']} {each['why']}" for each in unable)


tier_app = typer.Typer(help="Strong or weak: train, calibrate and measure the routers of tiers.", no_args_is_help=True)
app.add_typer(tier_app, name="tier")

DataOption = Annotated[
    list[str], typer.Option("--data", help="A file of labels, or FILE:WEIGHT; may be repeated.", show_default=False)
]
RouterOption = Annotated[Path, typer.Option("--router", help="The folder of a trained router.", show_default=False)]
StrongOption = Annotated[list[str] | None, typer.Option("--strong", help="In battles: the strong model; repeatable.")]
WeakOption = Annotated[list[str] | None, typer.Option("--weak", help="In battles: the weak model; repeatable.")]


@tier_app.command("train")
def tier_train(
    data: DataOption,
    out_folder: Annotated[Path, typer.Option("--out", help="The folder to write.", show_default=False)],
    router: Annotated[str, typer.Option(help="Which kind of router.")] = "similarity",
    strong: StrongOption = None,
    weak: WeakOption = None,
    seed: Annotated[int, typer.Option(help="The same seed makes the same router.")] = 0,
    base: Annotated[Path | None, typer.Option(help="Of encoder and causal: a folder of transformers.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Of encoder and causal.", min=1)] = None,
    limit: Annotated[float, typer.Option(help="Of encoder and causal: seconds of training at most.")] = float("inf"),
    as_json: JsonOption = False,
) -> None:
    """Learn from labels which prompts need the strong model; the figures are of labels that were held out."""
    from wissel.classifiers.export import find_source
    from wissel.quality.artifact import KINDS
    from wissel.quality.data import Source
    from wissel.quality.train import Recipe, train

    if router not in KINDS:
        raise typer.BadParameter(f'--router is "{router}"; it should be one of {", ".join(KINDS)}')
    with _honest_exits():
        start = base or (find_source() if router == "encoder" else None)
        recipe = Recipe(router, **_sides(strong, weak), seed=seed, base=start, epochs=epochs, limit_s=limit)
        sources = [Source.parse(each) for each in data]
        card = train(recipe, sources, out_folder, encode=_encode, progress=lambda line: err.print(line, markup=False))
    if as_json:
        _print_json({"kind": card.kind, "out": str(out_folder), "data": card.data, "validation": card.validation})
        return
    typer.echo(f"{out_folder}: {card.kind}, learned from {sum(each['rows'] for each in card.data)} rows")
    for name, found in card.validation.items():
        figures = {key: each for key, each in found.items() if key != "rows"}
        typer.echo(f"{name}, {found['rows']} rows held out:")
        _show_figures(figures)


@tier_app.command("label")
def tier_label(
    prompts: Annotated[Path, typer.Option(help="A file of rows with a prompt.", show_default=False)],
    out_file: Annotated[Path, typer.Option("--out", help="Labels are appended to it.", show_default=False)],
    strong: Annotated[str, typer.Option(help="MODEL@URL of an OpenAI-compatible server.", show_default=False)],
    weak: Annotated[str, typer.Option(help="The same.", show_default=False)],
    judge: Annotated[str, typer.Option(help="The same, of who compares their answers.", show_default=False)],
    key_env: Annotated[str, typer.Option(help="The environment variable with the key; unset: none is sent.")] = (
        "OPENAI_API_KEY"
    ),
    price: Annotated[
        list[str] | None, typer.Option(help="MODEL=INPUT/OUTPUT, USD per million tokens; repeatable.")
    ] = None,
    rate: Annotated[float, typer.Option(help="Calls a second at most.", min=0.01)] = 5.0,
    as_json: JsonOption = False,
) -> None:
    """Ask both models and a judge; a run that was stopped goes on. Exit 1 if some prompts failed."""
    from dataclasses import asdict

    from wissel.quality.data import read_prompts
    from wissel.quality.label import Endpoint, Pair, label

    prices = dict(_price(each) for each in price or ())
    with _honest_exits():
        ends = [Endpoint.parse(each, key=os.environ.get(key_env, "")) for each in (strong, weak, judge)]
        pair = Pair(*(Endpoint(each.model, each.url, each.key, prices.get(each.model, (0.0, 0.0))) for each in ends))
        wanted = read_prompts(prompts)
        tally = asyncio.run(
            label(wanted, out_file, pair, rate=rate, progress=lambda line: err.print(line, markup=False))
        )
    if as_json:
        _print_json(asdict(tally))
    else:
        typer.echo(f"{out_file}: {tally}")
    raise typer.Exit(1 if tally.failed else 0)


def _price(written: str) -> tuple[str, tuple[float, float]]:
    model, _, both = written.rpartition("=")
    try:
        paid, earned = map(float, both.split("/"))
    except ValueError:
        raise typer.BadParameter(f'--price "{written}" should be MODEL=INPUT/OUTPUT') from None
    return model, (paid, earned)


@tier_app.command("calibrate")
def tier_calibrate(
    router: RouterOption,
    strong_share: Annotated[float, typer.Option(help="Between 0 and 1.", show_default=False)],
    data: Annotated[
        list[str] | None, typer.Option("--data", help="Prompts like the traffic's; rows as for train.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Say which threshold sends a share of the prompts to the strong model."""
    import numpy as np

    from wissel.quality.artifact import load, threshold_for
    from wissel.quality.data import Source, read_prompts
    from wissel.quality.train import embedder

    if not 0 < strong_share < 1:
        raise typer.BadParameter(f"--strong-share is {strong_share}; it should lie between 0 and 1")
    with _honest_exits():
        loaded, card = load(router)
        embed = embedder(_encode if loaded.NEEDS_VECTORS else None)
        prompts = [text for each in data or () for text in read_prompts(Source.parse(each).path)]
        win_rates = loaded.win_rates(embed(prompts)) if prompts else np.array(card.quantiles)
        if not len(win_rates):
            raise ConfigError([f'--data: missing; the card of "{router}" knows no win rates'])
    threshold = threshold_for(win_rates, strong_share)
    realised = float((win_rates >= threshold).mean())
    found = {"threshold": threshold, "strong_share": strong_share, "realised": realised, "prompts": len(prompts)}
    if as_json:
        _print_json(found)
        return
    source = f"{len(prompts)} prompts" if prompts else "the labels held out in training"
    typer.echo(f"threshold: {threshold:.6f}  # {100 * realised:.1f} % strong on {source}")


@tier_app.command("eval")
def tier_eval(
    router: RouterOption,
    data: DataOption,
    strong: StrongOption = None,
    weak: WeakOption = None,
    price: Annotated[tuple[float, float] | None, typer.Option(help="Per call: strong and weak.")] = None,
    report: Annotated[Path | None, typer.Option(help="Write a page with plots.")] = None,
    seed: Annotated[int, typer.Option(help="Of the bootstrap.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Measure a trained router on labels that it has not seen, baselines and oracle beside it."""
    from wissel.evaluation.quality_report import assess, page
    from wissel.quality.artifact import load
    from wissel.quality.base import join
    from wissel.quality.data import Source, read
    from wissel.quality.train import embedder

    with _honest_exits():
        loaded, card = load(router)
        embed = embedder(_encode if loaded.NEEDS_VECTORS else None)
        battles = join([read(Source.parse(each), embed) for each in data]).between(**_sides(strong, weak))
        if not len(battles) or battles.graded.gap <= 0:
            raise ConfigError([f"--data: {len(battles)} rows compare the two, and the strong one is not better"])
        found = assess(loaded, card, battles, seed=seed, prices=price)
        if report is not None:
            try:
                report.write_text(page(found, title=f"{card.kind} on {', '.join(data)}"), encoding="utf-8")
            except OSError as error:
                raise ConfigError([f'--report: cannot write "{report}": {error.strerror}']) from error
    if as_json:
        _print_json(found)
        return
    typer.echo(f"{len(battles)} prompts")
    _show_figures({card.kind: found, **found["baselines"]})
    for each in found["budgets"]:
        typer.echo(
            f"budget {100 * each['target']:.0f} %: {100 * each['fixed']:.1f} % with the calibrated threshold, "
            f"{100 * each['held']:.1f} % held online"
        )


def _sides(strong: list[str] | None, weak: list[str] | None) -> dict[str, tuple[str, ...]]:
    return {side: tuple(names) for side, names in (("strong", strong), ("weak", weak)) if names}


def _encode(texts: Any) -> Any:
    from wissel.classifiers.encoder import Encoder
    from wissel.classifiers.export import ensure

    return Encoder.load(ensure(), threads=os.cpu_count() or 1).encode(texts)


def _show_figures(rows: dict[str, dict[str, Any]]) -> None:
    table = Table("router", "APGR", "95 %", "ten bins", "CPT 20 / 50 / 80 %", box=None, pad_edge=False)
    for name, each in rows.items():
        low, high = each["interval"]
        cpt = " / ".join(f"{100 * share:.1f}" for share in each["cpt"].values())
        table.add_row(name, f"{each['apgr']:.3f}", f"{low:.3f} to {high:.3f}", f"{each['apgr_ten_bins']:.3f}", cpt)
    out.print(table, highlight=False)


@app.command()
def demo(
    once: Annotated[bool, typer.Option("--once", help="Tell the story and stop.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Run everything on this machine: a real Envoy, wissel and simulated models; watch requests find their model."""
    from wissel.demo.story import tell

    _configure_logs("console", level="WARNING")
    with _honest_exits():
        try:
            told_well = asyncio.run(tell(once=once, as_json=as_json))
        except KeyboardInterrupt:
            # The visitor has seen enough; everything that was started is stopped by now.
            return
    raise typer.Exit(0 if told_well else 1)


def data_directory() -> Path:
    """Where state is kept between runs: `WISSEL_DATA`, else the user's state directory."""
    if found := os.environ.get("WISSEL_DATA"):
        return Path(found)
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "wissel"


def _configure_logs(form: str, *, level: str = "INFO") -> None:
    if form not in {"console", "json"}:
        raise typer.BadParameter(f'--log-format is "{form}"; it should be console or json')
    as_text = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.StackInfoRenderer(),
            structlog.processors.format_exc_info,
            as_text if form == "console" else structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def main() -> None:
    """The console script."""
    app()
