import asyncio
from dataclasses import replace

import pytest

from wissel.classifiers.cascade import BURST, Cascade, CascadeStage, EscalationBudget, certainty_of
from wissel.core.intent import OTHER, Scores
from wissel.core.request import Conversation, Turn
from wissel.errors import ModelError

QUESTION = Conversation((Turn("user", "which one?"),))
SURE, UNSURE = Scores({"a": 0.9, "b": 0.1}, 0.3), Scores({"a": 0.5, "b": 0.45}, 0.3)
DEARER = Scores({"b": 1.0, "a": 0.0}, 0.0, "dear")


class Says:
    """A classifier that always says the same, after a while."""

    def __init__(self, scores, *, known=True, seconds=0.0):
        self.scores, self.known, self.seconds, self.asked = scores, known, seconds, 0

    def recall(self, conversation):
        return self.scores if self.known else None

    async def classify(self, conversation):
        self.asked += 1
        await asyncio.sleep(self.seconds)
        if isinstance(self.scores, Exception):
            raise self.scores
        return self.scores


def cascade(first, second, *, share=1.0, timeout=1.0):
    return Cascade([CascadeStage(first, 0.1, EscalationBudget(share)), CascadeStage(second, 0.1)], timeout=timeout)


@pytest.mark.parametrize(
    ("scores", "far"),
    [
        (Scores({"a": 0.9, "b": 0.2}, 0.5), 0.4),  # as far as the threshold
        (Scores({"a": 0.9, "b": 0.8}, 0.5), 0.1),  # as far as the next route
        (Scores({"a": 0.2, "b": 0.1}, 0.5), 0.3),  # "other", as far as the first route
        (Scores({"a": 0.2, OTHER: 0.9}, 0.5), 0.7),
        (Scores({"a": 0.2, "b": 0.1}, 0.0), 0.1),  # a model that says "other" itself has no threshold
        (Scores({"a": -0.4, "b": -0.9}, -0.1), 0.3),  # a threshold below 0 is one too
        (Scores({"a": 0.2}, 0.0), 0.2),  # the only route
        (Scores({"a": 0.9, "b": 0.6}, 0.5, staying=0.1), 0.2),  # it would be the answer of a first message, too
        (Scores({"a": 0.9, "b": 0.8}, 0.5, staying=0.15), -0.05),
        (Scores({}, 0.5), 0.0),
    ],
)
def test_certainty_is_the_way_to_another_answer(scores, far):
    assert certainty_of(scores) == pytest.approx(far)


async def test_a_sure_answer_is_not_asked_about_again():
    second = Says(DEARER)

    assert await cascade(Says(SURE), second).classify(QUESTION) == SURE
    assert second.asked == 0


async def test_an_unsure_answer_goes_on():
    assert await cascade(Says(UNSURE), Says(DEARER)).classify(QUESTION) == DEARER


@pytest.mark.parametrize(
    ("second", "why"), [(Says(ModelError("away")), "away"), (Says(DEARER, seconds=5), "no answer in time")]
)
async def test_a_dearer_stage_that_fails_or_is_late_leaves_the_cheaper_answer(second, why):
    answer = await cascade(Says(UNSURE), second, timeout=0.01).classify(QUESTION)

    assert answer == replace(UNSURE, detail=f"stage 2 gave none: {why}")


async def test_a_first_stage_that_fails_fails():
    with pytest.raises(ModelError):
        await cascade(Says(ModelError("away")), Says(DEARER)).classify(QUESTION)


async def test_no_more_than_its_share_of_requests_goes_on():
    second = Says(DEARER)
    both = cascade(Says(UNSURE), second, share=0.25)

    for _ in range(400):
        await both.classify(QUESTION)

    assert second.asked == pytest.approx(100 + BURST, abs=1)
    assert both.escalated == [400, second.asked]


async def test_a_share_of_nothing_lets_nothing_through():
    second = Says(DEARER)

    assert await cascade(Says(UNSURE), second, share=0).classify(QUESTION) == UNSURE
    assert second.asked == 0


def test_what_is_recalled_is_what_would_be_answered():
    assert cascade(Says(SURE), Says(DEARER, known=False)).recall(QUESTION) == SURE
    assert cascade(Says(UNSURE), Says(DEARER, known=False)).recall(QUESTION) is None
    assert cascade(Says(UNSURE), Says(DEARER)).recall(QUESTION) == DEARER
    assert cascade(Says(SURE, known=False), Says(DEARER)).recall(QUESTION) is None
