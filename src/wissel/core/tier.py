"""Strong or weak, by predicted win rate, within a budget that holds.

A grader predicts how often the strong model answers better; at or above the
threshold a request goes to the strong end. A threshold that was calibrated on
one traffic means nothing on another (50 % strong on one became 2 % on the
next), so a tier with a budget moves its threshold a little after each request:

    threshold += step × (1 if the request went to the strong end, else 0) - step × share

This is stochastic descent on the quantile loss, and its sum telescopes: over n
requests the realised share differs from the budget by exactly the way that the
threshold went, divided by n × step (adaptive conformal inference, Gibbs and
Candès 2021, proposition 4.1). It assumes nothing about the traffic. Every
replica runs it on its own requests; where each holds the share, all do.

A tier that learns leaves a small share of its requests to a fair coin instead:
only where either end could have served does an answer say how the two compare.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal

from wissel.core.split import bucket

Strength = Literal["strong", "weak"]

TierReason = Literal["threshold", "explored", "only_end", "late", "failed", "empty"]
"""Why an end was chosen: by the threshold, by a coin, because the other cannot serve, or without a win rate."""

_COINS: Final = 1_000_000
"""Points of the line on which a request's coin lies, for each side."""


@dataclass(frozen=True, slots=True)
class Budget:
    """How large a part of the requests the strong end may have, and how the threshold is held to it."""

    share: float
    """Of the requests that both ends could serve, between 0 and 1."""
    start: float
    """The threshold to begin with, from calibration."""
    step: float
    """The most that one request moves the threshold; 0.3 of the spread of win rates is fast, and costs no quality."""
    lowest: float = 0.0
    highest: float = 1.0
    """The threshold never leaves these limits, whatever the share is then."""

    def __post_init__(self) -> None:
        if not (0 < self.share < 1 and self.step > 0 and self.lowest <= self.start <= self.highest):
            raise ValueError(f"not a budget that can be held: {self}")


@dataclass(frozen=True, slots=True)
class Learning:
    """What a tier keeps of live traffic, for its grader to be trained again."""

    explore: float
    """The share of its requests whose end a coin chooses; those are what is kept."""
    prompts: bool = False
    """Whether what was asked is kept."""
    keep: float = 30 * 86_400.0
    """Seconds for which a request is kept."""
    most: int = 100_000
    """Requests that are kept, about; the oldest go first."""


@dataclass(frozen=True, slots=True)
class Tier:
    """Two targets, of which the better and dearer one is for hard requests."""

    name: str
    strong: str
    """A model, split or rollout."""
    weak: str
    policy: Budget | float
    """A budget to hold, or a threshold that stays."""
    fallback: Strength = "strong"
    """Where a request goes whose win rate is not known."""
    deadline: float = 0.15
    """Seconds that a request waits for its win rate."""
    learning: Learning | None = None
    """None where nothing is kept, and nothing left to a coin."""

    @property
    def ends(self) -> tuple[tuple[Strength, str], ...]:
        return ("strong", self.strong), ("weak", self.weak)


@dataclass(frozen=True, slots=True)
class WinRate:
    """How likely the strong model's answer is the better one, ties counted half."""

    value: float
    grader: str = ""
    """Which kind of grader spoke."""


@dataclass(frozen=True, slots=True)
class NoWinRate:
    """The grader gave no answer; `reason` says why."""

    reason: Literal["late", "failed", "empty"]
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Grading:
    """What is known of a request before its end is chosen."""

    rate: WinRate | NoWinRate
    threshold: float
    coin: Strength | None = None
    """What a coin says; None for a request that the threshold decides."""


@dataclass(frozen=True, slots=True)
class Graded:
    """The end that a request takes, and why."""

    tier: str
    end: Strength
    reason: TierReason
    threshold: float
    win_rate: float | None = None
    grader: str = ""
    detail: str = ""

    @property
    def is_evidence(self) -> bool:
        """Whether the budget counts it: only a choice between both ends does, whoever made it."""
        return self.reason in {"threshold", "explored"}


def grade(tier: Tier, grading: Grading, able: Collection[Strength]) -> Graded:
    """The end for a request that the ends in `able` could serve; there is at least one."""
    rate, threshold = grading.rate, grading.threshold
    grader = rate.grader if isinstance(rate, WinRate) else ""
    value = rate.value if isinstance(rate, WinRate) else None
    if len(able) == 1:
        return Graded(tier.name, next(iter(able)), "only_end", threshold, value, grader)
    match rate:
        case NoWinRate(reason, detail):
            return Graded(tier.name, tier.fallback, reason, threshold, detail=detail)
        case WinRate() if grading.coin is not None:
            return Graded(tier.name, grading.coin, "explored", threshold, value, grader)
        case WinRate():
            end: Strength = "strong" if rate.value >= threshold else "weak"
            return Graded(tier.name, end, "threshold", threshold, value, grader)


def toss(tier: Tier, request_id: str) -> Strength | None:
    """The end that a fair coin chose for this request; None for those that are none of the share to explore.

    The coin is the hash of the request's id, which is random and told to nobody before the answer.
    """
    if tier.learning is None:
        return None
    point = bucket(f"{tier.name}/explore", request_id, 2 * _COINS)
    side = round(tier.learning.explore * _COINS)
    return "strong" if point < side else "weak" if point < 2 * side else None


@dataclass(frozen=True, slots=True)
class Holder:
    """Where the threshold of one budget stands, and what the strong end has had."""

    threshold: float
    requests: int = 0
    strong: int = 0

    @property
    def realised(self) -> float | None:
        """The share so far; None before the first request."""
        return self.strong / self.requests if self.requests else None


def begin(tier: Tier) -> Holder:
    """Before the first request."""
    return Holder(tier.policy.start if isinstance(tier.policy, Budget) else tier.policy)


def observe(holder: Holder, tier: Tier, end: Strength) -> Holder:
    """After one more request that both ends could have served."""
    is_strong = end == "strong"
    counted = replace(holder, requests=holder.requests + 1, strong=holder.strong + is_strong)
    if not isinstance(tier.policy, Budget):
        return counted
    budget = tier.policy
    moved = holder.threshold + budget.step * (is_strong - budget.share)
    return replace(counted, threshold=min(max(moved, budget.lowest), budget.highest))


class Thresholds:
    """The thresholds of this process, by tier; they outlive a reload that leaves the tier as it was.

    The one mutable thing here: decisions read it, and requests that were served move it.
    """

    def __init__(self, tiers: Mapping[str, Tier] | None = None) -> None:
        self._tiers: dict[str, Tier] = {}
        self._holders: dict[str, Holder] = {}
        self.adopt(tiers or {})

    def adopt(self, tiers: Mapping[str, Tier]) -> None:
        """Serve these tiers from now on; one that is new or was changed begins anew."""
        self._holders = {
            name: self._holders[name] if self._tiers.get(name) == tier else begin(tier) for name, tier in tiers.items()
        }
        self._tiers = dict(tiers)

    def of(self, tier: Tier) -> Holder:
        """Where the tier stands; a decision by an older configuration finds its beginning."""
        return self._holders[tier.name] if self._tiers.get(tier.name) == tier else begin(tier)

    def served(self, graded: Graded) -> None:
        """A request was served as `graded`; a tier that is gone by now forgets it."""
        tier = self._tiers.get(graded.tier)
        if tier is not None and graded.is_evidence:
            self._holders[tier.name] = observe(self._holders[tier.name], tier, graded.end)
