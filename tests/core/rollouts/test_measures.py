from collections import Counter

import pytest

from wissel.core.outcome import Outcome, Usage
from wissel.core.rollouts.measures import DURATIONS, MEASURES, OBSERVATIONS, observe, unit_of


def test_every_row_gives_a_metric_and_no_two_rows_the_same():
    names = Counter(name for row in OBSERVATIONS for name in row.measures)

    assert (set(names.values()), [row.name for row in OBSERVATIONS if not row.measures]) == ({1}, [])


@pytest.mark.parametrize("row", OBSERVATIONS, ids=lambda row: row.name)
def test_a_duration_has_quantiles_and_seconds_and_only_a_rate_is_a_share(row):
    assert [quantile is not None for quantile in row.measures.values()] == [row.kind == "duration"] * len(row.measures)
    assert (row.unit == "s", row.unit == "share") == (row.kind == "duration", row.kind == "rate")


@pytest.mark.parametrize(
    ("outcome", "seen"),
    [
        (
            Outcome(
                200, 1.5, "chat", complete=True, ttft=0.2, usage=Usage(10, 20), cost_usd=0.01, finish_reasons=("stop",)
            ),
            {"error": 0.0, "refusal": 0.0, "latency": 1.5, "ttft": 0.2, "tokens_out": 20, "cost_usd": 0.01},
        ),
        (Outcome(200, 1.5, "chat", finish_reasons=("stop", "refusal")), {"error": 0.0, "refusal": 1.0}),
        (Outcome(503, 1.5, "chat", headers_after=0.1), {"error": 1.0, "latency": 0.1}),
    ],
)  # fmt: skip
def test_an_outcome_is_observed_for_what_it_says_and_for_nothing_else(outcome, seen):
    told = ("error", "refusal", "latency", "ttft", "tokens_out", "cost_usd", "feedback")

    assert {name: value for name, value in observe(outcome).items() if name in told} == seen


def test_the_unit_of_a_query_is_not_known():
    assert (unit_of("latency_p95"), unit_of("queue_depth")) == ("s", "")


@pytest.mark.parametrize(
    ("name", "kind", "unit", "worse", "typical", "measures"),
    [
        ("error", "rate", "share", "increase", 0.02, {"error_rate": None}),
        ("refusal", "rate", "share", "increase", 0.02, {"refusal": None}),
        ("feedback", "rate", "share", "decrease", 0.02, {"feedback": None}),
        ("latency", "duration", "s", "increase", 1.0, {"latency_p50": 0.5, "latency_p95": 0.95, "latency_p99": 0.99}),
        ("ttft", "duration", "s", "increase", 0.3, {"ttft_p95": 0.95}),
        ("tokens_out", "amount", "tokens", "increase", 200.0, {"tokens_out": None}),
        ("cost_usd", "amount", "USD", "increase", 0.001, {"cost_usd": None}),
    ],
)  # fmt: skip
def test_a_row_is_what_the_documents_say(name, kind, unit, worse, typical, measures):
    row = next(each for each in OBSERVATIONS if each.name == name)

    assert (row.kind, row.unit, row.worse, row.typical, row.measures) == (kind, unit, worse, typical, measures)
    assert {MEASURES[each].is_rate for each in measures} == {kind == "rate"}
    assert (name in DURATIONS) is (kind == "duration")
