"""Everything that a refused caller is told.

    a row of `sentences`, and what is known of the request -> Denied

What a caller wrote is repeated in quotes, and never more than the beginning of it.
"""

from dataclasses import replace
from difflib import get_close_matches
from typing import Final

from wissel.core.access import Forbid, Principal
from wissel.core.decision import Denied, Listed
from wissel.core.feedback import ScoreAnswer
from wissel.core.intent import Intent
from wissel.core.limits import NANO, Charge, Exceeded, MeterReading
from wissel.core.plan import Unable
from wissel.core.quoting import cut, quoted
from wissel.core.request import Head, Request
from wissel.core.sentences import (
    BUDGET_USED_UP,
    CROWDED,
    EXPIRED_KEY,
    FORBIDDEN,
    LATE,
    LIMIT_USED_UP,
    LIMITS_AWAY,
    MISCONFIGURED,
    NO_ABLE_MODEL,
    NO_CORS,
    NO_FEEDBACK,
    NO_KEY,
    NO_UPGRADE,
    NOT_A_CALL,
    ORIGIN_AWAY,
    OVERDUE,
    OVERRUN,
    SCORED_TWICE,
    STORE_AWAY,
    TOO_LARGE,
    TRAILERS,
    UNKNOWN_ANSWER,
    UNKNOWN_MODEL,
    UNKNOWN_PATH,
    UNKNOWN_REQUEST,
    UNREAD_CODING,
    UNREADABLE,
    WRONG_KEY,
    WRONG_TOKEN,
    Told,
)
from wissel.core.snapshot import Snapshot
from wissel.errors import UnreadableError, UnsupportedCodingError

MOST_COMPARED: Final = 64
"""Characters of a name that is compared with those that there are, which takes the square of its length."""

_SPANS: Final = {1: "second", 60: "minute", 3600: "hour", 86_400: "day"}


# The request cannot be read.


def unreadable(error: UnreadableError) -> Denied:
    """`error` was written for the caller."""
    denied = Denied(*UNREADABLE.told(problem=str(error)))
    return replace(denied, param=cut(error.param)) if error.param is not None else denied


def too_large(limit: int) -> Denied:
    """A body of more than `limit` bytes."""
    return Denied(*TOO_LARGE.told(limit=str(limit)))


def unread_coding(error: UnsupportedCodingError, accepted: str) -> Denied:
    """A body that is packed in a way that is not read here; `accepted` are those that are."""
    return Denied(*UNREAD_CODING.told(problem=str(error)), headers={"accept-encoding": accepted})


def trailers() -> Denied:
    """A body with trailers behind it, which Envoy would send twice."""
    return Denied(*TRAILERS.told())


def overrun(caller: Principal) -> Denied:
    """More bodies of one caller on their way than it may have begun."""
    return Denied(*OVERRUN.told(caller=quoted(caller.id)), headers={"retry-after": "1"}, principal=caller)


def crowded(caller: Principal, held_bytes: int) -> Denied:
    """More large bodies of one caller than may be in memory at once."""
    told = CROWDED.told(caller=quoted(caller.id), count=str(held_bytes >> 20))
    return Denied(*told, headers={"retry-after": "1"}, principal=caller)


def late() -> Denied:
    """A body that does not end."""
    return Denied(*LATE.told())


def overdue(attempts: int) -> Denied:
    """Another attempt at a request would begin too late."""
    return Denied(*OVERDUE.told(models="a model" if attempts == 1 else f"{attempts} models"))


def no_upgrade() -> Denied:
    """A request to speak something else than HTTP."""
    return Denied(*NO_UPGRADE.told())


def no_cors(origin: str) -> Denied:
    """A browser asks whether a web page of this origin may call."""
    return Denied(*NO_CORS.told(origin=quoted(origin)))


def not_a_call() -> Denied:
    """A question about a path that is nothing to decide."""
    return Denied(*NOT_A_CALL.told())


def misconfigured(complaint: str) -> Denied:
    """Envoy does not tell what we must know; `complaint` says what to set."""
    return Denied(*MISCONFIGURED.told(complaint=complaint))


