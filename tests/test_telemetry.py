from dataclasses import replace

import pytest

from factories import model, split
from rollout_factories import a_spec, an_analysis, begun
from wissel.core.access import ANONYMOUS
from wissel.core.analysis import Reading, Verdict
from wissel.core.decision import Routed
from wissel.core.intent import Intent
from wissel.core.metrics import Comparison, Guard
from wissel.core.outcome import Outcome, Usage
from wissel.core.rollout import Progress
from wissel.telemetry import Revision, StoreHealth, Telemetry

DECISION = Routed(model("small"), "ab", "canary", "split", ANONYMOUS, "r1", route="talk")
PLACE = 'model="small",route="talk"'
WHERE = (
    'feature_flag_result_variant="canary",gen_ai_operation_name="chat",'
    'gen_ai_provider_name="small-cluster",gen_ai_request_model="small"'
)


def lines(*outcomes: Outcome) -> list[str]:
    telemetry = Telemetry()
    for outcome in outcomes:
        telemetry.ended(DECISION, outcome)
    return telemetry.exposition().decode().splitlines()


FULL = Outcome(
    200, 9.0, "chat", code_details="via_upstream", headers_after=1.0, complete=True, usage=Usage(100, 7), cost_usd=0.5,
    ttft=2.0, time_per_output_chunk=0.25,
)  # fmt: skip


@pytest.mark.parametrize(
    "line",
    [
        f'gen_ai_client_token_usage_sum{{{WHERE},gen_ai_token_type="input",wissel_route="talk"}} 100.0',
        f'gen_ai_client_token_usage_sum{{{WHERE},gen_ai_token_type="output",wissel_route="talk"}} 7.0',
        f'gen_ai_client_operation_duration_seconds_sum{{{WHERE},wissel_route="talk"}} 9.0',
        f'gen_ai_client_operation_time_to_first_chunk_seconds_sum{{{WHERE},wissel_route="talk"}} 2.0',
        f'gen_ai_client_operation_time_per_output_chunk_seconds_sum{{{WHERE},wissel_route="talk"}} 0.25',
        f'wissel_cost_USD_total{{{WHERE},wissel_route="talk"}} 0.5',
        f'wissel_response_duration_seconds_sum{{blame="variant",{PLACE},status="200",variant="canary"}} 1.0',
    ],
)
def test_an_outcome_is_told_by_the_names_of_the_conventions(line):
    assert line in lines(FULL)


def test_a_hang_up_is_counted_and_is_an_error_of_its_own():
    page = lines(Outcome(0, 3.0, "chat", hung_up=True))

    assert 'wissel_hang_ups_total{model="small",route="talk",variant="canary"} 1.0' in page
    assert (
        f'gen_ai_client_operation_duration_seconds_count{{error_type="hung_up",{WHERE},wissel_route="talk"}} 1.0'
        in page
    )
    assert not any(line.startswith("wissel_response_duration_seconds_count") for line in page)


def test_what_is_not_known_is_not_told():
    page = lines(Outcome(503, 1.0, "chat", headers_after=1.0, unread="format"))

    assert not any(line.startswith(("gen_ai_client_token_usage_", "wissel_cost_")) for line in page)
    assert 'wissel_responses_unread_total{model="small",reason="format",route="talk",variant="canary"} 1.0' in page


def test_an_upstreams_words_are_no_attribute():
    page = "\n".join(lines(Outcome(200, 1.0, "chat", headers_after=1.0, error="a-secret-of-the-upstream")))

    assert "a-secret" not in page
    assert 'error_type="_OTHER"' in page


def shown(*progress: Progress) -> list[str]:
    telemetry = Telemetry()
    telemetry.show_rollouts(lambda: progress)
    return telemetry.exposition().decode().splitlines()


