"""What limits say, as arithmetic on integers.

    limits + a caller + what it asks for -> charges -> drawn from meters, all or none -> Drawn | Exceeded

A rate is a leaky bucket (GCRA in its other form): `amount` units are there at
once, and they come back evenly over the period, so 100 a minute is 100 at any
moment and one more every 0.6 seconds. Money is counted in fixed periods that
begin with the clock's (a day at midnight UTC). A place among concurrent
requests is leased, so that one that is never given back ends by itself.

Charges are drawn in three steps: that there is a request, before anything of it
is read; its tokens, once it is; what it gets, once that is decided. What will be
used is estimated then and settled when it is known. The script in `store.limits` is
this definition in Lua; a process without Redis runs this one.
"""

from collections.abc import Iterable, Mapping, MutableMapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from wissel.core.access import Principal
from wissel.core.request import MAX_OUTPUT_TOKENS, Request
from wissel.core.snapshot import Limit, Model, Per, Rate

Kind = Literal["requests", "tokens", "concurrent", "usd"]
"""What is counted."""

LEASE_US: Final = 15 * 60 * 1_000_000
"""A concurrent request's place is free again after this long, whatever became of it: Envoy's idle timeout."""

RETRY_CONCURRENT_US: Final = 1_000_000
"""What a caller is told to wait for a place: nobody knows when one becomes free."""

NANO: Final = 1_000_000_000
"""Budgets are counted in billionths of a dollar."""

_NANO_A_TOKEN: Final = NANO // 1_000_000
"""At one USD per million tokens."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a request will use, as far as can be said before."""

    input_tokens: int = 0
    output_tokens: int = 0
    """What is reserved for all answers that are asked for."""


@dataclass(frozen=True, slots=True)
class Charge:
    """What one request draws from one meter."""

    limit: str
    kind: Kind
    per: Per
    subject: str
    """The value of `per`: a principal's id, a group, a header's value, a model, a route."""
    amount: int
    period_us: int
    """0 for concurrent requests."""
    cost: int

    @property
    def key(self) -> tuple[str, ...]:
        """Names the meter; a limit that is changed begins anew."""
        return (self.limit, self.kind, f"{self.amount}/{self.period_us}", self.subject)


@dataclass(frozen=True, slots=True)
class MeterReading:
    """A meter before a charge is drawn from it."""

    free: int
    """Units that can be drawn."""
    reset_us: int
    """Until everything is free again."""
    retry_us: int = 0
    """Until the charge would fit; 0 if it does."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """The charges were drawn; they are settled by the same `id`."""

    charges: tuple[Charge, ...]
    id: str
    at_us: int
    """By the clock of the meters."""
    is_local: bool = False
    """Whether the meters are this process's own."""


@dataclass(frozen=True, slots=True)
class Exceeded:
    """Nothing was drawn: at least one charge does not fit."""

    charges: tuple[Charge, ...]
    readings: tuple[MeterReading, ...]

    @property
    def worst(self) -> tuple[Charge, MeterReading]:
        """The charge that takes longest to fit."""
        return max(zip(self.charges, self.readings, strict=True), key=lambda pair: pair[1].retry_us)


@dataclass(frozen=True, slots=True)
class Unchecked:
    """The meters cannot be read, and the operator forbids what cannot be counted."""


@dataclass(frozen=True, slots=True)
class Reservation:
    """Everything that one request holds until it is settled."""

    drawn: tuple[Drawn, ...]
    estimate: Estimate
    model: Model | None = None
    """None where no model serves it."""

    @property
    def holds_a_place(self) -> bool:
        """Whether it counts among those that are open at the same time, until its answer is over."""
        return any(charge.kind == "concurrent" for drawn in self.drawn for charge in drawn.charges)


@dataclass(frozen=True, slots=True)
class Used:
    """What a request came to."""

    tokens: int
    nano_usd: int


def estimate(request: Request, default_output_tokens: int = 0) -> Estimate:
    """What to reserve; `default_output_tokens` for each answer where the caller does not say how long it may be."""
    if request.only_counts:
        return Estimate()
    each = request.max_output_tokens or default_output_tokens
    return Estimate(request.input_tokens, min(each * request.answers, MAX_OUTPUT_TOKENS))


