"""Several workers behind a real Envoy: they share the load, one may die, and all leave in good order."""

import asyncio
import os
import signal
import ssl
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
import yaml
from cryptography import x509
from prometheus_client.parser import text_string_to_metric_families

from authority import Authority
from real import needs_envoy, needs_redis, until
from wissel.admin.front import session
from wissel.admin.pages import Pages
from wissel.config import load, parse, worker_address
from wissel.demo.parts import EnvoyProcess, free_port, running_envoy
from wissel.demo.upstream import Upstream, running_upstream
from wissel.envoy import plan
from wissel.errors import ConfigError
from wissel.runtime.child import running
from wissel.serving.supervisor import WorkerPlace, _check_addresses, _Supervisor, wait_before_start

WORKERS = 2


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def words_of(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/cmdline").read_text().split("\0")


def is_gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


@dataclass
class Fleet:
    envoy: EnvoyProcess
    upstream: Upstream
    admin: str
    supervisor: asyncio.subprocess.Process
    log: Path
    client: aiohttp.ClientSession

    @property
    def workers(self) -> dict[int, int]:
        """The process of each worker that runs."""
        found: dict[int, int] = {}
        for child in children_of(self.supervisor.pid):
            words = words_of(child)
            if "--worker" in words:
                found[int(words[words.index("--worker") + 1])] = child
        return found

    async def ask(self) -> int:
        body = {"model": "small", "messages": [{"role": "user", "content": "hi"}]}
        async with self.client.post(f"{self.envoy.url}/v1/chat/completions", json=body) as response:
            await response.read()
            return response.status

    async def readiness(self) -> Any:
        async with self.client.get(f"{self.admin}/readyz") as response:
            return await response.json()

    async def decided(self) -> float:
        """Over all workers, as the metrics page tells it."""
        async with self.client.get(f"{self.admin}/metrics") as response:
            page = await response.text()
        families = {each.name: each for each in text_string_to_metric_families(page)}
        return sum(sample.value for sample in families["wissel_decisions"].samples)

    async def until_all_ready(self) -> None:
        statuses: list[str] = []
        while statuses != ["ready"] * WORKERS:
            await asyncio.sleep(0.05)
            statuses = [each["status"] for each in (await self.readiness())["workers"]]


@asynccontextmanager
async def running_fleet(home: Path) -> AsyncGenerator[Fleet]:
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(aiohttp.ClientSession())
        upstream = await stack.enter_async_context(running_upstream(Upstream("a")))
        admin, listen, envoy_admin = (f"127.0.0.1:{free_port()}" for _ in range(3))
        document = {
            "models": [{"name": "small", "cluster": "a"}],
            "listen": {"ext_proc": f"unix:{home}/w.sock", "admin": admin},
            "envoy": {
                "listen": listen,
                "admin": envoy_admin,
                "clusters": [{"name": "a", "address": upstream.address}],
            },
        }
        path = home / "wissel.yaml"
        path.write_text(yaml.safe_dump(document))
        words = ["serve", "--config", str(path), "--workers", str(WORKERS), "--grace", "10"]
        command = [sys.executable, "-m", "wissel", *words]

        async def are_ready() -> bool:
            # All of them before Envoy comes, whose first health check would else find one away, and leave it out.
            try:
                async with client.get(f"http://{admin}/readyz") as response:
                    return [each["status"] for each in (await response.json())["workers"]] == ["ready"] * WORKERS
            except aiohttp.ClientError:
                return False

        log = home / "wissel.log"
        supervisor = await stack.enter_async_context(
            running(command, log=log, ready=are_ready, deadline=60.0, grace=20.0)
        )
        envoy = await stack.enter_async_context(running_envoy(plan(load(path), workers=WORKERS), home, concurrency=1))
        yield Fleet(envoy, upstream, f"http://{admin}", supervisor, log, client)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def fleet(tmp_path_factory) -> AsyncGenerator[Fleet]:
    async with running_fleet(tmp_path_factory.mktemp("fleet")) as running:
        yield running


@pytest.mark.slow
@needs_envoy
@pytest.mark.asyncio(loop_scope="module")
class TestWorkers:
    async def test_they_share_the_requests_and_the_metrics_page_has_them_all(self, fleet: Fleet):
        statuses = [await fleet.ask() for _ in range(40)]
        shares = [(await _own_decisions(fleet, index)) for index in range(WORKERS)]

        assert statuses == [200] * 40
        assert (sum(shares), await fleet.decided()) == (40, 40)
        assert min(shares) > 0

    async def test_what_concerns_one_decision_is_passed_on_to_one_of_them(self, fleet: Fleet):
        body = {"model": "small", "messages": []}
        async with fleet.client.post(f"{fleet.admin}/v1/route", json=body) as response:
            told = await response.json()
        async with fleet.client.get(f"{fleet.admin}/no/such/path") as response:
            missing = response.status

        assert (told["model"], told["cluster"], missing) == ("small", "a", 404)

    async def test_a_page_of_another_origin_is_refused_before_any_worker_hears_of_it(self, fleet: Fleet):
        async with fleet.client.post(f"{fleet.admin}/v1/route", headers={"origin": "http://evil.test"}) as response:
            told = await response.json()

        assert (response.status, told["error"]["code"]) == (403, "foreign_origin")

    async def test_with_one_killed_requests_go_on_and_it_comes_back(self, fleet: Fleet):
        before, victim = await fleet.decided(), fleet.workers[0]
        os.kill(victim, signal.SIGKILL)
        statuses = [await fleet.ask() for _ in range(30)]
        after = await fleet.decided()
        await fleet.until_all_ready()

        assert statuses == [200] * 30
        assert after == before + 30
        assert fleet.workers[0] != victim
        assert [each["restarts"] for each in (await fleet.readiness())["workers"]] == [1, 0]

    async def test_a_worker_that_came_back_is_sent_requests_again(self, fleet: Fleet):
        took: list[float] = []
        while not took or took[-1] == 0:
            assert await fleet.ask() == 200
            took.append(await _own_decisions(fleet, 0))
            await asyncio.sleep(0.05)

        assert took[-1] > 0


async def _own_decisions(fleet: Fleet, index: int) -> float:
    """What one worker has decided, read from its own page."""
    words = words_of(fleet.workers[index])
    async with session(Path(words[words.index("--admin-socket") + 1])) as admin, admin.get("/metrics") as response:
        families = text_string_to_metric_families(await response.text())
        return sum(sample.value for each in families if each.name == "wissel_decisions" for sample in each.samples)


@pytest.mark.slow
@needs_envoy
async def test_a_slow_request_is_finished_before_they_leave(tmp_path: Path):
    async with running_fleet(tmp_path) as fleet:
        fleet.upstream.behaviour.latency = 1.5
        slow = asyncio.create_task(fleet.ask())
        await until(lambda: fleet.upstream.served)
        workers = list(fleet.workers.values())
        fleet.supervisor.send_signal(signal.SIGTERM)
        await fleet.supervisor.wait()

    assert (await slow, fleet.supervisor.returncode) == (200, 0), fleet.log.read_text()
    assert [pid for pid in workers if not is_gone(pid)] == []
    assert not any((tmp_path / name).exists() for name in ("w.sock", "w.sock.1"))


@pytest.mark.slow
@needs_envoy
async def test_they_do_not_outlive_a_supervisor_that_was_killed(tmp_path: Path):
    async with running_fleet(tmp_path) as fleet:
        workers = list(fleet.workers.values())
        fleet.supervisor.kill()
        await until(lambda: all(is_gone(pid) for pid in workers))

    assert len(workers) == WORKERS


@pytest.mark.slow
async def test_a_token_and_a_certificate_are_rotated_at_the_supervisors_listener(tmp_path: Path):
    path, token = tmp_path / "wissel.yaml", tmp_path / "token"
    old, new = Authority(tmp_path, "old"), Authority(tmp_path, "new")
    loopback = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    pair = Path(old.issued("pair", x509.Name([]), loopback))
    token.write_text("before")
    ends = f"listen: {{ext_proc: 'unix:{tmp_path}/w.sock', admin: '127.0.0.1:{free_port()}'}}"
    admin = f"admin: {{token: {{file: {token}}}, tls: {{cert: {pair}, key: {pair}}}}}"
    path.write_text(f"models: [{{name: m, cluster: c}}]\n{ends}\n{admin}\n")

    async def status(authority: Authority, shown: str) -> int | None:
        connector = aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile=authority.file))
        url, headers = f"https://{load(path).listen.admin}/v1/config", {"authorization": f"Bearer {shown}"}
        try:
            async with aiohttp.ClientSession(connector=connector) as client, client.get(url, headers=headers) as answer:
                return answer.status
        except aiohttp.ClientError:
            return None

    async def serves() -> bool:
        return await status(old, "before") == 200

    async def is_rotated() -> bool:
        return await status(new, "after") == 200

    words = ["serve", "--config", str(path), "--workers", "2", "--grace", "1"]
    command = [sys.executable, "-m", "wissel", *words]
    async with running(command, log=tmp_path / "wissel.log", ready=serves, deadline=60.0, grace=20.0):
        token.write_text("after")
        new.issued("pair", x509.Name([]), loopback)
        async with asyncio.timeout(10):
            while not await is_rotated():  # noqa: ASYNC110  # another process has no event to wait for
                await asyncio.sleep(0.05)

        assert (await status(new, "before"), await status(old, "after")) == (401, None)


