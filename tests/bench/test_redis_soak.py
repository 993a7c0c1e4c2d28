"""A sample of `make soak`, on one server of the first version that is here."""

import pytest
from tests.bench.redis_soak import soak

from real import needs_redis
from redis_server import binaries

pytestmark = [pytest.mark.slow, needs_redis]


async def test_a_redis_that_is_full_demoted_and_flushed_costs_no_count_and_no_place():
    rows = await soak(next(iter(binaries())), "alone", ("full", "demoted", "flushed"))

    assert [row for row in rows if not row.is_well] == []
