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
        (outcome(complete=True), (30, 500)),
        (outcome(complete=True, chunks=900), (30, 900)),
        (outcome(hung_up=True), (30, 0)),
        (outcome(hung_up=True, chunks=12), (30, 12)),
        (outcome(hung_up=True, chunks=12, usage=Usage(50, 3)), (50, 12)),
        (outcome(hung_up=True, chunks=12, usage=Usage(10, 40)), (30, 40)),
        (outcome(0, hung_up=True), (30, 0)),
        (outcome(500), (0, 0)),
        (outcome(404, complete=True), (0, 0)),
        (outcome(200, error="overloaded", complete=True), (0, 0)),
        (None, (30, 0)),
    ],
)
def test_what_a_request_came_to(came, tokens):
    told_in, told_out = tokens

    assert used(HELD, came) == Used(told_in + told_out, told_in * 1000 + told_out * 2000)
