"""What must be true between the values of the file: names that exist, names that differ, weights that add up.

These checks read the document and not the parsed models, so that one run also
finds the unknown target beside the misspelt key. Where a name cannot be read,
its shape is already reported, and nothing is said about those who refer to it.
"""

import ipaddress
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import chain
from urllib.parse import urlsplit

from wissel.apis.models import MODELS_PATH
from wissel.apis.providers import OPENAI, PROVIDERS
from wissel.apis.table import APIS
from wissel.config.document import Mapping, Place, Problem, Sequence, render_path
from wissel.config.model import LOOPBACK_ADMIN, host_and_port, quote
from wissel.config.shapes import suggestion
from wissel.core.access import ANYTHING
from wissel.core.intent import OTHER
from wissel.core.names import OWNED, PREFIX
from wissel.core.rollouts.measures import MEASURES
from wissel.runtime.origin import origin


@dataclass(frozen=True)
class _Names:
    """The names that one part of the file gives."""

    kind: str
    places: tuple[Place, ...]
    complete: bool
    """Whether every one of them could be read."""

    def __contains__(self, name: str) -> bool:
        return name in self.texts

    @cached_property
    def texts(self) -> frozenset[str]:
        return frozenset(place.text for place in self.places if place.text is not None)


def reference_problems(root: Place) -> list[Problem]:
    """Everything that does not fit together."""
    models, splits = _named("model", root["models"]), _named("split", root["splits"])
    rollouts = _named("rollout", root["rollouts"])
    tiers = _named("tier", root["tiers"])
    routes = _named("route", root["routes"])
    entrypoints = _listed("entrypoint", root["entrypoints"])
    aliases = _keys_of("alias", root["aliases"])
    return list(
        chain(
            _doubles((models, splits, rollouts, tiers, entrypoints, aliases), "callers say them all in one field"),
            *(
                _doubles((names,))
                for names in (
                    routes,
                    _named("cluster", root["envoy"]["clusters"]),
                    _named("rule", root["access"]["rules"], "id"),
                    _named("key", root["access"]["keys"], "id"),
                    _named("issuer", root["access"]["jwt"], "issuer"),
                    _named("limit", root["access"]["limits"], "id"),
                    _named("path prefix", root["passthrough"], "path_prefix"),
                )
            ),
            _targets(root, (models, splits, rollouts, tiers), (entrypoints, aliases)),
            _providers(root),
            _fallbacks(root, models, (splits, rollouts, tiers, entrypoints, aliases)),
            _splits(root, models, (splits, rollouts, tiers, entrypoints, aliases)),
            _rollouts(root, models, (splits, rollouts, tiers, entrypoints, aliases)),
            _tiers(root, (models, splits, rollouts), (tiers, entrypoints, aliases)),
            _routes(root, routes),
            _intents(root, routes, entrypoints),
            _clusters(root),
            _passthrough(root),
            _rules(root, models, routes, (splits, rollouts, tiers, entrypoints, aliases)),
            _keys(root),
            _own_headers(root),
            _budgets(root),
            _key_sources(root),
            _listeners(root),
        )
    )


def _named(kind: str, section: Place, key: str = "name") -> _Names:
    items = list(section.items())
    places = tuple(item[key] for item in items)
    readable = not section.present or isinstance(section.node, Sequence)
    return _Names(kind, places, readable and all(place.text is not None for place in places))


def _listed(kind: str, section: Place) -> _Names:
    places = tuple(section.items())
    readable = not section.present or isinstance(section.node, Sequence)
    return _Names(kind, places, readable and all(place.text is not None for place in places))


def _keys_of(kind: str, section: Place) -> _Names:
    # A key is a name of its own; what stands behind it is the target.
    places = tuple(place.as_key() for _, place in section.entries())
    return _Names(kind, places, complete=not section.present or isinstance(section.node, Mapping))


def _doubles(groups: Iterable[_Names], why: str = "") -> Iterator[Problem]:
    first: dict[str, tuple[str, Place]] = {}
    for names in groups:
        for place in names.places:
            if place.text is None:
                continue
            if place.text in first:
                kind, other = first[place.text]
                reason = f", and {why}" if why and kind != names.kind else ""
                yield place.problem(
                    f"{quote(place.text)} already names {_a(kind)} at {render_path(other.path)} "
                    f"in line {other.at.line}{reason}"
                )
            else:
                first[place.text] = names.kind, place


