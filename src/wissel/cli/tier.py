"""Strong or weak: the graders of tiers, from labels to figures."""

import asyncio
import os
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.table import Table

from wissel.cli._output import ConfigOption, JsonOption, err, honest_exits, out, print_json
from wissel.errors import ConfigError

if TYPE_CHECKING:
    from wissel.offline.lessons import Exported

app = typer.Typer(help="Strong or weak: train, calibrate and measure the graders of tiers.", no_args_is_help=True)

EMBEDDED_AT_ONCE = 1000
"""Prompts between two words of progress: some seconds."""

DataOption = Annotated[
    list[str],
    typer.Option(
        "--data",
        help="A file of labels, or FILE:WEIGHT; may be repeated. With several, figures also show what the first alone "
        "teaches (but for encoder and causal, which it would take twice as long).",
        show_default=False,
    ),
]
GraderOption = Annotated[Path, typer.Option("--router", help="The folder of a trained grader.", show_default=False)]
StrongOption = Annotated[list[str] | None, typer.Option("--strong", help="In battles: the strong model; repeatable.")]
EncoderOption = Annotated[
    str, typer.Option("--encoder", help="What embeds prompts, as in the configuration: a type, or a folder.")
]
WeakOption = Annotated[list[str] | None, typer.Option("--weak", help="In battles: the weak model; repeatable.")]


@app.command("train")
def tier_train(
    data: DataOption,
    out_folder: Annotated[Path, typer.Option("--out", help="The folder to write.", show_default=False)],
    grader: Annotated[str, typer.Option("--router", help="Which kind of grader.")] = "similarity",
    strong: StrongOption = None,
    weak: WeakOption = None,
    seed: Annotated[int, typer.Option(help="The same seed makes the same grader.")] = 0,
    base: Annotated[Path | None, typer.Option(help="Of encoder and causal: a folder of transformers.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Of encoder and causal.", min=1)] = None,
    limit: Annotated[float, typer.Option(help="Of encoder and causal: seconds of training at most.")] = float("inf"),
    encoder: EncoderOption = "joint",
    as_json: JsonOption = False,
) -> None:
    """Learn from labels which prompts need the strong model; the figures are of labels that were held out."""
    from wissel.encoders.weights import MINILM
    from wissel.tiers.artifact import KINDS
    from wissel.tiers.data import Source
    from wissel.tiers.train import Recipe, train

    if grader not in KINDS:
        raise typer.BadParameter(f'--router is "{grader}"; it should be one of {", ".join(KINDS)}')
    with honest_exits():
        start = base or (MINILM.find() / "model" if grader == "encoder" else None)
        recipe = Recipe(grader, **_sides(strong, weak), seed=seed, base=start, epochs=epochs, limit_s=limit)
        sources = [Source.parse(each) for each in data]
        tell = partial(err.print, markup=False)
        card = train(recipe, sources, out_folder, encode=_encode_by(encoder), progress=tell)
    if as_json:
        print_json({"kind": card.kind, "out": str(out_folder), "data": card.data, "validation": card.validation})
        return
    typer.echo(f"{out_folder}: {card.kind}, learned from {sum(each['rows'] for each in card.data)} rows")
    for name, found in card.validation.items():
        figures = {key: each for key, each in found.items() if key != "rows"}
        typer.echo(f"{name}, {found['rows']} rows held out:")
        _show_figures(figures)


@app.command("label")
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

    from wissel.tiers.data import read_prompts
    from wissel.tiers.label import Endpoint, Pair, label

    prices = dict(_price(each) for each in price or ())
    with honest_exits():
        ends = [Endpoint.parse(each, key=os.environ.get(key_env, "")) for each in (strong, weak, judge)]
        pair = Pair(*(Endpoint(each.model, each.url, each.key, prices.get(each.model, (0.0, 0.0))) for each in ends))
        wanted = read_prompts(prompts)
        tally = asyncio.run(
            label(wanted, out_file, pair, rate=rate, progress=lambda line: err.print(line, markup=False))
        )
    if as_json:
        print_json(asdict(tally))
    else:
        typer.echo(f"{out_file}: {tally}")
    raise typer.Exit(1 if tally.failed else 0)


