from factories import request, snapshot
from wissel.core.access import ANONYMOUS, Permit
from wissel.core.decision import Routed
from wissel.core.lesson import Lesson
from wissel.core.policy import Named, decide
from wissel.core.tier import Grading, Learning, Tier, WinRate

SECRET = "what nobody else may read"


def decided(learning: Learning | None, *, coin=None) -> Routed:
    tier = Tier("thrifty", "large", "small", 0.5, learning=learning)
    found = decide(
        snapshot(tiers={"thrifty": tier}),
        request("thrifty", SECRET),
        ANONYMOUS,
        Named("thrifty", Permit(("large", "small"), ())),
        Grading(WinRate(0.7), 0.5, coin),
        request_id="wr-1",
        now=0.0,
    )
    assert isinstance(found, Routed)
    return found


def test_what_a_coin_decided_is_a_lesson():
    lesson = decided(Learning(0.1, prompts=True), coin="weak").lesson

    assert lesson == Lesson("thrifty", ("large", "small"), "weak", 0.7, SECRET)


def test_without_leave_the_prompt_is_no_part_of_it():
    lesson = decided(Learning(0.1), coin="weak").lesson

    assert lesson is not None
    assert lesson.prompt == ""


def test_what_a_threshold_decided_teaches_nothing():
    assert decided(Learning(0.1, prompts=True)).lesson is None


def test_no_log_of_a_decision_shows_the_prompt():
    assert SECRET not in repr(decided(Learning(0.1, prompts=True), coin="weak"))
