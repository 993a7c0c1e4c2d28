"""A publisher and an Envoy that is asked, or asks: played by a small server where no real one would say such things."""

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from real import until
from wissel.config import Config, parse
from wissel.config.model import Discovery
from wissel.demo.parts import free_port
from wissel.errors import ConfigError
from wissel.runtime.background import beside
from wissel.serving.publishing import Publisher


def config(*names: str, port: int = 1) -> Config:
    models = "".join(f"{{name: {name}, cluster: {name}}}, " for name in names)
    clusters = "".join(f'{{name: {name}, address: "127.0.0.1:{port}"}}, ' for name in names)
    return parse(f"models: [{models}]\nenvoy: {{discovery: {{file: /x.json}}, clusters: [{clusters}]}}")


def publisher(home: Path, admin: str = "", *, writes: bool = True, **options: Any) -> Publisher:
    given: dict[str, Any] = {"file": str(home / "clusters.json"), "delay": "100ms", "grace": "200ms", **options}
    if "rest" in given:
        del given["file"]
    return Publisher(Discovery(**given), admin or f"127.0.0.1:{free_port()}", writes=writes)


def in_file(home: Path) -> set[str]:
    return {each["name"] for each in json.loads((home / "clusters.json").read_text())["resources"]}


@dataclass
class Envoy:
    """Says of its clusters what it is told to say, and takes what is in the file unless it is told otherwise."""

    home: Path
    takes: bool = True
    refused: int = 0
    warming: set[str] = field(default_factory=set[str])

    def told(self) -> Mapping[str, Any]:
        return json.loads((self.home / "clusters.json").read_text()) if self.takes else {"version_info": "old"}

    async def stats(self, _: web.Request) -> web.Response:
        found = {"version_text": self.told()["version_info"], "update_rejected": self.refused}
        named = [{"name": f"cluster_manager.cds.{name}", "value": value} for name, value in found.items()]
        return web.json_response({"stats": named})

    async def clusters(self, _: web.Request) -> web.Response:
        named = {each["name"] for each in self.told().get("resources", [])} - self.warming
        return web.json_response({"cluster_statuses": [{"name": each} for each in named]})


@asynccontextmanager
async def admin_of(envoy: Envoy) -> AsyncGenerator[str]:
    app = web.Application()
    app.router.add_get("/stats", envoy.stats)
    app.router.add_get("/clusters", envoy.clusters)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def test_what_an_earlier_process_had_published_stays_for_the_grace_time(tmp_path: Path):
    await publisher(tmp_path).begin(config("a", "b"))
    second = publisher(tmp_path)
    await second.begin(config("b", "c"))
    at_first = in_file(tmp_path)
    async with beside(second.run()):
        await until(lambda: in_file(tmp_path) == {"b", "c"})

    assert at_first == {"a", "b", "c"}


async def test_a_cluster_stays_until_the_router_in_use_does_not_name_it(tmp_path: Path):
    found = publisher(tmp_path)
    await found.begin(config("a", "b"))
    await found.add(config("a"))
    async with beside(found.run()):
        await asyncio.sleep(0.5)
        before = in_file(tmp_path)
        found.named()
        await until(lambda: in_file(tmp_path) == {"a"})

    assert before == {"a", "b"}


async def test_attempts_that_are_under_way_are_waited_for_by_default(tmp_path: Path):
    waiting, over = publisher(tmp_path / "a", grace=None), publisher(tmp_path / "b", grace="0s")
    for found, home in ((waiting, "a"), (over, "b")):
        (tmp_path / home).mkdir()
        await found.begin(config("a", "b"))
        await found.add(config("a"))
        found.named()
        async with beside(found.run()):
            await asyncio.sleep(0.3)

    assert (in_file(tmp_path / "a"), in_file(tmp_path / "b")) == ({"a", "b"}, {"a"})


async def test_a_file_that_somebody_took_is_put_back(tmp_path: Path):
    found = publisher(tmp_path)
    await found.begin(config("a"))
    (tmp_path / "clusters.json").unlink()
    async with beside(found.run()):
        await until((tmp_path / "clusters.json").exists)

    assert in_file(tmp_path) == {"a"}


