"""Models come and go in the file while a real Envoy serves, which learns its clusters from wissel."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from time import perf_counter
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
import yaml

from real import needs_envoy, until
from sampling import IS_WHOLE
from wissel.demo.stage import Stage, running_stage
from wissel.demo.upstream import Behaviour, Upstream, running_upstream
from wissel.runtime.background import beside

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module"), needs_envoy]

WITHIN = 2.0
"""Seconds from an edit to the first answer; a machine that is busy with other tests gets the time twice."""
GRACE = "500ms"
SOURCES: dict[str, dict[str, Any]] = {
    "file": {"file": "", "grace": GRACE},
    "rest": {"rest": "", "grace": GRACE},
}


def document(source: str = "file", **discovery: Any) -> dict[str, Any]:
    return {
        "models": [{"name": "first", "cluster": "first"}],
        "envoy": {"discovery": {**SOURCES[source], **discovery}},
    }


class Editor:
    """Of a stage's file."""

    def __init__(self, stage: Stage) -> None:
        self._path = stage.path
        self._before = stage.path.read_text()
        self.content: dict[str, Any] = yaml.safe_load(self._before)

    def add(self, name: str, **cluster: Any) -> None:
        self.content["models"].append({"name": name, "cluster": name})
        self.content["envoy"]["clusters"].append({"name": name, **cluster})
        self.save()

    def remove(self, name: str) -> None:
        for entries in (self.content["models"], self.content["envoy"]["clusters"]):
            entries[:] = [each for each in entries if each["name"] != name]
        self.save()

    def undo(self) -> None:
        self.content = yaml.safe_load(self._before)
        self.save()

    def save(self) -> None:
        beside = self._path.with_suffix(".new")
        beside.write_text(yaml.safe_dump(self.content, sort_keys=False))
        beside.replace(self._path)


async def ask(stage: Stage, session: aiohttp.ClientSession, model: str) -> tuple[int, str]:
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}]}
    async with session.post(f"{stage.envoy.url}/v1/chat/completions", json=body) as response:
        return response.status, response.headers.get("x-served-by", await response.text())


async def answers(stage: Stage, session: aiohttp.ClientSession, model: str, *, status: int = 200) -> list[int]:
    """Ask until the status comes; every other one on the way there."""
    others: list[int] = []
    while (found := (await ask(stage, session, model))[0]) != status:
        others.append(found)
        await asyncio.sleep(0.02)
    return others


async def readyz(stage: Stage, session: aiohttp.ClientSession) -> dict[str, Any]:
    async with session.get(f"{stage.admin}/readyz") as response:
        return await response.json()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    """One that learns from the source which is the parameter."""
    async with running_stage(document(request.param), tmp_path_factory.mktemp(request.param)) as running:
        yield running


FROM_EACH = pytest.mark.parametrize("stage", SOURCES, indirect=True, scope="module")
FROM_A_FILE = pytest.mark.parametrize("stage", ["file"], indirect=True, scope="module")


@pytest_asyncio.fixture(loop_scope="module")
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def editor(stage: Stage, session: aiohttp.ClientSession) -> AsyncIterator[Editor]:
    """Of the stage's file; what it changed is undone, and forgotten by Envoy."""
    before = await readyz(stage, session)
    running = Editor(stage)
    yield running
    running.undo()
    while await readyz(stage, session) != before:  # noqa: ASYNC110  # nobody announces it
        await asyncio.sleep(0.02)


@FROM_EACH
async def test_a_model_that_is_added_serves_within_two_seconds(
    stage: Stage, session: aiohttp.ClientSession, editor: Editor
):
    async with running_upstream(Upstream("added")) as added:
        began = perf_counter()
        editor.add("added", address=added.address)
        others = await answers(stage, session, "added")
        took = perf_counter() - began

        assert set(others) <= {404}
        assert took < 2 * WITHIN
        assert await ask(stage, session, "added") == (200, "added")


EDITS = 50 if IS_WHOLE else 6
"""The whole is what docs/envoy.md tells of."""


