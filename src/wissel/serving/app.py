"""The composition root: builds every part, runs them together, and takes them down in order.

    config file -> Snapshot + classifier = Router -> ext_proc listener, admin listener

A changed file makes another router, and streams that begin from then on take
it; so does a secret that the file names. Certificates, tokens and key sets are
read again with them, for whoever connects or calls from then on. A file that
cannot be used changes nothing but what `/readyz` says. At the end health says
NOT_SERVING, what is in flight is served, and then parts stop in the reverse
order of their start.
"""

import asyncio
import gc
import signal
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from time import perf_counter, time
from typing import Final

import structlog

from wissel.admin.api import Readiness, application
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
from wissel.serving.desk import AdminDesk
from wissel.serving.files import Files, follow
from wissel.serving.gate import Gate, running_gate
from wissel.serving.publishing import Publisher
from wissel.store.embedded import embedded_redis
from wissel.store.health import STATES, RedisHealth
from wissel.telemetry.counting import Telemetry
from wissel.telemetry.gauges import (
    Revision,
    show_clusters,
    show_config,
    show_cooling,
    show_rollouts,
    show_store,
    show_store_state,
)
from wissel.telemetry.otlp import exporting
from wissel.tiers.grading import Graders

log = structlog.get_logger(__name__)

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


_AT_START: Final[Mapping[str, Callable[[Config], object]]] = {
    "listen.ext_proc": lambda config: config.listen.ext_proc,
    "listen.admin": lambda config: config.listen.admin,
    "redis": redis_url,
    "namespace": lambda config: config.namespace,
    "telemetry": lambda config: config.telemetry,
    "envoy.discovery": lambda config: config.envoy.discovery if config.envoy else "static",
}
"""What is read when a process starts and never again."""


class App:
    """One serving process, as the admin API sees it."""

    def __init__(self, router: Router, telemetry: Telemetry, keys: LatestKeys, store: RedisHealth) -> None:
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
        self.publisher: Publisher | None = None
        """Of Envoy's clusters; None where they stand in its bootstrap."""
        self.problem: str | None = None
        """Why the configuration file as it is now, or one that it names, is not in use."""
        self.restart_needed: str | None = None
        """The settings that have changed and are read at the start only, with commas between."""
        self._store = store
        """What Redis is; without one it is well."""
        self.serving = False
        """Whether streams are taken: after everything is there, and until it is time to go."""

    def use(self, router: Router, deliveries: tuple[Delivery, ...]) -> None:
        """Decide by this configuration from now on."""
        self._compiled = router
        router.shared.thresholds.adopt(router.snapshot.tiers)
        router.shared.cooling.keep(router.snapshot.models)
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
        """Ready while serving; a bad file on reload, or a Redis that is unwell, is told and changes nothing else."""
        detail: dict[str, object] = {
            "revision": self.router.snapshot.revision,
            "config_problem": self.problem,
            "restart_needed": self.restart_needed,
            "store_problem": self._store.problem,
        }
        if rests := self.router.shared.cooling.rests:
            detail["resting"] = {model: {"why": rest.why, "until": rest.until} for model, rest in rests.items()}
        if self.publisher is not None:
            detail["clusters"] = self.publisher.publication.version
        return Readiness(ready=self.serving, detail=detail)


@asynccontextmanager
async def running_app(
    path: Path, *, data: Path, grace: float = 30.0, worker: WorkerTerms | None = None
) -> AsyncGenerator[App]:
    """Serve the configuration at `path` until the block is left, then drain for up to `grace` seconds.

    Alone, or as one `worker` of a supervisor. Raises ConfigError for a file that cannot be used, and WorldError for a
    part that does not start.
    """
    files = Files(path)
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
        store = RedisHealth()
        gate = await stack.enter_async_context(running_gate(url, config.namespace, keys.publish, telemetry, store))
        tracing = await stack.enter_async_context(
            exporting(config.telemetry, telemetry.meter, worker=worker.index if worker else 0)
        )
        shared = SharedParts(
            telemetry=telemetry,
            tracing=tracing,
            limiter=gate.limiter,
            affinity=gate.affinity,
            cooling=gate.cooling,
            denials=gate.denials,
        )
        parts = Parts(classifiers, gate, shared)
        app = App(await build_router(config, parts), telemetry, keys, store)
        show_config(telemetry.meter, app.revision)
        show_cooling(telemetry.meter, lambda: app.router.snapshot.models, lambda: gate.cooling.resting(time()))
        keys.on_change = app.move
        if url is not None:
            fleet = running_fleet(url, config.namespace, app.move, data=data, health=store)
            app.fleet = await stack.enter_async_context(fleet)
            show_rollouts(telemetry.meter, app.fleet.progress)
            show_store(telemetry.meter, app.fleet.store_health)
            show_store_state(telemetry.meter, STATES, lambda: store.state)
        app.use(app.router, compile_rollouts(config))
        desk = AdminDesk(config)
        if worker is not None:
            # A supervisor gathers its workers' pages, whether it shows one or not.
            admin = await stack.enter_async_context(listening(application(app), f"unix:{worker.admin}"))
        else:
            api = application(app, desk.staff, prometheus=config.telemetry.prometheus)
            admin = await stack.enter_async_context(listening(api, config.listen.admin, desk.context))
            desk.listener = admin
        app.admin = admin.address
        await _publish(app, config, stack, writes=worker is None or worker.index == 0)
        limits = Limits.for_bodies(config.listen.max_body_bytes)
        server = Server(methods(lambda: app.router, telemetry, app.fleet), services=[PROCESSOR], limits=limits)
        address = worker_address(config.listen.ext_proc, worker.index if worker else 0)
        app.ext_proc = await server.start(address, _tls(config))
        stack.push_async_callback(_drain, app, server, grace)
        server.health.set(ServingStatus.SERVING)
        app.serving = True
        reloading = Reloading(path, config, app, parts, desk, server)
        await stack.enter_async_context(beside(follow(files, reloading.reload)))
        log.info("ready", ext_proc=app.ext_proc, admin=app.admin, revision=app.router.snapshot.revision)
        yield app


