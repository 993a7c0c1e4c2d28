"""How much of the strong model's quality a grader buys with how many strong calls.

All figures are read off one curve: prompts are sent to the strong model in the
order of their win rates, highest first, and after each the mean quality is
noted. Prompts with equal win rates are taken in random order; the expectation
over that order is a straight line, so the curve has one knot a distinct win
rate and every figure is exact.

PGR, APGR and CPT are equations 4, 5 and 6 of RouteLLM (arXiv 2406.18665).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

BINS = 10
"""As many as RouteLLM's repository cuts the win rates into."""

RECOVERED = (20, 50, 80)
"""Percent of the gap for which CPT is told."""

RESAMPLES = 1000
INTERVAL = (2.5, 97.5)
"""Percentiles: a 95 % interval."""


@dataclass(frozen=True)
class Ends:
    """How both models did on the same prompts."""

    strong: Floats
    """(n,): quality, higher is better; 1 or 0 where an answer is right or wrong."""
    weak: Floats

    def __post_init__(self) -> None:
        if self.strong.shape != self.weak.shape or self.strong.ndim != 1 or not len(self.strong):
            raise ValueError(f"strong {self.strong.shape} and weak {self.weak.shape} should be equally long lists")

    @property
    def gain(self) -> Floats:
        """(n,): what the strong model adds to each prompt."""
        return self.strong - self.weak

    @property
    def gap(self) -> float:
        """What it adds on average; PGR is a share of this."""
        return float(self.gain.mean())

    def take(self, rows: NDArray[np.intp]) -> "Ends":
        return Ends(self.strong[rows], self.weak[rows])


@dataclass(frozen=True)
class Curve:
    """Quality against the share of strong calls, from none to all; straight between the knots."""

    shares: Floats
    """(k,): rising from 0 to 1."""
    quality: Floats
    """(k,): the mean over all prompts."""

    @cached_property
    def recovered(self) -> Floats:
        """(k,): PGR at each knot: 0 is the weak model, 1 the strong one; more than 1 is possible."""
        weak, strong = self.quality[0], self.quality[-1]
        if strong == weak:
            raise ValueError("both models are equally good on these prompts, so there is no gap to recover")
        return (self.quality - weak) / (strong - weak)

    @property
    def apgr(self) -> float:
        """The area under PGR: a random grader has 0.5."""
        return _area(self.shares, self.recovered)

    @property
    def apgr_ten_bins(self) -> float:
        """The same as RouteLLM's repository computes it (`evaluate.py`), from the deciles of the win rates only.

        It is coarser: what lies between the knots is cut off, so the oracle of MMLU has 1.268 and not 1.285.
        """
        shares = np.linspace(0, 1, BINS + 1)
        return _area(shares, np.interp(shares, self.shares, self.recovered))

    def recovered_at(self, share: float) -> float:
        """PGR with this share of strong calls."""
        return float(np.interp(share, self.shares, self.recovered))

    def cpt(self, recovered: float) -> float:
        """The call-performance threshold: the smallest share of strong calls with this PGR; 1 at most."""
        reached = np.flatnonzero(self.recovered >= recovered)
        last = int(reached[0])
        if last == 0:
            return 0.0
        low, high = self.recovered[last - 1], self.recovered[last]
        part = (recovered - low) / (high - low)
        return float(self.shares[last - 1] + part * (self.shares[last] - self.shares[last - 1]))

    def saving(self, recovered: float) -> float:
        """How many times more strong calls a random grader needs for this PGR (the paper's cost saving ratio)."""
        share = self.cpt(recovered)
        return recovered / share if share else float("inf")


def call_performance(win_rates: Floats, ends: Ends) -> Curve:
    """The curve of a grader that gave these win rates, (n,)."""
    knots, cumulated = _tied(win_rates)
    gains = np.cumsum(ends.gain[cumulated])[knots]
    count = len(win_rates)
    shares = np.concatenate([[0.0], (knots + 1) / count])
    return Curve(shares, ends.weak.mean() + np.concatenate([[0.0], gains / count]))


def oracle(ends: Ends) -> Floats:
    """The win rates of a grader that knows the answers."""
    return ends.gain


def bootstrap_apgr(
    folds: Sequence[tuple[Floats, Ends]], *, seed: int, resamples: int = RESAMPLES
) -> tuple[float, float]:
    """The 95 % interval of the mean APGR of some folds, over prompts drawn again within each.

    A fold is the win rates that one grader gave and how both models did. Win rates of different graders
    are never put in one order: their levels differ by chance, and in small data that hides what they know.
    """
    rng = np.random.default_rng(seed)
    means = np.mean([_resampled(win_rates, ends, rng, resamples) for win_rates, ends in folds], axis=0)
    low, high = np.nanpercentile(means, INTERVAL)
    return float(low), float(high)


def _resampled(win_rates: Floats, ends: Ends, rng: np.random.Generator, resamples: int) -> Floats:
    """(resamples,): APGR; NaN where the strong model was not better in a resample."""
    knots, order = _tied(win_rates)
    gain = ends.gain[order]
    count = len(gain)
    found = np.full(resamples, np.nan)
    for at in range(resamples):
        times = np.bincount(rng.integers(0, count, count), minlength=count)
        gains = np.cumsum(times * gain)[knots]
        if gains[-1] > 0:
            shares = np.cumsum(times)[knots] / count
            found[at] = _area(np.append(0.0, shares), np.append(0.0, gains / gains[-1]))
    return found


@dataclass(frozen=True)
class Figures:
    """What is reported of one grader on one set of prompts."""

    apgr: float
    interval: tuple[float, float]
    """95 %, by bootstrap over prompts."""
    apgr_ten_bins: float
    cpt: Mapping[int, float]
    """Percent of the gap recovered to the share of strong calls."""
    saving: Mapping[int, float]
    """The same in times fewer strong calls than a random grader's."""

    def as_json(self) -> dict[str, Any]:
        return {
            "apgr": round(self.apgr, 4),
            "interval": [round(end, 4) for end in self.interval],
            "apgr_ten_bins": round(self.apgr_ten_bins, 4),
            "cpt": {str(percent): round(share, 4) for percent, share in self.cpt.items()},
            "cost_saving": {str(percent): round(times, 3) for percent, times in self.saving.items()},
        }


def figures(folds: Sequence[tuple[Floats, Ends]], *, seed: int, resamples: int = RESAMPLES) -> Figures:
    """The means over the folds; one grader on one set of prompts is one fold."""
    curves = [call_performance(win_rates, ends) for win_rates, ends in folds]
    return Figures(
        apgr=_mean(curve.apgr for curve in curves),
        interval=bootstrap_apgr(folds, seed=seed, resamples=resamples),
        apgr_ten_bins=_mean(curve.apgr_ten_bins for curve in curves),
        cpt={percent: _mean(curve.cpt(percent / 100) for curve in curves) for percent in RECOVERED},
        saving={percent: _mean(curve.saving(percent / 100) for curve in curves) for percent in RECOVERED},
    )


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


def relative_cost(share: float, *, strong: float, weak: float) -> float:
    """What traffic costs with this share of strong calls, as a part of what it costs with all; prices per call."""
    return share + (1 - share) * weak / strong


def _area(x: Floats, y: Floats) -> float:
    return float(np.trapezoid(y, x))


def _tied(win_rates: Floats) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Where each run of equal win rates ends, and the order that sorts them, highest first."""
    order = np.argsort(-win_rates, kind="stable")
    ordered = win_rates[order]
    knots = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))
    return knots, order
