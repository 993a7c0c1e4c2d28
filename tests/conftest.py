"""Real parts that tests of several folders share; where one is missing its tests skip visibly."""

import os
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

from real import missing
from redis_server import RedisServer, binaries
from wissel.classifiers.encoders import ensure
from wissel.encoders import weights
from wissel.encoders.export import packaged
from wissel.encoders.export.transformer import Architecture, load_original
from wissel.errors import ModelError
from wissel.store.connection import RedisConnection
from wissel.store.keys import Keys
from word_encoder import WordEncoder

# How long an example may take is a matter of what else the machine does; what must be quick is measured as such.
settings.register_profile("wissel", deadline=None)
settings.load_profile("wissel")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with real parts come first: what takes long is not left over when another process has nothing to do."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


_WHOLLY_SLOW = re.compile(r"^pytestmark = .*\bslow\b|^    pytest\.mark\.slow,$", re.MULTILINE)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Files in which every test is slow are not even imported where no slow test is wanted."""
    wants_none = config.option.markexpr == "not slow" and collection_path.suffix == ".py"
    return True if wants_none and _WHOLLY_SLOW.search(collection_path.read_text("utf-8")) else None


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Half as many again as there are cores: who meets real parts waits for them more than it computes."""
    return (os.cpu_count() or 1) * 3 // 2


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> LoadScopeScheduling:
    return ByFileScheduling(config, log)


TOGETHER = {
    f"tests/classifiers/{name}.py": "a router model, which takes seconds to train"
    for name in ("test_arch_model", "test_arch_router", "test_remote")
}
"""Files that share what is dear to make. A table and not xdist's own mark, which does nothing under pytest 9.2."""


class ByFileScheduling(LoadScopeScheduling):
    """A file goes to one process, which starts its parts once; so do files that stand together in the table."""

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        return TOGETHER.get(path, path)


@pytest.fixture
def words() -> WordEncoder:
    return WordEncoder()


@pytest.fixture(scope="session")
def exported():
    """The folder of the real export, made once in the user's own cache."""
    try:
        ensure("joint")
        return packaged.PARTS["minilm"].folder()
    except ModelError as error:
        missing(error)


@pytest.fixture(scope="session")
def encoder(exported):
    return packaged.load("joint")


@pytest.fixture(scope="session")
def original():
    """The real weights in PyTorch."""
    try:
        source = weights.MINILM.find() / "model"
        return load_original(source, Architecture.read(source))
    except ModelError as error:
        missing(error)


@pytest.fixture(scope="session")
def redis_binary() -> str:
    """The version that serves tests which are not about Redis."""
    return next(iter(binaries().values()), "") or missing("no redis-server here")


@pytest.fixture(scope="session")
def _server(redis_binary: str) -> Iterator[RedisServer]:
    with RedisServer(redis_binary) as server:
        yield server


@pytest.fixture
def server(_server: RedisServer) -> RedisServer:
    """Running, and empty."""
    _server.empty()
    return _server


@pytest.fixture
def mortal(redis_binary: str) -> Iterator[RedisServer]:
    """One that the test may kill."""
    with RedisServer(redis_binary) as server:
        yield server


@pytest_asyncio.fixture
async def redis(server: RedisServer) -> AsyncIterator[RedisConnection]:
    # On a machine that is busy with other tests an answer may take longer than a request may wait for it.
    connection = RedisConnection(server.url, deadline=20.0)
    yield connection
    await connection.close()


@pytest.fixture
def keys() -> Keys:
    return Keys("test")
