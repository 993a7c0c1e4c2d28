"""Decisions as JSON, with the words of the configuration."""

from typing import Any, Final

from wissel.core.decision import Decision, Denied, Kept, Listed, ListedAnswers, Passed, Routed
from wissel.core.intent import Intent
from wissel.core.pin import Pin
from wissel.core.plan import Unable
from wissel.core.tier import Graded

View = dict[str, Any]

_SCORE_DIGITS: Final = 4


def decision_view(decision: Decision) -> View:
    """The whole reasoning; `status` is what the caller would have seen, 200 if the request had gone on."""
    match decision:
        case Routed():
            return {
                "status": 200,
                "route": decision.route or None,
                "target": decision.target,
                "model": decision.model.name,
                "cluster": decision.model.cluster,
                "upstream_model": decision.model.upstream_model,
                "variant": decision.variant,
                "reason": decision.reason,
                "lead": decision.lead or None,
                **_intent_view(decision.intent),
                "pin": _pin_view(decision.pin),
                "rules": list(decision.rule_ids),
                "shadow_rules": list(decision.shadow_ids),
                "split": decision.split.name if decision.split else None,
                "key": {"source": str(decision.key.source), "value": decision.key.value} if decision.key else None,
                "bucket": decision.bucket,
                "unable": _unable_view(decision.unable),
                "plan": [{"model": each.name, "cluster": each.cluster} for each in decision.candidates],
                "left_out": _unable_view(decision.plan.left_out),
                "tier": _tier_view(decision.tier),
                "principal": decision.principal.id,
                "revision": decision.revision,
            }
        case Kept():
            return {
                "status": 200,
                "route": decision.route or None,
                "model": decision.model.name,
                "cluster": decision.model.cluster,
                "rules": list(decision.rule_ids),
                "shadow_rules": list(decision.shadow_ids),
                "principal": decision.principal.id,
                "revision": decision.revision,
            }
        case Passed():
            return {
                "status": 200,
                "cluster": decision.cluster,
                "rules": list(decision.rule_ids),
                "principal": decision.principal.id,
                "revision": decision.revision,
            }
        case Listed():
            return {
                "status": 200,
                "models": list(decision.names),
                "principal": decision.principal.id,
                "revision": decision.revision,
            }
        case ListedAnswers():
            return {
                "status": 200,
                "answers": [each.id for each in decision.answers],
                "principal": decision.principal.id,
                "revision": decision.revision,
            }
        case Denied():
            return {
                "status": decision.status,
                "error": {
                    "message": decision.message,
                    "type": decision.type,
                    "param": decision.param,
                    "code": decision.code,
                },
                "route": decision.route or None,
                **_intent_view(decision.intent),
                "rules": list(decision.rule_ids),
                "limit": decision.limit_id or None,
                "shadow_rules": list(decision.shadow_ids),
                "unable": _unable_view(decision.unable),
                "principal": decision.principal.id if decision.principal else None,
                "revision": decision.revision,
            }


def _intent_view(intent: Intent | None) -> View:
    if intent is None:
        return {"intent": None, "scores": {}}
    ranking = sorted(intent.scores.items(), key=lambda item: (-item[1], item[0]))
    return {
        "intent": {
            "reason": intent.reason,
            "score": _rounded(intent.score),
            "threshold": _rounded(intent.threshold),
            "confidence": _rounded(intent.confidence),
            "runner_up": _runner_up(ranking),
            "classifier": intent.classifier or None,
            "detail": intent.detail or None,
        },
        "scores": {name: _rounded(score) for name, score in ranking},
    }


def _pin_view(pin: Pin | None) -> View | None:
    return None if pin is None else {"header": pin.policy.header, "keep_seconds": pin.policy.keep}


def _runner_up(ranking: list[tuple[str, float]]) -> View | None:
    """The route that would have been next, and by how little: a tie is 0 behind."""
    if len(ranking) < 2:
        return None
    (_, best), (name, score) = ranking[:2]
    return {"route": name, "behind": _rounded(best - score)}


def _tier_view(graded: Graded | None) -> View | None:
    if graded is None:
        return None
    return {
        "name": graded.tier,
        "end": graded.end,
        "reason": graded.reason,
        "win_rate": _rounded(graded.win_rate),
        "threshold": _rounded(graded.threshold),
        "grader": graded.grader or None,
        "detail": graded.detail or None,
    }


def _unable_view(unable: tuple[Unable, ...]) -> list[View]:
    return [{"model": each.model, "why": each.why} for each in unable]


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, _SCORE_DIGITS)
