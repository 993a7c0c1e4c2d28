"""Operators may do everything, viewers may look, others nothing."""

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from wissel.admin.guard import Staff, guard


async def answer(_: web.Request) -> web.Response:
    return web.Response()


@pytest.fixture
async def client():
    application = web.Application(middlewares=[guard(lambda: Staff("operator", "viewer"))])
    application.router.add_route("*", "/{path:.*}", answer)
    async with TestClient(TestServer(application)) as running:
        yield running


@pytest.mark.parametrize(
    ("token", "method", "path", "status"),
    [
        ("operator", "GET", "/v1/rollouts", 200),
        ("operator", "POST", "/v1/rollouts/chat/promote", 200),
        ("viewer", "GET", "/v1/rollouts", 200),
        ("viewer", "HEAD", "/metrics", 200),
        ("viewer", "POST", "/v1/route", 200),
        ("viewer", "POST", "/v3/discovery:clusters", 200),
        ("", "POST", "/v3/discovery:clusters", 401),
        ("viewer", "POST", "/v1/rollouts/chat/promote", 403),
        ("viewer", "POST", "/v1/feedback", 403),
        ("viewer", "DELETE", "/v1/route/x", 403),
        ("viewe", "GET", "/v1/rollouts", 401),
        ("", "GET", "/v1/rollouts", 401),
        ("nobody", "POST", "/v1/rollouts/chat/promote", 401),
        ("nobody", "GET", "/readyz", 200),
    ],
)
async def test_who_may_do_what(client, token, method, path, status):
    async with client.request(method, path, headers={"authorization": f"Bearer {token}"}) as response:
        assert response.status == status
        assert "set-cookie" not in response.headers


async def test_a_cookie_is_no_token(client):
    async with client.get("/v1/rollouts", cookies={"authorization": "Bearer operator"}) as response:
        assert response.status == 401


async def test_a_page_of_another_origin_cannot_use_a_token(client):
    headers = {"authorization": "Bearer operator", "origin": "https://evil"}
    async with client.post("/v1/rollouts/chat/promote", headers=headers) as response:
        assert response.status == 403
