"""A `Config` into the `Snapshot` that requests are decided by.

Defaults are already filled in and names already checked; what is left is to
fetch the secrets, and to give everything the form that the decision reads.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from wissel.config import model
from wissel.config.compile_access import (
    compile_issuer,
    compile_limit,
    compile_rule,
    compile_spiffe,
    compile_verified,
    header_match,
)
from wissel.core.access import HeaderMatch, Principal, RuleBook
from wissel.core.bounds import Bounds
from wissel.core.pin import PinPolicy
from wissel.core.rollouts.metrics import (
    GUARD_REQUESTS,
    LIMIT_REQUESTS,
    AnalysisSpec,
    Comparison,
    FixedLimit,
    Guard,
    Metric,
)
from wissel.core.rollouts.spec import FULL_WEIGHT, AnalysisStep, Delivery, Pause, RolloutSpec, SetWeight, Step
from wissel.core.snapshot import ApiKey, Credential, Model, Passthrough, Price, Route, Snapshot, Terms
from wissel.core.split import KeyKind, KeySource, Match, Split, Variant
from wissel.core.tier import Budget, Learning, Tier
from wissel.errors import ConfigError

DECIDING = {
    "models",
    "entrypoints",
    "passthrough",
    "aliases",
    "intent",
    "routes",
    "splits",
    "rollouts",
    "tiers",
    "access",
}
"""The sections that a decision depends on; replicas may differ in the others."""


def compile_snapshot(config: model.Config, environ: Mapping[str, str] = os.environ) -> Snapshot:
    """The configuration as the decision reads it.

    Raises ConfigError with every secret that cannot be had, those of `admin`, `redis` and the classifier included.
    """
    secrets = _Secrets(environ)
    secrets.find("admin.token", config.admin.token)
    secrets.find("admin.viewer_token", config.admin.viewer_token)
    secrets.find("redis.url", config.redis.url if isinstance(config.redis, model.Redis) else None)
    for place, secret in _classifier_secrets(config.intent):
        secrets.find(place, secret)
    models = {each.name: _model(each, f"models[{at}]", secrets) for at, each in enumerate(config.models)}
    if secrets.problems:
        raise ConfigError(secrets.problems)
    access = config.access
    matters = access is not None and any(rule.models is not None for rule in access.rules)
    passthrough = tuple(
        Passthrough(each.path_prefix, each.cluster, each.upgrade, reads_models=matters and each.names_models)
        for each in sorted(config.passthrough, key=lambda each: (-len(each.path_prefix), each.path_prefix))
    )
    return Snapshot(
        revision=revision(config),
        models=models,
        splits={
            **{each.name: _split(each) for each in config.splits},
            **{each.name: _rollout_split(each) for each in config.rollouts},
        },
        tiers={each.name: _tier(each) for each in config.tiers},
        routes={each.name: _route(each) for each in config.routes},
        entrypoints=frozenset(config.entrypoints),
        aliases=dict(config.aliases),
        fallback=config.intent.fallback or "",
        pin=PinPolicy(config.intent.pin.header, config.intent.pin.keep) if config.intent.pin else None,
        passthrough=passthrough,
        keys={each.sha256: ApiKey(Principal(each.id, each.groups), each.sha256) for each in access.keys}
        if access
        else {},
        rules=RuleBook(compile_rule(each) for each in access.rules) if access else None,
        issuers=tuple(compile_issuer(each) for each in access.jwt) if access else (),
        spiffe=compile_spiffe(access.spiffe) if access else "",
        verified=compile_verified(access.envoy_identity) if access and access.envoy_identity else None,
        limits=tuple(compile_limit(each) for each in access.limits) if access else (),
        on_store_failure=access.on_store_failure if access else "local",
        terms=Terms(
            allow_headers=access.allow_headers if access else frozenset(),
            upgrades=tuple(each.path_prefix for each in config.passthrough if each.upgrade),
            passthrough=passthrough,
            max_body_bytes=config.listen.max_body_bytes,
            bounds=Bounds(**config.listen.bounds.model_dump()),
        ),
    )


def revision(config: model.Config) -> str:
    """The hash of what the configuration means for decisions, 12 hex digits.

    Layout, comments, the order of keys and defaults that are written out make no
    difference; nor does the value of a secret, so a rotated credential begins no
    new evidence for a rollout.
    """
    meaning = json.dumps(config.model_dump(mode="json", include=DECIDING), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(meaning.encode()).hexdigest()[:12]


def admin_token(config: model.Config, environ: Mapping[str, str] = os.environ) -> str | None:
    """What callers of the admin API must send; None if they need nothing. Raises ConfigError."""
    return _fetch("admin.token", config.admin.token, environ)


def viewer_token(config: model.Config, environ: Mapping[str, str] = os.environ) -> str | None:
    """What those who only look may send instead; None if there is no such token. Raises ConfigError."""
    return _fetch("admin.viewer_token", config.admin.viewer_token, environ)


def redis_url(config: model.Config, environ: Mapping[str, str] = os.environ) -> str | None:
    """Where Redis is, or "embedded"; None if there is none. Raises ConfigError."""
    if isinstance(config.redis, model.Redis):
        return _fetch("redis.url", config.redis.url, environ)
    return config.redis


def classifier_keys(intent: model.Intent, environ: Mapping[str, str] = os.environ) -> dict[model.Secret, str]:
    """The API keys of the remote classifiers and encoder, by where they are kept. Raises ConfigError."""
    secrets = _Secrets(environ)
    found = {secret: secrets.find(place, secret) for place, secret in _classifier_secrets(intent)}
    if secrets.problems:
        raise ConfigError(secrets.problems)
    return {secret: key for secret, key in found.items() if key is not None}


def _classifier_secrets(intent: model.Intent) -> list[tuple[str, model.Secret]]:
    found = [
        (f"{place}.api_key", stage.api_key)
        for place, stage in intent.stages
        if isinstance(stage, model.RemoteClassifier) and stage.api_key is not None
    ]
    if isinstance(intent.encoder, model.RemoteEncoder) and intent.encoder.api_key is not None:
        found.append(("intent.encoder.api_key", intent.encoder.api_key))
    return found


def _fetch(place: str, secret: model.Secret | None, environ: Mapping[str, str]) -> str | None:
    secrets = _Secrets(environ)
    found = secrets.find(place, secret)
    if secrets.problems:
        raise ConfigError(secrets.problems)
    return found


class _Secrets:
    """Fetches secrets and notes those that cannot be had."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self.problems: list[str] = []

    def find(self, place: str, secret: model.Secret | None) -> str | None:
        if secret is None:
            return None
        try:
            return self._read(secret)
        except _NoSecretError as error:
            self.problems.append(f"{place}: {error}")
            return None

    def _read(self, secret: model.Secret) -> str:
        if secret.file is not None:
            where = f'the file "{secret.file}"'
            try:
                found = Path(secret.file).read_text(encoding="utf-8").strip()
            except (OSError, ValueError) as error:
                why = error.strerror.lower() if isinstance(error, OSError) and error.strerror else "not text"
                raise _NoSecretError(f"{where} cannot be read: {why}") from error
        else:
            where = f'the environment variable "{secret.env}"'
            value = self._environ.get(secret.env or "")
            if value is None:
                raise _NoSecretError(f"{where} is not set")
            found = value.strip()
        if not found:
            raise _NoSecretError(f"{where} is empty")
        if not (found.isascii() and found.isprintable()):
            raise _NoSecretError(f"{where} holds what no header can carry; it should be printable ASCII on one line")
        return found


