"""Splits and rollouts as requests and the controller read them.

What is compared has a revision: a hash of all that decides what its arms send
and how they are judged. Whatever of it changes, also in a model that the
section only names, evidence begins anew.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from wissel.config import model
from wissel.config.compile_access import header_match
from wissel.config.compile_models import base_paths
from wissel.config.model.section import Section
from wissel.config.secrets import fetch
from wissel.core.access import HeaderMatch
from wissel.core.rollouts.callers import SHARE
from wissel.core.rollouts.metrics import (
    BUILT_IN,
    GUARD_REQUESTS,
    LIMIT_REQUESTS,
    AnalysisSpec,
    Comparison,
    FixedLimit,
    Guard,
    Metric,
)
from wissel.core.rollouts.spec import FULL_WEIGHT, AnalysisStep, Delivery, Pause, RolloutSpec, SetWeight, Step
from wissel.core.split import KeyKind, KeySource, Match, Split, Variant

DIGITS = 12
"""Of a revision, hexadecimal."""


def digest(meaning: Mapping[str, Any]) -> str:
    """The same for the same meaning, however it was written."""
    text = json.dumps(meaning, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:DIGITS]


@dataclass(frozen=True)
class _Revisions:
    """Of what is compared; who is told of it, and a default that is written out, make no new one."""

    config: model.Config
    salt: str

    @cached_property
    def _models(self) -> Mapping[str, Any]:
        paths = base_paths(self.config)
        return {each.name: {**_meaning(each), "path": paths.get(each.cluster)} for each in self.config.models}

    def of_split(self, each: model.Split) -> str:
        return self._of(each, (variant.model for variant in each.variants))

    def of_rollout(self, each: model.Rollout, analysis: AnalysisSpec | None) -> str:
        metrics = [metric.label for metric in analysis.metrics] if analysis else []
        return self._of(each, (each.stable, each.canary), metrics=metrics)

    def _of(self, section: model.Split | model.Rollout, models: Iterable[str], **more: Any) -> str:
        sent = {name: self._models[name] for name in models}
        ids = _meaning(self.config.conversation)
        return digest({"section": _meaning(section), "models": sent, "conversation": ids, "salt": self.salt, **more})


def _meaning(section: Section) -> dict[str, Any]:
    return section.model_dump(mode="json", exclude={"webhooks"}, exclude_defaults=True)


def compile_splits(config: model.Config, salt: str) -> dict[str, Split]:
    """Splits and rollouts alike, by name."""
    revisions = _Revisions(config, salt)
    splits = [_split(each, revisions) for each in config.splits]
    return {split.name: split for split in (*splits, *(_rollout_split(each, revisions) for each in config.rollouts))}


def _split(each: model.Split, revisions: "_Revisions") -> Split:
    variants = tuple(Variant(variant.name, variant.model, variant.weight) for variant in each.variants)
    key = tuple(_key_source(source) for source in each.key)
    return Split(
        each.name,
        key,
        variants,
        default=variants[0].name,
        revision=revisions.of_split(each),
        caller_share=each.caller_share,
        salt=revisions.salt,
    )


def _rollout_split(each: model.Rollout, revisions: "_Revisions") -> Split:
    """Serves stable only: what more it does is in the rollout's record, which nobody has read yet."""
    spec = _rollout_spec(each, revisions)
    arms = (Variant("canary", spec.canary, 0), Variant("stable", spec.stable, FULL_WEIGHT))
    key = tuple(_key_source(source) for source in each.key)
    return Split(
        each.name,
        key,
        arms,
        default="stable",
        revision=spec.revision,
        step=-1,
        caller_share=_share(each.analysis),
        salt=revisions.salt,
    )


def compile_rollouts(config: model.Config, environ: Mapping[str, str] = os.environ) -> tuple[Delivery, ...]:
    """The rollouts as the controller reads them, in the order of the file. Raises ConfigError for a salt not there."""
    revisions = _Revisions(config, fetch("splits_salt", config.splits_salt, environ) or "")
    return tuple(
        Delivery(
            spec=_rollout_spec(each, revisions),
            match=_match(each.match) if each.match else None,
            prometheus=each.analysis.prometheus if each.analysis else None,
            queries={metric.name: metric.query for metric in each.analysis.metrics if metric.query}
            if each.analysis
            else {},
            caller_share=_share(each.analysis),
            events=tuple(hook.url for hook in each.webhooks if hook.type == "event"),
            confirmations=tuple(hook.url for hook in each.webhooks if hook.type == "confirm_promotion"),
        )
        for each in config.rollouts
    )


def _rollout_spec(each: model.Rollout, revisions: "_Revisions") -> RolloutSpec:
    analysis = _analysis(each.analysis, each.steps) if each.analysis else None
    return RolloutSpec(
        name=each.name,
        revision=revisions.of_rollout(each, analysis),
        stable=each.stable,
        canary=each.canary,
        steps=tuple(_step(step) for step in each.steps),
        analysis=analysis,
        on_failure=each.on_failure,
        baseline=each.baseline,
        confirm_promotion=any(hook.type == "confirm_promotion" for hook in each.webhooks),
    )


def _share(each: model.Analysis | None) -> float:
    return each.caller_share if each else SHARE


def _step(each: model.Weight | model.Pause | model.AnalysisStep) -> Step:
    match each:
        case model.Weight():
            return SetWeight(each.set_weight)
        case model.Pause():
            return Pause(each.pause.duration)
        case model.AnalysisStep():
            return AnalysisStep(each.analysis.duration, proof=each.analysis.proof is not None)


def _analysis(each: model.Analysis, steps: tuple[model.Step, ...]) -> AnalysisSpec:
    named = {metric.name for metric in each.metrics}
    return AnalysisSpec(
        metrics=(
            *(_metric(metric) for metric in each.metrics),
            *(also for also in BUILT_IN if also.measure not in named),
        ),
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
