"""The composition root: builds every part, runs them together, and takes them down in order.

    config file -> Snapshot + classifier = Router -> ext_proc listener, admin listener

A changed file makes another router, and streams that begin from then on take
it; a file that cannot be used changes nothing but what `/readyz` says. At the
end health says NOT_SERVING, what is in flight is served, and then parts stop
in the reverse order of their start.
"""

import asyncio
import signal
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from time import perf_counter, time
from typing import Final

import structlog

from wissel.admin.api import Readiness, application
from wissel.admin.guard import staff
from wissel.admin.listener import listening
from wissel.classifiers.build import Classifiers
from wissel.config import (
    Config,
    compile_rollouts,
    compile_snapshot,
    load,
    redis_url,
    worker_address,
)
from wissel.core.rollouts.spec import Delivery
from wissel.core.snapshot import ManagedKey
from wissel.errors import WisselError
from wissel.extproc.session import PROCESSOR, methods
from wissel.grpc.server import Limits, Server, ServingStatus
from wissel.rollouts.replica import Fleet, running_fleet
from wissel.router import Advisers, Router, SharedParts
from wissel.runtime.background import beside
from wissel.runtime.tls import TLS
from wissel.serving.gate import Gate, running_gate
from wissel.store.embedded import embedded_redis
from wissel.telemetry.counting import Telemetry
from wissel.telemetry.gauges import Revision, show_config, show_rollouts, show_store
from wissel.telemetry.otlp import exporting
from wissel.tiers.grading import Graders

log = structlog.get_logger(__name__)

RELOAD_SECONDS: Final = 1.0
"""Between two looks at the configuration file."""

LAME_DUCK_SECONDS: Final = 1.5
"""From saying NOT_SERVING to taking no more streams: longer than Envoy leaves between two health checks."""


@dataclass(frozen=True, slots=True)
class WorkerTerms:
    """What a supervisor arranges for one of its processes, in place of what the file says."""

    index: int
    """Counted from 0; it says which address of the processor's is this one's."""
    admin: Path
    """The socket of its admin API, which only the supervisor can open."""
    redis: str | None = None
    """The URL of the supervisor's own redis-server, if the configuration wants one."""


class LatestKeys:
    """The managed keys as they are in the store now."""

    def __init__(self) -> None:
        self.managed: Mapping[str, ManagedKey] = {}
        self.on_change: Callable[[], None] = _nobody_listens

    def publish(self, managed: Mapping[str, ManagedKey]) -> None:
        self.managed = managed
        self.on_change()
        log.info("managed_keys", count=len(managed))


def _nobody_listens() -> None:
    """Of changes before there is anything that they could change."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What every router of one process is made of."""

    classifiers: Classifiers
    gate: Gate
    shared: SharedParts


class App:
    """One serving process, as the admin API sees it."""

    def __init__(self, router: Router, telemetry: Telemetry, keys: LatestKeys) -> None:
        self._keys = keys
        self.router = router
        self._compiled = router
        """As the configuration says, with every rollout at stable only."""
        self._loaded_at = time()
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
        router.shared.thresholds.adopt(router.snapshot.tiers)
        self._loaded_at = time()
        if self.fleet is not None:
            moving = {each.spec.name for each in deliveries}
            plain = tuple(each for each in router.snapshot.splits.values() if each.name not in moving)
            tiers = router.snapshot.tiers.values()
            learning = {each.name: each.learning for each in tiers if each.learning}
            self.fleet.use(deliveries, plain, learning, router.snapshot.models)
        self.move()

    def move(self) -> None:
        """Put every rollout where its record says that it stands; requests under way keep what they began with."""
        compiled = self._compiled
        moved = self.fleet.apply(compiled.snapshot) if self.fleet else compiled.snapshot
        self.router = replace(compiled, snapshot=replace(moved, managed=self._keys.managed))

    def revision(self) -> Revision:
        """What serves, for the metrics."""
        return Revision(self.router.snapshot.revision, self._loaded_at, is_refused=self.problem is not None)

    def readiness(self) -> Readiness:
        """Ready unless draining; a bad file on reload is told and changes nothing else."""
        detail = {"revision": self.router.snapshot.revision, "config_problem": self.problem}
        return Readiness(ready=not self.draining, detail=detail)


