from dataclasses import dataclass

import pytest

from wissel.core.rollouts.callers import Callers
from wissel.core.rollouts.evidence import COUNTED_PER_KEY, Arm
from wissel.store.base import Scope
from wissel.store.sums import Vectors, arm_of
from wissel.store.tally import CLOSED, KNOWN, PERIOD, Tally, Ticket

SCOPE = Scope("chat", "r1")


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tally(clock: Clock) -> Tally:
    return Tally(SCOPE, clock, patience=60.0)


def end(ticket: Ticket, *, error: int = 0, latency: float = 0.1) -> None:
    ticket.observed.update(error=error, latency=latency)
    ticket.ended()


def read(tally: Tally, kind: str, arm: str = "canary") -> Arm:
    is_there = arm in (tally._closed if kind == CLOSED else tally._known)
    return arm_of(by_vector(tally.vectors({(kind, arm)} if is_there else set())), keys=0)


def by_vector(vectors: Vectors) -> Vectors:
    return {name.rpartition("/")[2]: vector for name, vector in vectors.items()}


def begun(tally: Tally) -> Arm:
    return arm_of({}, 0, by_vector(tally.vectors({(KNOWN, "canary")})))


def test_an_outcome_is_known_at_once_and_evidence_when_its_window_closes(tally: Tally, clock: Clock):
    end(tally.began("canary", "ada"))
    tally.close()

    before = read(tally, CLOSED).served
    clock.now += 1.0
    tally.close()
    assert (read(tally, KNOWN).served, before, read(tally, CLOSED).served) == (1, 0, 1)


def test_a_window_waits_for_the_last_of_its_outcomes(tally: Tally, clock: Clock):
    end(tally.began("canary", "ada"), error=1)
    slow = tally.began("stable", "bob")
    clock.now += 30.0
    tally.close()
    before = read(tally, CLOSED).served
    end(slow, latency=30.0)
    tally.close()

    assert (before, read(tally, CLOSED).failed, read(tally, CLOSED, "stable").served) == (0, 1, 1)


def test_windows_close_in_order_though_a_later_one_is_complete(tally: Tally, clock: Clock):
    slow = tally.began("canary", "ada")
    clock.now += 1.0
    end(tally.began("canary", "bob"))
    clock.now += 1.0
    tally.close()
    before = read(tally, CLOSED).served
    end(slow)
    tally.close()

    assert (before, read(tally, CLOSED).served) == (0, 2)


def test_an_outcome_of_an_open_window_changes_no_evidence_of_a_closed_one(tally: Tally, clock: Clock):
    end(tally.began("canary", "ada"))
    clock.now += 1.0
    tally.close()
    closed = read(tally, CLOSED)
    end(tally.began("canary", "bob"), error=1)
    tally.close()

    assert read(tally, CLOSED) == closed


def test_a_request_that_hangs_is_an_error_once_patience_ends(tally: Tally, clock: Clock):
    tally.began("canary", "ada")
    clock.now += 61.0
    tally.close()

    assert (read(tally, CLOSED).failed, read(tally, CLOSED).sample("error").total) == (1, 1)


def test_an_answer_that_still_flows_when_patience_ends_is_no_error(tally: Tally, clock: Clock):
    tally.began("canary", "ada").observed["latency"] = 0.2
    clock.now += 61.0
    tally.close()

    assert (read(tally, CLOSED).served, read(tally, CLOSED).failed) == (1, 0)


def test_what_ends_after_its_window_was_closed_is_known_and_not_counted_again(tally: Tally, clock: Clock):
    hanging = tally.began("canary", "ada")
    clock.now += 61.0
    tally.close()
    end(hanging)
    tally.close()

    assert (read(tally, KNOWN).served, read(tally, CLOSED).served) == (1, 1)


def test_a_dropped_request_is_not_counted_and_nothing_waits_for_it(tally: Tally, clock: Clock):
    tally.began("canary", "ada").dropped()
    end(tally.began("canary", "bob"))
    clock.now += 1.0
    tally.close()

    assert read(tally, CLOSED).served == 1


