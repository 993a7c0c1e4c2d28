"""Three replicas of wissel on one Redis, behind a real Envoy: what one of them meets, all of them know."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

import aiohttp
import pytest
import yaml

from browser import Page, browsing, contrasts, needs_chromium
from real import needs_envoy, needs_redis
from redis_server import RedisServer
from wissel.config import load
from wissel.demo.parts import EnvoyProcess, envoy_binary, free_port
from wissel.demo.stage import is_ready
from wissel.demo.upstream import Behaviour, Upstream, running_upstream
from wissel.envoy import PROCESSOR_CLUSTER, bootstrap, plan
from wissel.runtime.child import running

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120), needs_redis, needs_envoy]

ATTEMPTS = "attempts"
"""The cluster of the replica that serves what comes after a first attempt."""


@dataclass(frozen=True)
class Replicas:
    """One decides, another writes the attempts, and a third has nothing to do."""

    envoy: EnvoyProcess
    admins: tuple[str, str, str]
    failing: Upstream
    second: Upstream
    session: aiohttp.ClientSession

    async def ask(self) -> tuple[int, str, str]:
        body = {"model": "failing", "messages": [{"role": "user", "content": "hello"}]}
        async with self.session.post(f"{self.envoy.url}/v1/chat/completions", json=body) as answer:
            await answer.read()
            told = answer.headers
            return answer.status, told.get("x-wissel-model", ""), told.get("x-wissel-attempts", "")

    async def resting(self, admin: str) -> Any:
        async with self.session.get(f"{admin}/readyz") as answer:
            return {model: rest["why"] for model, rest in (await answer.json()).get("resting", {}).items()}

    async def all_know(self) -> None:
        async with asyncio.timeout(30):
            while not all([await self.resting(admin) for admin in self.admins]):  # noqa: ASYNC110  # nobody announces it
                await asyncio.sleep(0.02)


def parted(fields: Any, other: str) -> Any:
    """The bootstrap with another replica, at `other`, behind the attempts than behind the decisions."""
    parted = deepcopy(fields)
    clusters = parted["static_resources"]["clusters"]
    second = deepcopy(next(each for each in clusters if each["name"] == PROCESSOR_CLUSTER))
    host, _, port = other.rpartition(":")
    (endpoint,) = second["load_assignment"]["endpoints"][0]["lb_endpoints"]
    endpoint["endpoint"]["address"] = {"socket_address": {"address": host, "port_value": int(port)}}
    second["name"] = second["load_assignment"]["cluster_name"] = ATTEMPTS
    for cluster in clusters:
        options = cluster.get("typed_extension_protocol_options", {})
        for each in next(iter(options.values()), {}).get("http_filters", []):
            if each["name"] == "wissel.attempt":
                stage = each["typed_config"]["extension_config"]["typed_config"]
                stage["grpc_service"]["envoy_grpc"]["cluster_name"] = ATTEMPTS
    clusters.append(second)
    return parted


@asynccontextmanager
async def running_replicas(home: Path, redis: str) -> AsyncIterator[Replicas]:
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(aiohttp.ClientSession())
        failing, second = Upstream("failing", behaviour=Behaviour(error_rate=1.0, error_status=503)), Upstream("second")
        for server in (failing, second):
            await stack.enter_async_context(running_upstream(server))
        listens = [{name: f"127.0.0.1:{free_port()}" for name in ("ext_proc", "admin")} for _ in range(3)]
        document = {
            "redis": redis,
            "models": [
                {"name": "failing", "cluster": "failing", "fallbacks": ["second"]},
                {"name": "second", "cluster": "second", "upstream_model": "second-1"},
            ],
            "health": {"failures": 3, "window": "60s", "cooldown": "60s"},
            "envoy": {
                "listen": f"127.0.0.1:{free_port()}",
                "admin": f"127.0.0.1:{free_port()}",
                "clusters": [{"name": each.name, "address": each.address} for each in (failing, second)],
            },
        }

        async def serve(number: int) -> None:
            path = home / f"wissel-{number}.yaml"
            path.write_text(yaml.safe_dump({**document, "listen": listens[number]}))
            command = [
                sys.executable,
                "-m",
                "wissel",
                "serve",
                "--config",
                str(path),
                "--data",
                str(home / f"{number}"),
            ]
            readyz = f"http://{listens[number]['admin']}/readyz"
            serving = running(
                command, log=path.with_suffix(".log"), ready=lambda: is_ready(session, readyz), deadline=60
            )
            await stack.enter_async_context(serving)

        await asyncio.gather(*(serve(number) for number in range(3)))
        planned = plan(load(home / "wissel-0.yaml"))
        written = home / "envoy.yaml"
        written.write_text(yaml.safe_dump(parted(bootstrap(planned), listens[1]["ext_proc"])))
        envoy = EnvoyProcess(planned, home / "envoy.log", home / "access.jsonl")
        command = [envoy_binary(), "-c", str(written), "--disable-hot-restart", "--concurrency", "1"]
        ready = f"http://{planned.admin}/ready"
        await stack.enter_async_context(
            running(command, log=envoy.log, output=envoy.access_log, ready=lambda: is_ready(session, ready))
        )
        first, other, idle = (f"http://{each['admin']}" for each in listens)
        yield Replicas(envoy, (first, other, idle), failing, second, session)


@needs_chromium
async def test_attempts_are_written_by_another_replica_and_a_rest_is_known_to_all_and_seen(
    server: RedisServer, tmp_path: Path
):
    def look(idle: str, first: str) -> list[str]:
        with browsing(tmp_path) as driver:
            page = Page(driver, f"{idle}/")
            page.see("#resting-panel", "failing", "kept failing")
            page.type("#ask-model", "\b" * 20 + "failing")
            page.type("#ask-text", "hello")
            page.press("#ask [type=submit]")
            page.see("#answer", "to second", "failing (is cooling down")
            tried = Page(driver, f"{first}/").see("#attempts-panel", "second").text.splitlines()
            assert page.problems() == []
            assert [each for each in contrasts(driver) if each[0] < 4.5] == []
            return tried[-2:]

    async with running_replicas(tmp_path, server.url) as replicas:
        before = [await replicas.ask() for _ in range(3)]
        met = monotonic()
        await replicas.all_know()
        knew_after = monotonic() - met
        resting = [await replicas.resting(admin) for admin in replicas.admins]
        after = await replicas.ask()
        streams = await replicas.envoy.stats(f"cluster.{ATTEMPTS}.upstream_rq_total")
        first, _, idle = replicas.admins
        tried = await asyncio.to_thread(look, idle, first)

    assert before == [(200, "second", "2")] * 3
    assert streams == {f"cluster.{ATTEMPTS}.upstream_rq_total": 3}
    assert {each.json["model"] for each in replicas.second.requests} == {"second-1"}
    assert knew_after < 2.0
    assert resting == [{"failing": "failing"}] * 3
    assert (after[:2], replicas.failing.served) == ((200, "second"), 3)
    assert tried == ["failing failing 0 3 1", "failing second 4 0 0"]
