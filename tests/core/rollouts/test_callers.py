"""How much of an arm's evidence one caller may be."""

import math
import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wissel.core.rollouts import callers as module
from wissel.core.rollouts.callers import FEWEST, MOST_CALLERS, SHARE, Callers


def played(
    callers: Callers, volumes: dict[str, float], requests: int, *, seed: int = 1, arm: str = "canary"
) -> Counter[str]:
    """Who was counted how often, of so many requests at random."""
    dice, counted = random.Random(seed), Counter[str]()
    for caller in dice.choices(list(volumes), list(volumes.values()), k=requests):
        callers.met(caller)
        counted[caller] += callers.admits(arm, caller, SHARE)
    return counted


def part(counted: Counter[str], caller: str) -> float:
    return counted[caller] / counted.total()


HONEST = {f"team-{number}": 1.0 for number in range(8)}


def test_a_flood_is_a_fifth_of_the_evidence():
    callers = Callers()
    played(callers, HONEST, 500, arm="before")
    counted = played(callers, {**HONEST, "flood": 100.0}, 20_000)

    assert part(counted, "flood") <= SHARE + 0.02
    assert sum(counted[name] for name in HONEST) > 0.9 * 20_000 * 8 / 108


def test_callers_alike_are_all_counted():
    counted = played(Callers(), HONEST, 5_000)

    assert counted.total() > 0.99 * 5_000


@pytest.mark.parametrize("number", range(2, FEWEST))
def test_fewer_callers_than_five_are_all_counted(number: int):
    counted = played(Callers(), {f"team-{n}": 1.0 + 20 * (n == 0) for n in range(number)}, 2_000)

    assert counted.total() == 2_000


def test_five_callers_alike_lose_next_to_nothing():
    counted = played(Callers(), {f"team-{n}": 1.0 for n in range(5)}, 5_000)

    assert counted.total() > 0.9 * 5_000


def test_a_probe_does_not_make_the_fifth_caller():
    callers = Callers()
    counted = played(callers, {"a": 30, "b": 30, "c": 30, "d": 9, "probe": 0.2}, 5_000)

    assert callers.count == 4
    assert counted.total() > 0.98 * 5_000


def test_a_flood_does_not_make_the_others_none():
    callers = Callers()
    played(callers, {**HONEST, "flood": 10_000.0}, 50_000)
    played(callers, HONEST, 100)

    assert callers.count == 9


def test_arms_are_bounded_apart_and_alike():
    callers = Callers()
    played(callers, HONEST, 500, arm="before")
    volumes = {**HONEST, "large": 8.0}
    arms = {
        arm: played(callers, volumes, requests, seed=requests, arm=arm)
        for arm, requests in (("canary", 1_000), ("stable", 9_000))
    }

    assert [round(part(counted, "large"), 1) for counted in arms.values()] == [SHARE, SHARE]


@settings(max_examples=50)
@given(st.lists(st.integers(0, 12), min_size=1, max_size=400), st.sampled_from([0.1, 0.2, 0.5, 1.0]))
def test_nobody_is_ever_more_than_its_share_and_what_chance_adds(order: list[int], share: float):
    callers = Callers()
    for number in range(13):
        callers.met(str(number))
    counted: Counter[str] = Counter()
    for number in order:
        counted[str(number)] += callers.admits("arm", str(number), share)

    fair = share * counted.total()
    assert max(counted.values()) <= fair + math.sqrt(fair) + 1


def test_what_was_long_ago_counts_half(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "_MEMORY", 1000)
    callers = Callers()
    played(callers, {f"old-{n}": 1.0 for n in range(8)}, 999)
    before = callers.count
    played(callers, {f"new-{n}": 1.0 for n in range(8)}, 5000)

    assert (before, callers.count) == (8, 8)


def test_no_more_callers_are_kept_than_fit_and_the_rest_are_met_all_the_same():
    callers = Callers()
    for number in range(MOST_CALLERS + 5):
        callers.met(f"team-{number}")
    callers.met("team-0")

    assert callers.count <= MOST_CALLERS
