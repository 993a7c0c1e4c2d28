import asyncio

from wissel.runtime.asking import asker, asking_for


def test_nobody_asks_unless_it_is_said():
    with asking_for("ada"):
        inside = asker()

    assert (inside, asker()) == ("ada", "")


async def test_each_task_asks_for_its_own():
    async def who(caller: str) -> str:
        with asking_for(caller):
            await asyncio.sleep(0)
            return asker()

    assert await asyncio.gather(who("ada"), who("bob")) == ["ada", "bob"]
