"""Rollouts over HTTP: where they stand, what people do to them, and what callers think of their answers."""

from dataclasses import asdict
from typing import Any, Final, cast, get_args

from aiohttp import web

from wissel.admin.errors import error
from wissel.core.feedback import FEEDBACK_PATH, read_feedback
from wissel.core.refusals import unscored
from wissel.core.rollouts.analysis import Reading
from wissel.core.rollouts.callers import FEWEST
from wissel.core.rollouts.evidence import Arm
from wissel.core.rollouts.measures import unit_of
from wissel.core.rollouts.metrics import Comparison, FixedLimit, Guard, Metric
from wissel.core.rollouts.rollout import Refused
from wissel.core.rollouts.spec import FULL_WEIGHT, AnalysisStep, Pause, SetWeight, Step
from wissel.errors import StoreError, UnreadableError
from wissel.rollouts.controller import Standing, UnknownRolloutError, Verb
from wissel.rollouts.replica import Fleet
from wissel.store.base import AuditEntry

View = dict[str, Any]

VERBS: Final = frozenset(get_args(Verb)) - {"promote_full"}


class RolloutsApi:
    """The handlers; `fleet` is None where the configuration has no redis."""

    def __init__(self, fleet: Fleet | None) -> None:
        self._fleet = fleet

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/v1/rollouts", _told(self.list)),
            web.get("/v1/rollouts/{name}", _told(self.get)),
            web.get("/v1/rollouts/{name}/history", _told(self.history)),
            web.post("/v1/rollouts/{name}/{verb}", _told(self.act)),
            web.post(FEEDBACK_PATH, _told(self.feedback)),
        ]

    async def list(self, _: web.Request) -> web.Response:
        if self._fleet is None:
            return web.json_response({"rollouts": []})
        return web.json_response(
            {"rollouts": [self._view(self._fleet, each) for each in await self._fleet.controller.standings()]}
        )

    async def get(self, request: web.Request) -> web.Response:
        fleet = self._known()
        return web.json_response(self._view(fleet, await fleet.controller.standing(request.match_info["name"])))

    async def history(self, request: web.Request) -> web.Response:
        entries = await self._known().controller.history(request.match_info["name"])
        return web.json_response({"history": [entry_view(each) for each in entries]})

    async def act(self, request: web.Request) -> web.Response:
        """`{"by": who, "full": true}` may come along; only `promote` knows `full`."""
        name, verb = request.match_info["name"], request.match_info["verb"]
        if verb not in VERBS:
            return error(404, f'"{verb}" is none of {", ".join(sorted(VERBS))}', code="verb_not_found")
        asked = await _json(request)
        if isinstance(asked, web.Response):
            return asked
        by = str(asked.get("by") or "admin")
        act: Any = "promote_full" if verb == "promote" and asked.get("full") is True else verb
        fleet = self._known()
        answer = await fleet.controller.act(name, act, by=by)
        if isinstance(answer, Refused):
            return error(409, f'rollout "{name}": {answer.reason}', code="refused")
        return web.json_response(self._view(fleet, await fleet.controller.standing(name)))

    async def feedback(self, request: web.Request) -> web.Response:
        """`{"request_id": …, "score": 0…1}`, once per request."""
        if request.content_type != "application/json":
            return _bad_type()
        try:
            feedback = read_feedback(await request.read())
        except UnreadableError as problem:
            return error(400, str(problem), code="bad_feedback")
        answer = await self._fleet.score(feedback) if self._fleet is not None else "feedback_not_kept"
        if refusal := unscored(answer, feedback.request_id):
            return error(refusal.status, refusal.message, code=refusal.code)
        return web.json_response({"status": "accepted"})

    @staticmethod
    def _view(fleet: Fleet, standing: Standing) -> View:
        return {**standing_view(standing), "callers": fleet.recorder.callers.count, "callers_needed": FEWEST}

    def _known(self) -> Fleet:
        if self._fleet is None:
            raise UnknownRolloutError("")
        return self._fleet


