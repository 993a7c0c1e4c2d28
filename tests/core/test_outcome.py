import pytest

from wissel.core.outcome import Outcome, Usage, blame, cost
from wissel.core.snapshot import Price


@pytest.mark.parametrize(
    ("status", "details", "whose"),
    [
        (200, "via_upstream", "variant"),
        (500, "via_upstream", "variant"),
        (
            503,
            "upstream_reset_before_response_started{remote_connection_failure|delayed_connect_error:_111}",
            "variant",
        ),
        (503, "upstream_reset_before_response_started{connection_termination}", "variant"),
        (503, "upstream_reset_before_response_started{overflow}", "nobody"),
        (504, "response_timeout", "variant"),
        (504, "upstream_per_try_timeout", "variant"),
        (503, "no_healthy_upstream", "variant"),
        (504, "stream_idle_timeout", "variant"),
        (408, "stream_idle_timeout", "nobody"),
        (413, "request_payload_too_large", "nobody"),
        (503, "cluster_not_found", "nobody"),
        (403, "wissel_forbidden", "nobody"),
        (503, "", "variant"),
        (0, "", "nobody"),
    ],
)
def test_details_tell_whose_a_response_is(status, details, whose):
    assert blame(status, details) == whose


def test_a_client_that_hangs_up_is_no_evidence():
    assert not Outcome(200, 1.0, "chat", code_details="via_upstream", hung_up=True).is_evidence


@pytest.mark.parametrize(
    ("status", "error", "failed"), [(200, "", False), (200, "overloaded", True), (400, "bad", False), (502, "", True)]
)
def test_an_answer_that_began_well_may_still_be_an_error(status, error, failed):
    assert Outcome(status, 1.0, "chat", error=error).is_error is failed


def test_a_price_is_for_a_million_tokens():
    assert cost(Usage(1_000_000, 500_000), Price(input=2.0, output=6.0)) == 5.0
