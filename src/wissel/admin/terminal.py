"""Standings, as JSON has them, become what a terminal shows."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

View = dict[str, Any]

_PHASES: Final = {"healthy": "green", "progressing": "cyan", "paused": "yellow", "degraded": "red"}
_JUDGEMENTS: Final = {"pass": "green", "fail": "red", "no_data": "yellow", "inconclusive": "yellow", "waiting": "dim"}
_BAR: Final = 20


def standings_table(standings: Iterable[View]) -> Table:
    """One line for each rollout."""
    table = _table("rollout", "phase", "step", "set", "actual", "from", "to", "why")
    for each in standings:
        table.add_row(
            escape(each["name"]),
            _coloured(each["phase"], _PHASES),
            f"{each['step']}/{len(each['steps'])}",
            f"{each['set_weight']} %",
            _percent(each["actual_weight"]),
            escape(each["stable"]),
            escape(each["canary"]),
            escape(each["reason"]),
        )
    return table


def standing_tree(standing: View) -> Tree:
    """Where one rollout stands: its steps, its weight, its arms and what each metric says."""
    phase = f"{_coloured(standing['phase'], _PHASES)}"
    tree = Tree(
        f"[bold]{escape(standing['name'])}[/]  {phase}  {escape(standing['stable'])} → {escape(standing['canary'])}"
        f"  {_revision(standing)}"
    )
    if standing["reason"]:
        tree.add(escape(standing["reason"]))
    filled = round(_BAR * standing["set_weight"] / 100)
    bar = f"[cyan]{'━' * filled}[/][dim]{'━' * (_BAR - filled)}[/]"
    actual = "" if standing["actual_weight"] is None else f", actual {_percent(standing['actual_weight'])}"
    tree.add(f"weight  {bar}  set {standing['set_weight']} %{actual}")
    steps = tree.add("steps")
    is_over = standing["phase"] in {"healthy", "degraded"}
    for number, step in enumerate(standing["steps"]):
        mark = "[green]✓[/]" if number < standing["step"] else " "
        mark = "[cyan]▶[/]" if number == standing["step"] and not is_over else mark
        steps.add(f"{mark} {escape(step_line(step))}")
    if standing["arms"]:
        tree.add(_arms_table(standing["arms"]))
    if standing["mixed"]:
        tree.add(_mixed_line(standing["mixed"]))
    if standing["metrics"] and standing["callers"] < standing["callers_needed"]:
        tree.add(_callers_line(standing))
    if standing["metrics"]:
        tree.add(_metrics_table(standing["metrics"]))
    return tree


def _revision(view: View) -> str:
    return f"[dim]revision {escape(view['revision'])}[/]"


def step_line(step: View) -> str:
    """`set_weight 10`, `pause 600 s`, `analysis`."""
    match step:
        case {"set_weight": weight}:
            return f"set_weight {weight}"
        case {"pause": {"duration": duration}}:
            return f"pause {duration:g} s"
        case {"pause": _}:
            return "pause until promoted"
        case {"analysis": {"duration": duration, "proof": proof}}:
            return f"analysis{f' {duration:g} s' if duration else ''}{f', proof {proof}' if proof else ''}"
        case _:
            return str(step)


def _arms_table(arms: View) -> Table:
    table = _table("arm", "requests", "errors", "keys")
    for name, arm in arms.items():
        table.add_row(escape(name), *(str(arm[what]) for what in ("requests", "errors", "keys")))
    return table


def _mixed_line(mixed: int) -> str:
    return f"[dim]left out: {mixed} requests that another arm served than the one they were assigned to[/]"


def _callers_line(standing: View) -> str:
    few, needed = standing["callers"], standing["callers_needed"]
    return f"[dim]callers: {few} that matter; below {needed} one of them may be all the evidence[/]"


def _metrics_table(readings: Iterable[View]) -> Table:
    table = _table("metric", "canary", "stable", "difference", "verdict", "")
    for each in readings:
        unit = each["limit"]["unit"]
        notes = [each["note"]] if each["note"] else []
        notes += ["dry run"] if each["dry_run"] else []
        table.add_row(
            escape(each["metric"]),
            _value(unit, each["canary"]),
            _value(unit, each["stable"]),
            _interval(unit, each["change"], is_relative=each["is_relative"]),
            _coloured(each["judgement"], _JUDGEMENTS),
            escape(", ".join(notes)),
        )
    return table


def history_table(entries: Iterable[View]) -> Table:
    """The audit trail, the newest first."""
    table = _table("when", "what", "who", "weight", "why")
    for each in entries:
        when = datetime.fromtimestamp(each["at"], UTC).strftime("%Y-%m-%d %H:%M:%SZ")
        weight = each["detail"].get("weight")
        shown = "" if weight is None else f"{weight} %"
        table.add_row(when, escape(each["kind"]), escape(each["by"]), shown, escape(each["reason"]))
    return table


def experiments_table(experiments: Iterable[View]) -> Table:
    """One line for each variant of each split."""
    table = _table("split", "variant", "weight", "requests", "errors", "keys")
    for each in experiments:
        for name, weight in each["weights"].items():
            arm = each["arms"].get(name, {"requests": 0, "errors": 0, "keys": 0})
            counts = (str(arm[what]) for what in ("requests", "errors", "keys"))
            table.add_row(escape(each["name"]), escape(name), str(weight), *counts)
    return table


def experiment_tree(experiment: View) -> Tree:
    """Each variant against the first."""
    tree = Tree(f"[bold]{escape(experiment['name'])}[/]  base {escape(experiment['base'])}  {_revision(experiment)}")
    tree.add(experiments_table([experiment]))
    if experiment["mixed"]:
        tree.add(_mixed_line(experiment["mixed"]))
    for contrast in experiment["contrasts"]:
        branch = tree.add(f"[bold]{escape(contrast['variant'])}[/] against {escape(experiment['base'])}")
        if contrast["sample_ratio_mismatch"]:
            branch.add("[red]sample ratio mismatch[/]: the variants do not get their shares of keys; believe nothing")
        table = _table("metric", contrast["variant"], experiment["base"], "interval", "difference", "")
        for each in contrast["metrics"]:
            unit = each["unit"]
            table.add_row(
                each["metric"],
                _value(unit, each["variant"]),
                _value(unit, each["base"]),
                _interval(unit, each["change"], is_relative=each["is_relative"]),
                each["difference"],
                escape(each["note"]),
            )
        branch.add(table)
    return tree


def side_by_side(standings: Iterable[View]) -> RenderableType:
    """Several rollouts, one above the other."""
    return Group(*(part for each in standings for part in (standing_tree(each), Text())))


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in columns:
        table.add_column(name)
    return table


def _coloured(word: str, colours: dict[str, str]) -> str:
    return f"[{colours.get(word, 'default')}]{escape(word)}[/]"


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{share:g} %"


def _value(unit: str, value: float | None) -> str:
    if value is None:
        return "–"
    if unit == "share":
        return f"{100 * value:.2f} %"
    if unit == "s":
        return f"{value:.2f} s" if value >= 1 else f"{1000 * value:.0f} ms"
    return f"{value:.4g}"


def _interval(unit: str, change: list[float | None], *, is_relative: bool) -> str:
    if change == [None, None]:
        return ""
    low, high = (_end(unit, end, is_relative=is_relative) for end in change)
    return f"{low or '?'} … {high or '?'}"


def _end(unit: str, end: float | None, *, is_relative: bool) -> str:
    if end is None:
        return ""
    if is_relative:
        return f"{100 * end:+.0f} %"
    return f"{100 * end:+.2f} pp" if unit == "share" else f"{end:+.4g}"
