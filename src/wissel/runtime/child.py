"""A program of ours, running as long as a block of code does.

It is started, waited for until it answers, and stopped however the block is
left. If this process dies without a chance to stop it, the kernel does.
"""

import asyncio
import os
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from wissel.errors import WorldError

_TAIL_LINES = 15

# Asks Linux for SIGTERM at the parent's death, then becomes the program. Not `preexec_fn`: between fork and exec a
# process with threads may not run Python.
_LEASH = """
import ctypes, os, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, 15)
    if os.getppid() != int(sys.argv[1]):
        sys.exit("the parent is gone")
os.execv(sys.argv[2], sys.argv[2:])
"""


@asynccontextmanager
async def running(
    command: Sequence[str],
    *,
    log: Path,
    ready: Callable[[], Awaitable[bool]],
    output: Path | None = None,
    deadline: float = 20.0,
    grace: float = 5.0,
) -> AsyncGenerator[asyncio.subprocess.Process]:
    """Run `command` (its first word a path), and enter the block once `ready` says so.

    Both its streams are appended to `log`, standard output to `output` if that is given. It must be ready within
    `deadline`, and gone within `grace` after SIGTERM. Raises WorldError with the end of the log if it dies early or
    is not ready in time. The kernel ends it with the thread that came here, so come from one that stays.
    """
    with log.open("ab") as errors, (output or log).open("ab") as written:
        process = await asyncio.create_subprocess_exec(*leashed(command), stdout=written, stderr=errors)
    try:
        try:
            async with asyncio.timeout(deadline):
                while not await ready():
                    if process.returncode is not None:
                        raise WorldError(f'"{command[0]}" ended with {process.returncode}{_tail(log)}')
                    await asyncio.sleep(0.02)
        except TimeoutError as error:
            raise WorldError(f'"{command[0]}" was not ready within {deadline:g} s{_tail(log)}') from error
        yield process
    finally:
        await stop(process, grace)


def leashed(command: Sequence[str]) -> list[str]:
    """`command` (its first word a path), so that the kernel ends it with the thread that starts it."""
    return [sys.executable, "-ISc", _LEASH, str(os.getpid()), *command]


async def stop(process: asyncio.subprocess.Process, grace: float) -> None:
    """Have it end, with SIGTERM and `grace` seconds, then with SIGKILL; it is gone afterwards."""
    with suppress(ProcessLookupError):
        process.terminate()
    try:
        with suppress(TimeoutError):
            async with asyncio.timeout(grace):
                await process.wait()
    finally:
        # Also where a second cancellation cut the wait short.
        if process.returncode is None:
            process.kill()
            await process.wait()


def _tail(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()[-_TAIL_LINES:]
    return "".join(f"\n  {line}" for line in [f"{log} ends with:", *lines]) if lines else ", and logged nothing"
