"""Several workers under one roof: each a process with an endpoint of its own, so that Envoy can choose.

The supervisor prepares what they share (the embedding model, the private
redis-server), starts them, starts one again that ends, and speaks for all of
them on the admin listener. No request passes through it, and nothing heavy is
imported here. If it dies without a word, the kernel ends the workers.
"""

import asyncio
import signal
import sys
import tempfile
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiohttp
import structlog

from wissel.admin.front import front, is_ready, session
from wissel.admin.listener import listening
from wissel.admin.pages import Pages
from wissel.config import Config, host_and_port, load
from wissel.errors import ConfigError, ModelError, WisselError, WorldError
from wissel.runtime.background import beside
from wissel.runtime.child import leashed, stop
from wissel.serving.desk import AdminDesk
from wissel.serving.files import Files, follow
from wissel.store.embedded import embedded_redis

log = structlog.get_logger(__name__)

FIRST_WAIT: Final = 0.1
"""Seconds from a worker's end to its next start; doubled for each that ends early."""
LONGEST_WAIT: Final = 30.0
STEADY_SECONDS: Final = 30.0
"""A worker that lived so long does not count as one that ends early."""
LAST_WORDS: Final = 5.0
"""Beyond the grace time, for a worker to close its connections and leave."""


@dataclass(eq=False, slots=True)
class WorkerPlace:
    """One place among the workers, whichever process has it at the moment."""

    index: int
    command: Sequence[str]
    admin: aiohttp.ClientSession
    """Leads to its admin API."""
    restarts: int = 0
    problem: str | None = "it is starting"
    """Why it does not run, or not yet."""
    early_ends: int = 0
    """Processes in a row that did not live long."""


async def supervise(path: Path, *, workers: int, data: Path, grace: float, log_format: str) -> None:
    """Serve the configuration at `path` with so many workers until SIGTERM or SIGINT.

    Raises ConfigError and WorldError for what keeps a worker from its first start, and WorldError if one had to be
    killed at the end.
    """
    files = Files(path)
    config = load(path)
    _check_addresses(config, workers)
    if config.entrypoints:
        # A supervisor classifies nothing, and holds neither numpy nor a model for that.
        from wissel.classifiers.encoders import packaged_in  # noqa: PLC0415

        for name in packaged_in(config.intent.encoder):
            await _export(name)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    async with AsyncExitStack() as stack:
        sockets = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="wissel-")))
        command = [*(sys.executable, "-m", "wissel", "serve", "--config", str(path), "--data", str(data))]
        command += ["--grace", str(grace), "--log-format", log_format]
        if config.redis == "embedded":
            command += ["--redis", await stack.enter_async_context(embedded_redis(data))]
        crew: list[WorkerPlace] = []
        for index in range(workers):
            socket = sockets / f"{index}.sock"
            admin = await stack.enter_async_context(session(socket))
            crew.append(WorkerPlace(index, [*command, "--worker", str(index), "--admin-socket", str(socket)], admin))
        pages = Pages()
        desk = AdminDesk(config)
        api = front(crew, pages, desk.staff, prometheus=config.telemetry.prometheus)
        desk.listener = await stack.enter_async_context(listening(api, config.listen.admin, desk.context))
        await stack.enter_async_context(beside(follow(files, lambda: _renew(desk, path))))
        log.info("supervising", workers=workers, admin=desk.listener.address)
        await _Supervisor(crew, pages, stopping, grace).run()
    log.info("supervisor_stopped")


async def _renew(desk: AdminDesk, path: Path) -> None:
    """The workers read the same files, and tell in `/readyz`, log and metrics what is wrong with them."""
    config = desk.config
    with suppress(ConfigError):
        config = load(path)
    with suppress(ConfigError):
        await desk.renew(config)


def _check_addresses(config: Config, workers: int) -> None:
    if config.listen.ext_proc.startswith("unix:"):
        return
    _, port = host_and_port(config.listen.ext_proc)
    last = port + workers - 1
    if port == 0 or last >= 1 << 16:
        raise ConfigError([f'listen.ext_proc: {workers} workers need ports from "{port}" on, one each'])
    if port <= host_and_port(config.listen.admin)[1] <= last:
        raise ConfigError([f"listen.admin: {workers} workers need the ports {port} to {last}; take another"])