def _unknown(place: Place, wanted: tuple[_Names, ...], others: tuple[_Names, ...] = ()) -> Iterator[Problem]:
    """A problem if `place` names none of `wanted`; `others` are the names that it may have been confused with."""
    name = place.text
    if name is None or any(name in names for names in wanted):
        return
    *others_kinds, last = (names.kind for names in wanted)
    kinds = f"{', '.join(others_kinds)} or {last}" if others_kinds else last
    confused = next((names.kind for names in others if name in names), None)
    if confused:
        yield place.problem(f"{quote(name)} is {_a(confused)}; here belongs a {kinds}")
    elif all(names.complete for names in wanted):
        among = [text for names in wanted for text in names.texts]
        message = f"no {kinds} is named {quote(name)}"
        yield Problem(place.at, place.path, message, hint=partial(suggestion, name, among))


def _a(kind: str) -> str:
    return f"an {kind}" if kind[0] in "aeiou" else f"a {kind}"


def _targets(root: Place, servers: tuple[_Names, ...], others: tuple[_Names, ...]) -> Iterator[Problem]:
    for route in root["routes"].items():
        yield from _unknown(route["target"], servers, others)
    for _, target in root["aliases"].entries():
        yield from _unknown(target, servers, others)


def _fallbacks(root: Place, models: _Names, others: tuple[_Names, ...]) -> Iterator[Problem]:
    for model in root["models"].items():
        seen = {model["name"].text}
        for fallback in model["fallbacks"].items():
            yield from _unknown(fallback, (models,), others)
            if fallback.text is not None and fallback.text in seen:
                what = "the model itself" if fallback.text == model["name"].text else "already a fallback of it"
                yield fallback.problem(f"{quote(fallback.text)} is {what}")
            seen.add(fallback.text)


def _providers(root: Place) -> Iterator[Problem]:
    """What a provider's servers do not have; where none is named, nobody knows."""
    for model in root["models"].items():
        row = PROVIDERS.get(model["provider"].text or "")
        for api in model["apis"].items() if row else ():
            if row and api.text is not None and api.text in APIS and api.text not in row.apis:
                theirs = ", ".join(sorted(row.apis))
                yield api.problem(f"{quote(api.text)} is no API of {row.name}'s servers, which have {theirs}")
        defaults = {name for name, _ in model["defaults"].entries()}
        for name in model["drop_params"].items():
            if name.text in defaults:
                yield name.problem(
                    f"{quote(name.text or '')} is one of its defaults as well; a model gets it or does not"
                )
    for server in chain(root["models"].items(), root["passthrough"].items()):
        row = PROVIDERS.get(server["provider"].text or OPENAI.name)
        if server["api_version"].present and row and row.versions is None:
            named = " or ".join(each.name for each in PROVIDERS.values() if each.versions)
            yield server["api_version"].problem(f"belongs to `provider: {named}`; other servers read no version")


def _tiers(root: Place, wanted: tuple[_Names, ...], others: tuple[_Names, ...]) -> Iterator[Problem]:
    for tier in root["tiers"].items():
        for end in ("strong", "weak"):
            yield from _unknown(tier[end], wanted, others)
        if tier["weak"].text is not None and tier["weak"].text == tier["strong"].text:
            yield tier["weak"].problem(f"{quote(tier['weak'].text)} is the strong end as well")
        if tier["learn"].present and not root["redis"].present:
            yield tier["learn"].problem('what it keeps is kept in redis; add redis: a URL, or "embedded"')
        for limit in ("threshold_min", "threshold_max"):
            if tier["threshold"].present and tier[limit].present:
                yield tier[limit].problem("limits a threshold that moves, and this one is fixed")


def _splits(root: Place, models: _Names, others: tuple[_Names, ...]) -> Iterator[Problem]:
    for split in root["splits"].items():
        weights: list[str | None] = []
        seen: dict[str, Place] = {}
        for variant in split["variants"].items():
            yield from _unknown(variant["model"], (models,), others)
            weights.append(variant["weight"].text)
            named = variant["name"] if variant["name"].present else variant["model"]
            if named.text is None:
                continue
            if named.text in seen:
                yield named.problem(
                    f"{quote(named.text)} already names a variant in line {seen[named.text].at.line}; "
                    "give each variant a name of its own"
                )
            seen.setdefault(named.text, named)
        if weights and all(weight is not None and not weight.strip("0") for weight in weights):
            yield split["variants"].problem("the weights sum to 0, so nobody would be served")


