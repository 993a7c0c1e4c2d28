"""The listener in front of two workers: one that is an application on a socket, and one that is away."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from wissel.admin.front import front, session
from wissel.admin.guard import Staff
from wissel.admin.listener import listening
from wissel.admin.pages import Pages

PAGE = "# HELP wissel_decisions_total decided\n# TYPE wissel_decisions_total counter\nwissel_decisions_total 4\n"


@dataclass
class Member:
    index: int
    admin: aiohttp.ClientSession
    restarts: int = 0
    problem: str | None = None


@dataclass
class Office:
    """What stands behind, and what it has heard."""

    away: Member
    there: Member
    pages: Pages
    ready: bool = True
    heard: list[web.Request] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)

    async def readyz(self, _: web.Request) -> web.Response:
        told = {"status": "ready" if self.ready else "not ready", "revision": "r1", "config_problem": None}
        return web.json_response(told, status=200 if self.ready else 503)

    async def metrics(self, _: web.Request) -> web.Response:
        return web.Response(text=PAGE)

    async def anything(self, request: web.Request) -> web.StreamResponse:
        self.heard.append(request)
        self.bodies.append(await request.read())
        response = web.StreamResponse(status=207, headers={"x-worker": "1"})
        await response.prepare(request)
        await response.write(b"one ")
        await response.write(b"two")
        return response


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as entered:
        yield entered


@pytest.fixture
async def office(tmp_path: Path, stack: AsyncExitStack) -> Office:
    away, there = [await stack.enter_async_context(session(tmp_path / f"{index}.sock")) for index in range(2)]
    found = Office(Member(0, away, problem="it ended with 3"), Member(1, there), Pages())
    behind = web.Application()
    behind.router.add_get("/readyz", found.readyz)
    behind.router.add_get("/metrics", found.metrics)
    behind.router.add_route("*", "/{path:.*}", found.anything)
    await stack.enter_async_context(listening(behind, f"unix:{tmp_path}/1.sock"))
    return found


async def client_of(office: Office, stack: AsyncExitStack, token: str | None = None) -> TestClient:
    app = front([office.away, office.there], office.pages, lambda: Staff(token=token))
    return await stack.enter_async_context(TestClient(TestServer(app)))


@pytest.fixture
async def client(office: Office, stack: AsyncExitStack) -> TestClient:
    return await client_of(office, stack)


async def test_one_ready_worker_is_enough_and_each_is_shown(client: TestClient):
    response = await client.get("/readyz")
    told: dict[str, Any] = await response.json()

    assert (response.status, told["status"], told["revision"]) == (200, "ready", "r1")
    assert told["workers"] == [
        {"worker": 0, "restarts": 0, "status": "not ready", "problem": "it ended with 3"},
        {"worker": 1, "restarts": 0, "status": "ready", "revision": "r1", "config_problem": None, "problem": None},
    ]


async def test_without_a_ready_worker_no_traffic_should_come(client: TestClient, office: Office):
    office.ready = False
    response = await client.get("/readyz")

    assert (response.status, (await response.json())["status"]) == (503, "not ready")


async def test_the_metrics_say_how_the_workers_are(client: TestClient, office: Office):
    office.away.restarts = 3
    page = (await (await client.get("/metrics")).text()).splitlines()

    assert {
        "wissel_decisions_total 4.0",
        "wissel_workers 1.0",
        'wissel_worker_restarts_total{worker="0"} 3.0',
    } <= set(page)


async def test_what_a_worker_has_counted_stands_while_it_does_not_answer(client: TestClient, office: Office):
    office.pages.read(0, PAGE)

    assert "wissel_decisions_total 8.0" in (await (await client.get("/metrics")).text()).splitlines()


async def test_a_call_goes_to_a_worker_that_is_there_and_its_answer_comes_back_as_it_is(
    client: TestClient, office: Office
):
    sent = {"x-session-id": "s", "authorization": "Bearer caller"}
    response = await client.post("/v1/a%2Fb?as=ada", data=b"\x00body", headers=sent)

    assert (response.status, response.headers["x-worker"], await response.read()) == (207, "1", b"one two")
    [heard] = office.heard
    assert (heard.method, heard.raw_path, office.bodies) == ("POST", "/v1/a%2Fb?as=ada", [b"\x00body"])
    assert {name: heard.headers[name] for name in sent} == sent


async def test_the_console_is_one_workers_and_comes_without_the_token(office: Office, stack: AsyncExitStack):
    client = await client_of(office, stack, token="t0ken")
    statuses = [(await client.get(path)).status for path in ("/", "/console/console.js", "/v1/activity")]

    assert statuses == [207, 207, 401]


async def test_the_admin_token_stays_here(office: Office, stack: AsyncExitStack):
    client = await client_of(office, stack, token="t0ken")
    refused = await client.get("/v1/route")
    passed = await client.get("/v1/route", headers={"authorization": "Bearer t0ken"})

    assert (refused.status, passed.status) == (401, 207)
    assert ["authorization" in heard.headers for heard in office.heard] == [False]


async def test_with_all_workers_away_a_call_is_refused(client: TestClient, office: Office):
    office.there.admin = office.away.admin
    response = await client.post("/v1/route", data=b"{}")

    assert (response.status, (await response.json())["error"]["code"]) == (503, "no_worker")


async def test_the_process_itself_is_well_whatever_its_workers_do(client: TestClient):
    assert (await client.get("/healthz")).status == 200