def test_a_request_that_another_arm_served_is_counted_as_that_only(tally: Tally, clock: Clock):
    tally.began("canary", "ada").mixed()

    assert tally.vectors(tally.changed()) == {"k//mixed": {0: 1}, "k/canary/begun": {0: 1}, "k/canary/gone": {0: 1}}


def test_what_began_is_known_before_it_ends_and_what_says_nothing_is_taken_off(tally: Tally):
    end(tally.began("canary", "ada"), error=1)
    tally.began("canary", "bob")
    tally.began("canary", "eve").dropped()

    arm = begun(tally)
    assert (arm.begun, arm.failing, arm.served) == (2, 1, 0)


def test_what_is_under_way_at_the_end_says_nothing(tally: Tally):
    end(tally.began("canary", "ada"))
    tally.began("canary", "bob")
    tally.close(last=True)

    assert begun(tally).begun == 1


def test_of_a_busy_key_only_the_first_requests_of_a_period_are_evidence(tally: Tally, clock: Clock):
    for _ in range(10):
        end(tally.began("canary", "ada"))

    arm = read(tally, KNOWN)
    assert (arm.served, arm.requests) == (10, COUNTED_PER_KEY)


def test_of_one_caller_among_many_only_a_share_is_evidence(clock: Clock):
    callers = Callers()
    tally = Tally(SCOPE, clock, callers=callers)
    for number in range(8):
        callers.met(f"team-{number}")
    for number in range(400):
        end(tally.began("canary", f"session-{number}", "flood"), error=1)
        if number % 10 == 0:
            end(tally.began("canary", f"other-{number}", f"team-{number % 8}"))

    known = read(tally, KNOWN)
    assert (known.served, known.failed) == (440, 400)
    assert known.requests < 70
    assert known.sample("error").mean < 0.4
    assert len(tally.met) == known.requests


def test_a_busy_key_is_evidence_again_in_the_next_period(tally: Tally, clock: Clock):
    for _ in range(2):
        for _ in range(10):
            end(tally.began("canary", "ada"))
        clock.now += PERIOD

    assert read(tally, KNOWN).requests == 2 * COUNTED_PER_KEY


def test_which_of_a_keys_requests_are_evidence_does_not_depend_on_which_ends_first(tally: Tally):
    tickets = [tally.began("canary", "ada") for _ in range(COUNTED_PER_KEY + 1)]
    end(tickets[-1], error=1)

    arm = read(tally, KNOWN)
    assert (arm.failed, arm.requests) == (1, 0)


def test_a_key_is_met_once(tally: Tally):
    for key in ("ada", "bob", "ada"):
        tally.began("canary", key)

    assert (len(tally.fresh_keys()), tally.fresh_keys()) == (2, [])


def test_the_last_close_counts_what_is_known_and_drops_what_is_under_way(tally: Tally):
    end(tally.began("canary", "ada"))
    tally.began("canary", "bob")
    tally.close(last=True)

    assert (read(tally, CLOSED).served, read(tally, CLOSED).failed) == (1, 0)


def test_only_what_changed_is_named(tally: Tally, clock: Clock):
    end(tally.began("canary", "ada"))
    tally.changed()
    end(tally.began("stable", "bob"))

    assert tally.changed() == {(KNOWN, "stable")}


def test_what_a_hanging_request_came_to_in_the_end_is_its_own_outcome(tally: Tally, clock: Clock):
    hanging = tally.began("canary", "ada")
    clock.now += 61.0
    tally.close()
    hanging.observed["latency"] = 70.0
    hanging.ended()

    assert read(tally, KNOWN).failed == 0


def test_an_arm_may_be_named_like_a_path(tally: Tally):
    end(tally.began("org/coder", "ada"))

    assert read(tally, KNOWN, "org/coder").served == 1