@FROM_EACH
async def test_no_request_fails_over_many_edits_under_load(
    stage: Stage, session: aiohttp.ClientSession, editor: Editor
):
    statuses: list[int] = []
    took: list[float] = []
    async with AsyncExitStack() as stack:
        upstreams = [await stack.enter_async_context(running_upstream(Upstream(f"up-{n}"))) for n in range(2)]
        names = ["first"]

        async def call_for_ever() -> None:
            while True:
                statuses.extend([(await ask(stage, session, name))[0] for name in tuple(names)])
                await asyncio.sleep(0.01)

        async with beside(*(call_for_ever() for _ in range(4))):
            for edit in range(EDITS // 2):
                name = f"model-{edit}"
                began = perf_counter()
                editor.add(name, address=upstreams[edit % 2].address)
                unserved = await answers(stage, session, name)
                took.append(perf_counter() - began)
                assert set(unserved) <= {404}
                names.append(name)
                await asyncio.sleep(0.05)
                names.remove(name)
                # Those who are asking already get their answer; then it is unknown.
                await asyncio.sleep(0.1)
                editor.remove(name)
                assert set(await answers(stage, session, name, status=404)) <= {200}

    assert set(statuses) == {200}
    assert len(statuses) > EDITS
    assert sorted(took)[len(took) // 2] < WITHIN


@FROM_EACH
async def test_an_answer_that_is_being_streamed_outlives_its_cluster(
    stage: Stage, session: aiohttp.ClientSession, editor: Editor
):
    async with AsyncExitStack() as stack:
        leaving, changing = [
            await stack.enter_async_context(running_upstream(Upstream(name, behaviour=Behaviour(event_gap=0.4))))
            for name in ("leaving", "changing")
        ]
        other = await stack.enter_async_context(running_upstream(Upstream("other")))
        for upstream in (leaving, changing):
            editor.add(upstream.name, address=upstream.address)
            await answers(stage, session, upstream.name)

        async def stream(model: str) -> bytes:
            body = {"model": model, "messages": [{"role": "user", "content": "hi there"}], "stream": True}
            async with session.post(f"{stage.envoy.url}/v1/chat/completions", json=body) as response:
                return await response.read()

        streaming = [asyncio.create_task(stream(name)) for name in ("leaving", "changing")]
        await until(lambda: (leaving.served, changing.served) == (2, 2))
        editor.content["envoy"]["clusters"][-1]["address"] = other.address
        editor.remove("leaving")
        await answers(stage, session, "leaving", status=404)
        await asyncio.sleep(1)  # the grace time is over
        moved = await ask(stage, session, "changing")

        assert all(told.endswith(b"data: [DONE]\n\n") for told in await asyncio.gather(*streaming))
        assert moved == (200, "other")


@FROM_A_FILE
async def test_a_cluster_that_is_named_no_more_goes_after_the_grace_time(
    stage: Stage, session: aiohttp.ClientSession, editor: Editor
):
    async with running_upstream(Upstream("named")) as named:
        editor.add("named", address=named.address)
        await answers(stage, session, "named")
        editor.remove("named")
        await answers(stage, session, "named", status=404)
        kept = clusters_of(stage)
        await until(lambda: clusters_of(stage) == {"first"})

    assert kept == {"first", "named"}


def clusters_of(stage: Stage) -> set[str]:
    published = stage.path.with_name("clusters.json").read_text()
    return {each["name"] for each in json.loads(published)["resources"]}


Spoil = Callable[[Editor], None]


def unknown_cluster(editor: Editor) -> None:
    editor.content["models"].append({"name": "spoilt", "cluster": "spolit"})
    editor.save()


def without_authority(editor: Editor) -> None:
    editor.add("spoilt", address="127.0.0.1:9", tls={"sni": "a.example", "ca": "/nowhere.pem"})


@FROM_EACH
@pytest.mark.parametrize(
    ("spoil", "named"), [(unknown_cluster, "spolit"), (without_authority, "envoy.clusters: spoilt: Envoy refuses")]
)
async def test_a_bad_edit_changes_nothing_and_is_named(
    stage: Stage, session: aiohttp.ClientSession, editor: Editor, spoil: Spoil, named: str
):
    before = await readyz(stage, session)
    spoil(editor)
    while not (after := await readyz(stage, session))["config_problem"]:
        assert (await ask(stage, session, "first"))[0] == 200
        await asyncio.sleep(0.05)

    assert named in after["config_problem"]
    assert (after["revision"], after["clusters"]) == (before["revision"], before["clusters"])
    assert (await ask(stage, session, "first"), (await ask(stage, session, "spoilt"))[0]) == ((200, "first"), 404)


async def test_an_envoy_elsewhere_shows_the_token_that_the_admin_listener_wants(
    session: aiohttp.ClientSession, tmp_path: Path
):
    secret = tmp_path / "token"
    secret.write_text("a-viewer's\n")
    admin = {"token": {"file": str(tmp_path / "operator")}, "viewer_token": {"file": str(secret)}}
    (tmp_path / "operator").write_text("an-operator's")
    shown = document("rest", token={"file": str(secret)})
    async with (
        running_stage({**shown, "admin": admin}, tmp_path) as guarded,
        running_upstream(Upstream("second")) as second,
    ):
        Editor(guarded).add("second", address=second.address)

        assert set(await answers(guarded, session, "second")) <= {404}
        async with session.post(f"{guarded.admin}/v3/discovery:clusters", json={}) as refused:
            assert refused.status == 401


@FROM_A_FILE
async def test_servers_that_are_not_well_are_left_out(stage: Stage, session: aiohttp.ClientSession, editor: Editor):
    async with running_upstream(Upstream("up-1")) as staying, AsyncExitStack() as ends:
        dying = await ends.enter_async_context(running_upstream(Upstream("up-0")))
        addresses = [{"address": dying.address, "weight": 1}, {"address": staying.address, "weight": 3}]
        check = {"path": "/v1/models", "interval": "200ms"}
        editor.add("several", addresses=addresses, health_check=check)
        await answers(stage, session, "several")
        both = {(await ask(stage, session, "several"))[1] for _ in range(20)}
        await ends.aclose()
        await asyncio.sleep(1)
        one = {await ask(stage, session, "several") for _ in range(20)}

    assert both == {"up-0", "up-1"}
    assert one == {(200, "up-1")}


@FROM_EACH
async def test_a_cluster_that_came_later_falls_back_and_is_fallen_back_to(
    stage: Stage, session: aiohttp.ClientSession, editor: Editor
):
    async with (
        running_upstream(Upstream("failing")) as failing,
        running_upstream(Upstream("second")) as second,
    ):
        editor.add("failing", address=failing.address)
        editor.content["models"][-1]["fallbacks"] = ["second"]
        editor.add("second", address=second.address)
        await answers(stage, session, "second")
        await failing.go_down()
        served = {await ask(stage, session, "failing") for _ in range(4)}

    assert served == {(200, "second")}
    assert {each.json["model"] for each in second.requests} == {"second"}
