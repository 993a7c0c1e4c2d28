"""Tests that may be looked at whenever one likes.

Each compares two arms, canary and stable, over traffic of the same time, and
keeps its promise however often it is read: the chance of ever rejecting a true
hypothesis is at most α.

- Rates: a block e-process (arXiv 2106.02693, 2203.09785), exact at any count
  and free to drift between blocks. It is a bet against the hypothesis that on
  average can only lose if the hypothesis is true; E is what one unit has
  become, and E ≥ 1/α rejects. The bet is spread over a grid of alternatives,
  each weighed against the point of the hypothesis that explains it best. It
  holds for scores in [0, 1] too: exp is convex, so a fraction of an event is
  worth no more than that share of the chance of a whole one.
- Means: an asymptotic confidence sequence (arXiv 2103.06476).
- The sample ratio: a beta-binomial Bayes factor (arXiv 2011.03567).
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

Direction = Literal["increase", "decrease"]
"""Which way is worse: an error rate by its increase, thumbs up by their decrease."""

Claim = Literal["worse", "no_worse"]
"""What a rejection shows: that the canary is worse by more than the margin, or that it is not."""

MEAN_REQUESTS = 500
"""Canary observations at which a mean's confidence sequence is tightest, and from which it was checked."""

SAMPLE_RATIO_EVIDENCE = 1000.0
"""From this Bayes factor on the arms do not have the sizes that were set."""

_RATIOS = (1.25, 1.5, 2.0, 3.0, 5.0, 10.0)
_HIGHEST_RATE = 0.98
_SAMPLE_RATIO_PRIOR = 100.0
_PRECISION = 1e-15


def _log_spaced(count: int) -> tuple[float, ...]:
    return tuple(0.0002 * 2500 ** (i / (count - 1)) for i in range(count))


_WORSE_RATES = _log_spaced(14)
_NO_WORSE_RATES = _log_spaced(30)


@dataclass(frozen=True, slots=True)
class Block:
    """What came in between two looks: observations of each arm, and how many were events.

    The sizes must not depend on the outcomes; events may be fractions (scores in [0, 1]).
    """

    canary: float = 0
    canary_events: float = 0.0
    stable: float = 0
    stable_events: float = 0.0

    def __sub__(self, earlier: "Block") -> "Block":
        return Block(
            self.canary - earlier.canary,
            self.canary_events - earlier.canary_events,
            self.stable - earlier.stable,
            self.stable_events - earlier.stable_events,
        )

    @property
    def swapped(self) -> "Block":
        """The same block seen from stable: is stable the worse one?"""
        return Block(self.stable, self.stable_events, self.canary, self.canary_events)


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """A bound on how much worse the canary's rate is than stable's, which a test tries to reject."""

    claim: Claim = "worse"
    direction: Direction = "increase"
    margin: float = 0.0
    """How much worse is still allowed: of the rate itself, or as a share of stable's rate."""
    relative: bool = False

    @property
    def line(self) -> tuple[float, float]:
        """(slope, offset) of its edge c = slope·s + offset, in rates of what is bad."""
        if not self.relative:
            return 1.0, self.margin
        if self.direction == "increase":
            return 1.0 + self.margin, 0.0
        # Good rates may fall to (1 − x)·g_s; bad ones, 1 − g, then lie on this line.
        return 1.0 - self.margin, self.margin


def alternatives(hypothesis: Hypothesis) -> Iterator[tuple[float, float]]:
    """Pairs of bad rates (canary, stable) that the test bets on."""
    match hypothesis.claim, hypothesis.direction:
        case "worse", "increase":
            slope, offset = hypothesis.line
            pairs = (((slope * s + offset) * ratio, s) for s in _WORSE_RATES for ratio in _RATIOS)
            yield from ((c, s) for c, s in pairs if c <= _HIGHEST_RATE)
        case "worse", "decrease":
            margin = hypothesis.margin
            least = ((g * (1 - margin) if hypothesis.relative else g - margin, g) for g in _WORSE_RATES)
            yield from ((1 - allowed / ratio, 1 - g) for allowed, g in least if allowed > 0 for ratio in _RATIOS)
        case "no_worse", "increase":
            yield from ((c, s) for s in _NO_WORSE_RATES for c in (s, 0.7 * s))
        case "no_worse", "decrease":
            yield from ((1 - g_c, 1 - g) for g in _NO_WORSE_RATES for g_c in (g, g / 0.7) if g_c <= _HIGHEST_RATE)


