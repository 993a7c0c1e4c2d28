import pytest

from factories import model
from wissel.core.limits import Estimate, Reservation, Used
from wissel.core.outcome import Outcome, Usage
from wissel.core.settlement import used
from wissel.core.snapshot import Price

HELD = Reservation((), Estimate(30, 500), model("m", price=Price(1.0, 2.0)))


def outcome(status: int = 200, **fields) -> Outcome:
    return Outcome(status, 1.0, "chat", **fields)


@pytest.mark.parametrize(
    ("came", "tokens"),
    [
        (outcome(usage=Usage(20, 7), complete=True), (20, 7)),
        (outcome(usage=Usage(20, 0), complete=True), (20, 0)),
        (outcome(usage=Usage(20, 0), complete=True, chunks=9), (20, 9)),
        (outcome(usage=Usage(0, 7), complete=True), (30, 7)),
        (outcome(200, error="truncated", complete=True, chunks=40, usage=Usage(25, 1)), (25, 40)),
        (outcome(complete=True), (30, 500)),
        (outcome(complete=True, chunks=900), (30, 900)),
        (outcome(complete=True, chunks=3, seen_tokens=800), (30, 800)),
        (outcome(unread="encoding"), (30, 500)),
        (outcome(hung_up=True), (30, 500)),
        (outcome(hung_up=True, chunks=12), (30, 500)),
        (outcome(hung_up=True, chunks=12, seen_tokens=600), (30, 600)),
        (outcome(hung_up=True, chunks=12, usage=Usage(50, 3)), (50, 500)),
        (outcome(hung_up=True, chunks=12, usage=Usage(10, 700)), (30, 700)),
        (outcome(0, hung_up=True), (30, 500)),
        (outcome(500), (0, 0)),
        (outcome(404, complete=True), (0, 0)),
        (outcome(200, error="overloaded", complete=True), (0, 0)),
        (outcome(200, error="truncated", complete=True, chunks=40, seen_tokens=90), (30, 90)),
        (outcome(200, error="overloaded", complete=True, chunks=40, usage=Usage(20, 45)), (20, 45)),
        (None, (30, 500)),
    ],
)
def test_what_a_request_came_to(came, tokens):
    told_in, told_out = tokens

    assert used(HELD, came) == Used(told_in + told_out, told_in * 1000 + told_out * 2000)


def test_what_was_read_from_a_cache_costs_what_the_file_says():
    cheap = Reservation((), Estimate(30, 500), model("m", price=Price(1.0, 2.0, cached_input=0.1)))

    assert used(cheap, outcome(usage=Usage(100, 10, 90), complete=True)) == Used(110, 10_000 + 9_000 + 20_000)


def test_what_a_fallback_served_costs_its_own_price():
    served = model("fallback", price=Price(10.0, 20.0))

    assert used(HELD, outcome(usage=Usage(20, 7), complete=True, attempts=2), served) == Used(27, 340_000)
