"""The admin HTTP API: what one serving process tells of itself, and decides on demand."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from aiohttp import web

from wissel.admin import console
from wissel.admin.activity import activity_view, resting_view, tiers_view
from wissel.admin.configuration import configuration_view
from wissel.admin.discovery import ClusterSource, DiscoveryApi
from wissel.admin.errors import error
from wissel.admin.experiments import ExperimentsApi
from wissel.admin.guard import BODY_LIMIT, Known, everybody, guard, own_headers, show_safely
from wissel.admin.rollouts import RolloutsApi
from wissel.admin.views import View, decision_view
from wissel.core.access import Principal
from wissel.extproc.dry_run import dry_run
from wissel.rollouts.replica import Fleet
from wissel.router import Router
from wissel.telemetry.counting import PROMETHEUS_CONTENT_TYPE, Telemetry


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether traffic may come, and what an operator should know."""

    ready: bool
    detail: View


class Host(Protocol):
    """What the API shows of the process that it lives in."""

    @property
    def router(self) -> Router: ...

    @property
    def telemetry(self) -> Telemetry: ...

    @property
    def fleet(self) -> Fleet | None: ...

    @property
    def publisher(self) -> ClusterSource | None:
        """Of Envoy's clusters; None where they stand in its bootstrap."""
        ...

    def readiness(self) -> Readiness: ...


def application(host: Host, known: Known = everybody, *, prometheus: bool = True) -> web.Application:
    """The API over `host`, with /metrics if `prometheus`; for everybody it must be served on loopback only."""
    api = _Api(host, known)
    app = web.Application(middlewares=[guard(known)], client_max_size=BODY_LIMIT)
    app.on_response_prepare.append(show_safely)
    app.router.add_get("/healthz", api.healthz)
    app.router.add_get("/readyz", api.readyz)
    if prometheus:
        app.router.add_get("/metrics", api.metrics)
    app.router.add_post("/v1/route", api.route)
    app.router.add_get("/v1/activity", api.activity)
    app.router.add_get("/v1/config", api.config)
    app.router.add_routes(DiscoveryApi(lambda: host.publisher).routes())
    app.router.add_routes(console.routes())
    app.router.add_routes(RolloutsApi(host.fleet).routes())
    app.router.add_routes(ExperimentsApi(host.fleet).routes())
    return app


class _Api:
    def __init__(self, host: Host, known: Known) -> None:
        self._host = host
        self._known = known

    async def healthz(self, _: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def readyz(self, _: web.Request) -> web.Response:
        readiness = self._host.readiness()
        body = {"status": "ready" if readiness.ready else "not ready", **readiness.detail}
        return web.json_response(body, status=200 if readiness.ready else 503)

    async def metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=self._host.telemetry.exposition(), headers={"content-type": PROMETHEUS_CONTENT_TYPE})

    async def activity(self, _: web.Request) -> web.Response:
        router = self._host.router
        tiers = tiers_view(router.snapshot.tiers, router.shared.thresholds)
        resting = resting_view(router.shared.cooling)
        return web.json_response({**activity_view(self._host.telemetry), "tiers": tiers, "resting": resting})

    async def config(self, _: web.Request) -> web.Response:
        return web.json_response(configuration_view(self._host.router.snapshot, self._host.readiness().detail))

    async def route(self, request: web.Request) -> web.Response:
        """Decide only. `?path=` names the call (default /v1/chat/completions), `?as=` decides for a known principal."""
        router = self._host.router
        caller: Principal | None = None
        if (name := request.query.get("as")) is not None:
            caller = find_principal(router, name)
            if caller is None:
                return error(404, f'no key has the id "{name}"', code="principal_not_found")
        ours = own_headers(self._known())
        shown = {name: value for name, value in request.headers.items() if name.lower() not in ours}
        # That of a question to this API, which curl for one takes for a form; the call in it is JSON.
        shown["content-type"] = "application/json"
        headers = call_headers(request.query.get("path", "/v1/chat/completions"), shown)
        decision = await dry_run(router, headers, await request.read(), request_id="dry-run", caller=caller)
        return web.json_response(decision_view(decision))


def call_headers(path: str, headers: Mapping[str, str]) -> dict[str, str]:
    """The headers of a call that nobody sent, as Envoy would tell them."""
    kept = {name.lower(): value for name, value in headers.items() if name.lower() not in {"host", "content-length"}}
    return {":method": "POST", ":path": path, **kept}


def find_principal(router: Router, name: str) -> Principal | None:
    """The principal of the key with this id."""
    return next((key.principal for key in router.snapshot.keys.values() if key.principal.id == name), None)
