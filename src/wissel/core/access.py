"""Who may use what.

Rules permit or forbid. A forbid wins over any permit, and what no rule permits
is forbidden. A rule that leaves a field out says nothing about it and matches
everything there; what a rule does name must be known of the request to match,
so a permit for some routes does not permit naming a model directly. A rule
whose conditions cannot be evaluated forbids, whatever its effect says.

Rules are filed under the most selective thing that they name (a principal, a
group, a model, a route), so the cost of a decision depends on the rules that
concern the request and not on how many there are.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Final, Literal, Protocol

ANYTHING = "*"

_MINUTES: Final = 24 * 60


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is calling, once known."""

    id: str
    groups: frozenset[str] = frozenset()
    claims: Mapping[str, str] = field(default_factory=dict[str, str])
    """Of a token, flattened to dotted names; empty for API keys."""


ANONYMOUS = Principal("anonymous")
"""The caller where `access` is not configured."""


@dataclass(frozen=True, slots=True)
class HeaderMatch:
    """A condition on one header, or claim; one that is absent matches nothing."""

    name: str
    kind: Literal["exact", "prefix", "suffix"]
    value: str

    def matches(self, headers: Mapping[str, str]) -> bool:
        found = headers.get(self.name)
        match found, self.kind:
            case None, _:
                return False
            case _, "exact":
                return found == self.value
            case _, "prefix":
                return found.startswith(self.value)
            case _, "suffix":
                return found.endswith(self.value)


class Zone(Protocol):
    """A time zone; summer time makes its distance from UTC depend on the time."""

    def offset(self, now: float) -> float:
        """Seconds to add to Unix time for the time that local clocks show."""
        ...


