"""What a caller is told when a limit is used up: which, how much it is, and when there is more."""

from typing import Final

from wissel.core.access import Principal
from wissel.core.decision import Denied
from wissel.core.limits import Charge, Exceeded, Reading

_SPANS: Final = {1: "second", 60: "minute", 3600: "hour", 86_400: "day"}
NANO: Final = 1_000_000_000
"""Budgets are counted in billionths of a dollar."""


def exceeded(found: Exceeded, caller: Principal, revision: str) -> Denied:
    """The refusal with 429; its headers are those that OpenAI's clients read."""
    charge, reading = found.worst
    seconds = max(1, -(-reading.retry_us // 1_000_000))
    message = f'limit "{charge.limit}": {_amount(charge)} for the {charge.per} "{charge.subject}" is used up'
    return Denied(
        status=429,
        message=f"{message}; there is more in {duration(reading.retry_us)}",
        type="rate_limit_error",
        code="budget_exceeded" if charge.kind == "usd" else "rate_limit_exceeded",
        headers={"retry-after": str(seconds), **_headers(found)},
        principal=caller,
        limit_id=charge.limit,
        revision=revision,
    )


def uncounted(caller: Principal, revision: str) -> Denied:
    """The refusal where limits cannot be read and the operator wants nothing to pass uncounted."""
    return Denied(
        status=503,
        message="limits cannot be checked at the moment",
        type="server_error",
        code="limits_unavailable",
        headers={"retry-after": "1"},
        principal=caller,
        revision=revision,
    )


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


def _tightness(pair: tuple[Charge, Reading]) -> tuple[int, float]:
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
