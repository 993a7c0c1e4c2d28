from dataclasses import replace

import pytest

from factories import model, split
from wissel.core.access import ANONYMOUS
from wissel.core.decision import Denied, Routed
from wissel.core.intent import Intent
from wissel.core.limits import Drawn, Exceeded, Unchecked
from wissel.core.outcome import Outcome, Usage
from wissel.telemetry.counting import Telemetry

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
    ttft=2.0, time_per_output_chunk=0.25, time_per_output_token=0.125,
)  # fmt: skip


@pytest.mark.parametrize(
    "line",
    [
        f'gen_ai_client_token_usage_sum{{{WHERE},gen_ai_token_type="input",wissel_route="talk"}} 100.0',
        f'gen_ai_client_token_usage_sum{{{WHERE},gen_ai_token_type="output",wissel_route="talk"}} 7.0',
        f'gen_ai_client_operation_duration_seconds_sum{{{WHERE},wissel_route="talk"}} 9.0',
        f'gen_ai_client_operation_time_to_first_chunk_seconds_sum{{{WHERE},wissel_route="talk"}} 2.0',
        f'gen_ai_client_operation_time_per_output_chunk_seconds_sum{{{WHERE},wissel_route="talk"}} 0.25',
        f'gen_ai_server_time_per_output_token_seconds_sum{{{WHERE},wissel_route="talk"}} 0.125',
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


def test_an_assignment_is_counted_by_its_split():
    telemetry = Telemetry()
    telemetry.decided(replace(DECISION, split=split("ab", small=1)), 0.001)

    assert (
        'wissel_assignments_total{feature_flag_key="ab",feature_flag_result_reason="split",'
        'feature_flag_result_variant="canary"} 1.0'
    ) in telemetry.exposition().decode()


@pytest.mark.parametrize(
    ("denied", "labels"),
    [
        (Denied(403, "no", "permission", "forbidden", route="talk"), 'code="forbidden",route="talk"'),
        (Denied(429, "no", "limit", "over", limit_id="per-key"), 'code="over",limit="per-key",route=""'),
    ],
)
def test_a_refusal_is_counted_by_its_code_and_its_limit(denied, labels):
    telemetry = Telemetry()
    telemetry.decided(denied, 0.001)

    assert f"wissel_denials_total{{{labels}}} 1.0" in telemetry.exposition().decode().splitlines()


@pytest.mark.parametrize(
    ("api", "name"),
    [
        ("chat", "chat"),
        ("completions", "text_completion"),
        ("responses", "chat"),
        ("messages", "chat"),
        ("embeddings", "embeddings"),
    ],
)
def test_an_operation_is_named_after_its_api(api, name):
    [line] = [
        line
        for line in lines(Outcome(200, 1.0, api))
        if line.startswith("gen_ai_client_operation_duration_seconds_sum")
    ]

    assert f'gen_ai_operation_name="{name}"' in line


def test_a_failure_can_be_seen_to_begin_at_zero():
    assert 'wissel_exchange_failures_total{reason="exception"} 0.0' in Telemetry().exposition().decode()


def test_confidence_is_counted_by_the_route_that_was_taken():
    telemetry = Telemetry()
    telemetry.decided(replace(DECISION, intent=Intent("talk", "match", 0.8, {"talk": 0.8}, 0.5, "embedding")), 0.001)

    assert 'wissel_classify_confidence_sum{result="match",route="talk"} 0.8' in telemetry.exposition().decode()


@pytest.mark.parametrize(
    ("found", "result"),
    [
        (Drawn((), "d", 0), "drawn"),
        (Drawn((), "d", 0, is_local=True), "local"),
        (Exceeded((), ()), "exceeded"),
        (Unchecked(), "unchecked"),
        (None, "uncounted"),
    ],
)
def test_limits_are_counted_by_what_came_of_them(found, result):
    telemetry = Telemetry()
    telemetry.drew(found, 0.001)
    page = telemetry.exposition().decode().splitlines()

    assert [line for line in page if line.startswith("wissel_limit_draws_total") and line.endswith(" 1.0")] == [
        f'wissel_limit_draws_total{{result="{result}"}} 1.0'
    ]


def test_a_limit_that_was_let_go_can_be_seen_to_begin_at_zero():
    assert 'wissel_limit_draws_total{result="uncounted"} 0.0' in Telemetry().exposition().decode()