def serve(path: Path, *more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "wissel", "serve", "-c", str(path), "--workers", "2", *more]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=environment)


@pytest.mark.slow
def test_a_worker_that_cannot_listen_is_told_at_the_start(tmp_path: Path):
    path = tmp_path / "wissel.yaml"
    (tmp_path / "w.sock.1").write_text("this is no socket")
    listen = f"listen: {{ext_proc: 'unix:{tmp_path}/w.sock', admin: '127.0.0.1:{free_port()}'}}"
    path.write_text(f"models: [{{name: m, cluster: c}}]\n{listen}\n")
    done = serve(path)

    assert done.returncode == 2, done.stderr
    assert f"{tmp_path}/w.sock.1" in done.stderr
    assert "worker 1 ended with 2 before it was ready" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
@needs_redis
async def test_they_share_the_supervisors_redis(tmp_path: Path):
    path, admin = tmp_path / "wissel.yaml", f"127.0.0.1:{free_port()}"
    listen = f"listen: {{ext_proc: 'unix:{tmp_path}/w.sock', admin: '{admin}'}}"
    path.write_text(f"models: [{{name: m, cluster: c}}]\nredis: embedded\n{listen}\n")
    command = [sys.executable, "-m", "wissel", "serve", "-c", str(path), "--workers", "2", "--data", str(tmp_path)]
    async with aiohttp.ClientSession() as client:

        async def all_ready() -> bool:
            try:
                async with client.get(f"http://{admin}/readyz") as response:
                    return [each["status"] for each in (await response.json())["workers"]] == ["ready", "ready"]
            except aiohttp.ClientError:
                return False

        # A worker that began a redis-server of its own would find the directory taken, and end.
        async with running(command, log=tmp_path / "log", ready=all_ready, deadline=60.0) as supervisor:
            commands = [words_of(child) for child in children_of(supervisor.pid)]

    urls = [words[words.index("--redis") + 1] for words in commands if "--worker" in words]
    assert sum("redis-server" in words[0] for words in commands) == 1
    assert (len(urls), len(set(urls)), urls[0][:7]) == (2, 1, "unix://")