@asynccontextmanager
async def running_app(
    path: Path, *, data: Path, grace: float = 30.0, worker: WorkerTerms | None = None
) -> AsyncGenerator[App]:
    """Serve the configuration at `path` until the block is left, then drain for up to `grace` seconds.

    Alone, or as one `worker` of a supervisor. Raises ConfigError for a file that cannot be used, and WorldError for a
    part that does not start.
    """
    config = load(path)
    async with AsyncExitStack() as stack:
        telemetry = Telemetry()
        classifiers = Classifiers()
        stack.push_async_callback(classifiers.close)
        url = worker.redis if worker else None
        if url is None:
            embedded = config.redis == "embedded"
            url = await stack.enter_async_context(embedded_redis(data)) if embedded else redis_url(config)
        keys = LatestKeys()
        gate = await stack.enter_async_context(running_gate(url, config.namespace, keys.publish))
        tracing = await stack.enter_async_context(
            exporting(config.telemetry, telemetry.meter, worker=worker.index if worker else 0)
        )
        shared = SharedParts(telemetry=telemetry, tracing=tracing, limiter=gate.limiter, denials=gate.denials)
        parts = Parts(classifiers, gate, shared)
        app = App(await build_router(config, parts), telemetry, keys)
        show_config(telemetry.meter, app.revision)
        keys.on_change = app.move
        if url is not None:
            app.fleet = await stack.enter_async_context(running_fleet(url, config.namespace, app.move, data=data))
            show_rollouts(telemetry.meter, app.fleet.progress)
            show_store(telemetry.meter, app.fleet.store_health)
        app.use(app.router, compile_rollouts(config))
        if worker is not None:
            # A supervisor gathers its workers' pages, whether it shows one or not.
            listener = listening(application(app), f"unix:{worker.admin}")
        else:
            api = application(app, staff(config), prometheus=config.telemetry.prometheus)
            listener = listening(api, config.listen.admin, config.admin.tls)
        app.admin = await stack.enter_async_context(listener)
        limits = Limits.for_bodies(config.listen.max_body_bytes)
        server = Server(methods(lambda: app.router, telemetry, app.fleet), services=[PROCESSOR], limits=limits)
        address = worker_address(config.listen.ext_proc, worker.index if worker else 0)
        app.ext_proc = await server.start(address, _tls(config))
        stack.push_async_callback(_drain, app, server, grace)
        server.health.set(ServingStatus.SERVING)
        await stack.enter_async_context(beside(_watch(path, app, parts)))
        log.info("ready", ext_proc=app.ext_proc, admin=app.admin, revision=app.router.snapshot.revision)
        yield app


async def serve(path: Path, *, data: Path, grace: float, worker: WorkerTerms | None = None) -> None:
    """Serve until SIGTERM or SIGINT, alone or as one `worker` of a supervisor."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with running_app(path, data=data, grace=grace, worker=worker):
        await stop.wait()
        log.info("draining", grace_seconds=grace)
    log.info("stopped")


async def build_router(config: Config, parts: Parts) -> Router:
    """What decides by this configuration. Raises ConfigError."""
    snapshot = compile_snapshot(config)
    classifier = await parts.classifiers.build(config.intent, snapshot) if snapshot.entrypoints else None
    embedder = partial(parts.classifiers.embedder, config.intent.encoder)
    graders, tiers = await Graders(embedder).build(config.tiers, snapshot)
    advisers = Advisers(
        classifier=classifier,
        deadline=config.intent.deadline_ms / 1000,
        graders=graders,
        tokens=await parts.gate.key_sets.tokens(snapshot.issuers),
    )
    return Router(snapshot.with_tiers(tiers), advisers, parts.shared)


def _tls(config: Config) -> TLS | None:
    tls = config.listen.tls
    if tls is None:
        return None
    return TLS(Path(tls.cert), Path(tls.key), Path(tls.client_ca) if tls.client_ca else None)


async def _drain(app: App, server: Server, grace: float) -> None:
    app.draining = True
    server.health.set(ServingStatus.NOT_SERVING)
    # While Envoy still believes in this process it sends streams here: taking them costs less than refusing them.
    notice = min(LAME_DUCK_SECONDS, grace / 2) if server.connections else 0.0
    await asyncio.sleep(notice)
    await server.drain(grace - notice)


async def _watch(path: Path, app: App, parts: Parts) -> None:
    """Load the file again whenever its bytes change; polling also sees a mount that is swapped by a link."""
    seen = _digest(path)
    while True:
        await asyncio.sleep(RELOAD_SECONDS)
        found = _digest(path)
        if found is None or found == seen:
            continue
        seen = found
        try:
            await _reload(path, app, parts)
        except Exception as error:
            # Whatever is wrong with a file, the next one is looked at all the same.
            app.problem = f"{type(error).__name__}: {error}"
            app.telemetry.reloaded(ok=False)
            log.exception("reload_failed", serving=app.router.snapshot.revision)


async def _reload(path: Path, app: App, parts: Parts) -> None:
    began = perf_counter()
    try:
        config = load(path)
        router = await build_router(config, parts)
    except WisselError as error:
        app.problem = str(error)
        app.telemetry.reloaded(ok=False)
        log.warning("config_refused", problem=str(error), serving=app.router.snapshot.revision)
        await parts.gate.note("refused", str(error))
        return
    app.use(router, compile_rollouts(config))
    app.problem = None
    app.telemetry.reloaded(ok=True)
    log.info("config_loaded", revision=router.snapshot.revision, seconds=round(perf_counter() - began, 3))
    await parts.gate.note("loaded", f"revision {router.snapshot.revision}")


def _digest(path: Path) -> bytes | None:
    """None where the file cannot be read right now, as while it is being replaced."""
    try:
        return sha256(path.read_bytes()).digest()
    except OSError:
        return None
