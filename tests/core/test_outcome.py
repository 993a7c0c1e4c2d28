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


@pytest.mark.parametrize(("price", "usd"), [(None, 5.0), (0.5, 3.5), (0.0, 3.0)])
def test_what_was_cached_has_a_price_of_its_own(price, usd):
    assert cost(Usage(2_000_000, 500_000, 1_000_000), Price(2.0, 2.0, cached_input=price)) == usd


def test_what_is_not_said_of_an_outcome_is_unknown_and_not_zero():
    silent = Outcome(200, 1.0, "chat")

    assert (silent.headers_after, silent.usage, silent.cost_usd, silent.ttft) == (None, None, None, None)
    assert (silent.time_per_output_chunk, silent.time_per_output_token) == (None, None)
    assert (silent.complete, silent.hung_up, silent.chunks, silent.finish_reasons) == (False, False, 0, ())
    assert (silent.code_details, silent.response_model, silent.error, silent.unread) == ("", "", "", "")
    assert Usage() == Usage(0, 0, 0, 0)


@pytest.mark.parametrize(
    "details",
    [
        "upstream_reset_after_response_started{remote_reset}",
        "upstream_per_try_idle_timeout",
        "upstream_max_stream_duration_reached",
    ],
)
def test_every_end_of_the_upstreams_is_the_variants(details):
    assert blame(503, details) == "variant"


@pytest.mark.parametrize(
    ("reasons", "refused"),
    [((), False), (("stop",), False), (("content_filter",), True), (("safety",), True), (("stop", "refusal"), True)],
)
def test_a_model_that_would_not_answer_is_known_in_every_apis_words(reasons, refused):
    assert Outcome(200, 1.0, "chat", finish_reasons=reasons).is_refusal is refused


@pytest.mark.parametrize(("status", "failed"), [(0, True), (399, False), (499, False), (500, True)])
def test_only_the_servers_statuses_are_the_models_errors(status, failed):
    assert Outcome(status, 1.0, "chat").is_error is failed
