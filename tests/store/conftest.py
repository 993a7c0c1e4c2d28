"""Real Redis servers, of every version that is here."""

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from redis_server import RedisServer, each_redis
from wissel.store.connection import Connection
from wissel.store.keys import Keys


@pytest.fixture(scope="session", params=each_redis())
def _server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    with RedisServer(request.param) as server:
        yield server


@pytest.fixture
def server(_server: RedisServer) -> RedisServer:
    """Running, and empty."""
    _server.empty()
    return _server


@pytest.fixture(params=each_redis())
def mortal(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    """One that the test may kill."""
    with RedisServer(request.param) as server:
        yield server


@pytest_asyncio.fixture
async def redis(server: RedisServer) -> AsyncIterator[Connection]:
    connection = Connection(server.url)
    yield connection
    await connection.close()


@pytest.fixture
def keys() -> Keys:
    return Keys("test")
