"""The section `access` into rules, time windows and limits."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Literal, get_args
from zoneinfo import ZoneInfo

from wissel.config import model
from wissel.core.access import HeaderMatch, Rule, Window
from wissel.core.limits import NANO
from wissel.core.snapshot import Limit, Per, Rate, SpiffeSource, TokenIssuer, VerifiedIdentity

_DAYS: tuple[model.Day, ...] = get_args(model.Day)
_PERS: dict[str, Per] = {per: per for per in get_args(Per)}
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def compile_limit(each: model.Limit) -> Limit:
    per, _, header = each.per.partition(":")
    return Limit(
        id=each.id,
        per=_PERS[per],
        header=header,
        requests=_rate(each.requests),
        tokens=_rate(each.tokens),
        concurrent=each.concurrent,
        usd=_rate(each.usd, scale=NANO),
    )


def _rate(written: str | None, *, scale: int = 1) -> Rate | None:
    if written is None:
        return None
    amount, _, unit = written.partition("/")
    return Rate(int(Decimal(amount) * scale), _SECONDS[unit])


def compile_rule(each: model.Rule) -> Rule:
    return Rule(
        id=each.id,
        effect=each.effect,
        principals=each.principals or frozenset(),
        groups=each.groups or frozenset(),
        models=each.models or frozenset(),
        routes=each.routes or frozenset(),
        paths=each.paths or (),
        headers=tuple(header_match(name, condition) for name, condition in (each.headers or {}).items()),
        when=_window(each.when) if each.when else None,
        shadow=each.shadow,
    )


@dataclass(frozen=True, slots=True)
class _Zone:
    """A zone of the tz database."""

    name: str

    def offset(self, now: float) -> float:
        local = datetime.fromtimestamp(now, ZoneInfo(self.name))
        return (local.utcoffset() or timedelta()).total_seconds()


def _window(when: model.When) -> Window:
    return Window(
        zone=_Zone(when.zone),
        days=frozenset(_DAYS.index(day) for day in when.days or ()),
        hours=_minutes(when.hours) if when.hours else None,
        since=model.unix_time(when.since) if when.since else None,
        until=model.unix_time(when.until) if when.until else None,
    )


def _minutes(hours: str) -> tuple[int, int]:
    begin, end = (int(time[:2]) * 60 + int(time[3:]) for time in hours.split("-"))
    return begin, end


def header_match(name: str, condition: model.HeaderCondition) -> HeaderMatch:
    if condition.exact is not None:
        return HeaderMatch(name, "exact", condition.exact)
    if condition.prefix is not None:
        return HeaderMatch(name, "prefix", condition.prefix)
    return HeaderMatch(name, "suffix", condition.suffix or "")


def compile_issuer(each: model.Jwt) -> TokenIssuer:
    return TokenIssuer(
        issuer=each.issuer,
        audiences=each.audience,
        jwks=each.jwks,
        algorithms=frozenset[str](each.algorithms),
        principal_claim=each.principal_claim,
        groups_claim=each.groups_claim,
        clock_skew=each.clock_skew,
        prefix=each.prefix,
    )


def compile_verified(each: model.EnvoyIdentity) -> VerifiedIdentity:
    return VerifiedIdentity(each.namespace, each.principal_claim, each.groups_claim, each.prefix)


def compile_spiffe(written: bool | Literal["x-forwarded-client-cert"]) -> SpiffeSource:
    if isinstance(written, bool):
        return "attributes" if written else ""
    return written