def null_point(canary: float, stable: float, share: float, line: tuple[float, float]) -> tuple[float, float]:
    """The (c, s) on `line` that explains the alternative rates best, where `share` of the block is canary.

    It minimises share·KL(canary‖c) + (1 − share)·KL(stable‖s); there the slope of
    that sum is zero, and it lies between the points that fit either arm alone.
    """
    slope, offset = line
    if line == (1.0, 0.0):
        pooled = share * canary + (1 - share) * stable
        return pooled, pooled

    def rising(s: float) -> float:
        c = slope * s + offset
        return share * slope * (c - canary) * s * (1 - s) + (1 - share) * (s - stable) * c * (1 - c)

    low, high = sorted((stable, (canary - offset) / slope))
    s = _root(rising, max(low, 0.0), min(high, 1.0, (1 - offset) / slope))
    return slope * s + offset, s


def _root(f: Callable[[float], float], low: float, high: float) -> float:
    """Where `f`, negative at `low` and positive at `high`, is zero: false position, as Illinois mends it."""
    f_low, f_high = f(low), f(high)
    side = 0
    while high - low > _PRECISION * high:
        x = (low * f_high - high * f_low) / (f_high - f_low)
        if not low < x < high:
            return x
        at = f(x)
        if at > 0:
            high, f_high = x, at
            # An end that stays put twice counts half, or it would never move.
            f_low, side = (f_low / 2 if side > 0 else f_low), 1
        elif at < 0:
            low, f_low = x, at
            f_high, side = (f_high / 2 if side < 0 else f_high), -1
        else:
            return x
    return (low + high) / 2


@lru_cache(maxsize=128)
def _stakes(hypothesis: Hypothesis, share: float) -> tuple[tuple[float, float, float, float], ...]:
    """What each alternative wins per bad and good canary, bad and good stable observation."""
    stakes: list[tuple[float, float, float, float]] = []
    for canary, stable in alternatives(hypothesis):
        c, s = null_point(canary, stable, share, hypothesis.line)
        stakes.append(
            (
                math.log(canary / c),
                math.log((1 - canary) / (1 - c)),
                math.log(stable / s),
                math.log((1 - stable) / (1 - s)),
            )
        )
    return tuple(stakes)


@dataclass(frozen=True, slots=True)
class EProcess:
    """The bets of one test so far."""

    hypothesis: Hypothesis
    ln_e: tuple[float, ...] = ()
    """Of every alternative; empty before the first block."""
    peak: float = 0.0
    """The greatest ln E at any look: evidence once seen is not lost again."""

    def after(self, block: Block) -> "EProcess":
        """The bets after one more block; one that lacks an arm says nothing."""
        if block.canary <= 0 or block.stable <= 0:
            return self
        return EProcess(self.hypothesis, self._staked(block), self.peak)

    def judged(self, design_effect: float = 1.0) -> "EProcess":
        """The same bets, looked at: only now may they reject.

        All evidence is divided by `design_effect`, the factor by which
        observations that share a key overstate how much is known.
        """
        # The mean is below the greatest, which most looks at a healthy canary need not go beyond.
        if not self.ln_e or max(self.ln_e) <= self.peak * design_effect:
            return self
        return EProcess(self.hypothesis, self.ln_e, max(self.peak, ln_mean(self.ln_e, design_effect)))

    def _staked(self, block: Block) -> tuple[float, ...]:
        stakes = _stakes(self.hypothesis, block.canary / (block.canary + block.stable))
        bad_c, bad_s = block.canary_events, block.stable_events
        good_c, good_s = block.canary - bad_c, block.stable - bad_s
        if self.hypothesis.direction == "decrease":
            bad_c, good_c, bad_s, good_s = good_c, bad_c, good_s, bad_s
        before = self.ln_e or (0.0,) * len(stakes)
        return tuple(
            [
                ln_e + bad_c * per_bad_c + good_c * per_good_c + bad_s * per_bad_s + good_s * per_good_s
                for ln_e, (per_bad_c, per_good_c, per_bad_s, per_good_s) in zip(before, stakes, strict=True)
            ]
        )

    @property
    def p_value(self) -> float:
        """Always-valid: at most α with chance at most α, at whatever look it is read."""
        return math.exp(-self.peak)

    def rejects(self, alpha: float) -> bool:
        return self.peak >= -math.log(alpha)


