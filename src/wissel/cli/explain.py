"""The reasoning behind one decision."""

import asyncio
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from wissel.cli._output import ConfigOption, JsonOption, honest_exits, out, print_json


def explain(
    config: ConfigOption,
    prompt: Annotated[str | None, typer.Argument(help="What the user says; not needed with --model or --body.")] = None,
    model: Annotated[str | None, typer.Option(help="The model that is asked for; auto if not given.")] = None,
    caller: Annotated[str | None, typer.Option("--as", help="Decide for the key with this id.")] = None,
    header: Annotated[list[str] | None, typer.Option("--header", "-H", help="name: value; may be repeated.")] = None,
    path: Annotated[str, typer.Option(help="The call's path.")] = "/v1/chat/completions",
    body: Annotated[Path | None, typer.Option(help="A file with the whole body; - for standard input.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Show which model a request would get, and the whole reasoning; exit 1 if it would be refused."""
    from wissel.admin.views import decision_view
    from wissel.offline.dry import explain as decide

    if body is not None and (prompt is not None or model is not None):
        raise typer.BadParameter("--body says both the model and the prompt; give neither beside it")
    if body is None and prompt is None and model is None:
        raise typer.BadParameter("give a prompt, --model or --body")
    if body is not None:
        content = _read_body(body)
    else:
        messages = [] if prompt is None else [{"role": "user", "content": prompt}]
        content = json.dumps({"model": model or "auto", "messages": messages}).encode()
    with honest_exits():
        decision = asyncio.run(decide(config, headers=_headers(header or []), body=content, caller=caller, call=path))
    view = decision_view(decision)
    if as_json:
        print_json(view)
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
        ("principal", str), ("route", str), ("intent", _intent_line), ("pin", _pin_line), ("scores", _scores_line),
        ("rules", ", ".join), ("shadow_rules", ", ".join), ("target", str), ("tier", _tier_line),
        ("split", str), ("key", _key_line),
        ("bucket", str), ("variant", str), ("reason", str), ("model", str), ("upstream_model", str),
        ("cluster", str), ("plan", _plan_line), ("left_out", _unable_line), ("unable", _unable_line),
        ("models", ", ".join), ("revision", str),
    ]  # fmt: skip
    for name, line in shown:
        value = view.get(name)
        if value not in (None, [], {}, "") and (text := line(value)):
            table.add_row(name.replace("_", " "), text)
    out.print(table, markup=False, highlight=False)


def _intent_line(intent: dict[str, Any]) -> str:
    by = f" by {intent['classifier']}" if intent["classifier"] else ""
    # Nothing that is estimated is certain, whatever rounding makes of it.
    sure = "" if intent["confidence"] is None else f", {min(99, 100 * intent['confidence']):.0f}% sure"
    return f"{intent['reason']}{by}{_score_words(intent)}{sure}{': ' + intent['detail'] if intent['detail'] else ''}"


def _score_words(intent: dict[str, Any]) -> str:
    score, threshold, second = intent["score"], intent["threshold"], intent["runner_up"]
    if score is None:
        return ""
    if score < threshold:
        return f", the best score {score} is below threshold {threshold}"
    near = ""
    if second is not None:
        near = (
            f", {second['behind']} ahead of {second['route']}"
            if second["behind"]
            else f", level with {second['route']}"
        )
    return f", score {score} against threshold {threshold}{near}"


def _pin_line(pin: dict[str, Any]) -> str:
    return f"the session in {pin['header']} keeps this route until it is silent for {pin['keep_seconds']:g} seconds"


def _tier_line(tier: dict[str, Any]) -> str:
    rate = "no win rate" if tier["win_rate"] is None else f"win rate {tier['win_rate']}"
    return f"{tier['name']} -> {tier['end']} ({tier['reason']}): {rate} against threshold {tier['threshold']}"


def _scores_line(scores: dict[str, float]) -> str:
    return "  ".join(f"{route} {score:.3f}" for route, score in list(scores.items())[:8])


def _key_line(key: dict[str, str]) -> str:
    return f"{key['source']} = {key['value']}"


def _plan_line(plan: list[dict[str, str]]) -> str:
    """Nothing where the model is all of it."""
    return " > ".join(each["model"] for each in plan) if len(plan) > 1 else ""


def _unable_line(unable: list[dict[str, str]]) -> str:
    return "; ".join(f"{each['model']} {each['why']}" for each in unable)