class _NoSecretError(Exception):
    """Why a secret cannot be had."""


def _model(each: model.Model, place: str, secrets: _Secrets) -> Model:
    return Model(
        name=each.name,
        cluster=each.cluster,
        upstream_model=each.upstream_model,
        apis=each.apis,
        accepts=each.accepts,
        context=each.context,
        credential=_credential(each.credential, f"{place}.credential", secrets),
        price=Price(each.price.input, each.price.output) if each.price else None,
    )


def _credential(written: model.Secret | Literal["forward"] | None, place: str, secrets: _Secrets) -> Credential | None:
    match written:
        case None:
            return None
        case "forward":
            return Credential("forward")
        case model.Secret():
            return Credential("secret", secrets.find(place, written) or "")


def _route(each: model.Route) -> Route:
    return Route(
        name=each.name,
        target=each.target,
        description=each.description or "",
        domain=each.domain or "",
        action=each.action or "",
        examples=each.examples,
    )


def _split(each: model.Split) -> Split:
    variants = tuple(Variant(variant.name, variant.model, variant.weight) for variant in each.variants)
    key = tuple(_key_source(source) for source in each.key)
    return Split(each.name, key, variants, default=variants[0].name, revision=_hash(each))


def _rollout_split(each: model.Rollout) -> Split:
    """Serves stable only: what more it does is in the rollout's record, which nobody has read yet."""
    spec = _rollout_spec(each)
    arms = (Variant("canary", spec.canary, 0), Variant("stable", spec.stable, FULL_WEIGHT))
    key = tuple(_key_source(source) for source in each.key)
    return Split(each.name, key, arms, default="stable", revision=spec.revision, step=-1)


