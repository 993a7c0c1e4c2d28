import asyncio
import time

import pytest

from wissel.core.rollouts.analysis import Reading, Verdict
from wissel.core.rollouts.rollout import Event, Rollout
from wissel.store.audit import Audit, entry_of, subject_of, words_of
from wissel.store.base import AuditEntry
from wissel.store.connection import RedisConnection
from wissel.store.keys import AUDIT_LENGTH, Keys

pytestmark = pytest.mark.slow


@pytest.fixture
def audit(redis: RedisConnection, keys: Keys) -> Audit:
    return Audit(redis, keys)


def entry(number: int, subject: str = "rollout/chat") -> AuditEntry:
    return AuditEntry(subject, "weight_set", "ada", f"weight {number}", {"weight": number})


async def test_a_line_says_who_when_why_and_on_what_evidence(audit: Audit):
    verdict = Verdict("fail", "too many errors", (Reading("error_rate max 0.25 guard", "fail", 0.31, 0.01),))
    event = Event("rolled_back", "too many errors", "wissel", step=1, weight=0, verdict=verdict)
    await audit.add(entry_of(Rollout("chat", "r1", 1, at=0.0, is_aborted=True), event))

    [line] = await audit.latest(1)
    seen = line.detail["verdict"]["readings"][0]["canary"]
    assert (line.subject, line.kind, line.by, line.reason, seen) == (
        subject_of("chat"), "rolled_back", "wissel", "too many errors", 0.31,
    )  # fmt: skip


async def test_a_line_is_dated_by_redis(audit: Audit):
    await audit.add(entry(1))

    [line] = await audit.latest(1)
    assert abs(line.at - time.time()) < 5


async def test_the_latest_come_first(audit: Audit):
    for number in range(5):
        await audit.add(entry(number))

    assert [line.detail["weight"] for line in await audit.latest(3)] == [4, 3, 2]


async def test_lines_of_one_subject_are_found_among_many(audit: Audit):
    await audit.add(entry(1, "rollout/rare"))
    for number in range(450):
        await audit.add(entry(number))

    assert [line.subject for line in await audit.latest(2, subject="rollout/rare")] == ["rollout/rare"]


async def test_the_trail_can_be_read_page_by_page(audit: Audit):
    for number in range(5):
        await audit.add(entry(number))
    first = await audit.latest(2)

    assert [line.detail["weight"] for line in await audit.latest(2, before=first[-1].id)] == [2, 1]


async def test_lines_are_followed_as_they_are_written(audit: Audit):
    await audit.add(entry(1))
    lines = audit.follow()
    waiting = asyncio.create_task(anext(lines))
    await asyncio.sleep(0.2)
    await audit.add(entry(2))
    line = await waiting
    await lines.aclose()

    assert line.detail["weight"] == 2


async def test_following_may_begin_with_the_oldest(audit: Audit):
    await audit.add(entry(1))
    lines = audit.follow("0")
    line = await anext(lines)
    await lines.aclose()

    assert line.detail["weight"] == 1


async def test_the_trail_does_not_grow_for_ever(audit: Audit, redis: RedisConnection, keys: Keys):
    filler = ("XADD", keys.audit, "*", *words_of(entry(0)))
    await redis.run_all([filler] * (AUDIT_LENGTH + 1000))
    await audit.add(entry(1))

    assert AUDIT_LENGTH <= await redis.run("XLEN", keys.audit) < AUDIT_LENGTH + 500


def test_bytes_that_are_no_text_are_written_as_what_they_are():
    words = words_of(AuditEntry("access", "denied", "ada", 'no model is named "\ud800"', {}))

    assert 'no model is named "\\ud800"' in words