def entry_charges(limits: Iterable[Limit], caller: Principal, headers: Mapping[str, str]) -> tuple[Charge, ...]:
    """What can be charged before anything of the body is read: that there is a request."""
    return tuple(
        charge
        for limit in limits
        if limit.per not in {"model", "route"}
        for subject in _callers(limit, caller, headers)
        for charge in _charges(limit, subject)
    )


def token_charges(
    limits: Iterable[Limit], caller: Principal, headers: Mapping[str, str], use: Estimate
) -> tuple[Charge, ...]:
    """What can be charged as soon as the body is read."""
    tokens = use.input_tokens + use.output_tokens
    return tuple(
        _charge(limit, "tokens", subject, limit.tokens, tokens)
        for limit in limits
        if limit.per not in {"model", "route"} and limit.tokens is not None
        for subject in _callers(limit, caller, headers)
    )


def target_charges(
    limits: Iterable[Limit],
    caller: Principal,
    headers: Mapping[str, str],
    use: Estimate,
    *,
    model: Model,
    route: str,
) -> tuple[Charge, ...]:
    """What can be charged once it is known who serves: models, routes and money. `route` is "" without one.

    A model that costs nothing is no matter of a budget, so that a spent one leaves its callers something.
    """
    tokens = use.input_tokens + use.output_tokens
    spend = nano_usd(model, use.input_tokens, use.output_tokens)
    costs = model.price is not None and not model.price.is_free
    found: list[Charge] = []
    for limit in limits:
        match limit.per:
            case "model":
                subjects = (model.name,)
            case "route":
                subjects = (route,) if route else ()
            case _:
                subjects = _callers(limit, caller, headers)
        for subject in subjects:
            if limit.per in {"model", "route"}:
                found += _charges(limit, subject)
                if limit.tokens is not None:
                    found.append(_charge(limit, "tokens", subject, limit.tokens, tokens))
            if limit.usd is not None and costs:
                found.append(_charge(limit, "usd", subject, limit.usd, spend))
    return tuple(found)


def nano_usd(model: Model, input_tokens: int, output_tokens: int, cached_tokens: int = 0) -> int:
    """The price of so many tokens, rounded up; 0 for a model without a price."""
    if model.price is None:
        return 0
    exact = model.price.of(input_tokens, output_tokens, cached_tokens) * _NANO_A_TOKEN
    return int(exact) + (exact > int(exact))


def _callers(limit: Limit, caller: Principal, headers: Mapping[str, str]) -> tuple[str, ...]:
    match limit.per:
        case "principal":
            return (caller.id,)
        case "group":
            return tuple(sorted(caller.groups))
        case _:
            # All who leave the header out share one meter: leaving it out must not be the way around.
            return (headers.get(limit.header, ""),)


def _charges(limit: Limit, subject: str) -> list[Charge]:
    found: list[Charge] = []
    if limit.requests is not None:
        found.append(_charge(limit, "requests", subject, limit.requests, 1))
    if limit.concurrent is not None:
        found.append(Charge(limit.id, "concurrent", limit.per, subject, limit.concurrent, 0, 1))
    return found


def _charge(limit: Limit, kind: Kind, subject: str, rate: Rate, cost: int) -> Charge:
    # What is larger than the whole meter may pass when the meter is full; what it really uses is settled.
    return Charge(limit.id, kind, limit.per, subject, rate.amount, rate.seconds * 1_000_000, min(cost, rate.amount))


# Settling.


def settlement(charge: Charge, used: Used | None) -> int:
    """What is still to be drawn, or if negative put back; `used` is None for a request that never went on.

    That it was made counts all the same: what is refused costs those who refuse it.
    """
    match charge.kind, used:
        case "requests", _:
            return 0
        case _, None:
            return -charge.cost
        case "tokens", Used(tokens=tokens):
            return tokens - charge.cost
        case "usd", Used(nano_usd=spent):
            return spent - charge.cost
        case _:
            return 0


# Meters, as a process without Redis keeps them.


@dataclass(frozen=True, slots=True)
class Bucket:
    """Of a rate: a unit is `period_us` of debt, and debt melts by `amount` a microsecond, so all is whole numbers."""

    debt: int = 0
    at_us: int = 0


@dataclass(frozen=True, slots=True)
class Period:
    """Of money: what was spent in the period of this number."""

    spent: int = 0
    number: int = -1


