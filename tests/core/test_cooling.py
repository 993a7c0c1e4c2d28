"""Which models rest, for how long, and what ends it."""

from dataclasses import replace
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factories import model, snapshot
from wissel.core.access import ANONYMOUS
from wissel.core.cooling import LONGEST_REST, Cooling, Rest, Result
from wissel.core.decision import Routed
from wissel.core.outcome import Outcome
from wissel.core.plan import Plan
from wissel.core.snapshot import Credential, Health

HEALTH = Health(failures=3, window=30.0, cooldown=20.0)


class Watched(Cooling):
    """Remembers what it told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, Rest | None]] = []
        super().__init__(lambda name, rest: self.told.append((name, rest)))

    def fail(self, *times: float, retry_after: float | None = None) -> None:
        for now in times:
            self.attempted("a", "failed", now, HEALTH, retry_after)

    def serve(self, *times: float) -> None:
        for now in times:
            self.attempted("a", "served", now, HEALTH)


def test_a_model_rests_that_fails_often_enough_within_the_window():
    cooling = Watched()
    cooling.fail(0.0, 1.0)

    assert cooling.resting(1.0) == {}
    cooling.fail(2.0)
    assert cooling.resting(2.0) == cooling.resting(21.9) == {"a": "failing"}
    assert cooling.resting(22.0) == {}
    assert cooling.told == [("a", Rest("failing", 22.0))]


def test_failures_before_the_window_count_no_more():
    cooling = Watched()
    cooling.fail(0.0, 1.0, 30.0)

    assert cooling.resting(30.0) == {}
    cooling.fail(30.9)
    assert cooling.resting(30.9) == {"a": "failing"}


def test_a_model_that_mostly_serves_does_not_rest():
    """A busy one fails three times in half a minute with one error in a thousand."""
    cooling = Watched()
    cooling.serve(*[0.0] * 4)
    cooling.fail(1.0, 2.0, 3.0)
    assert cooling.resting(3.0) == {}

    cooling.fail(4.0)
    assert cooling.resting(4.0) == {"a": "failing"}


def test_the_first_request_after_its_rest_is_its_trial_and_others_wait():
    cooling = Watched()
    cooling.fail(0.0, 0.0, 0.0)

    cooling.asked("a", 19.0, HEALTH)
    assert cooling.resting(20.0) == {}
    cooling.asked("a", 20.0, HEALTH)
    assert cooling.resting(20.0) == cooling.resting(39.9) == {"a": "failing"}


def test_a_trial_that_serves_ends_it():
    cooling = Watched()
    cooling.fail(0.0, 0.0, 0.0)
    cooling.asked("a", 20.0, HEALTH)
    cooling.serve(21.0)

    assert cooling.resting(21.0) == {}
    assert cooling.told[-1] == ("a", None)
    cooling.fail(22.0, 22.0)
    assert cooling.resting(22.0) == {}


def test_a_trial_that_fails_begins_another_rest():
    cooling = Watched()
    cooling.fail(0.0, 0.0, 0.0)
    cooling.asked("a", 20.0, HEALTH)
    cooling.fail(21.0)

    assert cooling.resting(40.9) == {"a": "failing"}
    assert cooling.resting(41.0) == {}
    assert cooling.told[-1] == ("a", Rest("failing", 41.0))


def test_a_trial_of_which_nothing_is_heard_is_over_after_a_while():
    cooling = Watched()
    cooling.fail(0.0, 0.0, 0.0)
    cooling.asked("a", 20.0, HEALTH)

    assert cooling.resting(40.0) == {}


def test_what_began_before_a_rest_neither_ends_nor_lengthens_it():
    cooling = Watched()
    cooling.fail(0.0, 0.0, 0.0)
    cooling.serve(5.0)
    cooling.fail(6.0, 7.0, 8.0)

    assert cooling.resting(19.9) == {"a": "failing"}
    assert cooling.resting(20.0) == {}


@pytest.mark.parametrize(("asked", "rests"), [(0.0, 1.0), (2.5, 2.5), (20.0, 20.0), (86_400.0, LONGEST_REST)])
def test_a_server_that_says_when_to_come_back_is_left_alone_until_then(asked: float, rests: float):
    cooling = Watched()
    cooling.fail(100.0, retry_after=asked)

    assert cooling.resting(100.0 + rests - 0.01) == {"a": "busy"}
    assert cooling.resting(100.0 + rests) == {}


def test_a_longer_rest_is_not_shortened():
    cooling = Watched()
    cooling.fail(0.0, retry_after=60.0)
    cooling.fail(1.0, retry_after=2.0)

    assert cooling.resting(59.9) == {"a": "busy"}


def test_what_others_have_met_counts_as_ones_own_where_it_is_longer():
    cooling = Watched()
    cooling.heard({"a": Rest("failing", 50.0), "b": Rest("busy", 9.0)}, 10.0)
    assert cooling.resting(10.0) == {"a": "failing"}

    cooling.heard({"a": Rest("busy", 40.0)}, 10.0)
    assert cooling.resting(49.9) == {"a": "failing"}
    cooling.serve(50.0)
    assert (cooling.resting(50.0), cooling.told) == ({}, [("a", None)])


def test_a_trial_that_is_under_way_is_not_lengthened_by_others():
    cooling = Watched()
    cooling.fail(0.0, 0.0, 0.0)
    for now in (20.0, 30.0, 39.0):
        cooling.asked("a", now, HEALTH)

    assert cooling.resting(40.0) == {}


@pytest.mark.parametrize("result", ["served", "failed"])
def test_what_began_before_the_rest_was_over_is_no_trial(result: Result):
    cooling = Watched()
    cooling.fail(0.0, 0.0, 0.0)
    cooling.attempted("a", result, 25.0, HEALTH, began=5.0)

    assert dict(cooling.rests) == {"a": Rest("failing", 20.0)}


@pytest.mark.parametrize("until", [1e12, float("inf"), float("nan"), 9.0])
def test_no_rest_is_longer_than_the_longest_whoever_tells_of_it(until: float):
    cooling = Watched()
    cooling.heard({"a": Rest("failing", until)}, 10.0)

    assert dict(cooling.rests) == {}


def test_a_clock_that_goes_back_makes_no_rest_longer():
    cooling = Watched()
    cooling.fail(10_000.0, 10_000.0, 10_000.0)

    assert cooling.resting(1_000.0) == {}


@pytest.mark.parametrize(
    ("kind", "status", "attempts", "rests"),
    [("forward", 429, 1, {}), ("forward", 503, 1, {"a"}), ("secret", 429, 1, {"a"}), ("forward", 200, 2, {}),
     ("secret", 200, 2, {"a"})],
)  # fmt: skip
def test_what_a_callers_own_credential_may_have_brought_about_says_nothing_of_the_model(
    kind: Literal["forward", "secret"], status: int, attempts: int, rests: set[str]
):
    one, other = model("a", credential=Credential(kind, "s"), fallbacks=("b",)), model("b")
    decision = Routed(one, "a", "a", "static", ANONYMOUS, "r1", plan=Plan((one, other)))
    known = snapshot(models=(one, other), health=Health(failures=1))
    cooling = Cooling()
    cooling.ended(decision, Outcome(status, 1.0, "chat", attempts=attempts, complete=True), known, 5.0)

    assert set(cooling.resting(5.0)) == set(rests)


def test_hearing_of_another_rest_ends_a_trial():
    cooling = Watched()
    cooling.fail(0.0, 0.0, 0.0)
    cooling.asked("a", 20.0, HEALTH)
    cooling.heard({"a": Rest("failing", 41.0)}, 21.0)

    assert cooling.resting(40.5) == {"a": "failing"}
    assert cooling.resting(41.0) == {}


def test_what_is_configured_no_more_is_forgotten():
    cooling = Watched()
    cooling.fail(0.0, 0.0, 0.0)
    cooling.attempted("b", "failed", 0.0, replace(HEALTH, failures=1))
    cooling.keep({"b": model("b")})

    assert dict(cooling.rests) == {"b": Rest("failing", 20.0)}


def test_models_rest_each_for_themselves():
    cooling = Watched()
    for name in "abc":
        cooling.attempted(name, "failed", 0.0, HEALTH)

    assert cooling.resting(0.0) == {}


@given(st.lists(st.tuples(st.sampled_from(["failed", "served", "asked", "retry"]), st.floats(0.0, 15.0)), max_size=60))
def test_a_rest_is_bounded_and_always_followed_by_a_trial(events: list[tuple[str, float]]):
    cooling, now = Watched(), 0.0
    for event, passed in events:
        now += passed
        match event:
            case "failed":
                cooling.fail(now)
            case "served":
                cooling.serve(now)
            case "asked":
                cooling.asked("a", now, HEALTH)
            case _:
                cooling.fail(now, retry_after=passed)

        assert set(cooling.resting(now)) <= {"a"}
        # The trial that is under way may take as long as a rest.
        assert cooling.resting(now + max(15.0, HEALTH.cooldown) + HEALTH.cooldown) == {}
