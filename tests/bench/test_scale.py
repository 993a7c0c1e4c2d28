import pytest
from tests.bench.scale import LOOK_AIM, Size, run

from real import needs_redis

pytestmark = [pytest.mark.slow, needs_redis]


async def test_a_fleet_counts_every_request_once_and_a_look_does_not_wait_for_its_size():
    few = await run(Size(replicas=2, rollouts=2, limits=5, rate=2), rounds=2, url=None)
    many = await run(Size(replicas=60, rollouts=2, limits=5, rate=2), rounds=2, url=None)

    assert few.is_exact
    assert many.is_exact
    assert many.longest_look_ms < 1000 * LOOK_AIM
