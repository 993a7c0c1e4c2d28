"""The composition root: builds every part, runs them together, and takes them down in order.

    config file -> Snapshot + classifier = Router -> ext_proc listener, admin listener

A changed file makes another router, and streams that begin from then on take
it; a file that cannot be used changes nothing but what `/readyz` says. At the
end health says NOT_SERVING, what is in flight is served, and then parts stop
in the reverse order of their start.
"""

import asyncio
import signal
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from time import perf_counter
from typing import Final

import structlog
from aiohttp import web

from wissel.admin.api import Readiness, application, call_headers, find_principal
from wissel.classifiers.build import Classifiers
from wissel.config import Config, admin_token, compile_rollouts, compile_snapshot, host_and_port, load, redis_url
from wissel.core.decision import Decision
from wissel.core.rollout import Delivery
from wissel.errors import ConfigError, WisselError
from wissel.extproc.dry_run import dry_run
from wissel.extproc.server import PROCESSOR, methods
from wissel.extproc.transport import TLS, Server, ServingStatus
from wissel.fleet import Fleet, running_fleet
from wissel.router import Router
from wissel.store.embedded import embedded_redis
from wissel.telemetry import Telemetry

log = structlog.get_logger(__name__)

RELOAD_SECONDS: Final = 1.0
"""Between two looks at the configuration file."""


class App:
    """One serving process, as the admin API sees it."""

    def __init__(self, router: Router, telemetry: Telemetry) -> None:
        self.router = router
        self._compiled = router
        """As the configuration says, with every rollout at stable only."""
        self.telemetry = telemetry
        self.ext_proc = ""
        """Where the processor listens, as bound."""
        self.admin = ""
        """Where the admin API listens, as bound."""
        self.fleet: Fleet | None = None
        """What is shared with other replicas; None where the configuration has no redis."""
        self.problem: str | None = None
        """Why the configuration file as it is now is not in use."""
        self.draining = False

    def use(self, router: Router, deliveries: tuple[Delivery, ...]) -> None:
        """Decide by this configuration from now on."""
        self._compiled = router
        if self.fleet is not None:
            moving = {each.spec.name for each in deliveries}
            plain = tuple(each for each in router.snapshot.splits.values() if each.name not in moving)
            self.fleet.use(deliveries, plain)
        self.move()

    def move(self) -> None:
        """Put every rollout where its record says that it stands; requests under way keep what they began with."""
        compiled = self._compiled
        self.router = replace(compiled, snapshot=self.fleet.apply(compiled.snapshot)) if self.fleet else compiled

    def readiness(self) -> Readiness:
        """Ready unless draining; a bad file on reload is told and changes nothing else."""
        detail = {"revision": self.router.snapshot.revision, "config_problem": self.problem}
        return Readiness(ready=not self.draining, detail=detail)


@asynccontextmanager
async def running_app(path: Path, *, data: Path, grace: float = 30.0) -> AsyncGenerator[App]:
    """Serve the configuration at `path` until the block is left, then drain for up to `grace` seconds.

    Raises ConfigError for a file that cannot be used, and WorldError for a
    part that does not start.
    """
    config = load(path)
    async with AsyncExitStack() as stack:
        telemetry = Telemetry()
        stack.callback(telemetry.close)
        classifiers = Classifiers()
        stack.push_async_callback(classifiers.close)
        app = App(await _router(config, classifiers, telemetry), telemetry)
        url = await stack.enter_async_context(embedded_redis(data)) if config.redis == "embedded" else redis_url(config)
        if url is not None:
            app.fleet = await stack.enter_async_context(running_fleet(url, config.namespace, app.move))
        app.use(app.router, compile_rollouts(config))
        await _listen_for_admin(stack, app, config)
        server = Server(methods(lambda: app.router, telemetry, app.fleet), services=[PROCESSOR])
        app.ext_proc = await server.start(config.listen.ext_proc, _tls(config))
        stack.push_async_callback(_drain, app, server, grace)
        server.health.set(ServingStatus.SERVING)
        watcher = asyncio.create_task(_watch(path, app, classifiers))
        stack.push_async_callback(_cancel, watcher)
        log.info("ready", ext_proc=app.ext_proc, admin=app.admin, revision=app.router.snapshot.revision)
        yield app


async def serve(path: Path, *, data: Path, grace: float) -> None:
    """Serve until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with running_app(path, data=data, grace=grace):
        await stop.wait()
        log.info("draining", grace_seconds=grace)
    log.info("stopped")


async def _router(config: Config, classifiers: Classifiers, telemetry: Telemetry) -> Router:
    snapshot = compile_snapshot(config)
    classifier = await classifiers.build(config.intent, snapshot) if snapshot.entrypoints else None
    return Router(snapshot, classifier, config.intent.deadline_ms / 1000, telemetry)


async def _listen_for_admin(stack: AsyncExitStack, app: App, config: Config) -> None:
    runner = web.AppRunner(application(app, token=admin_token(config)), access_log=None)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    host, port = host_and_port(config.listen.admin)
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as error:
        raise ConfigError([f'listen.admin: cannot listen on "{config.listen.admin}": {error.strerror}']) from error
    bound_host, bound_port = runner.addresses[0][:2]
    app.admin = f"[{bound_host}]:{bound_port}" if ":" in bound_host else f"{bound_host}:{bound_port}"


def _tls(config: Config) -> TLS | None:
    tls = config.listen.tls
    if tls is None:
        return None
    return TLS(Path(tls.cert), Path(tls.key), Path(tls.client_ca) if tls.client_ca else None)


async def _drain(app: App, server: Server, grace: float) -> None:
    app.draining = True
    await server.drain(grace)


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])


async def _watch(path: Path, app: App, classifiers: Classifiers) -> None:
    """Load the file again whenever its bytes change; polling also sees a mount that is swapped by a link."""
    seen = _digest(path)
    while True:
        await asyncio.sleep(RELOAD_SECONDS)
        found = _digest(path)
        if found is None or found == seen:
            continue
        seen = found
        await _reload(path, app, classifiers)


async def _reload(path: Path, app: App, classifiers: Classifiers) -> None:
    began = perf_counter()
    try:
        config = load(path)
        router = await _router(config, classifiers, app.telemetry)
    except WisselError as error:
        app.problem = str(error)
        app.telemetry.reloaded(ok=False)
        log.warning("config_refused", problem=str(error), serving=app.router.snapshot.revision)
        return
    app.use(router, compile_rollouts(config))
    app.problem = None
    app.telemetry.reloaded(ok=True)
    log.info("config_loaded", revision=router.snapshot.revision, seconds=round(perf_counter() - began, 3))


def _digest(path: Path) -> bytes | None:
    """None where the file cannot be read right now, as while it is being replaced."""
    try:
        return sha256(path.read_bytes()).digest()
    except OSError:
        return None


async def explain(path: Path, *, headers: Mapping[str, str], body: bytes, caller: str | None, call: str) -> Decision:
    """The decision that a call would meet under the configuration at `path`; nothing is served.

    Raises ConfigError, also for a `caller` that no key has.
    """
    telemetry = Telemetry()
    classifiers = Classifiers()
    try:
        router = await _router(load(path), classifiers, telemetry)
        principal = find_principal(router, caller) if caller is not None else None
        if caller is not None and principal is None:
            raise ConfigError([f'--as: no key has the id "{caller}"'])
        return await dry_run(router, call_headers(call, headers), body, request_id="dry-run", caller=principal)
    finally:
        await classifiers.close()
        telemetry.close()
