import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from structlog.testing import capture_logs

from redis_server import RedisServer
from wissel.core.lesson import Lesson, Taught
from wissel.core.tier import Learning
from wissel.errors import StoreError
from wissel.store import lessons as module
from wissel.store.connection import RedisConnection
from wissel.store.keys import Keys
from wissel.store.lessons import LessonStore

pytestmark = pytest.mark.slow

KEPT = Learning(0.1, prompts=True)


def lesson(prompt: str = "why?") -> Lesson:
    return Lesson("thrifty", ("large", "small"), "weak", 0.25, prompt)


def taught(request_id: str = "wr-1", prompt: str = "why?") -> Taught:
    return Taught(request_id, lesson(prompt), ok=True, model="m-7b", route="code")


def opened(connection: RedisConnection, learning: Learning = KEPT) -> LessonStore:
    made = LessonStore(connection, Keys("test"))
    made.use({"thrifty": learning})
    return made


@pytest.fixture
def kept(redis: RedisConnection) -> LessonStore:
    return opened(redis)


@contextlib.asynccontextmanager
async def running(lessons: LessonStore) -> AsyncIterator[None]:
    task = asyncio.create_task(lessons.run(interval=0.02))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def ids(lessons: LessonStore) -> list[str]:
    return [each.request_id for each in await lessons.read("thrifty")]


async def test_a_score_that_comes_later_is_joined_by_the_requests_id(redis: RedisConnection, kept: LessonStore):
    kept.add(taught("wr-1"))
    kept.add(taught("wr-2"))
    await kept.flush()
    other = opened(redis)
    other.scored("thrifty", "wr-2", 0.75)
    await other.flush()

    one, two = await kept.read("thrifty")
    assert (one.score, two.score) == (None, 0.75)
    assert (two.lesson, two.ok, two.model, two.route) == (lesson(), True, "m-7b", "code")
    assert two.at > 1e9


async def test_any_text_comes_back_as_it_was(kept: LessonStore):
    text = "é\ud800 \u2028 \x00 {}"
    kept.add(taught(prompt=text))
    await kept.flush()

    assert [each.lesson.prompt for each in await kept.read("thrifty")] == [text]


async def test_what_was_written_twice_counts_once(kept: LessonStore):
    for _ in range(2):
        kept.add(taught())
        kept.scored("thrifty", "wr-1", 1.0)
    await kept.flush()

    assert [each.score for each in await kept.read("thrifty")] == [1.0]


async def test_more_pages_than_one_are_read(kept: LessonStore, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "_PAGE", 3)
    for number in range(10):
        kept.add(taught(f"wr-{number}"))
    await kept.flush()

    assert await ids(kept) == [f"wr-{number}" for number in range(10)]


async def test_no_more_than_so_many_are_kept_and_the_oldest_go_first(redis: RedisConnection):
    kept = opened(redis, Learning(0.1, most=500))
    for number in range(3000):
        kept.add(taught(f"wr-{number}"))
    await kept.flush()

    found = await ids(kept)
    # Redis cuts whole nodes of a hundred.
    assert 1000 <= len(found) <= 1200
    assert found[-1] == "wr-2999"


async def test_what_is_too_old_goes_though_nothing_new_comes(redis: RedisConnection, keys: Keys):
    kept = opened(redis, Learning(0.1, keep=3600))
    kept.add(taught("wr-new"))
    seconds, _ = await redis.run("TIME")
    for age in (3700, 3500):
        await redis.run("XADD", keys.lessons("old"), f"{1000 * (int(seconds) - age)}-0", "score", "{}")
    kept.use({"old": Learning(0.1, keep=3600)})
    await kept.cut()

    assert await redis.run("XLEN", keys.lessons("old")) == 1


async def test_with_nobody_left_to_cut_the_stream_expires(redis: RedisConnection, keys: Keys):
    kept = opened(redis, Learning(0.1, keep=7200))
    kept.add(taught())
    await kept.flush()

    assert 7100 < await redis.run("TTL", keys.lessons("thrifty")) <= 7200


async def test_a_tier_that_stopped_learning_keeps_nothing_more(kept: LessonStore):
    kept.add(taught())
    kept.use({})
    await kept.flush()

    assert await ids(kept) == []


async def test_lessons_wait_while_redis_is_away(mortal: RedisServer):
    connection = RedisConnection(mortal.url)
    kept = opened(connection)
    mortal.kill()
    kept.add(taught())
    with pytest.raises(StoreError):
        await kept.flush()
    async with running(kept):
        mortal.start()
        async with asyncio.timeout(20):
            while not await ids(kept):  # noqa: ASYNC110  # Redis announces nothing
                await asyncio.sleep(0.1)

    assert await ids(kept) == ["wr-1"]
    await connection.close()


async def test_what_does_not_fit_while_redis_is_away_is_lost_and_said(
    kept: LessonStore, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "MOST_WAITING", 3)
    for number in range(5):
        kept.add(taught(f"wr-{number}", prompt="a secret"))
    with capture_logs() as logs:
        await kept.flush()

    assert await ids(kept) == ["wr-2", "wr-3", "wr-4"]
    assert [(line["event"], line["lines"]) for line in logs] == [("lessons_lost", 2)]
    assert "a secret" not in str(logs)


async def test_what_comes_while_lines_are_written_is_neither_lost_nor_written_twice(
    kept: LessonStore, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "MOST_WAITING", 3)
    write = kept._connection.run_all

    async def busy(commands):
        monkeypatch.setattr(kept._connection, "run_all", write)
        for number in range(3, 6):
            kept.add(taught(f"wr-{number}"))
        return await write(commands)

    monkeypatch.setattr(kept._connection, "run_all", busy)
    for number in range(3):
        kept.add(taught(f"wr-{number}"))
    await kept.flush()

    assert await ids(kept) == [f"wr-{number}" for number in range(6)]


async def test_the_writer_survives_what_nobody_thought_of(kept: LessonStore, monkeypatch: pytest.MonkeyPatch):
    whole = kept.flush
    failures = iter([RuntimeError("a bug")])

    async def broken() -> None:
        for failure in failures:
            raise failure
        await whole()

    monkeypatch.setattr(kept, "flush", broken)
    kept.add(taught())
    async with running(kept):
        async with asyncio.timeout(10):
            while not await ids(kept):  # noqa: ASYNC110  # Redis announces nothing
                await asyncio.sleep(0.02)

    assert await ids(kept) == ["wr-1"]


async def test_a_line_that_cannot_be_read_is_named(redis: RedisConnection, keys: Keys, kept: LessonStore):
    line = await redis.run("XADD", keys.lessons("thrifty"), "*", "lesson", '{"id": "wr-1"}')

    with pytest.raises(StoreError, match=f'line "{line}" of the lessons of "thrifty" cannot be read'):
        await kept.read("thrifty")
