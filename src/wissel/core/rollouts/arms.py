"""Where a rollout stands becomes the split that requests meet.

The arms lie on the line of weights with the canary first, so that no key ever
leaves it while it grows; then its baseline, if there is one, then stable.
"""

from dataclasses import replace

from wissel.core.rollouts.rollout import Rollout
from wissel.core.rollouts.spec import FULL_WEIGHT, Delivery, RolloutSpec
from wissel.core.split import Split, Variant


def variants(rollout: Rollout, spec: RolloutSpec) -> tuple[Variant, ...]:
    rest = FULL_WEIGHT - rollout.weight
    baseline = min(rollout.weight, rest) if spec.baseline else 0
    arms = [Variant("canary", spec.canary, rollout.weight)]
    if spec.baseline:
        arms.append(Variant("baseline", spec.stable, baseline))
    return (*arms, Variant("stable", spec.stable, rest - baseline))


def apply(split: Split, rollout: Rollout | None, delivery: Delivery) -> Split:
    """The rollout's split as it serves now; without a record that fits, stable only."""
    spec = delivery.spec
    if rollout is None or rollout.revision != spec.revision:
        return split
    under_way = not rollout.is_over and rollout.paused != "lost"
    return replace(
        split,
        variants=variants(rollout, spec),
        match=delivery.match if under_way else None,
        matched="canary",
        attempt=rollout.attempt,
        step=rollout.window,
    )


def canary_share(rollout: Rollout, spec: RolloutSpec) -> float:
    """The part of the compared arms' keys that should be the canary's: `Evidence.share`."""
    weights = {variant.name: variant.weight for variant in variants(rollout, spec)}
    return rollout.weight / (rollout.weight + weights["baseline" if spec.baseline else "stable"])
