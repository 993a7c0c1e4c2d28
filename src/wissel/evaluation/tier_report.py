"""What a trained grader is worth on labels: figures, curves, held budgets, and a page that shows them.

grader + labels -> assessment (JSON) -> page (HTML, its plots in SVG, nothing loaded from elsewhere)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np

from wissel.core.tier import Budget, Grading, Tier, WinRate, begin, grade, observe
from wissel.tiers.artifact import Card, baseline, threshold_for
from wissel.tiers.base import Battles, Grader
from wissel.tiers.grading import calibrated
from wissel.tiers.metrics import (
    RECOVERED,
    Curve,
    Floats,
    call_performance,
    figures,
    oracle,
    relative_cost,
)

BASELINES = ("random", "length", "always_strong", "always_weak")
SHARES = (0.1, 0.2, 0.3, 0.5, 0.7)
"""Budgets whose holding is shown."""

POINTS = 101
"""Of a curve in the JSON."""


@dataclass(frozen=True)
class Held:
    """What became of a budget on one stream of win rates."""

    target: float
    fixed: float
    """The share with the threshold that calibration gave."""
    held: float
    """The share with that threshold moved online."""
    recovered: float
    """PGR with the moving threshold."""
    recovered_ideal: float
    """PGR with the best fixed threshold for that share, which nobody knows beforehand."""


def hold(win_rates: Floats, gain: Floats, card: Card, share: float, *, seed: int) -> Held:
    """Plays the stream, in random order, through the tier that serves traffic."""
    tier = calibrated(Tier("replay", "strong", "weak", Budget(share, 0.5, 0.01)), card)
    order = np.random.default_rng(seed).permutation(len(win_rates))
    ends = play(tier, win_rates[order])
    chosen = np.zeros(len(order), bool)
    chosen[order] = ends
    ideal = win_rates >= threshold_for(win_rates, share)
    return Held(
        target=share,
        fixed=float(np.mean(win_rates >= card.threshold(share))),
        held=float(chosen.mean()),
        recovered=float(gain[chosen].sum() / gain.sum()),
        recovered_ideal=float(gain[ideal].sum() / gain.sum()),
    )


def play(tier: Tier, win_rates: Sequence[float] | Floats) -> list[bool]:
    """Which of these requests go to the strong end, one after the other."""
    holder = begin(tier)
    ends: list[bool] = []
    for rate in win_rates:
        end = grade(tier, Grading(WinRate(float(rate)), holder.threshold), ("strong", "weak")).end
        ends.append(end == "strong")
        holder = observe(holder, tier, end)
    return ends


def assess(
    grader: Grader,
    card: Card,
    battles: Battles,
    *,
    seed: int = 0,
    prices: tuple[float, float] | None = None,
) -> dict[str, Any]:
    """Everything that is known of the grader on these battles, its strong model as a; `prices` are strong and weak."""
    ends = battles.ends
    win_rates = grader.win_rates(battles.prompts)
    others = {name: baseline(name).win_rates(battles.prompts) for name in BASELINES}
    others["oracle"] = oracle(ends)
    found = figures([(win_rates, ends)], seed=seed)
    curve = call_performance(win_rates, ends)
    assessment: dict[str, Any] = {
        "grader": card.kind,
        "prompts": len(battles),
        "quality": {"strong": round(float(ends.strong.mean()), 4), "weak": round(float(ends.weak.mean()), 4)},
        **found.as_json(),
        "baselines": {
            name: figures([(rates, ends)], seed=seed, resamples=200).as_json() for name, rates in others.items()
        },
        "curves": {
            name: _points(call_performance(rates, ends)) for name, rates in {card.kind: win_rates, **others}.items()
        },
        "budgets": [
            {name: round(value, 4) for name, value in vars(hold(win_rates, ends.gain, card, share, seed=seed)).items()}
            for share in (SHARES if card.quantiles else ())
        ],
    }
    if prices is not None:
        strong, weak = prices
        assessment["relative_cost"] = {
            str(percent): round(relative_cost(curve.cpt(percent / 100), strong=strong, weak=weak), 4)
            for percent in RECOVERED
        }
    return assessment


def _points(curve: Curve) -> list[float]:
    """PGR at shares of 0, 1, ..., 100 %."""
    return [round(curve.recovered_at(share), 4) for share in np.linspace(0, 1, POINTS)]


_WIDTH, _HEIGHT, _MARGIN = 640, 400, 50
_COLOURS = ("#1f6feb", "#8c959f", "#bf8700", "#d0d7de", "#d0d7de", "#1a7f37")


def page(assessment: Mapping[str, Any], *, title: str) -> str:
    """One HTML file that needs nothing else."""
    rows = [("this grader", assessment), *assessment["baselines"].items()]
    table = "".join(
        f"<tr><td>{escape(name)}</td><td>{each['apgr']:.3f}</td><td>{each['interval'][0]:.3f} to "
        f"{each['interval'][1]:.3f}</td><td>{each['apgr_ten_bins']:.3f}</td>"
        + "".join(f"<td>{100 * each['cpt'][str(percent)]:.1f} %</td>" for percent in RECOVERED)
        + "".join(f"<td>{each['cost_saving'][str(percent)]:.2f} ×</td>" for percent in RECOVERED)
        + "</tr>"
        for name, each in rows
    )
    budgets = "".join(
        f"<tr><td>{100 * each['target']:.0f} %</td><td>{100 * each['fixed']:.1f} %</td>"
        f"<td>{100 * each['held']:.1f} %</td>"
        f"<td>{each['recovered']:.3f}</td><td>{each['recovered_ideal']:.3f}</td></tr>"
        for each in assessment["budgets"]
    )
    held = (
        "<h2>Budgets on this data</h2><table><tr><th>share wanted</th><th>fixed threshold</th><th>moving threshold</th>"
        f"<th>PGR</th><th>PGR, ideal threshold</th></tr>{budgets}</table>"
        if budgets
        else ""
    )
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>
<style>body{{font:15px/1.5 system-ui,sans-serif;max-width:58rem;margin:2rem auto;padding:0 1rem;color:#1f2328}}
table{{border-collapse:collapse}}td,th{{padding:.25rem .75rem;text-align:right;border-bottom:1px solid #d0d7de}}
td:first-child,th:first-child{{text-align:left}}</style>
<h1>{escape(title)}</h1>
<p>{assessment["prompts"]} prompts; the strong model has {assessment["quality"]["strong"]:.3f},
the weak one {assessment["quality"]["weak"]:.3f}.</p>
{_plot(assessment["curves"])}
<table><tr><th>grader</th><th>APGR</th><th>95 %</th><th>ten bins</th>
{"".join(f"<th>CPT({percent})</th>" for percent in RECOVERED)}
{"".join(f"<th>saves at {percent} %</th>" for percent in RECOVERED)}</tr>{table}</table>
{held}
</html>
"""


