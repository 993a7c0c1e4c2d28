"""The section `rollouts`: what is checked in it, and what the controller reads of it."""

from collections.abc import Mapping

import pytest

from wissel.config import compile_rollouts, compile_snapshot, parse
from wissel.core.access import HeaderMatch
from wissel.core.rollouts.arms import apply
from wissel.core.rollouts.metrics import BUILT_IN, Comparison, FixedLimit, Guard
from wissel.core.rollouts.rollout import Rollout
from wissel.core.rollouts.spec import AnalysisStep, Pause, SetWeight
from wissel.core.split import Match, Variant
from wissel.errors import ConfigError

BASE = """
redis: redis://127.0.0.1:6379/0
models:
  - {name: old, cluster: a}
  - {name: new, cluster: b}
rollouts:
  - name: chat-v2
    stable: old
    canary: new
    match: {headers: {X-Beta: {exact: "yes"}}}
    steps: [{set_weight: 1}, {pause: {duration: 10m}}, {pause: {}}, {analysis: {proof: non_inferior}}, {set_weight: 50}]
    analysis:
      interval: 30s
      metrics:
        - {name: error_rate, max: 0.25, guard: true}
        - {name: error_rate, allowed_increase: 0.01}
        - {name: latency_p95, allowed_increase: 10%}
        - {name: ttft_p95, max: 1500ms, failure_limit: 3}
        - {name: feedback, allowed_decrease: 0.05, dry_run: true}
    webhooks: [{type: event, url: "http://hooks.example/x"}, {type: confirm_promotion, url: "http://hooks.example/y"}]
"""


def problems(text: str) -> str:
    with pytest.raises(ConfigError) as refused:
        parse(text, "f")
    return str(refused.value)


def test_a_rollout_compiles_completely():
    (delivery,) = compile_rollouts(parse(BASE))
    spec = delivery.spec

    assert spec.steps == (
        SetWeight(1), Pause(600.0), Pause(None), AnalysisStep(0.0, proof=True), SetWeight(50),
    )  # fmt: skip
    assert spec.analysis is not None
    assert spec.analysis.metrics == (
        Guard("error_rate", 0.25, 50),
        Comparison("error_rate", "increase", 0.01),
        Comparison("latency_p95", "increase", 0.1, relative=True),
        FixedLimit("ttft_p95", max=1.5, failure_limit=3),
        Comparison("feedback", "decrease", 0.05, dry_run=True),
        *BUILT_IN,
    )
    assert spec.analysis.proof
    assert spec.confirm_promotion
    assert delivery.match == Match((HeaderMatch("x-beta", "exact", "yes"),))
    assert (delivery.events, delivery.confirmations) == (("http://hooks.example/x",), ("http://hooks.example/y",))


def test_a_metric_that_the_operator_wrote_stands_for_the_built_in_one():
    written = "- {name: refused_rate, allowed_increase: 0.05, dry_run: true}"
    (delivery,) = compile_rollouts(parse(BASE.replace("- {name: latency_p95, allowed_increase: 10%}", written)))
    assert delivery.spec.analysis is not None

    assert [each for each in delivery.spec.analysis.metrics if each.measure == "refused_rate"] == [
        Comparison("refused_rate", allowed=0.05, dry_run=True)
    ]


def test_until_its_record_is_read_a_rollout_serves_stable_only():
    split = compile_snapshot(parse(BASE)).splits["chat-v2"]

    assert split.variants == (Variant("canary", "new", 0), Variant("stable", "old", 100))
    assert split.match is None


def test_a_record_of_this_revision_moves_the_split():
    config = parse(BASE)
    split, (delivery,) = compile_snapshot(config).splits["chat-v2"], compile_rollouts(config)
    moved = apply(split, Rollout("chat-v2", delivery.spec.revision, 3, at=0.0, window=0, weight=1), delivery)

    assert moved.variants == (Variant("canary", "new", 1), Variant("stable", "old", 99))
    assert (moved.match, moved.attempt, moved.step) == (delivery.match, 3, 0)


def test_a_record_of_another_revision_moves_nothing():
    config = parse(BASE)
    split, (delivery,) = compile_snapshot(config).splits["chat-v2"], compile_rollouts(config)

    assert apply(split, Rollout("chat-v2", "another", 1, at=0.0, weight=50), delivery) == split


def test_a_rollback_takes_the_canary_from_targeted_callers_too():
    config = parse(BASE)
    split, (delivery,) = compile_snapshot(config).splits["chat-v2"], compile_rollouts(config)
    back = apply(split, Rollout("chat-v2", delivery.spec.revision, 1, at=0.0, is_aborted=True), delivery)

    assert (back.match, back.variants[0].weight) == (None, 0)