LOOKED_AT = Progress(
    a_spec(
        analysis=an_analysis(
            Guard("error_rate", max=0.25), Comparison("error_rate", allowed=0.01),
            Comparison("latency_p95", allowed=0.1, relative=True),
        )
    ),
    replace(begun(a_spec()), verdict=Verdict(
        "waiting", "",
        (
            Reading("error_rate max 0.25 guard", "pass", 0.02, 0.01),
            Reading("error_rate allowed_increase 0.01", "waiting", 0.02, 0.01, (-0.01, None)),
            Reading("latency_p95 allowed_increase 10%", "waiting", 3.0, 2.0, is_relative=True),
        ),
    )),
)  # fmt: skip


@pytest.mark.parametrize(
    "line",
    [
        'wissel_rollout_weight{rollout="chat-v2"} 10.0',
        'wissel_rollout_phase{phase="progressing",rollout="chat-v2"} 1.0',
        'wissel_rollout_phase{phase="degraded",rollout="chat-v2"} 0.0',
        'wissel_rollout_step{rollout="chat-v2"} 1.0',
        'wissel_rollout_steps{rollout="chat-v2"} 3.0',
        'wissel_rollout_verdict{rollout="chat-v2",verdict="waiting"} 1.0',
        'wissel_rollout_metric_value{arm="canary",metric="latency_p95 allowed_increase 10%",rollout="chat-v2"} 3.0',
        'wissel_rollout_metric_threshold{end="max",metric="error_rate max 0.25 guard",rollout="chat-v2"} 0.25',
        'wissel_rollout_metric_threshold{end="max",metric="error_rate allowed_increase 0.01",rollout="chat-v2"} 0.02',
        'wissel_rollout_metric_threshold{end="max",metric="latency_p95 allowed_increase 10%",rollout="chat-v2"} 2.2',
        'wissel_rollout_metric_change{end="lower",metric="error_rate allowed_increase 0.01",rollout="chat-v2"} -0.01',
    ],
)
def test_a_rollout_is_told_with_its_metrics_and_their_thresholds(line):
    assert line in shown(LOOKED_AT)


def test_an_end_of_an_interval_that_nothing_is_known_of_is_not_told():
    assert not any("metric_change" in line and 'end="upper"' in line for line in shown(LOOKED_AT))


def test_a_rollout_without_a_record_has_weight_zero_and_no_phase():
    page = shown(Progress(a_spec(), None))

    assert 'wissel_rollout_weight{rollout="chat-v2"} 0.0' in page
    assert not any(line.startswith("wissel_rollout_phase{") for line in page)


def test_an_assignment_is_counted_by_its_split():
    telemetry = Telemetry()
    telemetry.decided(replace(DECISION, split=split("ab", small=1)), 0.001)

    assert (
        'wissel_assignments_total{feature_flag_key="ab",feature_flag_result_reason="split",'
        'feature_flag_result_variant="canary"} 1.0'
    ) in telemetry.exposition().decode()


def test_a_failure_can_be_seen_to_begin_at_zero():
    assert 'wissel_exchange_failures_total{reason="exception"} 0.0' in Telemetry().exposition().decode()


def test_the_configuration_and_the_store_are_asked_when_they_are_shown():
    telemetry = Telemetry()
    telemetry.show_config(lambda: Revision("r7", 5.0, is_refused=True))
    telemetry.show_store(lambda: StoreHealth(2.5, 3))
    page = telemetry.exposition().decode().splitlines()

    assert 'wissel_config_info{revision="r7"} 1.0' in page
    assert "wissel_config_loaded_time_seconds 5.0" in page
    assert "wissel_config_refused 1.0" in page
    assert "wissel_store_lag_seconds 2.5" in page
    assert "wissel_store_failures_total 3.0" in page


def test_confidence_is_counted_by_the_route_that_was_taken():
    telemetry = Telemetry()
    telemetry.decided(replace(DECISION, intent=Intent("talk", "match", 0.8, {"talk": 0.8}, 0.5, "embedding")), 0.001)

    assert 'wissel_classify_confidence_sum{result="match",route="talk"} 0.8' in telemetry.exposition().decode()
