"""One-sided answers as labels: what they say of both ends, and that graders learn from them."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiers.world import battles, encode, rows, write
from wissel.core.lesson import Lesson, Taught
from wissel.tiers.base import STRONG, WEAK, Prompts
from wissel.tiers.data import Source, read
from wissel.tiers.live import Label, labels_of, rows_of, summarize
from wissel.tiers.metrics import call_performance
from wissel.tiers.train import Recipe

scores = st.floats(0, 1)


def taught(end: str = STRONG, score: float | None = None, *, prompt: str = "why?", rate: float = 0.5, **more) -> Taught:
    lesson = Lesson("thrifty", ("large", "small"), end, rate, prompt)
    return Taught(**{"request_id": "wr-1", "lesson": lesson, "ok": True, "model": "m", "score": score, **more})


def label(end: str, score: float, **more) -> Label:
    return Label(taught(end, score, **more), score)


def explored(found: list[dict], *, seed: int, rate=lambda row: 0.5, rated: float = 1.0) -> list[Taught]:
    """What is kept of prompts whose both answers are known, when a coin picks one and a share is rated."""
    rng = np.random.default_rng(seed)
    return [
        taught(end, float(row[end]) if rng.random() < rated else None, prompt=row["prompt"], rate=rate(row))
        for row in found
        for end in [STRONG if rng.random() < 0.5 else WEAK]
    ]


@given(st.lists(st.tuples(scores, scores), min_size=1, max_size=30))
def test_over_both_sides_of_the_coin_the_gain_is_half_the_true_one(answers):
    labels = [label(end, score) for both in answers for end, score in zip((STRONG, WEAK), both, strict=True)]
    gains = [row[STRONG] - row[WEAK] for row in rows_of(labels)]

    for (strong, weak), seen in zip(answers, [sum(pair) / 2 for pair in list(pairwise(gains))[::2]], strict=True):
        assert seen == pytest.approx((strong - weak) / 2, abs=1e-5)


def test_both_ends_weigh_the_same_however_often_each_is_rated():
    found = rows_of([label(STRONG, 1.0)] * 30 + [label(WEAK, 0.0)] * 10)
    weight = {end: sum(row["weight"] for row in found if row["served"] == end) for end in (STRONG, WEAK)}

    assert weight == pytest.approx({STRONG: 20, WEAK: 20}, abs=1e-4)


def test_a_grader_learns_from_one_sided_answers_what_it_learns_from_both(tmp_path):
    """Four times as many, for each says less."""
    source = Source(write(tmp_path / "live.jsonl", rows_of(labels_of(explored(rows(1600), seed=1), "feedback"))))
    live = read(source, lambda texts: Prompts.embed(texts, encode))
    unseen = battles(400, seed=7)
    found = {
        name: call_performance(Recipe("similarity").fit(known).win_rates(unseen.prompts), unseen.ends).apgr
        for name, known in {"live": live, "both": battles(400)}.items()
    }

    assert found["live"] > 0.65
    assert found["live"] == pytest.approx(found["both"], abs=0.03)


@pytest.mark.slow
def test_the_grader_that_served_is_measured_without_a_prompt():
    """The estimate against what both answers would have said, for win rates that know the topic."""
    known = battles(4000, seed=3)
    rates = Recipe("intent").fit(battles(400)).win_rates(known.prompts)
    at = iter(rates)
    lessons = explored(rows(4000, seed=3), seed=4, rate=lambda _: float(next(at)))
    found = summarize(lessons, labels_of(lessons, "feedback"))
    low, high = found.apgr_interval or (1.0, 0.0)

    assert low < call_performance(rates, known.ends).apgr < high
    assert found.gain == pytest.approx(known.ends.gap, abs=0.05)


def test_an_unrated_answer_is_no_label_and_a_failed_one_is_by_its_outcome():
    lessons = [taught(STRONG, None), taught(WEAK, 0.5), taught(WEAK, None, ok=False)]

    assert [each.score for each in labels_of(lessons, "feedback")] == [0.5]
    assert [each.score for each in labels_of(lessons, "outcome")] == [1.0, 1.0, 0.0]


def test_ends_that_are_rated_unequally_often_are_a_warning():
    lessons = [taught(STRONG, 1.0)] * 90 + [taught(STRONG)] * 10 + [taught(WEAK, 0.0)] * 30 + [taught(WEAK)] * 70
    [warning] = summarize(lessons, labels_of(lessons, "feedback")).warnings

    assert "90.0 % of the strong end's answers and 30.0 % of the weak one's" in warning


def test_a_strong_end_that_is_no_better_is_a_warning():
    lessons = [taught(end, score) for end in (STRONG, WEAK) for score in (0.0, 1.0)] * 20
    [warning] = summarize(lessons, labels_of(lessons, "feedback")).warnings

    assert "not known to be better" in warning


def test_a_row_without_a_prompt_is_told_apart_when_one_trains_from_it(tmp_path):
    found = rows_of([label(STRONG, 1.0, prompt=""), label(WEAK, 0.0, prompt="")])

    with pytest.raises(Exception, match=r"exported without prompts: see tiers\[\].learn.prompts"):
        read(Source(write(tmp_path / "d", found)), Prompts.without_vectors)
