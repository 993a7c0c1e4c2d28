"""The admin HTTP API.

Loopback needs no token; anywhere else every call but the probes demands one.
A web page that the operator happens to visit cannot use this API: requests
that a browser sends for another origin are refused, and so is a host name
that is not ours, since a foreign name may have been pointed at loopback.
"""

import hmac
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from wissel.admin.errors import error
from wissel.admin.experiments import ExperimentsApi
from wissel.admin.rollouts import RolloutsApi
from wissel.admin.views import View, decision_view
from wissel.core.access import Principal
from wissel.extproc.dry_run import dry_run
from wissel.fleet import Fleet
from wissel.router import Router
from wissel.telemetry import PROMETHEUS_CONTENT_TYPE, Telemetry

_PROBES: Final = frozenset({"/healthz", "/readyz"})
_BODY_LIMIT: Final = 32 * 1024 * 1024
_SAFE_HEADERS: Final = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}


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

    def readiness(self) -> Readiness: ...


def application(host: Host, *, token: str | None) -> web.Application:
    """The API over `host`; without `token` it must be served on loopback only."""
    api = _Api(host, own_headers=frozenset({"authorization"} if token else ()))
    app = web.Application(middlewares=[_guard(token)], client_max_size=_BODY_LIMIT)
    app.router.add_get("/healthz", api.healthz)
    app.router.add_get("/readyz", api.readyz)
    app.router.add_get("/metrics", api.metrics)
    app.router.add_post("/v1/route", api.route)
    app.router.add_routes(RolloutsApi(host.fleet).routes())
    app.router.add_routes(ExperimentsApi(host.fleet).routes())
    return app


class _Api:
    def __init__(self, host: Host, *, own_headers: frozenset[str]) -> None:
        self._host = host
        self._own_headers = own_headers
        """Meant for this API, and no part of the call that is asked about."""

    async def healthz(self, _: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def readyz(self, _: web.Request) -> web.Response:
        readiness = self._host.readiness()
        body = {"status": "ready" if readiness.ready else "not ready", **readiness.detail}
        return web.json_response(body, status=200 if readiness.ready else 503)

    async def metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=self._host.telemetry.exposition(), headers={"content-type": PROMETHEUS_CONTENT_TYPE})

    async def route(self, request: web.Request) -> web.Response:
        """Decide only. `?path=` names the call (default /v1/chat/completions), `?as=` decides for a known principal."""
        router = self._host.router
        caller: Principal | None = None
        if (name := request.query.get("as")) is not None:
            caller = find_principal(router, name)
            if caller is None:
                return error(404, f'no key has the id "{name}"', code="principal_not_found")
        shown = {name: value for name, value in request.headers.items() if name.lower() not in self._own_headers}
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


def _guard(token: str | None) -> Middleware:
    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        response = _refusal(request, token) or await handler(request)
        response.headers.update(_SAFE_HEADERS)
        return response

    return guard


def _refusal(request: web.Request, token: str | None) -> web.Response | None:
    if request.path in _PROBES:
        return None
    origin = request.headers.get("origin")
    if origin is not None and origin.partition("://")[2] != request.host:
        return error(403, f'requests from "{origin}" are not served', code="foreign_origin")
    if token is None:
        if not _is_loopback(request.host):
            return error(403, f'"{request.host}" is not a loopback address', code="foreign_host")
        return None
    scheme, _, shown = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not hmac.compare_digest(shown.strip().encode(), token.encode()):
        refused = error(401, "send the admin token as `authorization: Bearer <token>`", code="admin_token_required")
        refused.headers["www-authenticate"] = "Bearer"
        return refused
    return None


def _is_loopback(host: str) -> bool:
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host
    if name.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False
