import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from rollout_factories import a_spec, begun
from wissel.core.rollouts.spec import Delivery
from wissel.rollouts.webhooks import Webhooks

DELIVERY = Delivery(a_spec(), confirmations=("http://one/", "http://two/"))
ROLLOUT = begun(a_spec())


class Refusing:
    """A session whose other ends say no, after `seconds`."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.posted: list[str] = []
        self._seconds = seconds

    def post(self, url: str, *, json: Any) -> "Refusing":
        self.posted.append(url)
        return self

    async def __aenter__(self) -> SimpleNamespace:
        await asyncio.sleep(self._seconds)
        return SimpleNamespace(status=403)

    async def __aexit__(self, *_: object) -> None:
        pass


async def test_who_did_not_agree_is_asked_again_after_ten_seconds():
    session = Refusing()
    webhooks = Webhooks(session)
    asked = []
    for now in (100.0, 100.5, 109.9, 110.0, 119.9, 120.0):
        before = len(session.posted)
        await webhooks.confirm(DELIVERY, ROLLOUT, now)
        asked.append(len(session.posted) - before)

    assert asked == [2, 0, 0, 2, 0, 2]


@pytest.mark.looptime
async def test_who_does_not_answer_within_two_seconds_does_not_agree():
    agreed = await Webhooks(Refusing(60.0)).confirm(DELIVERY, ROLLOUT, 0.0)

    assert (agreed, asyncio.get_running_loop().time()) == (False, 2.0)