def _told(handler: Any) -> Any:
    """What goes wrong behind a handler, as an answer."""

    async def told(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except UnknownRolloutError:
            name = request.match_info.get("name", "")
            return error(404, f'no rollout is named "{name}"', code="rollout_not_found")
        except StoreError as problem:
            return error(503, f"the store is away: {problem}", code="store_away")

    return told


async def _json(request: web.Request) -> dict[str, Any] | web.Response:
    """The JSON object of a request, {} if it has no body; or what is wrong with it."""
    if not request.can_read_body:
        return {}
    if request.content_type != "application/json":
        return _bad_type()
    try:
        body: Any = await request.json()
    except ValueError:
        body = None
    if not isinstance(body, dict):
        return error(400, "the body is not a JSON object", code="bad_body")
    return cast("dict[str, Any]", body)


def _bad_type() -> web.Response:
    """Of a form that a foreign web page could send."""
    return error(415, "send application/json", code="bad_content_type")


def standing_view(standing: Standing) -> View:
    """Where a rollout stands, in Argo's words."""
    spec, rollout = standing.delivery.spec, standing.rollout
    verdict = standing.verdict
    served = {name: arm.served for name, arm in standing.arms.items()}
    total = sum(served.values())
    moves = total and not (rollout is not None and rollout.is_over)
    return {
        "name": spec.name,
        "stable": spec.stable,
        "canary": spec.canary,
        "revision": spec.revision,
        "attempt": rollout.attempt if rollout else None,
        "phase": rollout.phase if rollout else "progressing",
        "paused_by": rollout.paused or None if rollout else None,
        "reason": standing.note or (rollout.reason if rollout else ""),
        "step": rollout.step if rollout else 0,
        "steps": [_step_view(step) for step in spec.steps],
        "set_weight": rollout.weight if rollout else 0,
        "actual_weight": round(FULL_WEIGHT * served.get("canary", 0) / total, 2) if moves else None,
        "arms": {name: arm_view(arm) for name, arm in standing.arms.items()},
        "mixed": standing.mixed,
        "verdict": verdict.judgement if verdict else None,
        "verdict_reason": verdict.reason if verdict else None,
        "metrics": _metrics_view(standing),
        "sample_ratio_evidence": round(verdict.ln_sample_ratio, 3) if verdict else None,
    }


def _step_view(step: Step) -> View:
    match step:
        case SetWeight(weight):
            return {"set_weight": weight}
        case Pause(duration):
            return {"pause": {"duration": duration} if duration is not None else {}}
        case AnalysisStep(duration, proof):
            return {"analysis": {"duration": duration, "proof": "non_inferior" if proof else None}}


def arm_view(arm: Arm) -> View:
    return {"requests": arm.served, "errors": arm.failed, "keys": arm.keys}


def _metrics_view(standing: Standing) -> list[View]:
    analysis, verdict = standing.delivery.spec.analysis, standing.verdict
    # What could not be measured has no readings.
    if analysis is None or verdict is None or not verdict.readings:
        return []
    return [_reading_view(*each) for each in zip(verdict.readings, analysis.metrics, strict=True)]


def _reading_view(reading: Reading, metric: Metric) -> View:
    limit = {"measure": metric.measure, "unit": unit_of(metric.measure), **_limit_view(metric)}
    return {**asdict(reading), "change": list(reading.change), "limit": limit}


def _limit_view(metric: Metric) -> View:
    """What the canary's own value, or its change from stable's, has to keep within."""
    match metric:
        case Guard():
            return {"of": "canary", "min": None, "max": metric.max}
        case FixedLimit():
            return {"of": "canary", "min": metric.min, "max": metric.max}
        case Comparison(direction="increase"):
            return {"of": "change", "min": None, "max": metric.allowed}
        case Comparison():
            return {"of": "change", "min": -metric.allowed, "max": None}


def entry_view(entry: AuditEntry) -> View:
    """One line of the audit trail."""
    return asdict(entry)
