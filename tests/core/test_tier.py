import pytest
from hypothesis import given
from hypothesis import strategies as st

from wissel.core.tier import (
    Budget,
    Grading,
    Learning,
    NoWinRate,
    Thresholds,
    Tier,
    WinRate,
    begin,
    grade,
    observe,
    toss,
)

BOTH = ("strong", "weak")


def budget(share: float = 0.3, start: float = 0.5, step: float = 0.01, **limits: float) -> Budget:
    return Budget(share, start, step, **limits)


def tier(policy: Budget | float = 0.5, **fields) -> Tier:
    return Tier("thrifty", "large", "small", policy, **fields)


def play(played: Tier, rates: list[float]) -> list[bool]:
    """Which of these requests went to the strong end, one after the other."""
    holder, ends = begin(played), []
    for rate in rates:
        end = grade(played, Grading(WinRate(rate), holder.threshold), BOTH).end
        ends.append(end == "strong")
        holder = observe(holder, played, end)
    return ends


@pytest.mark.parametrize(("rate", "end"), [(0.6, "strong"), (0.5, "strong"), (0.4, "weak")])
def test_at_or_above_the_threshold_the_strong_end_is_asked(rate, end):
    graded = grade(tier(0.5), Grading(WinRate(rate, "length"), 0.5), BOTH)

    assert (graded.end, graded.reason, graded.win_rate, graded.grader) == (end, "threshold", rate, "length")


def test_where_one_end_cannot_serve_the_other_does_and_the_budget_does_not_count_it():
    graded = grade(tier(0.5), Grading(WinRate(0.1), 0.5), ("strong",))

    assert (graded.end, graded.reason, graded.is_evidence) == ("strong", "only_end", False)


@pytest.mark.parametrize("reason", ["late", "failed", "empty"])
@pytest.mark.parametrize("fallback", ["strong", "weak"])
def test_without_a_win_rate_the_fallback_serves(reason, fallback):
    graded = grade(tier(fallback=fallback), Grading(NoWinRate(reason, "why"), 0.5), BOTH)

    assert (graded.end, graded.reason, graded.detail, graded.is_evidence) == (fallback, reason, "why", False)


LEARNER = tier(learning=Learning(0.1))


def test_the_share_to_explore_is_dealt_out_fairly_by_the_requests_id():
    """20,000 ids: 1,000 a side, give or take five standard deviations."""
    coins = [toss(LEARNER, f"wr-{number}") for number in range(20_000)]

    assert coins.count("strong") == pytest.approx(1000, abs=155)
    assert coins.count("weak") == pytest.approx(1000, abs=155)


def test_a_coin_says_the_same_on_every_replica():
    assert [toss(LEARNER, f"wr-{n}") for n in range(500)] == [toss(LEARNER, f"wr-{n}") for n in range(500)]


def test_a_tier_that_does_not_learn_tosses_no_coin():
    assert {toss(tier(), f"wr-{number}") for number in range(1000)} == {None}


@pytest.mark.parametrize("coin", BOTH)
def test_a_coin_decides_whatever_the_win_rate(coin):
    found = [grade(LEARNER, Grading(WinRate(rate), 0.5, coin), BOTH) for rate in (0.1, 0.9)]

    assert [(each.end, each.reason, each.is_evidence) for each in found] == [(coin, "explored", True)] * 2


@pytest.mark.parametrize(
    ("rate", "able", "reason"), [(WinRate(0.1), ("strong",), "only_end"), (NoWinRate("late"), BOTH, "late")]
)
def test_where_there_is_no_choice_no_coin_decides(rate, able, reason):
    assert grade(LEARNER, Grading(rate, 0.5, "weak"), able).reason == reason


def test_a_budget_is_held_with_the_requests_that_a_coin_decided():
    held = tier(budget(share=0.2, start=0.8, step=0.03), learning=Learning(0.2))
    holder, strong = begin(held), 0
    for number in range(4000):
        coin = toss(held, f"wr-{number}")
        end = grade(held, Grading(WinRate((37 * number % 100) / 100), holder.threshold, coin), BOTH).end
        holder = observe(holder, held, end)
        strong += end == "strong"

    assert strong / 4000 == pytest.approx(0.2, abs=0.02)


