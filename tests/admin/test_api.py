"""The admin API over a router with a classifier that always answers the same."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from factories import api_key, forbid, permit, snapshot
from wissel.admin.api import Readiness, application
from wissel.admin.guard import Staff
from wissel.core.intent import Scores
from wissel.core.request import Conversation
from wissel.core.snapshot import Snapshot
from wissel.router import Advisers, Router, SharedParts
from wissel.telemetry.counting import Telemetry

BODY = {"model": "auto", "messages": [{"role": "user", "content": "hello"}]}


class Certain:
    """A classifier that finds everything to be code."""

    def recall(self, conversation: Conversation) -> Scores | None:
        return None

    async def classify(self, conversation: Conversation) -> Scores:
        return Scores({"chat": 0.2, "code": 0.9}, threshold=0.5, classifier="certain")


@dataclass
class Process:
    snapshot: Snapshot
    ready: bool = True
    telemetry: Telemetry = field(default_factory=Telemetry)
    fleet: None = None
    publisher: None = None

    @property
    def router(self) -> Router:
        return Router(self.snapshot, Advisers(classifier=Certain()), SharedParts(telemetry=self.telemetry))

    def readiness(self) -> Readiness:
        return Readiness(self.ready, {"revision": self.snapshot.revision})


RULES = {"rules": (permit(), forbid("no-large", models=frozenset({"large"}), principals=frozenset({"bob"})))}
KEYS = {"keys": (api_key("s-ada", id="ada"), api_key("s-bob", id="bob"))}


async def client_of(app: web.Application) -> AsyncIterator[TestClient]:
    async with TestClient(TestServer(app)) as client:
        yield client


@pytest.fixture
def process() -> Process:
    return Process(snapshot(**RULES, **KEYS))


@pytest.fixture
async def client(process) -> AsyncIterator[TestClient]:
    async for each in client_of(application(process)):
        yield each


@pytest.fixture
async def guarded(process) -> AsyncIterator[TestClient]:
    async for each in client_of(application(process, lambda: Staff(token="t0ken"))):
        yield each


async def test_healthz_says_that_the_process_lives(client):
    response = await client.get("/healthz")

    assert (response.status, await response.json()) == (200, {"status": "ok"})


@pytest.mark.parametrize(("ready", "status"), [(True, 200), (False, 503)])
async def test_readyz_says_whether_traffic_may_come(client, process, ready, status):
    process.ready = ready
    response = await client.get("/readyz")

    assert (response.status, (await response.json())["revision"]) == (status, "r1")


async def test_a_decision_shows_its_whole_reasoning(client):
    response = await client.post("/v1/route", json=BODY, headers={"x-api-key": "s-ada"})

    assert await response.json() == {
        "status": 200,
        "route": "code",
        "target": "large",
        "model": "large",
        "cluster": "large-cluster",
        "upstream_model": "large",
        "variant": "large",
        "reason": "static",
        "lead": None,
        "intent": {
            "reason": "match",
            "score": 0.9,
            "threshold": 0.5,
            "confidence": None,
            "runner_up": {"route": "chat", "behind": 0.7},
            "classifier": "certain",
            "detail": None,
        },
        "scores": {"code": 0.9, "chat": 0.2},
        "pin": None,
        "rules": ["all"],
        "shadow_rules": [],
        "split": None,
        "key": None,
        "bucket": None,
        "unable": [],
        "plan": [{"model": "large", "cluster": "large-cluster"}],
        "left_out": [],
        "tier": None,
        "principal": "ada",
        "revision": "r1",
    }


async def test_a_decision_may_be_asked_for_another_caller(client):
    told = await (await client.post("/v1/route?as=bob", json=BODY)).json()

    assert (told["status"], told["rules"], told["error"]["code"]) == (403, ["no-large"], "forbidden")


async def test_a_caller_that_no_key_has_is_told(client):
    assert (await client.post("/v1/route?as=eve", json=BODY)).status == 404


async def test_a_question_needs_no_content_type_as_curl_would_send_that_of_a_form(client):
    form = {"content-type": "application/x-www-form-urlencoded"}
    answer = await client.post("/v1/route?as=ada", data=json.dumps(BODY).encode(), headers=form)

    assert (await answer.json())["status"] == 200


async def test_a_split_shows_key_and_bucket(client):
    told = await (
        await client.post("/v1/route?as=ada", json={**BODY, "model": "ab"}, headers={"x-session-id": "s"})
    ).json()

    assert told["key"] == {"source": "header:x-session-id", "value": "s"}
    assert 0 <= told["bucket"] < 100


async def test_what_is_wrong_with_a_body_is_shown_as_a_decision(client):
    told = await (await client.post("/v1/route?as=ada", data=b"{")).json()

    assert (told["status"], told["error"]["code"]) == (400, "unreadable_request")


async def test_nothing_is_counted_as_served(client):
    await client.post("/v1/route?as=ada", json=BODY)
    page = await (await client.get("/metrics")).text()

    assert "wissel_decisions_total{" not in page


@pytest.mark.parametrize("path", ["/metrics", "/v1/route"])
async def test_with_a_token_nothing_else_opens(guarded, path):
    method = "POST" if path == "/v1/route" else "GET"
    without = await guarded.request(method, path)
    wrong = await guarded.request(method, path, headers={"authorization": "Bearer nope"})
    right = await guarded.request(method, path, headers={"authorization": "Bearer t0ken"}, json=BODY)

    assert (without.status, wrong.status, right.status) == (401, 401, 200)


async def test_the_admin_token_is_not_taken_for_a_callers_key(guarded):
    headers = {"authorization": "Bearer t0ken", "x-api-key": "s-ada"}
    told = await (await guarded.post("/v1/route", json=BODY, headers=headers)).json()

    assert told["principal"] == "ada"


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
async def test_probes_need_no_token(guarded, path):
    assert (await guarded.get(path)).status == 200


async def test_a_foreign_page_cannot_use_the_api(client):
    refused = await client.post("/v1/route", json=BODY, headers={"origin": "https://evil.example"})

    assert (refused.status, (await refused.json())["error"]["code"]) == (403, "foreign_origin")


async def test_a_foreign_name_that_points_at_loopback_is_refused(client):
    refused = await client.get("/metrics", headers={"host": "evil.example:8081"})

    assert (refused.status, (await refused.json())["error"]["code"]) == (403, "foreign_host")


@pytest.mark.parametrize("host", ["localhost", "localhost:8081", "127.0.0.1:8081", "[::1]:8081", "127.1.2.3"])
async def test_loopback_has_many_names(client, host):
    assert (await client.get("/metrics", headers={"host": host})).status == 200


async def test_metrics_are_shown_only_where_they_are_wanted(process):
    async for silent in client_of(application(process, prometheus=False)):
        assert (await silent.get("/metrics")).status == 404


# Rollouts, where the configuration has no redis; with one: test_delivery.


async def test_without_redis_there_are_no_rollouts_and_no_feedback(client):
    listed = await (await client.get("/v1/rollouts")).json()
    one = await client.get("/v1/rollouts/chat")
    given = await client.post("/v1/feedback", json={"request_id": "wr-1", "score": 1})

    assert (listed, one.status, given.status) == ({"rollouts": []}, 404, 404)
    assert (await given.json())["error"]["code"] == "feedback_not_kept"


@pytest.mark.parametrize("path", ["/v1/feedback", "/v1/rollouts/chat/abort"])
async def test_a_form_that_a_foreign_page_could_send_is_refused(client, path):
    answer = await client.post(path, data=b'{"request_id": "wr-1", "score": 1}', headers={"content-type": "text/plain"})

    assert (answer.status, (await answer.json())["error"]["code"]) == (415, "bad_content_type")


async def test_an_unknown_verb_is_404(client):
    assert (await client.post("/v1/rollouts/chat/destroy")).status == 404
