import asyncio

import pytest

from wissel.store.base import AlreadyGiven, Answered, Scope, Served, Unknown
from wissel.store.connection import RedisConnection
from wissel.store.feedback import FeedbackStore
from wissel.store.keys import FEEDBACK_TTL, Keys

pytestmark = pytest.mark.slow

SERVED = Answered(Served(Scope("chat", "r1", 1, 2), "canary", 17, is_counted=True), lesson="thrifty")


@pytest.fixture
def feedback(redis: RedisConnection, keys: Keys) -> FeedbackStore:
    return FeedbackStore(redis, keys)


async def test_a_score_is_for_the_arm_that_served(feedback: FeedbackStore):
    await feedback.remember([("wr-1", SERVED)])

    assert await feedback.accept("wr-1", 1.0) == SERVED


async def test_an_answer_that_no_split_dealt_out_takes_a_score_too(feedback: FeedbackStore):
    await feedback.remember([("wr-1", Answered(lesson="thrifty"))])

    assert await feedback.accept("wr-1", 1.0) == Answered(lesson="thrifty")


async def test_of_many_scores_at_once_one_is_accepted(feedback: FeedbackStore):
    await feedback.remember([("wr-1", SERVED)])

    answers = await asyncio.gather(*(feedback.accept("wr-1", 1.0) for _ in range(10)))
    assert sorted(type(answer).__name__ for answer in answers) == ["AlreadyGiven"] * 9 + ["Answered"]


async def test_remembering_a_request_again_does_not_take_another_score(feedback: FeedbackStore):
    await feedback.remember([("wr-1", SERVED)])
    await feedback.accept("wr-1", 1.0)
    await feedback.remember([("wr-1", SERVED)])

    assert await feedback.accept("wr-1", 0.0) == AlreadyGiven()


async def test_a_request_that_nobody_remembers_is_unknown(feedback: FeedbackStore):
    assert await feedback.accept("wr-2", 1.0) == Unknown()


async def test_a_request_is_remembered_for_a_day(feedback: FeedbackStore, redis: RedisConnection, keys: Keys):
    await feedback.remember([("wr-1", SERVED)])
    await feedback.accept("wr-1", 1.0)

    lives = [await redis.run("TTL", name) for name in (keys.served("wr-1"), keys.score("wr-1"))]
    assert all(FEEDBACK_TTL - 60 < left <= FEEDBACK_TTL for left in lives)
