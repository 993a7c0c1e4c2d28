"""Rollouts through a real Envoy, with a real Redis: what callers' requests do to a new model."""

import asyncio
import getpass
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from hashlib import sha256
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from click.testing import Result
from typer.testing import CliRunner

from real import needs_envoy, needs_redis
from wissel.cli import app
from wissel.demo.stage import Stage, running_stage

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module"), needs_envoy, needs_redis]

SECRET = "wsl-test-team"
METRICS = [
    {"name": "error_rate", "max": 0.25, "guard": True},
    {"name": "error_rate", "allowed_increase": 0.02},
]


def a_rollout(canary: str, *, weight: int = 20, pause: dict[str, str] | None = None) -> dict[str, Any]:
    pause = {"duration": "1s"} if pause is None else pause
    return {
        "name": f"chat-{canary}",
        "stable": "old",
        "canary": canary,
        "key": ["request"],
        "steps": [{"set_weight": weight}, {"pause": pause}, {"set_weight": 50}, {"pause": pause}],
        "analysis": {"interval": "500ms", "min_requests": 50, "metrics": METRICS},
    }


DOCUMENT: dict[str, Any] = {
    "redis": "embedded",
    "models": [{"name": name, "cluster": name} for name in ("old", "good", "bad", "down", "new")],
    "rollouts": [a_rollout("good"), a_rollout("bad"), a_rollout("down"), a_rollout("new", weight=50, pause={})],
    "splits": [{"name": "ab", "key": ["request"], "variants": [
        {"model": "old", "weight": 50}, {"model": "good", "weight": 50},
    ]}],
    "access": {
        "keys": [{"id": "team", "sha256": sha256(SECRET.encode()).hexdigest()}],
        "rules": [{"id": "team", "effect": "permit", "principals": ["team"]}],
    },
}  # fmt: skip


class Caller:
    """Sends requests through Envoy, and asks the admin API."""

    def __init__(self, stage: Stage, session: aiohttp.ClientSession) -> None:
        self.stage = stage
        self._session = session

    async def served(self, model: str, by: str) -> str:
        """The id of a request that this model served."""
        while True:
            _, headers = await self.ask(model)
            if headers["x-wissel-model"] == by:
                return headers["x-wissel-request-id"]

    async def ask(self, model: str) -> tuple[int, dict[str, str]]:
        body = {"model": model, "messages": [{"role": "user", "content": "hi"}]}
        status, _, headers = await self._post(f"{self.stage.envoy.url}/v1/chat/completions", body)
        return status, headers

    async def load(self, model: str, until: Callable[[], Awaitable[object]]) -> None:
        """About a hundred requests a second, until something has happened."""
        async with asyncio.timeout(60):
            while not await until():
                await asyncio.gather(*(self.ask(model) for _ in range(5)), asyncio.sleep(0.05))

    async def through_envoy(self, path: str, body: Any, *, key: str = SECRET) -> tuple[int, Any]:
        status, answer, _ = await self._post(f"{self.stage.envoy.url}{path}", body, key=key)
        return status, answer

    async def admin(self, path: str, body: Any = None) -> tuple[int, Any]:
        """POST where there is a body, else GET."""
        url = f"{self.stage.admin}{path}"
        if body is not None:
            status, answer, _ = await self._post(url, body)
            return status, answer
        async with self._session.get(url) as response:
            return response.status, await response.json()

    async def phase(self, name: str) -> str:
        return (await self.admin(f"/v1/rollouts/{name}"))[1]["phase"]

    async def _post(self, url: str, body: Any, *, key: str = SECRET) -> tuple[int, Any, dict[str, str]]:
        headers = {"authorization": f"Bearer {key}"}
        async with self._session.post(url, json=body, headers=headers) as response:
            answer = await response.json()
            return response.status, answer, {name.lower(): value for name, value in response.headers.items()}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def caller(tmp_path_factory) -> AsyncIterator[Caller]:
    async with (
        running_stage(DOCUMENT, tmp_path_factory.mktemp("stage")) as stage,
        aiohttp.ClientSession() as session,
    ):
        stage.upstreams["bad"].behaviour.error_rate = 0.3
        await stage.upstreams["down"].go_down()
        yield Caller(stage, session)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ended(caller: Caller) -> Caller:
    """Once those that need nobody are at their end, which they come to side by side."""

    async def through(name: str) -> None:
        async def is_over() -> bool:
            return await caller.phase(name) in {"healthy", "degraded"}

        await caller.load(name, is_over)

    await asyncio.gather(*(through(f"chat-{canary}") for canary in ("good", "bad", "down")))
    await asyncio.sleep(1.0)  # what the last of them may take to be served everywhere
    return caller


async def test_a_bad_canary_is_back_at_nothing_before_300_of_its_requests(ended: Caller):
    _, standing = await ended.admin("/v1/rollouts/chat-bad")
    _, told = await ended.admin("/v1/rollouts/chat-bad/history")
    served = ended.stage.upstreams["bad"].served
    await asyncio.gather(*(ended.ask("chat-bad") for _ in range(50)))

    assert (standing["phase"], standing["set_weight"]) == ("degraded", 0)
    assert told["history"][0]["kind"] == "rolled_back"
    assert "error_rate" in standing["reason"]
    assert served < 300
    assert ended.stage.upstreams["bad"].served == served