async def _export(name: str) -> None:
    """Have the encoder in the cache, before the workers come and each makes its own."""
    command = leashed([sys.executable, "-m", "wissel.encoders.export", name])
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )
    _, said = await process.communicate()
    if process.returncode:
        lines = said.decode(errors="replace").strip().splitlines() or [f"it exited with {process.returncode}"]
        raise ModelError(f"the encoder could not be exported: {lines[-1]}")


class _Supervisor:
    def __init__(self, crew: Sequence[WorkerPlace], pages: Pages, stopping: asyncio.Event, grace: float) -> None:
        self._crew = crew
        self._pages = pages
        self._stopping = stopping
        self._patience = grace + LAST_WORDS
        self._killed: list[int] = []

    async def run(self) -> None:
        """Keep every worker running until it is time to stop."""
        try:
            async with asyncio.TaskGroup() as group:
                for worker in self._crew:
                    group.create_task(self._keep(worker))
        except ExceptionGroup as errors:
            # One reason is enough: the others were stopped because of it. What `except*` raises would be a group again.
            reasons, bugs = errors.split(WisselError)
            if bugs is not None or reasons is None:
                raise
            raise reasons.exceptions[0] from None
        if self._killed:
            raise WorldError(f"worker {self._killed[0]} did not end within the grace time and was killed")

    async def _keep(self, worker: WorkerPlace) -> None:
        loop = asyncio.get_running_loop()
        while not self._stopping.is_set():
            began = loop.time()
            code = await self._live(worker)
            if self._stopping.is_set():
                return
            self._pages.ended(worker.index)
            worker.restarts += 1
            worker.early_ends = 0 if loop.time() - began >= STEADY_SECONDS else worker.early_ends + 1
            wait = wait_before_start(worker.early_ends)
            row = f", {worker.early_ends} times in a row" if worker.early_ends > 1 else ""
            worker.problem = f"it ended with {code}{row}, and starts again after {wait:g} s"
            log.error("worker_ended", worker=worker.index, code=code, early_ends=worker.early_ends, next_start=wait)
            await _happens(self._stopping, within=wait)

    async def _live(self, worker: WorkerPlace) -> int | None:
        """From a process's start to its end, or to ours; its exit code."""
        process = await asyncio.create_subprocess_exec(*leashed(worker.command), stdin=asyncio.subprocess.DEVNULL)
        watching = asyncio.create_task(self._watch(worker))
        ends = {asyncio.create_task(process.wait()), asyncio.create_task(self._stopping.wait())}
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (watching, *ends):
                task.cancel()
            if self._stopping.is_set():
                log.info("stopping_worker", worker=worker.index)
            await stop(process, self._patience)
        if self._stopping.is_set():
            if process.returncode == -signal.SIGKILL:
                self._killed.append(worker.index)
        elif process.returncode in (1, 2) and worker.problem and not worker.restarts:
            # It has said why, on the standard error that it shares with us.
            message = f"worker {worker.index} ended with {process.returncode} before it was ready"
            raise ConfigError([message]) if process.returncode == 2 else WorldError(message)
        return process.returncode

    async def _watch(self, worker: WorkerPlace) -> None:
        """Note when it is ready; later on it answers for itself."""
        while not await is_ready(worker.admin):  # noqa: ASYNC110  # another process has no event to wait for
            await asyncio.sleep(0.05)
        worker.problem = None
        log.info("worker_ready", worker=worker.index, restarts=worker.restarts)


def wait_before_start(early_ends: int) -> float:
    """Seconds until a worker is started again, of which so many in a row ended early."""
    return min(FIRST_WAIT * 2.0 ** min(max(early_ends - 1, 0), 16), LONGEST_WAIT)


async def _happens(event: asyncio.Event, *, within: float) -> None:
    try:
        async with asyncio.timeout(within):
            await event.wait()
    except TimeoutError:
        pass