def compile_rollouts(config: model.Config) -> tuple[Delivery, ...]:
    """The rollouts as the controller reads them, in the order of the file."""
    return tuple(
        Delivery(
            spec=_rollout_spec(each),
            match=_match(each.match) if each.match else None,
            prometheus=each.analysis.prometheus if each.analysis else None,
            queries={metric.name: metric.query for metric in each.analysis.metrics if metric.query}
            if each.analysis
            else {},
            events=tuple(hook.url for hook in each.webhooks if hook.type == "event"),
            confirmations=tuple(hook.url for hook in each.webhooks if hook.type == "confirm_promotion"),
        )
        for each in config.rollouts
    )


def _rollout_spec(each: model.Rollout) -> RolloutSpec:
    return RolloutSpec(
        name=each.name,
        revision=_hash(each),
        stable=each.stable,
        canary=each.canary,
        steps=tuple(_step(step) for step in each.steps),
        analysis=_analysis(each.analysis, each.steps) if each.analysis else None,
        on_failure=each.on_failure,
        baseline=each.baseline,
        confirm_promotion=any(hook.type == "confirm_promotion" for hook in each.webhooks),
    )


def _hash(section: model.Split | model.Rollout) -> str:
    """Of what is compared; who is told of it makes no new revision."""
    meaning = json.dumps(section.model_dump(mode="json", exclude={"webhooks"}), sort_keys=True)
    return hashlib.sha256(meaning.encode()).hexdigest()[:12]


def _step(each: model.Weight | model.Pause | model.AnalysisStep) -> Step:
    match each:
        case model.Weight():
            return SetWeight(each.set_weight)
        case model.Pause():
            return Pause(each.pause.duration)
        case model.AnalysisStep():
            return AnalysisStep(each.analysis.duration, proof=each.analysis.proof is not None)


def _analysis(each: model.Analysis, steps: tuple[model.Step, ...]) -> AnalysisSpec:
    return AnalysisSpec(
        metrics=tuple(_metric(metric) for metric in each.metrics),
        interval=each.interval,
        min_requests=each.min_requests,
        alpha=each.alpha,
        inconclusive_limit=each.inconclusive_limit,
        consecutive_error_limit=each.consecutive_error_limit,
        on_no_data=each.on_no_data,
        proof=any(isinstance(step, model.AnalysisStep) and step.analysis.proof for step in steps),
    )


def _metric(each: model.Metric) -> Metric:
    if each.guard and each.max is not None:
        return Guard(each.name, _amount(each.max)[0], each.min_requests or GUARD_REQUESTS, dry_run=each.dry_run)
    if each.allowed_increase is not None:
        return Comparison(each.name, "increase", *_amount(each.allowed_increase), dry_run=each.dry_run)
    if each.allowed_decrease is not None:
        return Comparison(each.name, "decrease", *_amount(each.allowed_decrease), dry_run=each.dry_run)
    return FixedLimit(
        each.name,
        max=None if each.max is None else _amount(each.max)[0],
        min=None if each.min is None else _amount(each.min)[0],
        failure_limit=each.failure_limit,
        min_requests=each.min_requests or LIMIT_REQUESTS,
        dry_run=each.dry_run,
    )


def _amount(written: str) -> tuple[float, bool]:
    """(value, whether it is a share): "10%" is 0.1 of stable's own, "1500ms" is 1.5 seconds."""
    if written.endswith("%"):
        return float(written[:-1]) / 100, True
    if written.endswith("ms"):
        return float(written[:-2]) / 1000, False
    return float(written.removesuffix("s")), False


def _match(each: model.Target) -> Match:
    def conditions(written: Mapping[str, model.HeaderCondition] | None) -> tuple[HeaderMatch, ...]:
        return tuple(header_match(name, condition) for name, condition in (written or {}).items())

    return Match(conditions(each.headers), conditions(each.claims))


_FIRST_STEP = 0.01
"""Of a threshold whose grader nobody calibrated: win rates lie between 0 and 1."""


def _tier(each: model.Tier) -> Tier:
    if each.threshold is not None:
        policy = each.threshold
    else:
        share = each.strong_share or 0.0
        start = min(max(1 - share, each.threshold_min), each.threshold_max)
        policy = Budget(share, start, _FIRST_STEP, each.threshold_min, each.threshold_max)
    learn = each.learn
    learning = Learning(learn.explore, learn.prompts, learn.keep, learn.max_requests) if learn else None
    return Tier(each.name, each.strong, each.weak, policy, each.fallback, each.deadline_ms / 1000, learning)


_KINDS: dict[str, KeyKind] = {
    "header": "header",
    "claim": "claim",
    "principal": "principal",
    "conversation": "conversation",
    "request": "request",
}


def _key_source(written: str) -> KeySource:
    kind, _, name = written.partition(":")
    return KeySource(_KINDS[kind], name)
