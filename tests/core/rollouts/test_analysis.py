from dataclasses import replace

import pytest

from rollout_factories import an_analysis, an_arm, evidence, sample
from wissel.core.rollouts.analysis import Analysis, Blocks, Judgement, Reading, Verdict, look, unlooked
from wissel.core.rollouts.evidence import Evidence, Missing
from wissel.core.rollouts.metrics import BUILT_IN, AnalysisSpec, Comparison, FixedLimit, Guard

GUARD = Guard("error_rate", 0.25)
BAD = evidence(an_arm(1000, 100))


def after(spec: AnalysisSpec, *seen: Evidence | Missing) -> Verdict:
    return both_after(spec, *seen)[1]


def both_after(spec: AnalysisSpec, *seen: Evidence | Missing) -> tuple[Analysis, Verdict]:
    analysis, verdict = look(Analysis(), spec, seen[0])
    for each in seen[1:]:
        analysis, verdict = look(analysis, spec, each)
    return analysis, verdict


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (evidence(), "pass"),
        (BAD, "fail"),
        (evidence(an_arm(99, 2), an_arm(900, 18)), "waiting"),
        (evidence(an_arm(1500, 30)), "inconclusive"),
        (evidence(an_arm(0, 0), an_arm(9, 0)), "no_data"),
        (Missing("redis is away"), "no_data"),
    ],
)
def test_every_kind_of_evidence_has_its_judgement(seen: Evidence | Missing, expected: Judgement):
    assert after(an_analysis(), seen).judgement == expected


def test_a_verdict_says_which_metric_and_what_it_saw():
    assert after(an_analysis(), BAD).reason == (
        "error_rate allowed_increase 0: canary 0.1 against 0.02, worse than is allowed"
    )


def test_a_dry_run_is_read_and_not_obeyed():
    verdict = after(an_analysis(Comparison("error_rate", dry_run=True)), BAD)

    assert (verdict.judgement, verdict.readings[0].judgement) == ("pass", "fail")


def test_alpha_is_shared_by_the_comparisons_that_act():
    spec = an_analysis(Comparison("error_rate"), Comparison("refusal"), Comparison("cost_usd", dry_run=True), GUARD)

    assert spec.comparison_alpha == pytest.approx(0.005)