def test_who_is_told_makes_no_new_revision():
    (first,), (second,) = (
        compile_rollouts(parse(text)) for text in (BASE, BASE.replace("hooks.example/x", "hooks.example/z"))
    )

    assert first.spec.revision == second.spec.revision


def revision(text: str, environ: Mapping[str, str] | None = None) -> str:
    (delivery,) = compile_rollouts(parse(text), environ or {})
    return delivery.spec.revision


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("set_weight: 50", "set_weight: 40"),
        ("cluster: b}", "cluster: c}"),
        ("cluster: a}", "cluster: c}"),
        ("cluster: b}", "cluster: b, upstream_model: other}"),
        ("cluster: b}", "cluster: b, credential: {env: OTHER}}"),
        ("cluster: b}", "cluster: b, credential: forward}"),
        ("cluster: b}", "cluster: b, price: {input: 3}}"),
        ("cluster: b}", "cluster: b, accepts: [text, image]}"),
        ("cluster: b}", "cluster: b, context: 8192}"),
        ("10%", "20%"),
    ],
)
def test_whatever_its_arms_send_or_are_judged_by_makes_a_new_revision(before: str, after: str):
    assert revision(BASE.replace(before, after)) != revision(BASE)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("cluster: b}", "cluster: b, upstream_model: new}"),
        ("cluster: b}", "cluster: b, apis: [completions, chat]}"),
        ("cluster: b}", "cluster: b}\n  - {name: third, cluster: c}"),
        ("stable: old", "stable: old\n    on_failure: rollback"),
    ],
)
def test_what_changes_nothing_for_its_arms_makes_none(before: str, after: str):
    assert revision(BASE.replace(before, after)) == revision(BASE)


def test_another_salt_makes_a_new_revision_of_rollouts_and_splits():
    text = f"{BASE}splits_salt: {{env: SALT}}\nsplits: [{{name: s, variants: [{{model: old, weight: 1}}]}}]\n"
    found = [compile_snapshot(parse(text), {"SALT": salt * 16}) for salt in "ab"]

    assert len({each.revision for each in found}) == 2
    assert len({each.splits["s"].revision for each in found}) == 2
    assert len({each.splits["chat-v2"].revision for each in found}) == 2


def test_the_controller_and_the_requests_see_one_revision():
    text = f"{BASE}splits_salt: {{env: SALT}}\n"
    environ = {"SALT": "a" * 16}

    assert compile_snapshot(parse(text), environ).splits["chat-v2"].revision == revision(text, environ)


@pytest.mark.parametrize(
    ("environ", "problem"),
    [
        ({}, 'splits_salt: the environment variable "SALT" is not set'),
        ({"SALT": "short"}, "splits_salt: is too short to be a secret; it should have 16 characters"),
    ],
)
def test_a_salt_that_is_none_is_refused(environ: Mapping[str, str], problem: str):
    with pytest.raises(ConfigError) as refused:
        compile_snapshot(parse(f"{BASE}splits_salt: {{env: SALT}}\n"), environ)

    assert refused.value.problems == [problem]


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (
            "redis: redis://127.0.0.1:6379/0\n",
            "",
            'rollouts keep their state in redis; add redis: a URL, or "embedded"',
        ),
        ("canary: new", "canary: nwe", 'rollouts[0].canary: no model is named "nwe"; did you mean "new"?'),
        ("canary: new", "canary: old", '"old" is also stable; there is nothing to roll out'),
        ("name: ttft_p95", "name: ttft_p59", 'no built-in metric is named "ttft_p59"; did you mean "ttft_p95"?'),
        ("duration: 10m", "duration: 10", 'should be a duration such as "150ms", "30s", "10m" or "1h", and is "10"'),
        ("set_weight: 50", "set_weight: 101", "should be at most 100, and is"),
        ("max: 1500ms, failure_limit: 3", "failure_limit: 3", "should have either max or min, or one of"),
        ("max: 0.25, guard", "min: 0.25, guard", "a guard should have max alone"),
        (
            "{name: feedback",
            "{name: gpu, query: up",
            "a comparison takes neither failure_limit nor min_requests nor query",
        ),
        ("{pause: {}}", "{paws: {}}", 'unknown key "paws"'),
    ],
)
def test_what_is_wrong_with_a_rollout_is_told(old, new, told):
    assert told in problems(BASE.replace(old, new))
