from typing import Any

from rollout_factories import a_spec, an_analysis, begun, evidence
from wissel.admin.rollouts import standing_view
from wissel.core.rollouts.analysis import Analysis, look
from wissel.core.rollouts.evidence import Missing
from wissel.core.rollouts.metrics import Comparison, FixedLimit, Guard
from wissel.core.rollouts.spec import Delivery
from wissel.rollouts.controller import Standing

SPEC = a_spec(
    analysis=an_analysis(
        Guard("error_rate", 0.25),
        FixedLimit("latency_p95", min=0.5, max=2.0),
        Comparison("error_rate", allowed=0.02),
        Comparison("feedback", "decrease", 0.1, relative=True),
    )
)


def metrics_of(seen: Any) -> list[dict[str, Any]]:
    _, verdict = look(Analysis(), SPEC.analysis, seen)
    return standing_view(Standing(Delivery(SPEC), begun(SPEC), "", verdict, {}))["metrics"]


def test_every_metric_says_what_it_has_to_keep_within():
    assert [each["limit"] for each in metrics_of(evidence())] == [
        {"measure": "error_rate", "unit": "share", "of": "canary", "min": None, "max": 0.25},
        {"measure": "latency_p95", "unit": "s", "of": "canary", "min": 0.5, "max": 2.0},
        {"measure": "error_rate", "unit": "share", "of": "change", "min": None, "max": 0.02},
        {"measure": "feedback", "unit": "share", "of": "change", "min": -0.1, "max": None},
    ]


def test_what_could_not_be_measured_has_no_metrics():
    assert metrics_of(Missing("redis is away")) == []
