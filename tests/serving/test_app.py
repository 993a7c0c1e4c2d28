import asyncio
from pathlib import Path

import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from wissel.demo.parts import free_port
from wissel.extproc.session import PROCESSOR
from wissel.serving.app import LAME_DUCK_SECONDS, running_app

SERVING, NOT_SERVING = (health_pb2.HealthCheckResponse.ServingStatus.Value(name) for name in ("SERVING", "NOT_SERVING"))


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "wissel.yaml"
    listen = f"listen: {{ext_proc: 'unix:{tmp_path}/w.sock', admin: '127.0.0.1:{free_port()}'}}"
    path.write_text(f"models: [{{name: small, cluster: a}}]\n{listen}\n")
    return path


@pytest.mark.slow
async def test_streams_are_still_taken_while_envoy_learns_that_no_more_should_come(config: Path, tmp_path: Path):
    leave = asyncio.Event()
    started: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def serve() -> None:
        async with running_app(config, data=tmp_path, grace=10.0) as app:
            started.set_result(app.ext_proc)
            await leave.wait()

    serving = asyncio.create_task(serve())
    async with grpc.aio.insecure_channel(await started) as channel:
        asked = health_pb2.HealthCheckRequest(service=PROCESSOR)
        health = health_pb2_grpc.HealthStub(channel)
        before = (await health.Check(asked)).status
        leave.set()
        await asyncio.sleep(LAME_DUCK_SECONDS / 2)
        during = (await health.Check(asked)).status
    await serving

    assert (before, during) == (SERVING, NOT_SERVING)


async def test_a_process_that_nobody_is_connected_to_leaves_at_once(config: Path, tmp_path: Path):
    async with asyncio.timeout(10):
        async with running_app(config, data=tmp_path, grace=100.0):
            began = asyncio.get_running_loop().time()
        took = asyncio.get_running_loop().time() - began

    assert took < LAME_DUCK_SECONDS
