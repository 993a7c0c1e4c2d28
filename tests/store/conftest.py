"""These tests are about Redis: they meet every version that is here."""

import pytest

from real import missing
from redis_server import binaries

VERSIONS = binaries() or {"none": ""}


@pytest.fixture(scope="session", params=VERSIONS.values(), ids=VERSIONS)
def redis_binary(request: pytest.FixtureRequest) -> str:
    return request.param or missing("no redis-server here")
