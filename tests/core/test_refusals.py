import pytest

from wissel.core.access import Principal
from wissel.core.limits import Charge, Exceeded, Reading
from wissel.core.refusals import duration, exceeded

MINUTE, DAY = 60_000_000, 86_400_000_000
ada = Principal("ada")


def test_a_refusal_says_which_limit_and_when_there_is_more():
    requests = Charge("per-key", "requests", "principal", "ada", 600, MINUTE, 1)
    tokens = Charge("per-key", "tokens", "principal", "ada", 5000, MINUTE, 70)
    denied = exceeded(Exceeded((requests, tokens), (Reading(3, 59_700_000), Reading(20, MINUTE, 1_200_001))), ada, "r1")

    assert (denied.status, denied.code, denied.limit_id) == (429, "rate_limit_exceeded", "per-key")
    assert denied.message == (
        'limit "per-key": 5000 tokens in one minute for the principal "ada" is used up; there is more in 1.3s'
    )
    assert denied.headers == {
        "retry-after": "2",
        "x-ratelimit-limit-requests": "600",
        "x-ratelimit-remaining-requests": "3",
        "x-ratelimit-reset-requests": "59.7s",
        "x-ratelimit-limit-tokens": "5000",
        "x-ratelimit-remaining-tokens": "20",
        "x-ratelimit-reset-tokens": "1m0s",
    }


def test_a_budget_is_told_in_dollars():
    spend = Charge("team", "usd", "group", "eng", 500_000_000_000, DAY, 1)
    denied = exceeded(Exceeded((spend,), (Reading(0, DAY, 5_400_000_000),)), ada, "r1")

    assert (denied.status, denied.code) == (429, "budget_exceeded")
    assert denied.message == (
        'limit "team": 500 USD in one day for the group "eng" is used up; there is more in 1h30m0s'
    )


@pytest.mark.parametrize(
    ("us", "text"),
    [(0, "0ms"), (1, "1ms"), (350_000, "350ms"), (1_000_000, "1s"), (12_500_000, "12.5s"), (360_000_000, "6m0s"),
     (3_600_000_000, "1h0m0s"), (59_999_999, "1m0s")],
)  # fmt: skip
def test_a_duration_is_written_as_openai_does(us, text):
    assert duration(us) == text
