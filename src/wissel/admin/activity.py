"""What one process is doing: where its traffic went since it began, and its latest decisions.

The sums only grow, and whoever wants rates asks twice. Prompts are nowhere in
it, nor are the values of targeting keys, which may name people.
"""

from collections.abc import Mapping
from dataclasses import asdict
from time import time
from typing import Final

from wissel.admin.views import View, decision_view
from wissel.core.cooling import Cooling
from wissel.core.decision import Decision, Denied, Kept, Listed, ListedAnswers, Passed, Routed
from wissel.core.tier import Budget, Thresholds, Tier
from wissel.telemetry.counting import Decided, Telemetry

_MESSAGE_LENGTH: Final = 300
"""Characters of an error's message, which may quote what a caller wrote."""


def activity_view(telemetry: Telemetry) -> View:
    """`recent` and `denied` begin with the latest."""
    denials = [
        {"code": each.code, "route": each.route or None, "limit": each.limit or None, "count": each.count}
        for each in telemetry.denials()
    ]
    return {
        "at": time(),
        "traffic": [{**asdict(way), "route": way.route or None} for way in telemetry.traffic()],
        "denials": denials,
        "draws": telemetry.draws(),
        "attempts": [asdict(tried) for tried in telemetry.attempts()],
        "recent": [_decided_view(each) for each in reversed(telemetry.recent)],
        "denied": [_decided_view(each) for each in reversed(telemetry.denied)],
    }


def tiers_view(tiers: Mapping[str, Tier], thresholds: Thresholds) -> list[View]:
    """What each tier's strong end is to have, and what it has had of the requests that both ends could serve."""
    views: list[View] = []
    for tier in tiers.values():
        holder = thresholds.of(tier)
        views.append(
            {
                "name": tier.name,
                "strong": tier.strong,
                "weak": tier.weak,
                "share": tier.policy.share if isinstance(tier.policy, Budget) else None,
                "realised": holder.realised,
                "threshold": holder.threshold,
                "requests": holder.requests,
            }
        )
    return views


def resting_view(cooling: Cooling) -> list[View]:
    """Which models rest, whichever process found out; one whose time is over is tried by the next request."""
    return [{"model": model, "why": rest.why, "until": rest.until} for model, rest in cooling.rests.items()]


def _decided_view(decided: Decided) -> View:
    decision = decided.decision
    view = decision_view(decision)
    # Nobody reads the scores of fifty requests; those of one are to be had from `/v1/route`.
    view.pop("scores", None)
    if isinstance(decision, Denied):
        view["error"] = {**view["error"], "message": decision.message[:_MESSAGE_LENGTH]}
    if isinstance(decision, Routed):
        view["key"] = str(decision.key.source) if decision.key else None
    return {"at": decided.at, "seconds": decided.seconds, "kind": _kind(decision), **view}


def _kind(decision: Decision) -> str:
    match decision:
        case Routed():
            return "routed"
        case Passed():
            return "passed"
        case Kept():
            return "kept"
        case Listed() | ListedAnswers():
            return "listed"
        case Denied():
            return "denied"
