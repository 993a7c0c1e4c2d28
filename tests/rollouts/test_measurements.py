import asyncio

import pytest

from rollout_factories import a_spec, begun
from wissel.core.rollouts.evidence import Evidence
from wissel.core.rollouts.spec import Delivery
from wissel.rollouts import measurements, webhooks
from wissel.rollouts.measurements import Measurements
from wissel.store.base import Scope, Tallied
from wissel.store.lease import LEASE_SECONDS

QUEUE = Delivery(a_spec(), prometheus="http://prometheus", queries={"queue": "avg(queue)", "age": "max(age)"})


class Empty:
    """Counters of a rollout that nobody has asked for anything."""

    async def read(self, scope: Scope) -> Tallied:
        return Tallied({})


class Silent:
    """A session whose other end never answers."""

    def get(self, url: str, *, params: object) -> "Silent":
        return self

    async def __aenter__(self) -> None:
        await asyncio.Event().wait()

    async def __aexit__(self, *_: object) -> None:
        pass


@pytest.mark.looptime
async def test_a_prometheus_that_is_silent_for_two_seconds_has_no_numbers():
    found = await Measurements(Empty(), Silent()).evidence(QUEUE, begun(a_spec()))

    assert isinstance(found, Evidence)
    assert (found.queries, asyncio.get_running_loop().time()) == ({"queue": None, "age": None}, 2.0)


def test_a_query_and_a_confirmation_together_take_less_than_a_lease_lasts():
    assert measurements.QUERY_SECONDS + webhooks.SECONDS < LEASE_SECONDS