def test_a_guard_acts_at_fifty_requests():
    seen = [evidence(an_arm(n, n // 2), an_arm(9 * n, 0)) for n in (49, 50)]
    verdicts = [after(an_analysis(GUARD), each) for each in seen]

    assert [(v.judgement, v.by_guard) for v in verdicts] == [("waiting", False), ("fail", True)]


def test_a_guard_counts_every_request_however_few_the_keys():
    few = an_arm(6, 6, keys=2, served=60, failed=60)

    assert after(an_analysis(GUARD), evidence(few)).by_guard


def test_a_guard_acts_despite_a_sample_ratio_alarm():
    assert after(an_analysis(GUARD), evidence(an_arm(3000, 2000))).judgement == "fail"


def test_a_sample_ratio_alarm_stops_what_is_no_guard():
    verdict = after(an_analysis(), evidence(an_arm(3000, 2000)))

    assert (verdict.judgement, verdict.reason.partition(":")[0]) == ("inconclusive", "sample ratio mismatch")


def test_a_sample_ratio_alarm_lasts_for_the_step_and_no_longer():
    alarmed = evidence(an_arm(3000, 60))
    later = evidence(an_arm(100_000, 2000), an_arm(900_000, 18_000))
    next_step = replace(later, step=1)

    assert after(an_analysis(), alarmed, later).judgement == "inconclusive"
    assert after(an_analysis(), alarmed, next_step).judgement == "pass"


def test_a_guard_sees_a_canary_break_after_a_long_good_time():
    good = evidence(an_arm(10_000, 100), an_arm(90_000, 900))
    broken = evidence(an_arm(10_200, 300), an_arm(91_800, 918))

    assert after(an_analysis(GUARD), good, broken).by_guard


@pytest.mark.parametrize(
    ("begun", "failing", "expected"),
    [(49, 49, "waiting"), (50, 13, "fail"), (50, 12, "waiting"), (500, 100, "waiting")],
)
def test_a_guard_waits_for_no_window_and_counts_what_is_under_way_as_good(
    begun: int, failing: int, expected: Judgement
):
    canary = an_arm(0, 0, begun=begun, failing=failing)

    assert after(an_analysis(GUARD), evidence(canary, an_arm(0, 0, begun=400))).judgement == expected


def test_what_is_under_way_is_waited_for_and_clears_nothing():
    seen = [evidence(an_arm(begun=begun), an_arm(9000, 180, begun=9 * begun)) for begun in (1000, 1400, 1900, 1900)]

    assert [after(an_analysis(), *seen[: n + 1]).judgement for n in range(4)] == [
        "pass",
        "waiting",
        "waiting",
        "waiting",
    ]
    assert after(an_analysis(), seen[0], seen[0]).judgement == "no_data"


def test_a_guard_that_only_tries_fails_nothing():
    assert after(an_analysis(replace(GUARD, dry_run=True)), evidence(an_arm(1000, 900))).judgement == "pass"


def growing(*errors: int) -> list[Evidence]:
    """Blocks of a hundred canary requests with so many errors each."""
    return [evidence(an_arm(100 * i, sum(errors[:i])), an_arm(900 * i, 0)) for i in range(1, len(errors) + 1)]


@pytest.mark.parametrize(("errors", "expected"), [((9, 1, 9), "pass"), ((9, 9, 1), "pass"), ((9, 9, 9), "fail")])
def test_a_limit_fails_after_more_blocks_than_its_failure_limit(errors: tuple[int, ...], expected: Judgement):
    spec = an_analysis(FixedLimit("error_rate", max=0.05, failure_limit=2))

    assert after(spec, *growing(*errors)).judgement == expected


def test_a_limit_measures_only_full_blocks():
    spec = an_analysis(FixedLimit("error_rate", max=0.05))
    verdict = after(spec, evidence(an_arm(60, 6), an_arm(540, 9)), evidence(an_arm(90, 9), an_arm(810, 18)))

    assert (verdict.judgement, verdict.reason) == ("waiting", "error_rate max 0.05: needs 10 more requests")


def test_failures_are_counted_across_steps():
    spec = an_analysis(FixedLimit("error_rate", max=0.05, failure_limit=1))
    first, second = evidence(an_arm(100, 9), an_arm(900, 0)), evidence(an_arm(100, 9), an_arm(900, 0), step=1)

    assert [after(spec, first).judgement, after(spec, first, second).judgement] == ["pass", "fail"]


def test_a_limit_may_be_a_least_value():
    rated = {"feedback": sample(200, 50)}
    spec = an_analysis(FixedLimit("feedback", min=0.5))

    assert after(spec, evidence(an_arm(1000, 0, samples=rated))).judgement == "fail"


@pytest.mark.parametrize(("value", "expected"), [(0.5, "pass"), (2.0, "fail"), (Missing("why"), "no_data")])
def test_a_query_is_held_to_its_limit(value: float | Missing, expected: Judgement):
    spec = an_analysis(FixedLimit("gpu_queue", max=1.0))

    assert after(spec, evidence(queries={"gpu_queue": value})).judgement == expected


@pytest.mark.parametrize(
    ("value", "judgement", "note"),
    [
        (2.0, "fail", "canary 2, 1 of 1 blocks beyond the limit"),
        (Missing("the query failed"), "no_data", "the query failed"),
    ],
)
def test_a_query_that_only_tries_is_read_and_fails_nothing(value: float | Missing, judgement: Judgement, note: str):
    spec = an_analysis(FixedLimit("gpu_queue", max=1.0, dry_run=True))
    verdict = after(spec, evidence(queries={"gpu_queue": value}))

    assert verdict.judgement == "pass"
    assert [(it.judgement, it.dry_run, it.note) for it in verdict.readings] == [(judgement, True, note)]


def test_a_query_without_a_number_says_why():
    spec = an_analysis(FixedLimit("gpu_queue", max=1.0))

    assert after(spec, evidence(queries={"gpu_queue": Missing("why")})).reason == "gpu_queue max 1: why"


def test_a_query_without_data_stops_nobody_and_goes_on_when_data_comes():
    spec = an_analysis(FixedLimit("gpu_queue", max=1.0))
    silence, data = (
        evidence(queries={"gpu_queue": Missing("0/0")}),
        evidence(an_arm(2000, 40), an_arm(18000, 360), queries={"gpu_queue": 0.5}),
    )

    assert [after(spec, silence).judgement, after(spec, silence, data).judgement] == ["no_data", "pass"]


def test_a_query_that_nobody_answered_is_no_data():
    assert after(an_analysis(FixedLimit("gpu_queue", max=1.0)), evidence()).judgement == "no_data"


def test_counters_that_go_backwards_are_no_data():
    verdict = after(an_analysis(), evidence(), evidence(an_arm(10, 10), an_arm(90, 0)))

    assert (verdict.judgement, verdict.reason) == ("no_data", "the counters went backwards")


def test_a_look_without_new_requests_is_no_data():
    assert after(an_analysis(), evidence(), evidence()).judgement == "no_data"


def test_looks_that_come_faster_than_the_counters_are_no_silence():
    spec = an_analysis(interval=1.0)
    seen = evidence()

    assert after(spec, seen, *[seen] * 4).judgement == "pass"
    assert after(spec, seen, *[seen] * 5).judgement == "no_data"


def test_looks_that_cannot_measure_are_counted_until_one_can():
    missing = Missing("redis is away")
    analysis, _ = both_after(an_analysis(), missing, missing)
    measured, _ = look(analysis, an_analysis(), evidence())

    assert (analysis.errors, measured.errors) == (2, 0)


def test_a_gap_in_the_evidence_loses_none_of_it():
    with_gap = after(an_analysis(), evidence(), Missing("redis is away"), BAD)

    assert with_gap.readings == after(an_analysis(), evidence(), BAD).readings


def test_proof_needs_every_comparison():
    margin = Comparison("error_rate", allowed=0.02)
    other = Comparison("refusal", allowed=0.02)
    refusing = [
        [an_arm(n, n // 50, samples={"refusal": sample(n, n * share)}) for n, share in ((4000, bad), (36_000, 0.02))]
        for bad in (0.02, 0.039)
    ]
    spec = an_analysis(margin, other, proof=True)

    assert [after(spec, evidence(canary, stable)).is_proven for canary, stable in refusing] == [True, False]


def test_a_readings_values_are_those_of_the_step():
    (reading,) = after(an_analysis(), BAD, evidence(an_arm(1000, 10), step=1)).readings

    assert (reading.canary, reading.stable) == (0.01, 0.02)


@pytest.mark.parametrize("metric", [GUARD, FixedLimit("error_rate", max=0.5)])
def test_what_compares_nothing_proves_nothing_and_knows_no_difference(metric: Guard | FixedLimit):
    (reading,) = after(an_analysis(metric), evidence()).readings

    assert (reading.is_proven, reading.is_relative, reading.change) == (False, False, (None, None))
    assert (reading.p_value, reading.design_effect, reading.dry_run) == (None, 1.0, False)


def test_a_look_that_could_not_measure_proves_nothing_and_guards_nothing():
    verdict = after(an_analysis(), Missing("redis is away"))

    assert (verdict.is_proven, verdict.by_guard, verdict.ln_sample_ratio, verdict.mixed) == (False, False, 0.0, 0)


@pytest.mark.parametrize(
    ("canary", "stable", "judgement"), [(60, 0, "fail"), (40, 0, "pass"), (400, 3600, "pass"), (1000, 3600, "fail")]
)
def test_a_guard_may_put_up_with_what_ails_both_arms(canary: int, stable: int, judgement: Judgement):
    spec = an_analysis(Guard("operator_fault_rate", max=0.05, min_requests=10, above_stable=True))
    arms = (
        an_arm(1000, 0, samples={"operator_fault": sample(1000, canary)}),
        an_arm(9000, 0, samples={"operator_fault": sample(9000, stable)}),
    )

    assert after(spec, evidence(*arms)).judgement == judgement


def test_refusals_alike_in_both_arms_speak_against_neither():
    spec = an_analysis(*BUILT_IN)
    alike = evidence(
        an_arm(1000, 0, samples={"refused": sample(1000, 50)}), an_arm(9000, 0, samples={"refused": sample(9000, 450)})
    )

    assert after(spec, alike).readings[0].judgement == "pass"


def test_a_tenth_refused_of_the_canary_alone_is_worse():
    spec = an_analysis(*BUILT_IN)
    alone = evidence(
        an_arm(200, 0, samples={"refused": sample(200, 20)}), an_arm(1800, 0, samples={"refused": sample(1800, 0)})
    )

    assert after(spec, alone).reason == "refused_rate allowed_increase 0: canary 0.1 against 0, worse than is allowed"


def test_before_the_first_look_every_metric_waits_and_says_for_what():
    spec = AnalysisSpec((*BUILT_IN[:1], replace(BUILT_IN[1], dry_run=True)))
    verdict = unlooked(spec)
    note = "the first look at this weight is still to come"

    assert (verdict.judgement, verdict.reason) == ("waiting", note)
    assert [(each.metric, each.judgement, each.dry_run, each.note) for each in verdict.readings] == [
        (metric.label, "waiting", metric.dry_run, note) for metric in spec.metrics
    ]


LIMIT, QUERY = FixedLimit("error_rate", max=0.05), FixedLimit("checkout", max=5.0)
STABLE = an_arm(900, 18)
UNDER_WAY = an_arm(10, 1, served=10, failed=1, begun=100, failing=60)


@pytest.mark.parametrize(
    ("metric", "seen", "reading"),
    [
        (GUARD, evidence(an_arm(49, 7), STABLE), Reading("", "waiting", 1 / 7, 0.02, note="needs 1 more requests")),
        (GUARD, evidence(an_arm(100, 10)), Reading("", "pass", 0.1, 0.02, note="within its limit")),
        (GUARD, evidence(an_arm(100, 50)), Reading("", "fail", 0.5, 0.02, note="canary 0.5, above 0.25")),
        (GUARD, evidence(UNDER_WAY), Reading("", "fail", 0.1, 0.02, note="canary 0.6 of all that began, above 0.25")),
        (LIMIT, evidence(an_arm(99, 2), STABLE), Reading("", "waiting", None, 0.02, note="needs 1 more requests")),
        (LIMIT, evidence(an_arm(100, 2), STABLE),
         Reading("", "pass", 0.02, 0.02, note="0 of 1 blocks beyond the limit")),
        (LIMIT, evidence(an_arm(100, 20)),
         Reading("", "fail", 0.2, 0.02, note="canary 0.2, 1 of 1 blocks beyond the limit")),
        (QUERY, evidence(queries={"checkout": 3.0}), Reading("", "pass", 3.0, note="0 of 1 blocks beyond the limit")),
        (QUERY, evidence(queries={"checkout": 7.0}),
         Reading("", "fail", 7.0, note="canary 7, 1 of 1 blocks beyond the limit")),
        (QUERY, evidence(queries={"checkout": Missing("gone")}), Reading("", "no_data", note="gone")),
    ],
    ids=range(10),
)  # fmt: skip
@pytest.mark.parametrize("dry_run", [False, True])
def test_a_reading_has_the_metrics_label_both_arms_and_a_note(
    metric: Guard | FixedLimit, seen: Evidence, reading: Reading, dry_run: bool
):
    tried = replace(metric, dry_run=dry_run)

    assert after(an_analysis(tried), seen).readings == (replace(reading, metric=tried.label, dry_run=dry_run),)


def test_a_guard_that_failed_goes_on_failing_and_counts_how_often():
    analysis, _ = both_after(an_analysis(GUARD), evidence(an_arm(100, 50)), evidence(an_arm(200, 99)))

    assert [each.failures for each in analysis.metrics if isinstance(each, Blocks)] == [2]
