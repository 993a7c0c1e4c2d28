"""What one process is doing: where its traffic went since it began, and its latest decisions.

The sums only grow, and whoever wants rates asks twice. Prompts are nowhere in
it, nor are the values of targeting keys, which may name people.
"""

from dataclasses import asdict
from time import time
from typing import Final

from wissel.admin.views import View, decision_view
from wissel.core.decision import Decision, Denied, Listed, Passed, Routed
from wissel.telemetry import Decided, Telemetry

_MESSAGE_LENGTH: Final = 300
"""Characters of an error's message, which may quote what a caller wrote."""


def activity_view(telemetry: Telemetry) -> View:
    """`recent` and `denied` begin with the latest."""
    denials = [{"code": code, "route": route or None, "count": count} for code, route, count in telemetry.denials()]
    return {
        "at": time(),
        "traffic": [{**asdict(way), "route": way.route or None} for way in telemetry.traffic()],
        "denials": denials,
        "recent": [_decided_view(each) for each in reversed(telemetry.recent)],
        "denied": [_decided_view(each) for each in reversed(telemetry.denied)],
    }


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
        case Listed():
            return "listed"
        case Denied():
            return "denied"