async def _publish(app: App, config: Config, stack: AsyncExitStack, *, writes: bool) -> None:
    """From now on, where Envoy learns its clusters from here."""
    if config.envoy is None or config.envoy.discovery == "static":
        return
    publisher = app.publisher = Publisher(config.envoy.discovery, config.envoy.admin, writes=writes)
    show_clusters(app.telemetry.meter, lambda: publisher.publication.counts)
    app.problem = await publisher.begin(config)
    if app.problem is not None:
        log.warning("clusters_refused", problem=app.problem)
    await stack.enter_async_context(beside(publisher.run()))


async def serve(path: Path, *, data: Path, grace: float, worker: WorkerTerms | None = None) -> None:
    """Serve until SIGTERM or SIGINT, alone or as one `worker` of a supervisor."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with running_app(path, data=data, grace=grace, worker=worker):
        _keep_what_stays()
        await stop.wait()
        log.info("draining", grace_seconds=grace)
    log.info("stopped")


def _keep_what_stays() -> None:
    """Let no collection walk over what is there at the start, and stays: that takes 70 ms, and every stream waits."""
    gc.collect()
    gc.freeze()


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
    app.serving = False
    server.health.set(ServingStatus.NOT_SERVING)
    # While Envoy still believes in this process it sends streams here: taking them costs less than refusing them.
    notice = min(LAME_DUCK_SECONDS, grace / 2) if server.connections else 0.0
    await asyncio.sleep(notice)
    await server.drain(grace - notice)


class Reloading:
    """Takes the files as they are now; of those that cannot be used, what was read last goes on."""

    def __init__(self, path: Path, config: Config, app: App, parts: Parts, desk: AdminDesk, server: Server) -> None:
        self._path = path
        self._config = config
        """The last one that could be read: what it names is followed while the file has a mistake."""
        self._app = app
        self._parts = parts
        self._desk = desk
        self._server = server
        self._at_start = {name: read(config) for name, read in _AT_START.items()}

    async def reload(self) -> None:
        """Whatever is wrong with a file, the next one is looked at all the same."""
        began = perf_counter()
        problems: dict[str, None] = {}
        # Each by itself: a certificate that is half written keeps no rotated token valid.
        for step in (self._read, self._admit, self._encrypt, self._parts.gate.key_sets.reread, self._decide):
            try:
                await step()
            except WisselError as error:
                problems |= dict.fromkeys(str(error).splitlines())
            except Exception as error:
                problems[f"{type(error).__name__}: {error}"] = None
                log.exception("reload_failed", serving=self._app.router.snapshot.revision)
        self._app.problem = "\n".join(problems) or None
        self._app.telemetry.reloaded(ok=not problems)
        revision = self._app.router.snapshot.revision
        if problems:
            log.warning("config_refused", problem=self._app.problem, serving=revision)
            await self._parts.gate.note("refused", self._app.problem or "")
        else:
            log.info("config_loaded", revision=revision, seconds=round(perf_counter() - began, 3))
            await self._parts.gate.note("loaded", f"revision {revision}")

    async def _read(self) -> None:
        self._config = load(self._path)

    async def _admit(self) -> None:
        await self._desk.renew(self._config)

    async def _encrypt(self) -> None:
        # Whether there is to be TLS was said for another address, where this one has changed.
        if self._config.listen.ext_proc == self._at_start["listen.ext_proc"]:
            await self._server.renew(_tls(self._config))

    async def _decide(self) -> None:
        router = await build_router(self._config, self._parts)
        publisher = self._app.publisher
        if publisher is not None:
            # Before a router may name them.
            await publisher.add(self._config)
        self._app.use(router, compile_rollouts(self._config))
        if publisher is not None:
            publisher.named()
        changed = [name for name, read in _AT_START.items() if read(self._config) != self._at_start[name]]
        self._app.restart_needed = ", ".join(changed) or None
        if changed:
            log.warning("restart_needed", settings=changed)