@app.command("export")
def tier_export(
    config: ConfigOption,
    tier: Annotated[str, typer.Argument(help="The tier's name; it has `learn` in the configuration.")],
    out_file: Annotated[
        Path, typer.Option("--out", help="The file to write, for its owner alone.", show_default=False)
    ],
    by: Annotated[
        Literal["feedback", "outcome"],
        typer.Option(help="feedback: what callers said; outcome: whether there was an answer."),
    ] = "feedback",
    since: Annotated[datetime | None, typer.Option(help="Leave out what is older (UTC).", show_default=False)] = None,
    data: Annotated[Path | None, typer.Option(help="Where `redis: embedded` keeps its data.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Write what live traffic taught as rows for `wissel tier train`; exit 1 if there is nothing to learn yet.

    Only requests whose end a coin chose are among them (`tiers[].learn.explore`); a row says how the end that served
    did against a typical answer. Prompts are there if `learn.prompts` let them be kept. The audit trail tells of it.
    """
    from dataclasses import asdict

    from wissel.cli.access import operator
    from wissel.cli.serve import data_directory
    from wissel.config import load
    from wissel.offline.lessons import export_lessons

    after = since.replace(tzinfo=UTC).timestamp() if since else 0.0
    with honest_exits():
        found = asyncio.run(
            export_lessons(
                load(config), tier, out_file, by=by, since=after, who=operator(), data=data or data_directory()
            )
        )
    if as_json:
        print_json({"tier": tier, "out": str(out_file) if found.rows else None, "by": by, **asdict(found)})
    else:
        _show_exported(out_file, by, found)
    raise typer.Exit(0 if found.rows else 1)


def _show_exported(out_file: Path, by: str, found: "Exported") -> None:
    summary = found.summary
    explored = summary.strong.explored + summary.weak.explored
    if found.rows:
        typer.echo(f"{out_file}: {found.rows} rows, {found.with_prompts} with a prompt")
    else:
        typer.echo(
            f"nothing is written: a coin chose the end of {explored} requests, and both ends need a label by {by}"
        )
    table = Table("end", "requests", "labelled", "mean score", box=None, pad_edge=False)
    for name, side in (("strong", summary.strong), ("weak", summary.weak)):
        mean = "" if side.mean is None else f"{side.mean:.3f}"
        table.add_row(name, str(side.explored), str(side.labelled), mean)
    out.print(table, highlight=False)
    if summary.gain is not None and summary.interval is not None:
        low, high = summary.interval
        typer.echo(f"the strong end is better by {summary.gain:.3f} (95 %: {low:.3f} to {high:.3f})")
    if summary.apgr is not None and summary.apgr_interval is not None:
        low, high = summary.apgr_interval
        typer.echo(f"the grader that served has APGR {summary.apgr:.3f} (95 %: {low:.3f} to {high:.3f})")
    if found.of_other_ends:
        typer.echo(f"{found.of_other_ends} requests are left out: the tier had other ends then")
    for warning in summary.warnings:
        err.print(f"warning: {warning}", markup=False)
    if found.rows > found.with_prompts:
        err.print("warning: no grader learns from rows without a prompt; `learn: {prompts: true}` keeps them")


def _price(written: str) -> tuple[str, tuple[float, float]]:
    model, _, both = written.rpartition("=")
    try:
        paid, earned = map(float, both.split("/"))
    except ValueError:
        raise typer.BadParameter(f'--price "{written}" should be MODEL=INPUT/OUTPUT') from None
    return model, (paid, earned)


@app.command("calibrate")
def tier_calibrate(
    grader: GraderOption,
    strong_share: Annotated[float, typer.Option(help="Between 0 and 1.", show_default=False)],
    data: Annotated[
        list[str] | None, typer.Option("--data", help="Prompts like the traffic's; rows as for train.")
    ] = None,
    encoder: EncoderOption = "joint",
    as_json: JsonOption = False,
) -> None:
    """Say which threshold sends a share of the prompts to the strong model."""
    import numpy as np

    from wissel.tiers.artifact import load, threshold_for
    from wissel.tiers.data import Source, read_prompts
    from wissel.tiers.train import embedder

    if not 0 < strong_share < 1:
        raise typer.BadParameter(f"--strong-share is {strong_share}; it should lie between 0 and 1")
    with honest_exits():
        loaded, card = load(grader)
        embed = embedder(_encode_by(encoder) if loaded.NEEDS_VECTORS else None)
        prompts = [text for each in data or () for text in read_prompts(Source.parse(each).path)]
        win_rates = loaded.win_rates(embed(prompts)) if prompts else np.array(card.quantiles)
        if not len(win_rates):
            raise ConfigError([f'--data: missing; the card of "{grader}" knows no win rates'])
    threshold = threshold_for(win_rates, strong_share)
    realised = float((win_rates >= threshold).mean())
    found = {"threshold": threshold, "strong_share": strong_share, "realised": realised, "prompts": len(prompts)}
    if as_json:
        print_json(found)
        return
    source = f"{len(prompts)} prompts" if prompts else "the labels held out in training"
    typer.echo(f"threshold: {threshold:.6f}  # {100 * realised:.1f} % strong on {source}")


@app.command("eval")
def tier_eval(
    grader: GraderOption,
    data: DataOption,
    strong: StrongOption = None,
    weak: WeakOption = None,
    price: Annotated[tuple[float, float] | None, typer.Option(help="Per call: strong and weak.")] = None,
    report: Annotated[Path | None, typer.Option(help="Write a page with plots.")] = None,
    seed: Annotated[int, typer.Option(help="Of the bootstrap.")] = 0,
    encoder: EncoderOption = "joint",
    as_json: JsonOption = False,
) -> None:
    """Measure a trained grader on labels that it has not seen, baselines and oracle beside it."""
    from wissel.evaluation.tier_report import assess, page
    from wissel.tiers.artifact import load
    from wissel.tiers.base import join
    from wissel.tiers.data import Source, read
    from wissel.tiers.train import embedder

    with honest_exits():
        loaded, card = load(grader)
        embed = embedder(_encode_by(encoder) if loaded.NEEDS_VECTORS else None)
        sources = [Source.parse(each) for each in data]
        battles = join([read(source, embed) for source in sources]).between(**_sides(strong, weak))
        learned = {each["sha256"] for each in card.data}
        for source in sources:
            if source.digest() in learned:
                err.print(f"warning: the grader learned from {source.path}, so its figures there prove nothing")
        if not len(battles) or battles.ends.gap <= 0:
            raise ConfigError([f"--data: {len(battles)} rows compare the two, and the strong one is not better"])
        found = assess(loaded, card, battles, seed=seed, prices=price)
        if report is not None:
            try:
                report.write_text(page(found, title=f"{card.kind} on {', '.join(data)}"), encoding="utf-8")
            except OSError as error:
                raise ConfigError([f'--report: cannot write "{report}": {error.strerror}']) from error
    if as_json:
        print_json(found)
        return
    typer.echo(f"{len(battles)} prompts")
    _show_figures({card.kind: found, **found["baselines"]})
    for percent, times in found["cost_saving"].items():
        share = f"{100 * found['cpt'][percent]:.1f} % strong calls, {times:.2f} times fewer than at random"
        cost = f", {100 * found['relative_cost'][percent]:.1f} % of the strong one's cost" if price else ""
        typer.echo(f"{percent} % of the gap: {share}{cost}")
    for each in found["budgets"]:
        typer.echo(
            f"budget {100 * each['target']:.0f} %: {100 * each['fixed']:.1f} % with the calibrated threshold, "
            f"{100 * each['held']:.1f} % held online"
        )


def _sides(strong: list[str] | None, weak: list[str] | None) -> dict[str, tuple[str, ...]]:
    return {side: tuple(names) for side, names in (("strong", strong), ("weak", weak)) if names}


def _encode_by(name: str) -> Any:
    """Prompts to their vectors, in portions that are told of; loads the encoder when it is first asked."""
    import numpy as np

    from wissel.classifiers.encoders import load, section_of
    from wissel.encoders.base import encode_with

    def encode(texts: Any) -> Any:
        read = load(section_of(name), threads=os.cpu_count() or 1)[0].read
        found: list[Any] = []
        for at in range(0, len(texts), EMBEDDED_AT_ONCE):
            if at:
                err.print(f"{at} of {len(texts)} prompts embedded")
            found.append(encode_with(read)(texts[at : at + EMBEDDED_AT_ONCE]))
        return np.concatenate(found)

    return encode


def _show_figures(rows: dict[str, dict[str, Any]]) -> None:
    table = Table("grader", "APGR", "95 %", "ten bins", "CPT 20 / 50 / 80 %", box=None, pad_edge=False)
    for name, each in rows.items():
        low, high = each["interval"]
        cpt = " / ".join(f"{100 * share:.1f}" for share in each["cpt"].values())
        table.add_row(name, f"{each['apgr']:.3f}", f"{low:.3f} to {high:.3f}", f"{each['apgr_ten_bins']:.3f}", cpt)
    out.print(table, highlight=False)
