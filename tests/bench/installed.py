"""Envoys side by side for a benchmark: each with a processor or none, before one upstream, and their callers."""

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from statistics import median
from typing import Any, Final

import yaml
from tests.bench.process import cpu_seconds

from wissel.config import parse
from wissel.demo.parts import envoy_binary, free_port
from wissel.envoy import EnvoyPlan, plan
from wissel.runtime.child import running

SECRET: Final = "wsl-bench-caller"  # of a bench on loopback
TYPES: Final = "type.googleapis.com/envoy.extensions"

ANSWER: Final = '{"id": "x", "object": "chat.completion", "model": "m", "choices": [], "usage": {"prompt_tokens": 9}}'
EVENTS: Final = (
    "".join(
        f'data: {{"id": "x", "choices": [{{"index": 0, "delta": {{"content": "word{at} "}}}}]}}\n\n' for at in range(20)
    )
    + 'data: {"id": "x", "choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 20}}\n\ndata: [DONE]\n\n'
)


@dataclass(frozen=True, slots=True)
class Side:
    """One installation under load."""

    name: str
    address: str
    """Of its Envoy."""
    process_id: int | None
    """Of its processor."""


class Ground:
    """What is started on it ends with it."""

    def __init__(self, stack: AsyncExitStack, home: Path) -> None:
        self._stack = stack
        self.home = home

    async def start(self, name: str, command: list[str], address: str) -> int:
        """The id of the process, once somebody listens at the address."""
        process = running(command, log=self.home / f"{name}.log", ready=lambda: _listens(address), deadline=120)
        return (await self._stack.enter_async_context(process)).pid

    async def envoy(self, name: str, fields: dict[str, Any], address: str) -> None:
        """With one thread."""
        path = self.home / f"{name}.yaml"
        path.write_text(yaml.safe_dump(fields))
        options = ["--disable-hot-restart", "--concurrency", "1", "--log-level", "error"]
        await self.start(name, [envoy_binary(), "-c", str(path), *options], address)

    async def processor(self, name: str, module: str, document: dict[str, Any]) -> int:
        """The id of a process that serves a configuration, by `python -m module`, once its admin listener answers."""
        path = self.home / f"{name}-wissel.yaml"
        path.write_text(yaml.safe_dump(document))
        command = [sys.executable, "-m", module, "serve", "-c", str(path), "--data", str(self.home / name)]
        return await self.start(f"{name}-serve", command, document["listen"]["admin"])


def installation(upstream: str, **sections: Any) -> dict[str, Any]:
    """A configuration with one caller, who may do everything, and one cluster, `up`."""
    return {
        "listen": {"ext_proc": f"127.0.0.1:{free_port()}", "admin": f"127.0.0.1:{free_port()}"},
        "entrypoints": ["auto"],
        "access": {
            "keys": [{"id": "caller", "sha256": sha256(SECRET.encode()).hexdigest(), "groups": ["all"]}],
            "rules": [{"id": "all", "effect": "permit", "groups": ["all"]}],
        },
        "envoy": {
            "listen": f"127.0.0.1:{free_port()}",
            "admin": f"127.0.0.1:{free_port()}",
            "clusters": [{"name": "up", "address": upstream}],
        },
        **sections,
    }


def planned_for(document: Mapping[str, Any]) -> EnvoyPlan:
    """The Envoy of an installation."""
    return plan(parse(json.dumps(document)))


@asynccontextmanager
async def ground() -> AsyncGenerator[Ground]:
    async with AsyncExitStack() as stack:
        yield Ground(stack, Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="wissel-bench-"))))


async def load(side: Side, bodies: Iterator[bytes], requests: int, concurrency: int) -> tuple[float, float]:
    """(median milliseconds of a request, µs of the processor's CPU for one)."""
    before = _cpu(side)
    times: list[float] = []
    left = iter(range(requests))

    async def caller() -> None:
        host, _, port = side.address.partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {SECRET}\r\n"
            "content-type: application/json\r\nx-session-id: s\r\ncontent-length: "
        ).encode()
        for _ in left:
            body = next(bodies)
            began = time.perf_counter()
            writer.write(head + str(len(body)).encode() + b"\r\n\r\n" + body)
            await _answer(reader)
            times.append(time.perf_counter() - began)
        writer.close()

    await asyncio.gather(*(caller() for _ in range(concurrency)))
    return median(times) * 1000, (_cpu(side) - before) / requests * 1e6


def _cpu(side: Side) -> float:
    return 0.0 if side.process_id is None else cpu_seconds(side.process_id)


async def _answer(reader: asyncio.StreamReader) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(f"the bench got {head.decode()}")
    lower = head.lower()
    if b"transfer-encoding: chunked" in lower:
        while (size := int((await reader.readline()).split(b";")[0], 16)) > 0:
            await reader.readexactly(size + 2)
        await reader.readline()
        return
    length = int(lower.split(b"content-length:")[1].split(b"\r\n")[0])
    await reader.readexactly(length)


async def _listens(address: str) -> bool:
    host, _, port = address.partition(":")
    try:
        _, writer = await asyncio.open_connection(host, int(port))
    except OSError:
        return False
    writer.close()
    return True


def upstreams(plain: str, stream: str) -> dict[str, Any]:
    """An Envoy that answers by itself: nothing on this machine is faster."""

    def listener(name: str, address: str, body: str, content_type: str) -> dict[str, Any]:
        host, _, port = address.partition(":")
        manager = {
            "@type": f"{TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": name,
            "route_config": {
                "virtual_hosts": [
                    {
                        "name": name,
                        "domains": ["*"],
                        "routes": [
                            {
                                "match": {"prefix": "/"},
                                "direct_response": {"status": 200, "body": {"inline_string": body}},
                                "response_headers_to_add": [
                                    {
                                        "header": {"key": "content-type", "value": content_type},
                                        "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
                                    }
                                ],
                            }
                        ],
                    }
                ]
            },
            "http_filters": [
                {
                    "name": "envoy.filters.http.router",
                    "typed_config": {"@type": f"{TYPES}.filters.http.router.v3.Router"},
                }
            ],
        }
        return {
            "name": name,
            "address": {"socket_address": {"address": host, "port_value": int(port)}},
            "filter_chains": [
                {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
            ],
        }

    listeners = [
        listener("plain", plain, ANSWER, "text/plain"),
        listener("stream", stream, EVENTS, "text/event-stream"),
    ]
    return {"static_resources": {"listeners": listeners}}
