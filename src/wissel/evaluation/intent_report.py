"""An evaluation as one HTML page that needs nothing else: tables, and plots drawn as SVG."""

from collections.abc import Callable, Iterable, Sequence
from html import escape
from typing import Any

from wissel.evaluation.figures import percentile
from wissel.evaluation.intent import Evaluation

SIDE, EDGE = 300, 40
"""Of a plot, and of what its axis takes, in pixels."""

STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1c2733;background:#fff}
table{border-collapse:collapse;margin:1rem 0}td,th{padding:.2rem .8rem;border-bottom:1px solid #d5dbe1;text-align:left}
td.n{text-align:right;font-variant-numeric:tabular-nums}figure{display:inline-block;margin:0 1rem 1rem 0}
svg text{font:11px system-ui,sans-serif;fill:#55606b}.bar{background:#2f6f9f;height:.7rem;display:inline-block}
@media(prefers-color-scheme:dark){body{color:#dde3e9;background:#12181e}td,th{border-color:#333d47}}
"""

TROUBLES = 3
"""That are told in words; the JSON has all."""

Point = tuple[float, float]


def render(found: Evaluation) -> str:
    """The page."""
    view = found.view()
    plots = [
        _plot("How sure, and how often right", "confidence", "accuracy", _reliability(found), dots=True),
        _plot("How long rows took", "share of rows", f"of {max(found.milliseconds):.1f} ms", _latency(found)),
    ]
    if all(found.other_scores):
        plots.insert(1, _plot("Finding what belongs to no route", "false alarms", "found", _roc(found)))
    body = [
        f"<h1>Intent: {escape(found.classifier)}, revision {escape(found.revision)}</h1>",
        _table(("figure", "value"), _summary(view)),
        *plots,
        "<h2>Routes</h2>",
        _table(("route", "precision", "recall", "F1", "rows", ""), _routes(view)),
        "<h2>Confusions</h2>",
        _table(("is", "taken for", "rows", "said", "nearest phrases: right, wrong"), _confusions(view)),
        *([f"<p>and {found.untold} more rows, of rarer confusions</p>"] if found.untold else []),
    ]
    head = f'<meta charset="utf-8"><title>wissel eval</title><style>{STYLE}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(body)}</body></html>\n'


def summary(view: dict[str, Any]) -> list[tuple[str, str]]:
    """The figures that matter, as text; those that the data cannot give are left out."""
    shares = {
        "accuracy": view["accuracy"],
        "whole conversations": view["conversation_accuracy"],
        "macro F1": view["macro_f1"],
        "other, AUROC": view["other_auroc"],
        "other, found at 5 % false alarms": view["other_recall"]["recall"],
        "calibration error": view["calibration_error"],
        "baseline: the commonest route": view["baselines"]["majority"],
        "baseline: the last turn only": view["baselines"]["last_turn"],
        "later than the deadline": view["late"],
    }
    latency = ", ".join(f"{name} {value:.1f}" for name, value in view["latency_ms"].items())
    answered = ", ".join(f"{name} {count}" for name, count in view["answered_by"].items())
    return [
        ("rows", str(view["count"])),
        *((name, f"{value:.3f}") for name, value in shares.items() if value is not None),
        ("milliseconds", latency),
        *([("answered by", answered)] if len(view["answered_by"]) > 1 else []),
        *([("failed", str(view["failed"]))] if view["failed"] else []),
        *((f"trouble ({count})", what) for what, count in list(view["troubles"].items())[:TROUBLES]),
    ]


def _summary(view: dict[str, Any]) -> list[tuple[str, ...]]:
    return [(escape(name), escape(value)) for name, value in summary(view)]


def _routes(view: dict[str, Any]) -> list[tuple[str, ...]]:
    return [
        (
            escape(name),
            *(f"{each[column]:.3f}" for column in ("precision", "recall", "f1")),
            str(each["support"]),
            f'<span class="bar" style="width:{100 * each["f1"]:.0f}px"></span>',
        )
        for name, each in view["routes"].items()
    ]


def _confusions(view: dict[str, Any]) -> list[tuple[str, ...]]:
    return [
        (
            escape(each["wanted"]),
            escape(each["predicted"]),
            str(each["count"]),
            "<br>".join(escape(message[:200]) for message in each["messages"]),
            "<br>".join(f"{escape(right)} | {escape(wrong)}" for right, wrong in each["phrases"]),
        )
        for each in view["confusions"]
    ]


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    def cell(text: str) -> str:
        number = text.replace(".", "", 1).isdigit()
        return f'<td class="n">{text}</td>' if number else f"<td>{text}</td>"

    lines = "".join(f"<tr>{''.join(map(cell, row))}</tr>" for row in rows)
    return f"<table><tr>{''.join(f'<th>{name}</th>' for name in head)}</tr>{lines}</table>"


def _reliability(found: Evaluation) -> list[Point]:
    return [(each.confidence, each.accuracy) for each in found.bins]


def _roc(found: Evaluation) -> list[Point]:
    positives, negatives = found.other_scores
    limits = [percentile(negatives, 1 - step / 50) for step in range(50)]
    return [
        (0.0, 0.0),
        *((_above(negatives, limit), _above(positives, limit)) for limit in limits),
        (1.0, 1.0),
    ]


def _latency(found: Evaluation) -> list[Point]:
    slowest = max(found.milliseconds)
    return [(step / 50, percentile(found.milliseconds, step / 50) / slowest) for step in range(1, 51)]


def _above(scores: Sequence[float], limit: float) -> float:
    return sum(score > limit for score in scores) / len(scores)


def _plot(title: str, across: str, up: str, points: Sequence[Point], *, dots: bool = False) -> str:
    """Both axes go from 0 to 1."""
    inner = SIDE - EDGE

    def place(point: Point) -> str:
        return f"{EDGE + point[0] * (inner - 10):.1f},{10 + (1 - point[1]) * (inner - 10):.1f}"

    mark: Callable[[Point], str] = lambda point: (  # noqa: E731  a name for what is drawn
        '<circle r="3.5" fill="#2f6f9f" cx="{}" cy="{}"/>'.format(*place(point).split(","))
    )
    line = f'<polyline fill="none" stroke="#2f6f9f" stroke-width="2" points="{" ".join(map(place, points))}"/>'
    axes = f'<path d="M{EDGE},10V{inner}H{SIDE - 10}" fill="none" stroke="#8a949e"/>'
    words = (
        f'<text x="{EDGE}" y="{SIDE - 22}">0</text><text x="{SIDE - 16}" y="{SIDE - 22}">1</text>'
        f'<text x="{SIDE / 2}" y="{SIDE - 8}">{escape(across)}</text>'
        f'<text transform="translate(14,{SIDE / 2}) rotate(-90)">{escape(up)}</text>'
    )
    drawing = f"{axes}{line}{''.join(map(mark, points)) if dots else ''}{words}"
    size = f'viewBox="0 0 {SIDE} {SIDE}" width="{SIDE}" height="{SIDE}"'
    return f'<figure><figcaption>{escape(title)}</figcaption><svg {size} role="img">{drawing}</svg></figure>'