def ln_mean(ln_e: tuple[float, ...], divisor: float = 1.0) -> float:
    """ln of the mean of exp(ln_e / divisor)."""
    top, exp = max(ln_e), math.exp
    return top / divisor + math.log(sum([exp((x - top) / divisor) for x in ln_e]) / len(ln_e))


def mean_margin(variance: float, canary: float, alpha: float) -> float:
    """How far the estimate of a difference may be off, one-sided, at every look (arXiv 2103.06476, eq. 134).

    `variance` is the estimate's own, v_c/n_c + v_s/n_s; `canary` its number of
    canary observations. In the paper's terms N·ρ² is c·canary/500, since ρ² = c/N* and N* = 500/share.
    """
    ln_2a = math.log(2 * alpha)
    time = canary / MEAN_REQUESTS * (-2 * ln_2a + math.log(1 - 2 * ln_2a))
    return math.sqrt(variance * 2 * (1 + 1 / time) * math.log(1 + math.sqrt(time + 1) / (2 * alpha)))


def ln_sample_ratio(canary: int, stable: int, share: float) -> float:
    """ln of the evidence that the canary's share of keys is not the one that was set."""
    a, b = _SAMPLE_RATIO_PRIOR, _SAMPLE_RATIO_PRIOR * (1 - share) / share
    expected = canary * math.log(share) + stable * math.log(1 - share)
    return _ln_beta(a + canary, b + stable) - _ln_beta(a, b) - expected


def _ln_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


@dataclass(frozen=True, slots=True)
class Stratum:
    """The means of both arms over one step; steps are compared within, never across."""

    canary: float
    """Observations."""
    canary_mean: float
    canary_variance: float
    """Of the mean itself."""
    stable: float
    stable_mean: float
    stable_variance: float


@dataclass(frozen=True, slots=True)
class MeanContrast:
    """How much worse the canary's mean is, over all steps, each weighed by n_c·n_s/(n_c + n_s)."""

    strata: tuple[Stratum, ...]
    direction: Direction = "increase"
    design_effect: float = 1.0

    @property
    def canary(self) -> float:
        return sum(stratum.canary for stratum in self.strata)

    def worse_by_more_than(self, margin: float, alpha: float, *, relative: bool) -> bool:
        """Whether the whole one-sided interval lies beyond the margin."""
        estimate, off = self._estimate(margin, alpha, relative=relative)
        return estimate - off > 0

    def worse_by_less_than(self, margin: float, alpha: float, *, relative: bool) -> bool:
        """Whether it lies short of the margin: proof that the canary is no worse."""
        estimate, off = self._estimate(margin, alpha, relative=relative)
        return estimate + off < 0

    def interval(self, alpha: float, *, relative: bool) -> tuple[float, float]:
        """The differences canary − stable, or their share of stable's mean, that neither test rejects."""
        ends: list[float] = []
        for side in (-1, 1):
            low, high = (-1.0, 100.0) if relative else self._span()
            for _ in range(60):
                middle = (low + high) / 2
                estimate, off = self._difference(middle, alpha, relative=relative)
                low, high = (middle, high) if estimate + side * off > 0 else (low, middle)
            ends.append((low + high) / 2)
        return ends[0], ends[1]

    def _estimate(self, margin: float, alpha: float, *, relative: bool) -> tuple[float, float]:
        if self.direction == "increase":
            return self._difference(margin, alpha, relative=relative)
        estimate, off = self._difference(-margin, alpha, relative=relative)
        return -estimate, off

    def _difference(self, shift: float, alpha: float, *, relative: bool) -> tuple[float, float]:
        """Of canary − stable beyond `shift`: the estimate and its margin."""
        scale, offset = (1 + shift, 0.0) if relative else (1.0, shift)
        total = estimate = variance = 0.0
        for each in self.strata:
            weight = each.canary * each.stable / (each.canary + each.stable)
            total += weight
            estimate += weight * (each.canary_mean - scale * each.stable_mean - offset)
            variance += weight**2 * (each.canary_variance + scale**2 * each.stable_variance)
        off = mean_margin(variance * self.design_effect / total**2, self.canary, alpha)
        return estimate / total, off

    def _span(self) -> tuple[float, float]:
        widest = max(abs(each.canary_mean) + abs(each.stable_mean) for each in self.strata)
        spread = max(math.sqrt(each.canary_variance + each.stable_variance) for each in self.strata)
        reach = widest + 100 * math.sqrt(self.design_effect) * spread
        return -reach, reach
