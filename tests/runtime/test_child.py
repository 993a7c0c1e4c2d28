import asyncio
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from real import until
from wissel.errors import WorldError
from wissel.runtime.child import running


def python(code: str) -> list[str]:
    return [sys.executable, "-uc", code]


def said(log: Path) -> str:
    return log.read_text()


def has_written(log: Path, word: str = "up") -> Callable[[], Awaitable[bool]]:
    async def ready() -> bool:
        return word in said(log)

    return ready


def is_gone(pid: int) -> bool:
    try:
        # A zombie still has its pid: what counts is that nothing runs.
        return "State:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return True


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.mark.slow
class TestAChild:
    async def test_it_runs_while_the_block_does(self, log: Path):
        command = python("print('up'); import time; time.sleep(60)")

        async with running(command, log=log, ready=has_written(log)) as child:
            during = child.returncode

        assert (during, child.returncode) == (None, -signal.SIGTERM)

    async def test_it_is_killed_where_it_does_not_listen(self, log: Path):
        deaf = "import signal, time; signal.signal(15, signal.SIG_IGN); print('up'); time.sleep(60)"

        async with running(python(deaf), log=log, ready=has_written(log), grace=0.1) as child:
            pass

        assert child.returncode == -signal.SIGKILL

    async def test_it_is_stopped_when_the_block_is_cancelled(self, log: Path):
        started: asyncio.Future[asyncio.subprocess.Process] = asyncio.get_running_loop().create_future()

        async def run() -> None:
            async with running(python("print('up'); input()"), log=log, ready=has_written(log)) as child:
                started.set_result(child)
                await asyncio.sleep(60)

        task = asyncio.create_task(run())
        child = await started
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

        assert child.returncode is not None

    async def test_one_that_dies_early_shows_the_end_of_its_log(self, log: Path):
        command = python("print('the reason'); raise SystemExit(3)")

        with pytest.raises(WorldError, match=r"(?s)ended with 3\n.*the reason"):
            async with running(command, log=log, ready=has_written(log)):
                pass

    async def test_one_that_is_not_ready_in_time_is_stopped(self, log: Path):
        command = python("import os, time; print(os.getpid()); time.sleep(60)")

        with pytest.raises(WorldError, match=r"was not ready within 1 s"):
            async with running(command, log=log, ready=has_written(log), deadline=1.0):
                pass

        assert is_gone(int(said(log)))

    def test_it_does_not_outlive_a_parent_that_was_killed(self, log: Path):
        program = f"""
import asyncio, pathlib
from wissel.runtime.child import running
log = pathlib.Path({str(log)!r})
async def ready():
    return log.read_text() != ""
async def main():
    async with running([{sys.executable!r}, "-uc", "import os, time; print(os.getpid()); time.sleep(60)"],
                       log=log, ready=ready):
        print("ready", flush=True)
        await asyncio.sleep(60)
asyncio.run(main())
"""
        with subprocess.Popen(python(program), stdout=subprocess.PIPE) as parent:
            assert parent.stdout
            parent.stdout.readline()
            parent.kill()

        asyncio.run(until(lambda: is_gone(int(said(log)))))
