"""Real parts that tests of several folders share; where one is missing its tests skip visibly."""

import os
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from redis_server import RedisServer, each_redis
from wissel.classifiers import export
from wissel.classifiers.encoder import Encoder
from wissel.errors import ModelError
from wissel.store.connection import RedisConnection
from wissel.store.keys import Keys


def missing(error):
    """Skips, or fails where everything is required."""
    if os.environ.get("REQUIRE_ALL") == "1":
        pytest.fail(str(error))
    pytest.skip(str(error))


@pytest.fixture(scope="session")
def exported():
    """The folder of the real export, made once in the user's own cache."""
    try:
        return export.ensure()
    except ModelError as error:
        missing(error)


@pytest.fixture(scope="session")
def encoder(exported):
    return Encoder.load(exported)


@pytest.fixture(scope="session")
def original():
    """The real weights in PyTorch."""
    try:
        return export.load_original(export.find_source())
    except ModelError as error:
        missing(error)


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
async def redis(server: RedisServer) -> AsyncIterator[RedisConnection]:
    connection = RedisConnection(server.url)
    yield connection
    await connection.close()


@pytest.fixture
def keys() -> Keys:
    return Keys("test")
