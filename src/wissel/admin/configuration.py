"""The configuration in use, as far as everybody who may call the admin API should see it: nothing secret."""

from dataclasses import asdict

from wissel.admin.views import View
from wissel.core.access import RuleBook
from wissel.core.limits import NANO
from wissel.core.snapshot import Limit, Model, Rate, Route, Snapshot
from wissel.core.split import Split


def configuration_view(snapshot: Snapshot, detail: View) -> View:
    """`detail` is that of readiness; it has the problem of a file that is not in use."""
    return {
        "revision": snapshot.revision,
        "problem": detail.get("config_problem"),
        "entrypoints": sorted(snapshot.entrypoints),
        "aliases": dict(snapshot.aliases),
        "fallback": snapshot.fallback or None,
        "names": list(snapshot.names),
        "routes": [_route_view(each) for each in snapshot.routes.values()],
        "models": [_model_view(each) for each in snapshot.models.values()],
        "splits": [_split_view(each) for each in snapshot.splits.values()],
        "passthrough": [{"path_prefix": each.path_prefix, "cluster": each.cluster} for each in snapshot.passthrough],
        "limits": [_limit_view(each) for each in snapshot.limits],
        "on_store_failure": snapshot.on_store_failure,
        "default_output_tokens": snapshot.default_output_tokens,
        "access": _access_view(snapshot, snapshot.rules) if snapshot.rules is not None else None,
    }


def _route_view(route: Route) -> View:
    return {
        "name": route.name,
        "target": route.target,
        "description": route.description,
        "domain": route.domain or None,
        "action": route.action or None,
    }


def _model_view(model: Model) -> View:
    return {
        "name": model.name,
        "cluster": model.cluster,
        "upstream_model": model.upstream_model,
        "apis": sorted(model.apis),
        "accepts": sorted(model.accepts),
        "context": model.context,
        "price": asdict(model.price) if model.price else None,
    }


def _split_view(split: Split) -> View:
    return {
        "name": split.name,
        "key": [str(source) for source in split.key],
        "variants": [{"name": each.name, "model": each.model, "weight": each.weight} for each in split.variants],
    }


def _limit_view(limit: Limit) -> View:
    return {
        "id": limit.id,
        "per": f"header {limit.header}" if limit.header else limit.per,
        "requests": _rate_view(limit.requests),
        "tokens": _rate_view(limit.tokens),
        "usd": _rate_view(limit.usd, unit=NANO),
        "concurrent": limit.concurrent,
    }


def _rate_view(rate: Rate | None, *, unit: int = 1) -> View | None:
    return None if rate is None else {"amount": rate.amount / unit, "seconds": rate.seconds}


def _access_view(snapshot: Snapshot, rules: RuleBook) -> View:
    return {
        "principals": sorted({key.principal.id for key in snapshot.keys.values()}),
        "rules": [{"id": rule.id, "effect": rule.effect, "shadow": rule.shadow} for rule in rules.rules],
    }