def _rollouts(root: Place, models: _Names, others: tuple[_Names, ...]) -> Iterator[Problem]:
    for rollout in root["rollouts"].items():
        for role in ("stable", "canary"):
            yield from _unknown(rollout[role], (models,), others)
        if rollout["canary"].text is not None and rollout["canary"].text == rollout["stable"].text:
            yield rollout["canary"].problem(
                f"{quote(rollout['canary'].text)} is also stable; there is nothing to roll out"
            )
        analysis = rollout["analysis"]
        for metric in analysis["metrics"].items():
            yield from _metric(metric, has_prometheus=analysis["prometheus"].present)
    if root["rollouts"].present and not root["redis"].present:
        yield root["rollouts"].problem('rollouts keep their state in redis; add redis: a URL, or "embedded"')


def _metric(metric: Place, *, has_prometheus: bool) -> Iterator[Problem]:
    name, query = metric["name"], metric["query"]
    is_built_in = name.text in MEASURES
    if query.present and not has_prometheus:
        yield query.problem("a query needs analysis.prometheus, the URL of the Prometheus that answers it")
    if name.text is None:
        return
    if query.present and is_built_in:
        yield name.problem(f"{quote(name.text)} is a built-in metric; give the query a name of its own")
    if not query.present and not is_built_in:
        hint = partial(suggestion, name.text, tuple(MEASURES))
        yield Problem(name.at, name.path, f"no built-in metric is named {quote(name.text)}", hint=hint)


def _routes(root: Place, routes: _Names) -> Iterator[Problem]:
    fallback = root["intent"]["fallback"].text
    for name in routes.places:
        if name.text == OTHER:
            yield name.problem('"other" is the intent of a request that matches no route; give the route another name')
    if fallback not in routes.texts:
        # Any of the routes may have been meant as the fallback, which needs no description.
        return
    for route in root["routes"].items():
        described = route["description"].present or route["examples"].present
        if isinstance(route.node, Mapping) and not described and route["name"].text != fallback:
            yield route["description"].problem("missing; with neither description nor examples no request matches")


def _intents(root: Place, routes: _Names, entrypoints: _Names) -> Iterator[Problem]:
    fallback = root["intent"]["fallback"]
    yield from _unknown(fallback, (routes,))
    if routes.places and not fallback.present:
        yield fallback.problem("missing; name the route that a request takes whose intent is not known")
    if entrypoints.places and not routes.places and routes.complete:
        yield root["entrypoints"].problem("requests for an entrypoint are routed by intent, and there are no routes")
    if routes.places and not entrypoints.places and entrypoints.complete:
        yield root["routes"].problem("no request reaches the routes; name an entrypoint, such as entrypoints: [auto]")


def _clusters(root: Place) -> Iterator[Problem]:
    if not root["envoy"]["clusters"].present:
        if any(root["envoy"]["discovery"].entries()):
            yield root["envoy"]["discovery"].problem("there are no clusters to publish; list them in envoy.clusters")
        return
    clusters = _named("cluster of envoy.clusters", root["envoy"]["clusters"])
    for item in chain(root["models"].items(), root["passthrough"].items()):
        yield from _unknown(item["cluster"], (clusters,))
    signed = {cluster["name"].text for cluster in root["envoy"]["clusters"].items() if cluster["aws"].present}
    for item in chain(root["models"].items(), root["passthrough"].items()):
        if item["credential"].present and item["cluster"].text in signed:
            yield item["credential"].problem(
                "Envoy signs what goes to this cluster (aws), and shows nothing else there"
            )


def _passthrough(root: Place) -> Iterator[Problem]:
    for entry in root["passthrough"].items():
        place = entry["path_prefix"]
        if place.text is None:
            continue
        prefix = place.text.lower().rstrip("/")
        calls = (path for api in APIS.values() for path in api.paths)
        covered = [path for path in (*calls, MODELS_PATH) if f"{path}/".startswith(f"{prefix}/")]
        if covered:
            yield place.problem(f"{quote(place.text)} covers {covered[0]}, which wissel routes itself")


