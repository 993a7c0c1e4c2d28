"""BodyReading in turns: nobody's body keeps another's waiting for more than a slice."""

import asyncio
from collections.abc import Generator
from time import perf_counter

from wissel.core.access import Principal
from wissel.extproc.desk import MOST_HELD_BYTES, SLICE_SECONDS, Desk
from wissel.extproc.events import Read, Step


def work(slices: int, log: list[str], name: str) -> Generator[None, None, list[Step]]:
    for _ in range(slices):
        until = perf_counter() + 2 * SLICE_SECONDS
        while perf_counter() < until:
            pass
        log.append(name)
        yield
    return []


def reading(caller: str, slices: int, log: list[str], size: int = 1) -> Read:
    return Read(work(slices, log, caller), Principal(caller), size)


async def test_callers_take_turns_however_many_bodies_one_brings():
    desk, log = Desk(), list[str]()
    done: asyncio.Queue[str] = asyncio.Queue()
    for caller in ("many", "many", "many", "one"):
        desk.take(reading(caller, 3, log), lambda _, caller=caller: done.put_nowait(caller), lambda _: None)
    order = [await done.get() for _ in range(4)]

    assert order.index("one") <= 1
    assert desk.held("many") == desk.held("one") == 0


async def test_what_is_short_is_read_at_once():
    done: list[list[Step]] = []

    assert Desk().take(reading("a", 0, []), done.append, lambda _: None) is None
    assert done == [[]]


async def test_others_are_served_between_two_slices():
    log: list[str] = []
    desk, ended = Desk(), asyncio.Event()
    desk.take(reading("a", 5, log), lambda _: ended.set(), lambda _: None)
    while not ended.is_set():
        log.append("other")
        await asyncio.sleep(0)

    assert "aa" not in "".join(each[0] for each in log)


async def test_a_caller_that_left_is_not_read_on():
    desk, log = Desk(), list[str]()
    waiting = desk.take(reading("a", 9, log), lambda _: log.append("done"), lambda _: None)
    assert waiting is not None
    waiting.cancel()
    await asyncio.sleep(0.05)

    assert (log, desk.held("a")) == (["a"], 0)


async def test_a_bug_ends_its_own_reading_alone():
    def broken() -> Generator[None, None, list[Step]]:
        yield from work(1, [], "x")
        raise ZeroDivisionError

    desk, failed, ended = Desk(), list[Exception](), asyncio.Event()
    desk.take(Read(broken(), Principal("a"), 1), lambda _: None, failed.append)
    desk.take(reading("b", 2, []), lambda _: ended.set(), lambda _: None)
    await ended.wait()

    assert [type(each) for each in failed] == [ZeroDivisionError]


async def test_one_body_is_taken_whatever_its_size_and_a_second_only_where_there_is_room():
    desk = Desk()
    large = reading("a", 99, [], MOST_HELD_BYTES + 1)
    had_room = desk.has_room(large)
    waiting = desk.take(large, lambda _: None, lambda _: None)
    assert waiting is not None

    assert (had_room, desk.has_room(reading("a", 1, [])), desk.has_room(reading("b", 1, []))) == (True, False, True)
    waiting.cancel()
    await asyncio.sleep(0.01)


def test_uploads_of_one_caller_are_bounded():
    desk = Desk()
    begun = [desk.begins("a", 2), desk.begins("a", 2), desk.begins("a", 2), desk.begins("b", 2)]
    desk.ends("a")

    assert begun == [True, True, False, True]
    assert desk.begins("a", 2)