@dataclass(frozen=True, slots=True)
class Places:
    """Of concurrent requests: who holds a place, and until when."""

    until_us: Mapping[str, int] = field(default_factory=dict[str, int])


Meter = Bucket | Period | Places
Meters = MutableMapping[tuple[str, ...], Meter]


def draw(meters: Meters, charges: tuple[Charge, ...], *, id: str, now_us: int) -> Drawn | Exceeded:  # noqa: A002  # as Drawn has it
    """Draw every charge, or none of them."""
    current = [_melted(meters.get(charge.key), charge, now_us) for charge in charges]
    readings = tuple(_read(meter, charge, now_us) for meter, charge in zip(current, charges, strict=True))
    if any(reading.retry_us for reading in readings):
        return Exceeded(charges, readings)
    for meter, charge in zip(current, charges, strict=True):
        meters[charge.key] = _changed(meter, charge, charge.cost, id, now_us)
    return Drawn(charges, id, now_us)


def settle(meters: Meters, drawn: Drawn, used: Used | None, *, now_us: int) -> None:
    """Put right what was estimated; places become free."""
    for charge in drawn.charges:
        rest = settlement(charge, used)
        meter = _melted(meters.get(charge.key), charge, now_us)
        match meter:
            case Places(until_us):
                kept = {holder: until for holder, until in until_us.items() if holder != drawn.id}
                meters[charge.key] = Places(kept)
            case Period(number=number) if rest < 0 and number != drawn.at_us // charge.period_us:
                # The period that it was drawn from is over, and so is what could be given back.
                pass
            case _:
                meters[charge.key] = _changed(meter, charge, rest, drawn.id, now_us)


def spared(charge: Charge, replicas: int) -> Charge:
    """The charge against one replica's part of the limit."""
    amount = max(1, charge.amount // max(1, replicas))
    return replace(charge, amount=amount, cost=min(charge.cost, amount))


def is_spent(meter: Meter, charge: Charge, now_us: int) -> bool:
    """Whether forgetting the meter changes nothing."""
    match _melted(meter, charge, now_us):
        case Bucket(debt=debt):
            return debt == 0
        case Period(spent=spent):
            return spent == 0
        case Places(until_us):
            return not until_us


def _melted(meter: Meter | None, charge: Charge, now_us: int) -> Meter:
    """The meter as time has made it since it was last changed."""
    match charge.kind, meter:
        case "concurrent", Places(until_us):
            return Places({holder: until for holder, until in until_us.items() if until > now_us})
        case "concurrent", _:
            return Places()
        case "usd", Period(number=number) as period if number == now_us // charge.period_us:
            return period
        case "usd", _:
            return Period(0, now_us // charge.period_us)
        case _, Bucket(debt=debt, at_us=at_us):
            return Bucket(max(0, debt - max(0, now_us - at_us) * charge.amount), now_us)
        case _:
            return Bucket(0, now_us)


def _read(meter: Meter, charge: Charge, now_us: int) -> MeterReading:
    match meter:
        case Bucket(debt=debt):
            room = charge.amount * charge.period_us - debt
            lacking = charge.cost * charge.period_us - room
            retry = _up(lacking, charge.amount) if lacking > 0 else 0
            return MeterReading(max(0, room) // charge.period_us, _up(debt, charge.amount), retry)
        case Period(spent=spent):
            left = charge.period_us - now_us % charge.period_us
            fits = spent + charge.cost <= charge.amount and spent < charge.amount
            return MeterReading(max(0, charge.amount - spent), left if spent else 0, 0 if fits else left)
        case Places(until_us):
            free = charge.amount - len(until_us)
            return MeterReading(max(0, free), 0, 0 if free >= charge.cost else RETRY_CONCURRENT_US)


def _changed(meter: Meter, charge: Charge, by: int, holder: str, now_us: int) -> Meter:
    match meter:
        case Bucket(debt=debt):
            return Bucket(max(0, debt + by * charge.period_us), now_us)
        case Period(spent=spent, number=number):
            return Period(max(0, spent + by), number)
        case Places(until_us):
            return Places({**until_us, holder: now_us + LEASE_US})


def _up(value: int, by: int) -> int:
    return -(-value // by)