# Nobody knows who is calling.


def no_key(revision: str) -> Denied:
    """No credential at all."""
    return _unauthenticated(NO_KEY.told(), revision)


def wrong_key(revision: str) -> Denied:
    """A key that is nobody's."""
    return _unauthenticated(WRONG_KEY.told(), revision)


def expired_key(public_id: str, revision: str) -> Denied:
    """A key that was somebody's."""
    return _unauthenticated(EXPIRED_KEY.told(key=quoted(public_id)), revision)


def wrong_token(reason: str, revision: str) -> Denied:
    """`reason` repeats nothing of the token."""
    return _unauthenticated(WRONG_TOKEN.told(reason=reason), revision)


def _unauthenticated(told: Told, revision: str) -> Denied:
    return Denied(*told, headers={"www-authenticate": "Bearer"}, revision=revision)


# The caller may not have it, or nobody can.


def unknown_path(method: str, path: str) -> Denied:
    """Neither an LLM call nor a passthrough."""
    return Denied(*UNKNOWN_PATH.told(path=quoted(f"{method} {path}")))


def unknown_model(name: str, caller: Principal, snapshot: Snapshot) -> Denied:
    """A name that nothing has; what it may have meant is told only where there is nothing to hide."""
    is_told = snapshot.rules is None and len(name) <= MOST_COMPARED
    near = get_close_matches(name, snapshot.names, n=1) if is_told else []
    told = UNKNOWN_MODEL.told(model=quoted(name), hint=f'; did you mean "{near[0]}"?' if near else "")
    return Denied(*told, principal=caller, revision=snapshot.revision)


def unlisted_model(name: str, listed: Listed) -> Denied:
    """A name that is not among those of the caller."""
    told = UNKNOWN_MODEL.told(model=quoted(name), hint="")
    return Denied(*told, principal=listed.principal, revision=listed.revision)


def answer_not_found(answer_id: str, caller: Principal, revision: str) -> Denied:
    """An id that leads nowhere for this caller; whether it does for another is not told."""
    return Denied(*UNKNOWN_ANSWER.told(answer=quoted(answer_id)), principal=caller, revision=revision)


def origin_unavailable(param: str | None, caller: Principal, revision: str) -> Denied:
    """Nobody can say at the moment where an id leads; `param` is the member that names it."""
    denied = Denied(*ORIGIN_AWAY.told(), headers={"retry-after": "1"}, principal=caller, revision=revision)
    return replace(denied, param=param)


def forbidden(forbid: Forbid, request: Request, caller: Principal, intent: Intent | None, revision: str) -> Denied:
    """None of the models behind what was asked for."""
    what = f"the model {quoted(request.model)}" + (f' for the route "{intent.route}"' if intent else "")
    denied = _forbidden(forbid, what, caller, revision)
    return replace(denied, route=intent.route if intent else "", intent=intent)


def forbidden_path(forbid: Forbid, path: str, model: str, caller: Principal, revision: str) -> Denied:
    """A passthrough, because of its path alone or, if `model` is not empty, of a model that the request names."""
    what = f"the path {quoted(path)}" + (f" with the model {quoted(model)}" if model else "")
    return replace(_forbidden(forbid, what, caller, revision), param=None)


def unnamed_model(head: Head, caller: Principal, revision: str) -> Denied:
    """A passthrough whose request names no model that is known, by somebody who may not use every one."""
    named = f"names {quoted(head.models[0])}, which" if head.models else "says nowhere which model it means, which"
    why = f"the request {named} no rule can be asked about; only who may use every model here may send it"
    told = FORBIDDEN.told(caller=quoted(caller.id), what=f"the path {quoted(head.path)}", why=why)
    return replace(Denied(*told, principal=caller, revision=revision), param=None)


