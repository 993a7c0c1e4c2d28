"""A `Config` into the `Snapshot` that requests are decided by.

Defaults are already filled in and names already checked; what is left is to
fetch the secrets, and to give everything the form that the decision reads.
"""

import os
from collections.abc import Mapping

from wissel.config import model
from wissel.config.compile_access import (
    compile_issuer,
    compile_limit,
    compile_rule,
    compile_spiffe,
    compile_verified,
)
from wissel.config.compile_models import base_paths, compile_models, compile_passthrough, signed_clusters
from wissel.config.compile_rollouts import compile_splits, digest
from wissel.config.secrets import Secrets, fetch
from wissel.core.access import Principal, RuleBook
from wissel.core.bounds import Bounds
from wissel.core.conversation import ConversationIds
from wissel.core.harness import Harness
from wissel.core.pin import PinPolicy
from wissel.core.snapshot import ApiKey, Failover, Health, Route, Snapshot, Terms
from wissel.core.tier import Budget, Learning, Tier
from wissel.errors import ConfigError
from wissel.runtime.redis_url import parse

DECIDING = {
    "models",
    "entrypoints",
    "passthrough",
    "aliases",
    "intent",
    "routes",
    "conversation",
    "splits",
    "splits_salt",
    "rollouts",
    "tiers",
    "access",
    "failover",
    "health",
}
"""The sections that a decision depends on; replicas may differ in the others."""

SALT_CHARS = 16
"""A shorter salt could be guessed from what it deals out."""


def compile_snapshot(config: model.Config, environ: Mapping[str, str] = os.environ) -> Snapshot:
    """The configuration as the decision reads it.

    Raises ConfigError with every secret that cannot be had, those of `admin`, `redis` and the classifier included.
    """
    secrets = Secrets(environ)
    secrets.find("admin.token", config.admin.token)
    secrets.find("admin.viewer_token", config.admin.viewer_token)
    _find_redis(config, secrets)
    for place, secret in _classifier_secrets(config.intent):
        secrets.find(place, secret)
    salt = secrets.find("splits_salt", config.splits_salt) or ""
    if 0 < len(salt) < SALT_CHARS:
        secrets.problems.append(f"splits_salt: is too short to be a secret; it should have {SALT_CHARS} characters")
    access = config.access
    matters = access is not None and any(rule.models is not None for rule in access.rules)
    models = compile_models(config, secrets)
    passthrough = compile_passthrough(config, secrets, matters=matters)
    if secrets.problems:
        raise ConfigError(secrets.problems)
    return Snapshot(
        revision=revision(config, salt),
        models=models,
        splits=compile_splits(config, salt),
        tiers={each.name: _tier(each) for each in config.tiers},
        routes={each.name: _route(each) for each in config.routes},
        entrypoints=frozenset(config.entrypoints),
        aliases=dict(config.aliases),
        fallback=config.intent.fallback or "",
        pin=PinPolicy(config.intent.pin.header, config.intent.pin.keep) if config.intent.pin else None,
        conversation=ConversationIds(
            config.conversation.headers, config.conversation.members, Harness(config.intent.strip)
        ),
        health=Health(config.health.failures, config.health.window, config.health.cooldown),
        keep_origins=config.affinity.keep,
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
        default_output_tokens=access.default_output_tokens if access else 0,
        terms=Terms(
            allow_headers=access.allow_headers if access else frozenset(),
            upgrades=tuple(each.path_prefix for each in config.passthrough if each.upgrade),
            passthrough=passthrough,
            max_body_bytes=config.listen.max_body_bytes,
            bounds=Bounds(**config.listen.bounds.model_dump()),
            failover=Failover(
                attempts=config.failover.attempts,
                deadline=config.failover.deadline,
                statuses=config.failover.statuses,
                holds=config.failover.holds,
                on_refusal=config.failover.on_refusal,
                accept_models=config.failover.accept_models,
            ),
        ),
    )


def revision(config: model.Config, salt: str = "") -> str:
    """The hash of what the configuration means for decisions, 12 hex digits.

    Layout, comments, the order of keys and defaults that are written out make no
    difference; nor does the value of a secret, so a rotated credential begins no
    new evidence for a rollout. Of the salt it does: it deals out anew.
    """
    return digest(
        {
            **config.model_dump(mode="json", include=DECIDING),
            "paths": base_paths(config),
            "signed": sorted(signed_clusters(config)),
            "salt": salt,
        }
    )


def admin_token(config: model.Config, environ: Mapping[str, str] = os.environ) -> str | None:
    """What callers of the admin API must send; None if they need nothing. Raises ConfigError."""
    return fetch("admin.token", config.admin.token, environ)


def viewer_token(config: model.Config, environ: Mapping[str, str] = os.environ) -> str | None:
    """What those who only look may send instead; None if there is no such token. Raises ConfigError."""
    return fetch("admin.viewer_token", config.admin.viewer_token, environ)


def redis_url(config: model.Config, environ: Mapping[str, str] = os.environ) -> str | None:
    """Where Redis is, or "embedded"; None if there is none. Raises ConfigError."""
    secrets = Secrets(environ)
    found = _find_redis(config, secrets)
    if secrets.problems:
        raise ConfigError(secrets.problems)
    return found


def _find_redis(config: model.Config, secrets: Secrets) -> str | None:
    if not isinstance(config.redis, model.Redis):
        return config.redis
    found = secrets.find("redis.url", config.redis.url)
    try:
        if found is not None:
            parse(found)
    except ValueError as error:
        secrets.problems.append(f"redis.url: what is kept there {error}")
    return found


def classifier_keys(intent: model.Intent, environ: Mapping[str, str] = os.environ) -> dict[model.Secret, str]:
    """The API keys of the remote classifiers and encoder, by where they are kept. Raises ConfigError."""
    secrets = Secrets(environ)
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


def _route(each: model.Route) -> Route:
    return Route(
        name=each.name,
        target=each.target,
        description=each.description or "",
        domain=each.domain or "",
        action=each.action or "",
        examples=each.examples,
    )


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