async def test_where_nobody_can_be_asked_a_written_time_passes(tmp_path: Path):
    found = publisher(tmp_path)
    await found.begin(config("a"))
    began = asyncio.get_running_loop().time()
    await found.add(config("a", "b"))

    assert 0.1 <= asyncio.get_running_loop().time() - began < 2


async def test_a_cluster_that_is_still_warming_is_waited_for(tmp_path: Path):
    envoy = Envoy(tmp_path, warming={"b"})
    async with admin_of(envoy) as admin:
        found = publisher(tmp_path, admin)
        await found.begin(config("a"))
        adding = asyncio.create_task(found.add(config("a", "b")))
        await asyncio.sleep(0.3)
        waits = not adding.done()
        envoy.warming.clear()
        await adding

    assert waits


async def test_what_is_refused_is_taken_back(tmp_path: Path):
    envoy = Envoy(tmp_path)
    async with admin_of(envoy) as admin:
        found = publisher(tmp_path, admin)
        await found.begin(config("a"))
        before = found.publication
        envoy.takes = False
        adding = asyncio.create_task(found.add(config("a", "b")))
        await asyncio.sleep(0.1)
        envoy.refused += 1
        with pytest.raises(ConfigError, match="clusters: b: Envoy refuses"):
            await adding

    assert (found.publication, in_file(tmp_path)) == (before, {"a"})


async def test_an_envoy_that_does_not_look_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("wissel.serving.publishing.PATIENCE_SECONDS", 0.2)
    async with admin_of(Envoy(tmp_path, takes=False)) as admin:
        problem = await publisher(tmp_path, admin).begin(config("a"))

    assert problem is not None
    assert "has not taken" in problem


async def test_a_file_that_cannot_be_written_is_named(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"envoy\.discovery\.file: cannot write .*: no such file"):
        await publisher(tmp_path / "nowhere").begin(config("a"))


async def test_of_several_workers_one_writes(tmp_path: Path):
    await publisher(tmp_path, writes=False).begin(config("a"))

    assert not (tmp_path / "clusters.json").exists()


async def test_the_same_clusters_are_not_published_again(tmp_path: Path):
    found = publisher(tmp_path)
    await found.begin(config("a"))
    (tmp_path / "clusters.json").unlink()
    await found.add(config("a"))

    assert not (tmp_path / "clusters.json").exists()


class TestAnEnvoyThatAsks:
    async def test_it_is_given_what_it_has_not_got(self, tmp_path: Path):
        found = publisher(tmp_path, rest="w:1")
        await found.begin(config("a"))
        version = found.publication.version

        assert (found.polled("e", ""), found.polled("e", version)) == (True, False)

    async def test_its_next_question_says_that_it_has_it(self, tmp_path: Path):
        found = publisher(tmp_path, rest="w:1", delay="30s")
        found.polled("e", "")
        beginning = asyncio.create_task(found.begin(config("a")))
        await asyncio.sleep(0.1)
        waits = not beginning.done()
        found.polled("e", found.publication.version)

        assert (waits, await asyncio.wait_for(beginning, 2)) == (True, None)

    async def test_every_one_of_several_has_to_have_it(self, tmp_path: Path):
        found = publisher(tmp_path, rest="w:1", delay="30s")
        for each in ("e", "f"):
            found.polled(each, "")
        beginning = asyncio.create_task(found.begin(config("a")))
        await asyncio.sleep(0.05)
        found.polled("e", found.publication.version)
        await asyncio.sleep(0.1)
        waits = not beginning.done()
        found.polled("f", found.publication.version)

        assert (waits, await asyncio.wait_for(beginning, 2)) == (True, None)

    async def test_one_that_is_given_it_again_and_again_has_refused_it(self, tmp_path: Path):
        found = publisher(tmp_path, rest="w:1", delay="30s")
        found.polled("e", "")
        await asyncio.sleep(0)
        beginning = asyncio.create_task(found.begin(config("a")))
        await asyncio.sleep(0.05)
        for _ in range(3):
            found.polled("e", "")

        assert "Envoy refuses" in (await asyncio.wait_for(beginning, 2) or "")