def _forbidden(forbid: Forbid, what: str, caller: Principal, revision: str) -> Denied:
    names = ", ".join(f'"{rule}"' for rule in forbid.rule_ids)
    why = f"rule {names} forbids it" if names else "no rule permits it"
    return Denied(
        *FORBIDDEN.told(caller=quoted(caller.id), what=what, why=why),
        principal=caller,
        rule_ids=forbid.rule_ids,
        shadow_ids=forbid.shadow_ids,
        revision=revision,
    )


def no_able_model(
    target: str, unable: tuple[Unable, ...], caller: Principal, intent: Intent | None, revision: str
) -> Denied:
    """Nothing behind `target` is left, and why each was left out."""
    reasons = "; ".join(f'"{each.model}" {each.why}' for each in unable) or "its remaining variants have no weight"
    return Denied(
        *NO_ABLE_MODEL.told(target=quoted(target), reasons=reasons),
        principal=caller,
        route=intent.route if intent else "",
        intent=intent,
        unable=unable,
        revision=revision,
    )


# A limit.


def exceeded(found: Exceeded, caller: Principal, revision: str) -> Denied:
    """The headers are those that OpenAI's clients read."""
    charge, reading = found.worst
    seconds = max(1, -(-reading.retry_us // 1_000_000))
    row = BUDGET_USED_UP if charge.kind == "usd" else LIMIT_USED_UP
    told = row.told(
        limit=f'"{charge.limit}"',
        amount=_amount(charge),
        per=charge.per,
        subject=quoted(charge.subject),
        wait=duration(reading.retry_us),
    )
    return Denied(
        *told,
        headers={"retry-after": str(seconds), **_headers(found)},
        principal=caller,
        limit_id=charge.limit,
        revision=revision,
    )


def uncounted(caller: Principal, revision: str) -> Denied:
    """Limits cannot be read, and the operator wants nothing to pass uncounted."""
    return Denied(*LIMITS_AWAY.told(), headers={"retry-after": "1"}, principal=caller, revision=revision)


def _amount(charge: Charge) -> str:
    span = _SPANS.get(charge.period_us // 1_000_000, "period")
    match charge.kind:
        case "concurrent":
            return f"{charge.amount} requests at the same time"
        case "usd":
            return f"{charge.amount / NANO:g} USD in one {span}"
        case kind:
            return f"{charge.amount} {kind} in one {span}"


def _headers(found: Exceeded) -> dict[str, str]:
    """Of each kind the meter that is nearest to its end."""
    headers: dict[str, str] = {}
    for kind in ("requests", "tokens"):
        of_kind = [pair for pair in zip(found.charges, found.readings, strict=True) if pair[0].kind == kind]
        if of_kind:
            charge, reading = max(of_kind, key=_tightness)
            headers[f"x-ratelimit-limit-{kind}"] = str(charge.amount)
            headers[f"x-ratelimit-remaining-{kind}"] = str(reading.free)
            headers[f"x-ratelimit-reset-{kind}"] = duration(reading.reset_us)
    return headers


def _tightness(pair: tuple[Charge, MeterReading]) -> tuple[int, float]:
    charge, reading = pair
    return reading.retry_us, -reading.free / charge.amount


def duration(us: int) -> str:
    """As OpenAI's headers write it: 350ms, 12.5s, 6m0s, 1h30m0s."""
    if us < 1_000_000:
        return f"{-(-us // 1000)}ms"
    tenths = -(-us // 100_000)
    minutes, tenths = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    seconds = f"{tenths // 10}" if tenths % 10 == 0 else f"{tenths / 10:.1f}"
    return (f"{hours}h" if hours else "") + (f"{minutes}m" if hours or minutes else "") + f"{seconds}s"


# Feedback.


def unscored(answer: ScoreAnswer, request_id: str) -> Denied | None:
    """What became of a score that was not accepted."""
    match answer:
        case "accepted":
            return None
        case "already_given":
            return Denied(*SCORED_TWICE.told(request_id=quoted(request_id)))
        case "request_not_found":
            return Denied(*UNKNOWN_REQUEST.told(request_id=quoted(request_id)))
        case "store_away":
            return Denied(*STORE_AWAY.told())
        case "feedback_not_kept":
            return Denied(*NO_FEEDBACK.told())