@dataclass(frozen=True, slots=True)
class Window:
    """When a rule speaks; what is left out is always."""

    zone: Zone
    days: frozenset[int] = frozenset()
    """Of the week, Monday is 0; a night belongs to the day on which it begins. Empty: all."""
    hours: tuple[int, int] | None = None
    """Minutes of the day, the second excluded; where it is not the larger, the window ends on the next day."""
    since: float | None = None
    """Unix time, included."""
    until: float | None = None
    """Unix time, excluded."""

    def covers(self, now: float) -> bool:
        if (self.since is not None and now < self.since) or (self.until is not None and now >= self.until):
            return False
        minutes = int((now + self.zone.offset(now)) // 60)
        minute = minutes % _MINUTES
        # The Unix epoch was a Thursday.
        day = (minutes // _MINUTES + 3) % 7
        begin, end = self.hours or (0, _MINUTES)
        if begin < end:
            return begin <= minute < end and self._on(day)
        return (minute >= begin and self._on(day)) or (minute < end and self._on((day - 1) % 7))

    def _on(self, day: int) -> bool:
        return not self.days or day in self.days


@dataclass(frozen=True, slots=True)
class Rule:
    """One line of the policy; an empty field matches everything."""

    id: str
    effect: Literal["permit", "forbid"]
    principals: frozenset[str] = frozenset()
    groups: frozenset[str] = frozenset()
    models: frozenset[str] = frozenset()
    routes: frozenset[str] = frozenset()
    paths: tuple[str, ...] = ()
    """Shell patterns over the normalised path."""
    headers: tuple[HeaderMatch, ...] = ()
    when: Window | None = None
    shadow: bool = False
    """Counted, never enforced."""

    def concerns(
        self, caller: Principal, route: str | None, path: str, headers: Mapping[str, str], now: float = 0.0
    ) -> bool:
        """Whether everything but the model matches."""
        return _named(self.routes, route) and self.fits(caller, path, headers, now)

    def fits(self, caller: Principal, path: str, headers: Mapping[str, str], now: float = 0.0) -> bool:
        """Whether everything but the model and the route matches."""
        return (
            _named(self.principals, caller.id)
            and (not self.groups or ANYTHING in self.groups or not self.groups.isdisjoint(caller.groups))
            and (not self.paths or any(fnmatchcase(path, pattern) for pattern in self.paths))
            and all(condition.matches(headers) for condition in self.headers)
            and (self.when is None or self.when.covers(now))
        )

    def covers(self, model: str) -> bool:
        return _named(self.models, model)


def _named(names: frozenset[str], name: str | None) -> bool:
    return not names or ANYTHING in names or name in names


@dataclass(frozen=True, slots=True)
class Permit:
    """At least one of the models may be used."""

    models: tuple[str, ...]
    """In the order they were asked about."""
    rule_ids: tuple[str, ...]
    """The permitting rules that were decisive."""
    shadow_ids: tuple[str, ...] = ()
    """Shadow rules that would have changed the answer."""


@dataclass(frozen=True, slots=True)
class Forbid:
    """None of the models may be used."""

    rule_ids: tuple[str, ...] = ()
    """The forbidding rules; empty when no rule permitted any model."""
    shadow_ids: tuple[str, ...] = ()


class RuleBook:
    """Rules, filed so that few have to be read for one request."""

    __slots__ = ("_by_group", "_by_model", "_by_principal", "_by_route", "_everywhere", "_open_permits", "rules")

    def __init__(self, rules: Iterable[Rule]) -> None:
        self.rules = tuple(rules)
        self._by_principal: dict[str, list[Rule]] = {}
        self._by_group: dict[str, list[Rule]] = {}
        self._by_model: dict[str, list[Rule]] = {}
        self._by_route: dict[str, list[Rule]] = {}
        self._everywhere: list[Rule] = []
        for rule in self.rules:
            for names, shelf in (
                (rule.principals, self._by_principal),
                (rule.groups, self._by_group),
                (rule.models, self._by_model),
                (rule.routes, self._by_route),
            ):
                if names and ANYTHING not in names:
                    for name in names:
                        shelf.setdefault(name, []).append(rule)
                    break
            else:
                self._everywhere.append(rule)
        anyones = (rule for shelf in (self._by_model, self._by_route) for rules in shelf.values() for rule in rules)
        self._open_permits = [rule for rule in dict.fromkeys(anyones) if rule.effect == "permit"]

    def about(self, caller: Principal, route: str | None, models: Iterable[str]) -> list[Rule]:
        """Every rule that could match, each once, in no particular order."""
        found = [*self._everywhere, *self._by_principal.get(caller.id, ())]
        for group in caller.groups:
            found += self._by_group.get(group, ())
        for model in models:
            found += self._by_model.get(model, ())
        if route is not None:
            found += self._by_route.get(route, ())
        return list({rule.id: rule for rule in found}.values())

    def might_permit(self, caller: Principal, path: str, headers: Mapping[str, str], now: float = 0.0) -> bool:
        """Whether some enforced permit fits the caller, whatever the model and route; False is final."""

        def fits(rule: Rule) -> bool:
            try:
                return rule.fits(caller, path, headers, now)
            except Exception:  # noqa: BLE001  # `authorize` reads the rule again, and then it forbids
                return True

        shelves = [self._everywhere, self._by_principal.get(caller.id, [])]
        shelves += [self._by_group.get(group, []) for group in caller.groups]
        shelves += [self._open_permits]
        return any(rule.effect == "permit" and not rule.shadow and fits(rule) for shelf in shelves for rule in shelf)


def authorize(
    book: RuleBook,
    caller: Principal,
    models: Iterable[str],
    *,
    route: str | None = None,
    path: str = "",
    headers: Mapping[str, str] | None = None,
    now: float = 0.0,
) -> Permit | Forbid:
    """Which of `models` the caller may use here at Unix time `now`; the rules that said so come with the answer."""
    asked = tuple(models)
    concerned: list[Rule] = []
    for rule in book.about(caller, route, asked):
        try:
            if rule.concerns(caller, route, path, headers or {}, now):
                concerned.append(rule)
        except Exception:  # noqa: BLE001  # whatever is wrong with a rule must not become a permission
            concerned.append(replace(rule, effect="forbid", models=frozenset()))
    enforced = [rule for rule in concerned if not rule.shadow]
    answer = _weigh(enforced, asked)
    if len(enforced) == len(concerned):
        return answer
    shadows = tuple(sorted(rule.id for rule in concerned if rule.shadow and _changes(rule, enforced, asked, answer)))
    match answer:
        case Permit(allowed, rule_ids):
            return Permit(allowed, rule_ids, shadows)
        case Forbid(rule_ids):
            return Forbid(rule_ids, shadows)


def _weigh(rules: list[Rule], models: tuple[str, ...]) -> Permit | Forbid:
    permits = [rule for rule in rules if rule.effect == "permit"]
    forbids = [rule for rule in rules if rule.effect == "forbid"]
    allowed: list[str] = []
    permitting: set[str] = set()
    forbidding: set[str] = set()
    for model in models:
        for_it = [rule.id for rule in permits if rule.covers(model)]
        against_it = [rule.id for rule in forbids if rule.covers(model)]
        forbidding.update(against_it)
        if for_it and not against_it:
            allowed.append(model)
            permitting.update(for_it)
    if allowed:
        return Permit(tuple(allowed), tuple(sorted(permitting)))
    return Forbid(tuple(sorted(forbidding)))


def _changes(shadow: Rule, enforced: list[Rule], models: tuple[str, ...], answer: Permit | Forbid) -> bool:
    return _allowed(_weigh([*enforced, shadow], models)) != _allowed(answer)


def _allowed(answer: Permit | Forbid) -> tuple[str, ...]:
    return answer.models if isinstance(answer, Permit) else ()