def test_a_fixed_threshold_stays():
    assert observe(begin(tier(0.25)), tier(0.25), "strong").threshold == 0.25


def test_a_strong_request_raises_the_threshold_and_a_weak_one_lowers_it():
    held = tier(budget(share=0.25, step=0.04))

    assert observe(begin(held), held, "strong").threshold == pytest.approx(0.53)
    assert observe(begin(held), held, "weak").threshold == pytest.approx(0.49)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=300), st.floats(0.05, 0.95))
def test_the_share_is_off_by_no_more_than_the_way_of_the_threshold(rates, share):
    """Whatever the traffic: the bound of the module's docstring."""
    step = 0.02
    ends = play(tier(Budget(share, 0.5, step, lowest=-1.0, highest=2.0)), rates)

    assert abs(sum(ends) / len(ends) - share) <= (1 + step) / (step * len(ends))


@given(st.lists(st.floats(0, 1), max_size=200))
def test_the_threshold_never_leaves_its_limits_and_never_jumps(rates):
    held = tier(budget(step=0.05, lowest=0.4, highest=0.6))
    holder = begin(held)
    for rate in rates:
        moved = observe(holder, held, grade(held, Grading(WinRate(rate), holder.threshold), BOTH).end)

        assert 0.4 <= moved.threshold <= 0.6
        assert abs(moved.threshold - holder.threshold) <= 0.05
        holder = moved


def test_after_the_traffic_has_changed_the_share_is_held_again():
    """Win rates fall by ten quartile distances at once; a static threshold would send nothing to the strong end."""
    before = [0.5 + 0.1 * ((7 * at) % 100) / 100 for at in range(1000)]
    after = [rate - 0.25 for rate in before[:500]]
    ends = play(tier(budget(share=0.3, start=0.57, step=0.2 * 0.05)), before + after)

    assert sum(ends[:1000]) / 1000 == pytest.approx(0.3, abs=0.02)
    assert sum(ends[1250:]) / 250 == pytest.approx(0.3, abs=0.02)


def test_two_replicas_that_hold_the_share_hold_it_together():
    held = tier(budget(share=0.4, step=0.02))
    easy, hard = [0.3 + 0.001 * (at % 50) for at in range(600)], [0.7 + 0.001 * (at % 50) for at in range(600)]
    ends = [*play(held, easy), *play(held, hard)]

    assert sum(ends) / len(ends) == pytest.approx(0.4, abs=0.02)


@pytest.mark.parametrize("wrong", [{"share": 0.0}, {"share": 1.0}, {"step": 0.0}, {"start": 0.1, "lowest": 0.2}])
def test_a_budget_that_cannot_be_held_is_none(wrong):
    with pytest.raises(ValueError, match="not a budget"):
        budget(**wrong)


def test_thresholds_move_with_what_was_served():
    held = tier(budget())
    thresholds = Thresholds({"thrifty": held})
    thresholds.served(grade(held, Grading(WinRate(0.9), 0.5), BOTH))

    assert thresholds.of(held).threshold == pytest.approx(0.507)
    assert thresholds.of(held).realised == 1.0


def test_a_reload_that_leaves_a_tier_as_it_was_keeps_its_threshold():
    held = tier(budget())
    thresholds = Thresholds({"thrifty": held})
    thresholds.served(grade(held, Grading(WinRate(0.9), 0.5), BOTH))
    thresholds.adopt({"thrifty": tier(budget()), "new": Tier("new", "a", "b", 0.1)})

    assert thresholds.of(held).requests == 1


def test_a_tier_that_was_changed_begins_anew():
    thresholds = Thresholds({"thrifty": tier(budget())})
    thresholds.served(grade(tier(budget()), Grading(WinRate(0.9), 0.5), BOTH))
    changed = tier(budget(share=0.5))
    thresholds.adopt({"thrifty": changed})

    assert thresholds.of(changed).requests == 0


def test_what_is_served_for_a_tier_that_is_gone_is_forgotten():
    thresholds = Thresholds()
    thresholds.served(grade(tier(budget()), Grading(WinRate(0.9), 0.5), BOTH))

    assert thresholds.of(tier(budget())).requests == 0
