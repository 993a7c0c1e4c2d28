"""One admin listener in front of several workers.

What concerns all of them is gathered: readiness and metrics. Everything else
is passed on to one that lives, over the private socket of its own admin API.
"""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Protocol

import aiohttp
from aiohttp import web
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from yarl import URL

from wissel.admin.errors import error
from wissel.admin.guard import BODY_LIMIT, Known, everybody, guard, own_headers, show_safely
from wissel.admin.pages import Pages

_PAGE_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_PROBE: Final = aiohttp.ClientTimeout(total=2)
_CALL: Final = aiohttp.ClientTimeout(sock_connect=2, sock_read=120)
_HOP_BY_HOP: Final = frozenset(
    {
        "connection",
        "content-length",
        "host",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "te",  # codespell:ignore
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
_OURS: Final = frozenset({"date", "server"})
"""Headers of an answer that this listener writes itself."""


class Worker(Protocol):
    """What the supervisor knows of a worker."""

    @property
    def index(self) -> int: ...

    @property
    def restarts(self) -> int: ...

    @property
    def problem(self) -> str | None:
        """Why it does not run, or not yet; None while all is well."""
        ...

    @property
    def admin(self) -> aiohttp.ClientSession:
        """Leads to its admin API."""
        ...


def session(socket: Path) -> aiohttp.ClientSession:
    """A client of the admin API behind a socket; it adds nothing to what it passes on."""
    return aiohttp.ClientSession(
        "http://localhost",
        # A connection to a process that ended is of no use to the next one.
        connector=aiohttp.UnixConnector(str(socket), force_close=True),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        skip_auto_headers=("accept", "accept-encoding", "content-type", "user-agent"),
    )


async def is_ready(admin: aiohttp.ClientSession) -> bool:
    """Whether the worker behind `admin` says that traffic may come."""
    told = await _readiness(admin)
    return told is not None and told["status"] == "ready"


def front(
    workers: Sequence[Worker], pages: Pages, known: Known = everybody, *, prometheus: bool = True
) -> web.Application:
    """The API over `workers`, with /metrics if `prometheus`; for everybody it must be served on loopback only."""
    desk = _Front(workers, pages, known)
    app = web.Application(middlewares=[guard(known)], client_max_size=BODY_LIMIT)
    app.on_response_prepare.append(show_safely)
    app.router.add_get("/healthz", desk.healthz)
    app.router.add_get("/readyz", desk.readyz)
    app.router.add_get("/metrics", desk.metrics if prometheus else desk.missing)
    app.router.add_route("*", "/{path:.*}", desk.pass_on)
    return app


class _Front:
    def __init__(self, workers: Sequence[Worker], pages: Pages, known: Known) -> None:
        self._workers = workers
        self._pages = pages
        self._known = known

    async def healthz(self, _: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def missing(self, _: web.Request) -> web.Response:
        raise web.HTTPNotFound

    async def readyz(self, _: web.Request) -> web.Response:
        """Ready while one worker is: Envoy's health checks keep its streams from the others."""
        told = await asyncio.gather(*(_readiness(worker.admin) for worker in self._workers))
        shown = [_shown(worker, each) for worker, each in zip(self._workers, told, strict=True)]
        is_ready = any(each["status"] == "ready" for each in shown)
        revisions = {each["revision"] for each in told if each is not None}
        body = {
            "status": "ready" if is_ready else "not ready",
            # Of all; while a new configuration reaches one worker after the other there is no such thing.
            "revision": revisions.pop() if len(revisions) == 1 else None,
            "config_problem": _first(told, "config_problem"),
            "restart_needed": _first(told, "restart_needed"),
            "store_problem": _first(told, "store_problem"),
            "workers": shown,
        }
        return web.json_response(body, status=200 if is_ready else 503)

    async def metrics(self, _: web.Request) -> web.Response:
        await asyncio.gather(*(self._read(worker) for worker in self._workers))
        page = self._pages.exposition(self._own())
        return web.Response(body=page, headers={"content-type": _PAGE_TYPE})

    async def _read(self, worker: Worker) -> None:
        before = worker.restarts
        try:
            async with worker.admin.get("/metrics", timeout=_PROBE) as answer:
                page = await answer.text()
        except (aiohttp.ClientError, TimeoutError):
            # Its latest page stands: what it has counted does not become less.
            return
        if answer.status == 200 and worker.restarts == before:
            self._pages.read(worker.index, page)

    def _own(self) -> list[Metric]:
        running = GaugeMetricFamily("wissel_workers", "worker processes that run and are ready")
        running.add_metric([], sum(worker.problem is None for worker in self._workers))
        restarts = CounterMetricFamily(
            "wissel_worker_restarts", "worker processes that had to be replaced", labels=["worker"]
        )
        for worker in self._workers:
            restarts.add_metric([str(worker.index)], worker.restarts)
        return [running, restarts]

    async def pass_on(self, request: web.Request) -> web.StreamResponse:
        """To the first worker that takes the connection; what one has begun to read goes to no other."""
        url = URL(f"http://localhost{request.raw_path}", encoded=True)
        dropped = _HOP_BY_HOP | own_headers(self._known()) | {"origin"}
        headers = _without(request.headers, dropped)
        body = await request.read()
        for worker in self._workers:
            call = worker.admin.request(
                request.method, url, headers=headers, data=body or None, timeout=_CALL, allow_redirects=False
            )
            try:
                answer = await call
            except aiohttp.ClientConnectorError:
                continue
            except (aiohttp.ClientError, TimeoutError):
                return error(502, f"worker {worker.index} took the request and did not answer", code="worker_lost")
            async with answer:
                return await _relay(request, answer)
        return error(503, "no worker runs at the moment", code="no_worker")


async def _relay(request: web.Request, answer: aiohttp.ClientResponse) -> web.StreamResponse:
    response = web.StreamResponse(status=answer.status, headers=_without(answer.headers, _HOP_BY_HOP | _OURS))
    await response.prepare(request)
    async for chunk in answer.content.iter_any():
        await response.write(chunk)
    await response.write_eof()
    return response


def _without(headers: Mapping[str, str], dropped: frozenset[str]) -> list[tuple[str, str]]:
    return [(name, value) for name, value in headers.items() if name.lower() not in dropped]


async def _readiness(admin: aiohttp.ClientSession) -> dict[str, str | None] | None:
    """What a worker says of itself; None if it says nothing."""
    try:
        async with admin.get("/readyz", timeout=_PROBE) as answer:
            return await answer.json()
    except (aiohttp.ClientError, TimeoutError):
        return None


def _first(told: Sequence[dict[str, str | None] | None], name: str) -> str | None:
    """What the first worker says that has something to say."""
    return next((said for each in told if each is not None and (said := each.get(name))), None)


def _shown(worker: Worker, told: dict[str, str | None] | None) -> dict[str, str | int | None]:
    own: dict[str, str | int | None] = {"worker": worker.index, "restarts": worker.restarts}
    if told is None:
        return {**own, "status": "not ready", "problem": worker.problem or "it does not answer"}
    return {**own, **told, "problem": worker.problem}