@pytest.mark.slow
async def test_a_crash_loop_is_told_and_slows_down(tmp_path: Path):
    stopping = asyncio.Event()
    async with session(tmp_path / "none.sock") as admin:
        worker = WorkerPlace(0, [sys.executable, "-ISc", "raise SystemExit(3)"], admin)
        supervising = asyncio.create_task(_Supervisor([worker], Pages(), stopping, 1.0).run())
        await until(lambda: worker.early_ends == 3)
        told = worker.problem
        stopping.set()
        await supervising

    assert told == "it ended with 3, 3 times in a row, and starts again after 0.4 s"


@pytest.mark.parametrize(("early_ends", "seconds"), [(0, 0.1), (1, 0.1), (2, 0.2), (4, 0.8), (12, 30), (5000, 30)])
def test_a_worker_that_ends_early_again_and_again_waits_longer_up_to_a_limit(early_ends: int, seconds: float):
    assert wait_before_start(early_ends) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("first", "third"),
    [("127.0.0.1:50051", "127.0.0.1:50053"), ("[::1]:7", "[::1]:9"), ("unix:/run/w.sock", "unix:/run/w.sock.2")],
)
def test_each_worker_has_an_address_of_its_own(first: str, third: str):
    assert [worker_address(first, 0), worker_address(first, 2)] == [first, third]


def test_envoy_knows_every_worker_of_every_processor():
    config = parse("models: [{name: m, cluster: c}]\nenvoy: {processors: ['10.0.0.1:7', '10.0.0.2:7'], "
                   "clusters: [{name: c, address: '10.0.0.3:80'}]}")  # fmt: skip

    assert plan(config, workers=2).processors == ("10.0.0.1:7", "10.0.0.1:8", "10.0.0.2:7", "10.0.0.2:8")


@pytest.mark.parametrize(
    ("ext_proc", "admin", "complaint"),
    [
        ("127.0.0.1:0", "127.0.0.1:8081", "listen.ext_proc: 3 workers need ports"),
        ("127.0.0.1:65534", "127.0.0.1:8081", "listen.ext_proc: 3 workers need ports"),
        ("127.0.0.1:8080", "127.0.0.1:8082", "listen.admin: 3 workers need the ports 8080 to 8082"),
    ],
)
def test_ports_that_do_not_suffice_are_told(ext_proc: str, admin: str, complaint: str):
    config = parse(f"models: [{{name: m, cluster: c}}]\nlisten: {{ext_proc: '{ext_proc}', admin: '{admin}'}}")

    with pytest.raises(ConfigError, match=complaint):
        _check_addresses(config, 3)


@pytest.mark.slow
def test_the_supervisor_imports_nothing_heavy():
    heavy = "('torch', 'onnxruntime', 'tokenizers', 'numpy', 'h2', 'opentelemetry.sdk', 'google.protobuf')"
    code = f"import sys, wissel.serving.supervisor; print([name for name in {heavy} if name in sys.modules])"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)

    assert done.stdout == "[]\n"
