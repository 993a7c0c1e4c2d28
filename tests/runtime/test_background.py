import asyncio

import pytest

from wissel.runtime.background import beside


async def test_work_runs_beside_the_block_and_is_over_when_it_is_left():
    said: list[str] = []

    async def work(name: str) -> None:
        said.append(f"{name} begins")
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            said.append(f"{name} ends")

    async with beside(work("one"), work("two")):
        await asyncio.sleep(0)
        said.append("block")

    assert said == ["one begins", "two begins", "block", "one ends", "two ends"]


async def test_work_is_over_too_when_the_block_fails():
    running = asyncio.Event()

    async def work() -> None:
        running.set()
        try:
            await asyncio.Event().wait()
        finally:
            running.clear()

    async def fail() -> None:
        async with beside(work()):
            await running.wait()
            raise ValueError("the block's")

    with pytest.raises(ValueError, match="the block's"):
        await fail()

    assert not running.is_set()