def _plot(curves: Mapping[str, Sequence[float]]) -> str:
    top = max(1.0, *(value for curve in curves.values() for value in curve))
    bottom = min(0.0, *(value for curve in curves.values() for value in curve))

    def x(share: float) -> float:
        return _MARGIN + share * (_WIDTH - 2 * _MARGIN)

    def y(value: float) -> float:
        return _HEIGHT - _MARGIN - (value - bottom) / (top - bottom) * (_HEIGHT - 2 * _MARGIN)

    parts = [
        f'<line x1="{x(0)}" y1="{y(0)}" x2="{x(1)}" y2="{y(0)}" stroke="#1f2328"/>',
        f'<line x1="{x(0)}" y1="{y(bottom)}" x2="{x(0)}" y2="{y(top)}" stroke="#1f2328"/>',
        f'<line x1="{x(0)}" y1="{y(1)}" x2="{x(1)}" y2="{y(1)}" stroke="#d0d7de" stroke-dasharray="4"/>',
        f'<text x="{x(0.5)}" y="{_HEIGHT - 10}" text-anchor="middle">share of strong calls</text>',
        f'<text x="{x(0) - 8}" y="{y(1) + 5}" text-anchor="end">1</text>',
        f'<text x="{x(0) - 8}" y="{y(0) + 5}" text-anchor="end">0</text>',
        f'<text x="{x(0) + 6}" y="{_MARGIN - 12}">PGR</text>',
    ]
    for at, (name, curve) in enumerate(curves.items()):
        colour = _COLOURS[at % len(_COLOURS)]
        line = " ".join(f"{x(step / (len(curve) - 1)):.1f},{y(value):.1f}" for step, value in enumerate(curve))
        width, at_y = 3 if at == 0 else 1.5, y(bottom) - 20 * (len(curves) - at)
        parts += [
            f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="{width}"/>',
            f'<rect x="{x(0.72)}" y="{at_y}" width="12" height="4" fill="{colour}"/>',
            f'<text x="{x(0.72) + 18}" y="{at_y + 6}" font-size="12">{escape(name)}</text>',
        ]
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="call-performance curves">{"".join(parts)}</svg>'
    )
