import pytest
from tests.bench.soak import soak

from real import needs_encoder, needs_envoy, needs_redis

pytestmark = [pytest.mark.slow, needs_envoy, needs_encoder, needs_redis]


async def test_a_short_soak_leaves_nothing_behind():
    report = await soak(4.0, between_reloads=1.5)

    assert report["left_over"] == []
    assert report["served_by_models"] == report["decisions_counted"] > 100
