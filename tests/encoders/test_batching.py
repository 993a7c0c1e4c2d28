import asyncio
import threading

import numpy as np
import pytest

from wissel.encoders.base import read_with
from wissel.encoders.batching import BATCH_CHARS, Batcher, OverloadError
from wissel.errors import ModelError, WorldError
from wissel.runtime.asking import asking_for


def vectors_of(readings):
    return np.concatenate([each.vectors for each in readings])


class Gate:
    """Holds every call back until it is opened."""

    def __init__(self, encode):
        self.read = read_with(encode)
        self.opened = threading.Event()

    def __call__(self, texts):
        self.opened.wait(5)
        return self.read(texts)


@pytest.fixture
def gate(words):
    return Gate(words)


async def queued(batcher, *texts):
    """One caller a text; returns once all of them stand in the queue or run."""
    callers = [asyncio.create_task(batcher.read([text])) for text in texts]
    await asyncio.sleep(0)
    return callers


async def test_vectors_come_in_the_order_of_the_texts(words):
    batcher = Batcher(read_with(words))

    readings = await batcher.read(["b", "a", "b"])

    np.testing.assert_array_equal(vectors_of(readings), words(["b", "a", "b"]))
    await batcher.close()


async def test_callers_who_wait_together_are_encoded_together(words, gate):
    batcher = Batcher(gate, workers=1)
    callers = await queued(batcher, "first", "second", "third", "fourth")
    gate.opened.set()

    await asyncio.gather(*callers)

    assert words.calls == [["first"], ["third", "second", "fourth"]]
    await batcher.close()


async def test_a_batch_holds_no_more_text_than_one_long_prompt(words, gate):
    batcher = Batcher(gate, workers=1)
    half = "x" * (BATCH_CHARS // 2)
    callers = await queued(batcher, "first", half + "1", half + "2", "short")
    gate.opened.set()

    await asyncio.gather(*callers)

    assert words.calls == [["first"], ["short", half + "1"], [half + "2"]]
    await batcher.close()


async def asked(batcher, caller, *texts):
    """One request of this caller's for each text."""
    with asking_for(caller):
        return await queued(batcher, *texts)


async def test_one_callers_flood_of_long_texts_keeps_nobody_else_waiting(words, gate):
    batcher = Batcher(gate, workers=1)
    flood = [f"{number} {'x' * 4000}" for number in range(24)]
    callers = await asked(batcher, "flood", *flood)
    for number in range(6):
        callers += await asked(batcher, f"team-{number}", f"question {number}")
    gate.opened.set()

    await asyncio.gather(*callers)

    assert words.calls[:2] == [flood[:1], [f"question {number}" for number in range(6)]]
    assert len(words.calls) == 25
    await batcher.close()


async def test_one_caller_cannot_fill_the_queue(words, gate):
    batcher = Batcher(gate, workers=1, queue_limit=8)
    callers = await asked(batcher, "flood", "running", "one", "two")
    with asking_for("flood"), pytest.raises(OverloadError, match="2 texts of one caller wait to be encoded, 2 is the"):
        await batcher.read(["three"])
    callers += await asked(batcher, "other", "three")
    gate.opened.set()

    await asyncio.gather(*callers)

    assert words.texts == ["running", "three", "one", "two"]
    await batcher.close()


async def test_who_waits_for_anothers_text_waits_only_for_its_own_turn(words, gate):
    batcher = Batcher(gate, workers=1)
    callers = await asked(batcher, "flood", "running", *(f"{number}" + "x" * 600 for number in range(5)))
    callers += await asked(batcher, "other", "4" + "x" * 600)
    gate.opened.set()

    await asyncio.gather(*callers)

    assert words.texts[1] == "4" + "x" * 600
    assert len(words.texts) == 6
    await batcher.close()


async def test_a_text_that_two_callers_ask_for_is_encoded_once(words, gate):
    batcher = Batcher(gate, workers=1)
    callers = await queued(batcher, "same", "same")
    gate.opened.set()

    one, two = await asyncio.gather(*callers)

    assert words.texts == ["same"]
    np.testing.assert_array_equal(vectors_of(one), vectors_of(two))
    await batcher.close()


async def test_what_was_encoded_is_recalled_without_waiting(words):
    batcher = Batcher(read_with(words))
    encoded = await batcher.read(["hello", "there"])

    recalled = batcher.recall(["hello", "there"])

    assert recalled is not None
    np.testing.assert_array_equal(vectors_of(recalled), vectors_of(encoded))
    assert batcher.recall(["hello", "stranger"]) is None
    await batcher.close()


async def test_the_memory_forgets_what_was_used_longest_ago(words):
    batcher = Batcher(read_with(words), memory=2)
    await batcher.read(["a"])
    await batcher.read(["b"])
    batcher.recall(["a"])

    await batcher.read(["c"])

    assert [batcher.recall([text]) is not None for text in "abc"] == [True, False, True]
    await batcher.close()


async def test_a_full_queue_refuses_at_once_and_takes_none_of_the_callers_texts(words, gate):
    batcher = Batcher(gate, workers=1, queue_limit=2)
    callers = await queued(batcher, "running", "waiting")

    with pytest.raises(OverloadError, match="1 texts wait to be encoded, and 2 is the limit"):
        await batcher.read(["one", "two"])

    gate.opened.set()
    await asyncio.gather(*callers)
    assert words.texts == ["running", "waiting"]
    assert issubclass(OverloadError, WorldError)
    await batcher.close()


async def test_a_caller_who_leaves_takes_the_text_off_the_queue(words, gate):
    batcher = Batcher(gate, workers=1, queue_limit=1)
    running, leaving = await queued(batcher, "running", "leaving")

    leaving.cancel()
    await asyncio.wait([leaving])
    (staying,) = await queued(batcher, "staying")
    gate.opened.set()
    await asyncio.gather(running, staying)

    assert words.texts == ["running", "staying"]
    await batcher.close()


async def test_a_caller_who_leaves_takes_nothing_from_one_who_waits_for_the_same_text(gate):
    batcher = Batcher(gate, workers=1)
    _, leaving, staying = callers = await queued(batcher, "running", "same", "same")

    leaving.cancel()
    gate.opened.set()
    await asyncio.wait(callers)

    assert leaving.cancelled()
    assert vectors_of(staying.result()).shape == (1, 64)
    await batcher.close()


async def test_a_caller_who_leaves_a_running_batch_does_not_break_it(gate):
    batcher = Batcher(gate, workers=1)
    (leaving,) = await queued(batcher, "running")
    leaving.cancel()
    gate.opened.set()

    readings = await batcher.read(["next"])

    assert vectors_of(readings).shape == (1, 64)
    assert batcher.recall(["running"]) is not None
    await batcher.close()


async def test_a_failed_batch_fails_its_callers_and_not_those_after_it(words):
    def encode(texts):
        if "bad" in texts:
            raise ModelError("the embedding model failed")
        return words(texts)

    batcher = Batcher(read_with(encode))
    with pytest.raises(ModelError, match="the embedding model failed"):
        await batcher.read(["bad"])

    assert vectors_of(await batcher.read(["good"])).shape == (1, 64)
    await batcher.close()


async def test_closing_finishes_what_waits_and_refuses_what_comes_after(gate):
    batcher = Batcher(gate, workers=1)
    callers = await queued(batcher, "a", "b", "c")
    closing = asyncio.create_task(batcher.close())
    await asyncio.sleep(0)

    with pytest.raises(OverloadError, match="closed"):
        await batcher.read(["late"])
    gate.opened.set()
    await closing

    assert all(vectors_of(caller.result()).shape == (1, 64) for caller in callers)