async def test_a_canary_whose_server_is_down_is_rolled_back_like_one_that_answers_500(ended: Caller):
    _, standing = await ended.admin("/v1/rollouts/chat-down")

    assert (standing["phase"], standing["set_weight"]) == ("degraded", 0)
    assert standing["arms"]["canary"]["errors"] == standing["arms"]["canary"]["requests"]
    assert "error_rate" in standing["reason"]


async def test_a_good_canary_reaches_everybody(ended: Caller):
    _, standing = await ended.admin("/v1/rollouts/chat-good")
    served = {(await ended.ask("chat-good"))[1]["x-wissel-model"] for _ in range(20)}

    assert (standing["phase"], standing["set_weight"], served) == ("healthy", 100, {"good"})


async def test_an_abort_over_http_names_who_and_takes_the_traffic_back(caller: Caller):
    async def is_waiting() -> bool:
        return await caller.phase("chat-new") == "paused"

    await caller.load("chat-new", is_waiting)
    before = {(await caller.ask("chat-new"))[1]["x-wissel-model"] for _ in range(30)}
    status, answer = await caller.admin("/v1/rollouts/chat-new/abort", {"by": "ada"})
    await asyncio.sleep(1.0)
    after = {(await caller.ask("chat-new"))[1]["x-wissel-model"] for _ in range(30)}
    _, told = await caller.admin("/v1/rollouts/chat-new/history")
    await caller.admin("/v1/rollouts/chat-new/retry", {"by": "ada"})

    assert (status, answer["phase"], answer["reason"]) == (200, "degraded", "aborted by ada")
    assert (before, after) == ({"old", "new"}, {"old"})
    assert (told["history"][0]["kind"], told["history"][0]["by"]) == ("aborted", "ada")


async def test_a_verb_that_makes_no_sense_is_409(caller: Caller):
    status, answer = await caller.admin("/v1/rollouts/chat-new/undo", {})

    assert (status, answer["error"]["code"]) == (409, "refused")


async def until_known(caller: Caller, path: str, body: Any) -> tuple[int, Any]:
    """Which arm served a request is written beside the request path."""
    while (answer := await caller.through_envoy(path, body))[0] == 404:  # noqa: ASYNC110  # nobody announces it
        await asyncio.sleep(0.1)
    return answer


async def test_feedback_counts_once_whether_through_envoy_or_over_the_admin_api(caller: Caller):
    given = {"request_id": await caller.served("ab", "good"), "score": 1}
    first = await until_known(caller, "/v1/feedback", given)
    second, _ = await caller.through_envoy("/v1/feedback", given)
    third, _ = await caller.admin("/v1/feedback", given)

    assert first == (200, {"status": "accepted"})
    assert (second, third) == (409, 409)


@pytest.mark.parametrize(
    ("body", "key", "status"),
    [({"request_id": "wr-0", "score": 1}, SECRET, 404), ({"score": 1}, SECRET, 400), ({"score": 1}, "wrong", 401)],
)
async def test_feedback_that_cannot_count_is_refused(caller: Caller, body, key, status):
    assert (await caller.through_envoy("/v1/feedback", body, key=key))[0] == status


# What an operator types.


async def wissel(caller: Caller, *words: str) -> Result:
    return await asyncio.to_thread(CliRunner().invoke, app, [*words, "--admin", caller.stage.admin])


async def test_the_commands_exit_as_a_pipeline_expects(caller: Caller):
    degraded = await wissel(caller, "rollout", "get", "chat-bad", "--watch")
    healthy = await wissel(caller, "rollout", "get", "chat-good", "--json")
    refused = await wissel(caller, "rollout", "undo", "chat-bad")
    unknown = await wissel(caller, "rollout", "get", "chat-bat")
    listed = await wissel(caller, "rollout", "list")
    trail = await wissel(caller, "rollout", "history", "chat-bad")

    assert [each.exit_code for each in (degraded, healthy, refused, unknown)] == [1, 0, 1, 2]
    assert json.loads(healthy.stdout)["phase"] == "healthy"
    assert "error_rate" in degraded.stdout
    assert "only a" in refused.stderr or "no promotion to undo" in refused.stderr
    assert (listed.exit_code, "chat-good" in listed.stdout) == (0, True)
    assert "rolled_back" in trail.stdout


async def test_a_split_has_its_page(caller: Caller):
    await asyncio.gather(*(caller.ask("ab") for _ in range(20)))
    while sum(arm["requests"] for arm in (await caller.admin("/v1/experiments/ab"))[1]["arms"].values()) < 20:  # noqa: ASYNC110  # nobody announces it
        await asyncio.sleep(0.1)
    shown = await wissel(caller, "experiment", "get", "ab")
    listed = await wissel(caller, "experiment", "list", "--json")
    unknown = await wissel(caller, "experiment", "get", "chat-good")

    assert (shown.exit_code, "good against old" in shown.stdout) == (0, True)
    assert [each["name"] for each in json.loads(listed.stdout)["experiments"]] == ["ab"]
    assert unknown.exit_code == 2


async def test_a_verb_is_done_by_who_typed_it(caller: Caller):
    await wissel(caller, "rollout", "retry", "chat-bad")
    paused = await wissel(caller, "rollout", "pause", "chat-bad", "--json")
    _, told = await caller.admin("/v1/rollouts/chat-bad/history")

    assert (paused.exit_code, json.loads(paused.stdout)["phase"]) == (0, "paused")
    assert told["history"][0]["by"] == getpass.getuser()
