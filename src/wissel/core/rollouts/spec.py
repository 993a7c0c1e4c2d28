"""A rollout as the operator wrote it, and what around it needs the world."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from wissel.core.rollouts.callers import SHARE
from wissel.core.rollouts.metrics import AnalysisSpec
from wissel.core.split import Match

FULL_WEIGHT = 100
"""Percent: a weight is a share of the keys."""


@dataclass(frozen=True, slots=True)
class SetWeight:
    weight: int
    """Percent of the keys, in [0, 100]."""


@dataclass(frozen=True, slots=True)
class Pause:
    duration: float | None = None
    """Seconds; None until promoted."""


@dataclass(frozen=True, slots=True)
class AnalysisStep:
    """Waits until a look finds nothing against the canary."""

    duration: float = 0.0
    """Seconds that it takes at least."""
    proof: bool = False
    """Whether every comparison must be proven to be no worse (`proof: non_inferior`)."""


Step = SetWeight | Pause | AnalysisStep


@dataclass(frozen=True, slots=True)
class RolloutSpec:
    """A rollout as the operator wrote it."""

    name: str
    revision: str
    """A hash of everything below; another one starts over."""
    stable: str
    canary: str
    """Models."""
    steps: tuple[Step, ...]
    analysis: AnalysisSpec | None = None
    """None if only time and humans decide."""
    on_failure: Literal["rollback", "pause"] = "rollback"
    baseline: bool = False
    """Whether the canary is compared with an arm of its own size that stable's model serves."""
    confirm_promotion: bool = False
    """Whether the last move, to 100 %, waits for a webhook to allow it."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """A rollout with everything around it that needs the world: what the controller reads."""

    spec: RolloutSpec
    match: Match | None = None
    """Callers that get the canary whatever its weight, while the rollout is under way."""
    prometheus: str | None = None
    queries: Mapping[str, str] = field(default_factory=dict[str, str])
    """Prometheus queries by metric name."""
    caller_share: float = SHARE
    """Of an arm's evidence that may be one caller's."""
    events: tuple[str, ...] = ()
    """URLs that are told of every move."""
    confirmations: tuple[str, ...] = ()
    """URLs that must agree to the last move."""
