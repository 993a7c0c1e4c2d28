import pytest

from factories import model
from wissel.core.access import ANONYMOUS
from wissel.core.decision import Routed
from wissel.core.outcome import Outcome, Usage
from wissel.telemetry import Telemetry

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
