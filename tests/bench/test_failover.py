import pytest
from tests.bench.failover import soak

from real import needs_envoy

pytestmark = [pytest.mark.slow, needs_envoy]


@pytest.mark.parametrize("mode", ["BUFFERED", "FULL_DUPLEX_STREAMED"])
async def test_whoever_fails_nothing_reaches_the_wrong_server(mode: str):
    report = await soak(0.5, mode)

    assert (report["wrong"], report["envoy_is_alive"]) == ([], True)
