from dataclasses import replace

import pytest

from factories import model, split
from wissel.admin.activity import activity_view, resting_view, tiers_view
from wissel.core.access import ANONYMOUS
from wissel.core.cooling import Cooling, Rest
from wissel.core.decision import Decision, Denied, Listed, Passed, Routed
from wissel.core.outcome import Outcome, Usage
from wissel.core.plan import Plan
from wissel.core.snapshot import Passthrough
from wissel.core.split import KeySource, TargetingKey
from wissel.core.tier import Budget, Graded, Thresholds, Tier
from wissel.telemetry.counting import RECENT, Telemetry

ROUTED = Routed(
    model("small"),
    "ab",
    "canary",
    "split",
    ANONYMOUS,
    "r1",
    route="talk",
    split=split(small=50, large=50),
    key=TargetingKey(KeySource("header", "x-session-id"), "ada-1815"),
    bucket=7,
)
DENIED = Denied(403, "no", "invalid_request_error", "forbidden", route="talk")
FULL = Outcome(200, 9.0, "chat", usage=Usage(100, 7), cost_usd=0.5)


def test_sums_are_told_by_route_model_and_variant():
    telemetry = Telemetry()
    for outcome in (FULL, replace(FULL, status=503, duration=1.0, usage=None, cost_usd=None)):
        telemetry.decided(ROUTED, 0.001)
        telemetry.ended(ROUTED, outcome)

    assert activity_view(telemetry)["traffic"] == [
        {
            "route": "talk",
            "model": "small",
            "variant": "canary",
            "decided": 2,
            "ended": 2,
            "errors": 1,
            "refused": 0,
            "seconds": 10.0,
            "input_tokens": 100,
            "output_tokens": 7,
            "cost_usd": 0.5,
        }
    ]


def test_a_request_under_way_is_decided_and_not_ended():
    telemetry = Telemetry()
    telemetry.decided(ROUTED, 0.001)
    (way,) = activity_view(telemetry)["traffic"]

    assert (way["decided"], way["ended"]) == (1, 0)


def test_who_hangs_up_makes_no_error():
    telemetry = Telemetry()
    telemetry.ended(ROUTED, Outcome(0, 3.0, "chat", hung_up=True))
    (way,) = activity_view(telemetry)["traffic"]

    assert (way["ended"], way["errors"]) == (1, 0)


def test_ways_without_a_route_have_none():
    telemetry = Telemetry()
    telemetry.decided(replace(ROUTED, route=""), 0.001)

    assert activity_view(telemetry)["traffic"][0]["route"] is None


def test_denials_are_counted_by_code_route_and_limit():
    telemetry = Telemetry()
    for _ in range(2):
        telemetry.decided(DENIED, 0.0)
    telemetry.decided(replace(DENIED, code="rate_limit_exceeded", route="", limit_id="per-key"), 0.0)

    assert activity_view(telemetry)["denials"] == [
        {"code": "forbidden", "route": "talk", "limit": None, "count": 2},
        {"code": "rate_limit_exceeded", "route": None, "limit": "per-key", "count": 1},
    ]


def test_limits_are_told_by_what_came_of_asking():
    telemetry = Telemetry()
    telemetry.drew(None, 0.001)

    assert activity_view(telemetry)["draws"] == {
        "drawn": 0, "local": 0, "exceeded": 0, "unchecked": 0, "uncounted": 1,
    }  # fmt: skip


def test_a_tier_is_told_with_its_budget_and_what_its_strong_end_had():
    tiers = {"thrifty": Tier("thrifty", "large", "small", Budget(0.25, 0.5, 0.01))}
    thresholds = Thresholds(tiers)
    for end in ("strong", "weak"):
        thresholds.served(Graded("thrifty", end, "threshold", 0.5))
    (view,) = tiers_view(tiers, thresholds)

    assert (view["strong"], view["weak"], view["share"], view["realised"], view["requests"]) == (
        "large", "small", 0.25, 0.5, 2,
    )  # fmt: skip


def test_the_latest_comes_first_and_only_so_many_are_kept():
    telemetry = Telemetry()
    for number in range(RECENT + 3):
        telemetry.decided(replace(ROUTED, bucket=number), 0.001)
    buckets = [each["bucket"] for each in activity_view(telemetry)["recent"]]

    assert buckets == list(range(RECENT + 2, 2, -1))


def test_a_flood_of_decisions_hides_no_denial():
    telemetry = Telemetry()
    telemetry.decided(DENIED, 0.0)
    for _ in range(RECENT):
        telemetry.decided(ROUTED, 0.001)

    assert [each["error"]["code"] for each in activity_view(telemetry)["denied"]] == ["forbidden"]


@pytest.mark.parametrize(
    ("decision", "kind"),
    [
        (ROUTED, "routed"),
        (Passed(Passthrough("/v1/files", "files"), ANONYMOUS, "r1"), "passed"),
        (Listed(("m",), ANONYMOUS, "r1"), "listed"),
    ],
)
def test_each_says_what_kind_it_is(decision: Decision, kind: str):
    telemetry = Telemetry()
    telemetry.decided(decision, 0.25)
    (told,) = activity_view(telemetry)["recent"]

    assert (told["kind"], told["seconds"]) == (kind, 0.25)


def test_whose_key_it_was_is_not_told():
    telemetry = Telemetry()
    telemetry.decided(ROUTED, 0.001)
    view = activity_view(telemetry)

    assert view["recent"][0]["key"] == "header:x-session-id"
    assert "1815" not in str(view)


def test_what_a_caller_wrote_is_cut_short():
    telemetry = Telemetry()
    telemetry.decided(replace(DENIED, message="no model " + "x" * 10_000), 0.0)

    assert len(activity_view(telemetry)["denied"][0]["error"]["message"]) == 300


def test_attempts_are_told_by_the_chosen_model_and_the_one_that_was_asked():
    telemetry = Telemetry()
    plan = Plan((model("small"), model("large")))
    for attempts in (1, 2, 2):
        telemetry.ended(replace(ROUTED, plan=plan), replace(FULL, attempts=attempts))
    telemetry.ended(replace(ROUTED, model=model("large"), plan=Plan((model("large"),)), rested="small"), FULL)

    assert sorted(activity_view(telemetry)["attempts"], key=lambda each: each["model"]) == [
        {"chosen": "small", "model": "large", "served": 3, "failed": 0, "rested": 0},
        {"chosen": "small", "model": "small", "served": 1, "failed": 2, "rested": 1},
    ]


def test_where_nothing_has_fallbacks_no_attempts_are_told():
    telemetry = Telemetry()
    telemetry.ended(ROUTED, FULL)

    assert activity_view(telemetry)["attempts"] == []


def test_a_model_that_rests_is_told_with_why_and_until_when():
    cooling = Cooling()
    cooling.heard({"small": Rest("busy", 30.0)}, 10.0)

    assert resting_view(cooling) == [{"model": "small", "why": "busy", "until": 30.0}]
