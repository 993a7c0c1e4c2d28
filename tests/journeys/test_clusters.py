"""Models come and go in the file while a real Envoy serves, which learns its clusters from wissel."""

import asyncio
import json
import os
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from time import perf_counter
from typing import Any

import aiohttp
import pytest
import yaml

from real import needs_envoy, until
from wissel.demo.stage import Stage, running_stage
from wissel.demo.upstream import Behaviour, Upstream, running_upstream
from wissel.runtime.background import beside

pytestmark = [pytest.mark.slow, needs_envoy]

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
        self.content: dict[str, Any] = yaml.safe_load(stage.path.read_text())

    def add(self, name: str, **cluster: Any) -> None:
        self.content["models"].append({"name": name, "cluster": name})
        self.content["envoy"]["clusters"].append({"name": name, **cluster})
        self.save()

    def remove(self, name: str) -> None:
        for entries in (self.content["models"], self.content["envoy"]["clusters"]):
            entries[:] = [each for each in entries if each["name"] != name]
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


@pytest.mark.parametrize("source", SOURCES)
async def test_a_model_that_is_added_serves_within_two_seconds(source: str, tmp_path: Path):
    async with AsyncExitStack() as stack:
        stage = await stack.enter_async_context(running_stage(document(source), tmp_path))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        second = await stack.enter_async_context(running_upstream(Upstream("second")))
        began = perf_counter()
        Editor(stage).add("second", address=second.address)
        others = await answers(stage, session, "second")
        took = perf_counter() - began

        assert set(others) <= {404}
        assert took < 2 * WITHIN
        assert await ask(stage, session, "second") == (200, "second")


EDITS = int(os.environ.get("EDITS", "10"))
"""A sample; `EDITS=50` is what docs/envoy.md tells of."""


@pytest.mark.parametrize("source", SOURCES)
async def test_no_request_fails_over_many_edits_under_load(source: str, tmp_path: Path):
    statuses: list[int] = []
    took: list[float] = []
    async with AsyncExitStack() as stack:
        stage = await stack.enter_async_context(running_stage(document(source), tmp_path))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        upstreams = [await stack.enter_async_context(running_upstream(Upstream(f"up-{n}"))) for n in range(2)]
        editor, names = Editor(stage), ["first"]

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


@pytest.mark.parametrize("source", SOURCES)
async def test_an_answer_that_is_being_streamed_outlives_its_cluster(source: str, tmp_path: Path):
    async with AsyncExitStack() as stack:
        stage = await stack.enter_async_context(running_stage(document(source), tmp_path))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        leaving, changing = [
            await stack.enter_async_context(running_upstream(Upstream(name, behaviour=Behaviour(event_gap=0.4))))
            for name in ("leaving", "changing")
        ]
        other = await stack.enter_async_context(running_upstream(Upstream("other")))
        editor = Editor(stage)
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


async def test_a_cluster_that_is_named_no_more_goes_after_the_grace_time(tmp_path: Path):
    async with AsyncExitStack() as stack:
        stage = await stack.enter_async_context(running_stage(document(), tmp_path))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        second = await stack.enter_async_context(running_upstream(Upstream("second")))
        editor = Editor(stage)
        editor.add("second", address=second.address)
        await answers(stage, session, "second")
        editor.remove("second")
        await answers(stage, session, "second", status=404)
        kept = clusters_of(tmp_path)
        await until(lambda: clusters_of(tmp_path) == {"first"})

        assert kept == {"first", "second"}


def clusters_of(home: Path) -> set[str]:
    return {each["name"] for each in json.loads((home / "clusters.json").read_text())["resources"]}


Spoil = Callable[[Editor], None]


def unknown_cluster(editor: Editor) -> None:
    editor.content["models"].append({"name": "second", "cluster": "secnod"})
    editor.save()


def without_authority(editor: Editor) -> None:
    editor.add("second", address="127.0.0.1:9", tls={"sni": "a.example", "ca": "/nowhere.pem"})


@pytest.mark.parametrize(
    ("source", "spoil", "named"),
    [
        ("file", unknown_cluster, "secnod"),
        ("file", without_authority, "envoy.clusters: second: Envoy refuses"),
        ("rest", without_authority, "envoy.clusters: second: Envoy refuses"),
    ],
)
async def test_a_bad_edit_changes_nothing_and_is_named(source: str, spoil: Spoil, named: str, tmp_path: Path):
    async with AsyncExitStack() as stack:
        stage = await stack.enter_async_context(running_stage(document(source), tmp_path))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        before = await readyz(stage, session)
        spoil(Editor(stage))
        while not (after := await readyz(stage, session))["config_problem"]:
            assert (await ask(stage, session, "first"))[0] == 200
            await asyncio.sleep(0.05)

        assert named in after["config_problem"]
        assert (after["revision"], after["clusters"]) == (before["revision"], before["clusters"])
        assert (await ask(stage, session, "first"), (await ask(stage, session, "second"))[0]) == ((200, "first"), 404)


async def test_an_envoy_elsewhere_shows_the_token_that_the_admin_listener_wants(tmp_path: Path):
    secret = tmp_path / "token"
    secret.write_text("a-viewer's\n")
    admin = {"token": {"file": str(tmp_path / "operator")}, "viewer_token": {"file": str(secret)}}
    (tmp_path / "operator").write_text("an-operator's")
    shown = document("rest", token={"file": str(secret)})
    async with AsyncExitStack() as stack:
        stage = await stack.enter_async_context(running_stage({**shown, "admin": admin}, tmp_path))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        second = await stack.enter_async_context(running_upstream(Upstream("second")))
        Editor(stage).add("second", address=second.address)

        assert set(await answers(stage, session, "second")) <= {404}
        async with session.post(f"{stage.admin}/v3/discovery:clusters", json={}) as refused:
            assert refused.status == 401


async def test_servers_that_are_not_well_are_left_out(tmp_path: Path):
    async with AsyncExitStack() as stack:
        stage = await stack.enter_async_context(running_stage(document(), tmp_path))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        ends = await stack.enter_async_context(AsyncExitStack())
        dying = await ends.enter_async_context(running_upstream(Upstream("up-0")))
        servers = [dying, await stack.enter_async_context(running_upstream(Upstream("up-1")))]
        addresses = [{"address": each.address, "weight": weight} for each, weight in zip(servers, (1, 3), strict=True)]
        check = {"path": "/v1/models", "interval": "200ms"}
        Editor(stage).add("second", addresses=addresses, health_check=check)
        await answers(stage, session, "second")
        both = {(await ask(stage, session, "second"))[1] for _ in range(20)}
        await ends.aclose()
        await asyncio.sleep(1)
        one = {await ask(stage, session, "second") for _ in range(20)}

        assert both == {"up-0", "up-1"}
        assert one == {(200, "up-1")}


@pytest.mark.parametrize("source", SOURCES)
async def test_a_cluster_that_came_later_falls_back_and_is_fallen_back_to(source: str, tmp_path: Path):
    async with AsyncExitStack() as stack:
        stage = await stack.enter_async_context(running_stage(document(source), tmp_path))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        second = await stack.enter_async_context(running_upstream(Upstream("second")))
        editor = Editor(stage)
        editor.content["models"][0]["fallbacks"] = ["second"]
        editor.add("second", address=second.address)
        await answers(stage, session, "second")
        await stage.upstreams["first"].go_down()
        stage.upstreams["first"].behaviour.error_rate = 1.0
        served = {await ask(stage, session, "first") for _ in range(4)}

        assert served == {(200, "second")}
        assert {each.json["model"] for each in second.requests} == {"second"}