def _rules(root: Place, models: _Names, routes: _Names, others: tuple[_Names, ...]) -> Iterator[Problem]:
    for rule in root["access"]["rules"].items():
        for place in rule["models"].items():
            if place.text != ANYTHING:
                yield from (
                    replace(each, message=each.message.replace("here belongs a model", "a rule names models"))
                    for each in _unknown(place, (models,), others)
                )
        for place in rule["routes"].items():
            if place.text != ANYTHING:
                yield from _unknown(place, (routes,))


def _keys(root: Place) -> Iterator[Problem]:
    seen: dict[str, Place] = {}
    for key in root["access"]["keys"].items():
        place = key["sha256"]
        if place.text is not None:
            other = seen.setdefault(place.text.lower(), place)
            if other is not place:
                # What stands here may be a secret written by mistake, so it is not repeated.
                yield place.problem(f"the same secret as {render_path(other.path)} in line {other.at.line}")


def _own_headers(root: Place) -> Iterator[Problem]:
    """Conditions on headers that would never be there, since callers' copies are removed."""
    allowed: set[str] = set()
    for place in root["access"]["allow_headers"].items():
        name = (place.text or "").lower()
        allowed.add(name)
        if name in OWNED:
            yield place.problem(f"{quote(name)} is wissel's own answer; no caller may set it")
    for rule in root["access"]["rules"].items():
        seen: set[str] = set()
        for name, place in rule["headers"].entries():
            folded = name.lower()
            if folded in seen:
                yield place.key_problem(f"the header {quote(folded)} has two conditions; letter case does not matter")
            seen.add(folded)
            if folded.startswith(PREFIX) and folded not in allowed:
                yield place.key_problem(_removed(folded))
    for name, place in _headers_read(root):
        if name.startswith(PREFIX) and name not in allowed:
            yield place.problem(_removed(name))


def _headers_read(root: Place) -> Iterator[tuple[str, Place]]:
    """Headers that tell callers or sessions apart, in lower case, and where each is named."""
    limits = (limit["per"] for limit in root["access"]["limits"].items())
    splits = chain(root["splits"].items(), root["rollouts"].items())
    sources = (source for split in splits for source in split["key"].items())
    for place in chain(limits, sources):
        kind, _, name = (place.text or "").partition(":")
        if kind == "header":
            yield name.lower(), place
    pin = root["intent"]["pin"]["header"]
    yield (pin.text or "").lower(), pin


def _budgets(root: Place) -> Iterator[Problem]:
    """A budget of dollars where no model has a price would never be used up."""
    if any(each["price"].present for each in root["models"].items()):
        return
    for limit in root["access"]["limits"].items():
        if limit["usd"].present:
            yield limit["usd"].problem("no model has a price, so nothing would be counted as spent")


def _key_sources(root: Place) -> Iterator[Problem]:
    """Keys that come in plain text could be anyone's."""
    for issuer in root["access"]["jwt"].items():
        place = issuer["jwks"]
        shown = origin(place.text or "")
        if shown.startswith("http://") and not _is_loopback(f"{urlsplit(shown).hostname}:0"):
            yield place.problem(f"{quote(shown)} is not encrypted; use https, or a file")


def _removed(header: str) -> str:
    return f"a caller's {quote(header)} is always removed; list it in access.allow_headers if callers may set it"


def _listeners(root: Place) -> Iterator[Problem]:
    admin = root["listen"]["admin"]
    address = admin.text or LOOPBACK_ADMIN
    if address == root["listen"]["ext_proc"].text and not address.endswith(":0"):
        yield admin.problem(f"{quote(address)} is also the address of listen.ext_proc")
    is_guarded = root["admin"]["token"].present or root["admin"]["tls"]["client_ca"].present
    if not is_guarded and not _is_loopback(address):
        needed = "admin.token or admin.tls.client_ca is required"
        yield admin.problem(f"{quote(address)} can be reached from other machines, so {needed}")


def _is_loopback(address: str) -> bool:
    """Also True of what is no address at all: that is reported as such."""
    try:
        host, _ = host_and_port(address)
    except ValueError:
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
