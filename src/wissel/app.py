"""The composition root: builds every part, runs them together, and takes them down in order.

    config file -> Snapshot + classifier = Router -> ext_proc listener, admin listener

A changed file makes another router, and streams that begin from then on take
it; a file that cannot be used changes nothing but what `/readyz` says. At the
end health says NOT_SERVING, what is in flight is served, and then parts stop
in the reverse order of their start.
"""

import asyncio
import secrets
import signal
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from time import perf_counter
from typing import Final

import structlog
from aiohttp import web

from wissel.admin.api import Readiness, application, call_headers, find_principal
from wissel.classifiers.build import Classifiers
from wissel.config import Config, admin_token, compile_snapshot, host_and_port, load, redis_url
from wissel.core.decision import Decision
from wissel.core.snapshot import ManagedKey
from wissel.errors import ConfigError, StoreError, WisselError
from wissel.extproc.dry_run import dry_run
from wissel.extproc.server import PROCESSOR, methods
from wissel.extproc.transport import TLS, Server, ServingStatus
from wissel.identity.tokens import KeySets
from wissel.router import Router
from wissel.store.audit import Audit
from wissel.store.base import Entry
from wissel.store.connection import Connection
from wissel.store.denials import Denials
from wissel.store.embedded import embedded_redis
from wissel.store.keys import Keys
from wissel.store.limits import Limiter, running_limiter
from wissel.store.managed_keys import ManagedKeys
from wissel.telemetry import Telemetry

log = structlog.get_logger(__name__)

NAMESPACE: Final = "default"
"""Of the names in Redis."""

RELOAD_SECONDS: Final = 1.0
"""Between two looks at the configuration file."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What every router of one process shares."""

    classifiers: Classifiers
    telemetry: Telemetry
    key_sets: KeySets
    limiter: Limiter | None = None
    denials: Denials | None = None


class App:
    """One serving process, as the admin API sees it."""

    def __init__(self, router: Router, telemetry: Telemetry) -> None:
        self.router = router
        self.telemetry = telemetry
        self.ext_proc = ""
        """Where the processor listens, as bound."""
        self.admin = ""
        """Where the admin API listens, as bound."""
        self.redis: str | None = None
        """The URL of the store; None where the configuration has none."""
        self.problem: str | None = None
        """Why the configuration file as it is now is not in use."""
        self.draining = False
        self._managed: Mapping[str, ManagedKey] = {}

    def publish(self, router: Router) -> None:
        """Decide streams that begin from now on by `router`, with the managed keys as they are."""
        self.router = replace(router, snapshot=replace(router.snapshot, managed=self._managed))

    def publish_keys(self, managed: Mapping[str, ManagedKey]) -> None:
        """Take these managed keys and no others from now on."""
        self._managed = managed
        self.publish(self.router)
        log.info("managed_keys", count=len(managed))

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
        redis = (
            await stack.enter_async_context(embedded_redis(data)) if config.redis == "embedded" else redis_url(config)
        )
        names = Keys(NAMESPACE)
        limiter = await stack.enter_async_context(running_limiter(redis, names, secrets.token_hex(8)))
        key_sets = KeySets()
        stack.push_async_callback(key_sets.close)
        connection = await stack.enter_async_context(_connected(redis)) if redis else None
        denials = Denials(Audit(connection, names) if connection else None)
        parts = Parts(classifiers, telemetry, key_sets, limiter, denials)
        app = App(await _router(config, parts), telemetry)
        app.redis = redis
        await _listen_for_admin(stack, app, config)
        server = Server(methods(lambda: app.router, telemetry), services=[PROCESSOR])
        app.ext_proc = await server.start(config.listen.ext_proc, _tls(config))
        stack.push_async_callback(_drain, app, server, grace)
        server.health.set(ServingStatus.SERVING)
        chores = [denials.run(), _watch(path, app, parts, Audit(connection, names) if connection else None)]
        if connection is not None:
            chores.append(ManagedKeys(connection, names).follow(app.publish_keys))
        for chore in chores:
            stack.push_async_callback(_cancel, asyncio.create_task(chore))
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


async def _router(config: Config, parts: Parts) -> Router:
    snapshot = compile_snapshot(config)
    classifier = await parts.classifiers.build(config.intent, snapshot) if snapshot.entrypoints else None
    tokens = await parts.key_sets.tokens(snapshot.issuers)
    return Router(
        snapshot, classifier, config.intent.deadline_ms / 1000, parts.telemetry, parts.limiter, tokens, parts.denials
    )


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


async def _watch(path: Path, app: App, parts: Parts, audit: Audit | None) -> None:
    """Load the file again whenever its bytes change; polling also sees a mount that is swapped by a link."""
    seen = _digest(path)
    while True:
        await asyncio.sleep(RELOAD_SECONDS)
        found = _digest(path)
        if found is None or found == seen:
            continue
        seen = found
        await _reload(path, app, parts, audit)


async def _reload(path: Path, app: App, parts: Parts, audit: Audit | None) -> None:
    began = perf_counter()
    try:
        config = load(path)
        router = await _router(config, parts)
    except WisselError as error:
        app.problem = str(error)
        app.telemetry.reloaded(ok=False)
        log.warning("config_refused", problem=str(error), serving=app.router.snapshot.revision)
        await _note(audit, "refused", str(error))
        return
    app.publish(router)
    app.problem = None
    app.telemetry.reloaded(ok=True)
    log.info("config_loaded", revision=router.snapshot.revision, seconds=round(perf_counter() - began, 3))
    await _note(audit, "loaded", f"revision {router.snapshot.revision}")


async def _note(audit: Audit | None, kind: str, reason: str) -> None:
    """Tell the audit trail about the configuration; where it cannot be written, the log has the same line."""
    if audit is None:
        return
    try:
        await audit.add(Entry("config", kind, "file", reason))
    except StoreError as error:
        log.warning("audit_not_written", error=str(error))


@asynccontextmanager
async def _connected(redis: str) -> AsyncGenerator[Connection]:
    connection = Connection(redis)
    yield connection
    await connection.close()


def _digest(path: Path) -> bytes | None:
    """None where the file cannot be read right now, as while it is being replaced."""
    try:
        return sha256(path.read_bytes()).digest()
    except OSError:
        return None


@asynccontextmanager
async def dry_router(path: Path) -> AsyncGenerator[Router]:
    """A router over the configuration at `path` that serves nobody. Raises ConfigError."""
    async with AsyncExitStack() as stack:
        telemetry = Telemetry()
        stack.callback(telemetry.close)
        classifiers = Classifiers()
        stack.push_async_callback(classifiers.close)
        key_sets = KeySets()
        stack.push_async_callback(key_sets.close)
        yield await _router(load(path), Parts(classifiers, telemetry, key_sets))


async def explain(path: Path, *, headers: Mapping[str, str], body: bytes, caller: str | None, call: str) -> Decision:
    """The decision that a call would meet under the configuration at `path`; nothing is served.

    Raises ConfigError, also for a `caller` that no key has.
    """
    async with dry_router(path) as router:
        principal = find_principal(router, caller) if caller is not None else None
        if caller is not None and principal is None:
            raise ConfigError([f'--as: no key has the id "{caller}"'])
        return await dry_run(router, call_headers(call, headers), body, request_id="dry-run", caller=principal)
