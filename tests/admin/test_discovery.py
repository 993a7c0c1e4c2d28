"""Envoy's clusters over REST."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from wissel.admin.discovery import PATH, DiscoveryApi
from wissel.admin.guard import EVERYBODY, guard


@dataclass
class Publishing:
    """One version."""

    version: str = "v2"
    asker: str = ""

    def response(self) -> Mapping[str, object]:
        return {"version_info": self.version, "resources": []}

    def polled(self, asker: str, version: str) -> bool:
        self.asker = asker
        return version != self.version


@pytest.fixture
def publisher() -> Publishing:
    return Publishing()


async def client_of(publisher: Publishing | None) -> AsyncIterator[TestClient]:
    app = web.Application(middlewares=[guard(lambda: EVERYBODY)])
    app.router.add_routes(DiscoveryApi(lambda: publisher).routes())
    async with TestClient(TestServer(app)) as client:
        yield client


@pytest.fixture
async def client(publisher: Publishing) -> AsyncIterator[TestClient]:
    async for client in client_of(publisher):
        yield client


@pytest.mark.parametrize(("version", "status"), [("", 200), ("v1", 200), ("v2", 304)])
async def test_who_has_it_all_gets_nothing(client: TestClient, version: str, status: int):
    async with client.post(PATH, json={"version_info": version}) as answer:
        assert answer.status == status


async def test_each_envoy_is_known_by_its_name_and_its_address(client: TestClient, publisher: Publishing):
    await client.post(PATH, json={"node": {"id": "edge-1"}})

    assert publisher.asker == "edge-1 at 127.0.0.1"


async def test_people_may_look(client: TestClient):
    async with client.get(PATH) as answer:
        assert (await answer.json())["version_info"] == "v2"


@pytest.mark.parametrize("body", [b"{", b"[]", b"\xff", b'{"node": 7}'])
async def test_what_is_no_question_is_told(client: TestClient, body: bytes):
    async with client.post(PATH, data=body) as answer:
        assert answer.status == 400


async def test_nothing_is_published_where_clusters_stand_in_the_bootstrap():
    async for client in client_of(None):
        assert [(await client.request(method, PATH)).status for method in ("GET", "POST")] == [404, 404]


@pytest.mark.parametrize(
    ("host", "path", "status"),
    [
        ("wissel_discovery", PATH, 304),
        ("wissel_discovery", "/v1/rollouts", 403),
        ("evil.example", PATH, 403),
        ("wissel_discovery.evil.example", PATH, 403),
    ],
)
async def test_envoys_name_for_the_listener_is_none_of_a_web_pages(
    client: TestClient, host: str, path: str, status: int
):
    async with client.post(path, json={"version_info": "v2"}, headers={"host": host}) as answer:
        assert answer.status == status
