"""Models that fail in every way, behind a real Envoy, and what then reached whom.

    python -m tests.bench.failover --duration 60

Sixteen callers send bodies of 0.1 KB to 2 MB and one of 31 MiB, streams and
whole answers; of the first model's attempts 60 % fail, of the second's 20 %: a
status, a reset, a silence, and inside a 200 a silence, an error and a refusal.
Every half second the clusters change. Each server checks that what it is sent is its
own: the model's name, the credential, the path, and every byte of the rest.
Exit 1 unless all of it was, every request was answered by its last candidate,
and Envoy is alive.
"""

import argparse
import asyncio
import json
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import aiohttp
import yaml
from aiohttp import web

from wissel.config import load
from wissel.demo.parts import EnvoyProcess, free_port, running_envoy
from wissel.envoy import plan
from wissel.runtime.background import beside
from wissel.serving.app import running_app

CALLERS: Final = 16
FAILING: Final = {"a": 0.6, "b": 0.2, "c": 0.0}
WAYS: Final = ("500", "503", "429", "529", "reset", "silent", "mute", "error", "refusal", "ended")
EDIT_SECONDS: Final = 0.5
"""Between two changes of the clusters."""
SIZES: Final = (100, 1_000, 30_000, 300_000, 2_000_000)
LARGEST: Final = 31 << 20
FIRST_TOKEN: Final = 4.0
"""Seconds; a busy machine takes a while to bring 2 MB to a server."""


@dataclass(slots=True)
class Found:
    """What the servers and the callers saw."""

    attempts: Counter[str] = field(default_factory=Counter[str])
    edits: int = 0
    """How often the clusters were changed."""
    answers: Counter[str] = field(default_factory=Counter[str])
    wrong: list[str] = field(default_factory=list[str])


@dataclass(slots=True)
class Server:
    """One model's; it fails by its dice."""

    name: str
    found: Found
    dice: random.Random

    async def answer(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        self._check(request, raw)
        if self.dice.random() < FAILING[self.name]:
            way = self.dice.choice(WAYS)
            self.found.attempts[f"{self.name} {way}"] += 1
            if way in {"mute", "error", "refusal", "ended"}:
                return await self._begin_and_fail(request, way, stream=json.loads(raw)["stream"])
            return await self._fail(request, way)
        self.found.attempts[f"{self.name} served"] += 1
        if not json.loads(raw)["stream"]:
            return web.json_response({"served_by": self.name, "choices": []})
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b'data: {"choices":[{"delta":{"content":"%s"}}]}\n\n' % self.name.encode())
        await response.write(b"data: [DONE]\n\n")
        return response

    async def _fail(self, request: web.Request, way: str) -> web.StreamResponse:
        if way == "reset" and request.transport is not None:
            request.transport.abort()
        if way == "silent":
            await asyncio.sleep(3 * FIRST_TOKEN)
        return web.json_response({"error": {"message": self.name}}, status=int(way) if way.isdecimal() else 500)

    async def _begin_and_fail(self, request: web.Request, way: str, *, stream: bool) -> web.StreamResponse:
        kind = "text/event-stream" if stream else "application/json"
        response = web.StreamResponse(headers={"content-type": kind})
        await response.prepare(request)
        member = "delta" if stream else "message"
        if stream:
            await response.write(b'data: {"choices":[{"delta":{"role":"assistant","content":""}}]}\n\n')
        said = {
            "error": {"error": {"message": "a wrong answer"}},
            "refusal": {"choices": [{"index": 0, member: {"refusal": "a wrong answer"}, "finish_reason": "stop"}]},
        }.get(way if stream or way != "ended" else "error")
        if said is not None:
            text = json.dumps(said)
            await response.write(f"data: {text}\n\n".encode() if stream else text.encode())
        if way == "mute":
            await asyncio.sleep(3 * FIRST_TOKEN)
        return response

    def _check(self, request: web.Request, raw: bytes) -> None:
        body = json.loads(raw)
        shown = {name: value for name, value in request.headers.items() if "secret-" in value or "caller" in value}
        problems = [
            problem
            for problem, is_so in {
                f"the model {body['model']}": body["model"] != f"{self.name}-upstream",
                f"the credentials {shown}": list(shown.values()) != [f"Bearer secret-{self.name}"],
                "another body": sha256(body["padding"].encode()).hexdigest() != body["digest"],
                "a doubled body": raw.count(b'"digest"') != 1,
            }.items()
            if is_so
        ]
        self.found.wrong += [f"{self.name} was sent {problem}" for problem in problems]


async def soak(duration: float, mode: str) -> dict[str, Any]:
    """The report; `wrong` is empty if all is well."""
    found = Found()
    with tempfile.TemporaryDirectory(prefix="wissel-failover-") as folder:
        async with _running(Path(folder), found, mode) as envoy, beside(_edit(Path(folder), found)):
            until = time.monotonic() + duration
            async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as tasks:
                for number in range(CALLERS):
                    tasks.create_task(_call(envoy, session, found, until, random.Random(number), largest=number == 0))
            stats = await envoy.stats("server.live")
    return {
        "mode": mode,
        "requests": sum(found.answers.values()),
        "answers": dict(sorted(found.answers.items())),
        "attempts": dict(sorted(found.attempts.items())),
        "edits": found.edits,
        "wrong": found.wrong,
        "envoy_is_alive": stats == {"server.live": 1},
    }


async def _edit(home: Path, found: Found) -> None:
    """Change the clusters without an end: one comes and goes, and another waits longer, and not so long."""
    path = home / "wissel.yaml"
    before = path.read_text()
    while True:
        await asyncio.sleep(EDIT_SECONDS)
        document = yaml.safe_load(before)
        found.edits += 1
        if found.edits % 2:
            document["models"].append({"name": "extra", "cluster": "extra"})
            document["envoy"]["clusters"].append({"name": "extra", "address": "127.0.0.1:9"})
        document["models"][2]["timeouts"] = {"connect": f"{1 + found.edits % 3}s"}
        new = path.with_suffix(".new")
        new.write_text(yaml.safe_dump(document))
        new.replace(path)


async def _call(
    envoy: EnvoyProcess,
    session: aiohttp.ClientSession,
    found: Found,
    until: float,
    dice: random.Random,
    *,
    largest: bool,
) -> None:
    while time.monotonic() < until:
        padding = dice.choice("xyz") * (LARGEST if largest else dice.choice(SIZES))
        model, streams, largest = "patient" if largest else "a", dice.random() < 0.5, False
        sent = {
            "model": model,
            "stream": streams,
            "messages": [{"role": "user", "content": "hello"}],
            "digest": sha256(padding.encode()).hexdigest(),
            "padding": padding,
        }
        try:
            async with session.post(
                f"{envoy.url}/v1/chat/completions",
                data=BytesIO(json.dumps(sent).encode()),
                headers={"authorization": "Bearer caller", "content-type": "application/json"},
            ) as response:
                text = await response.text()
        except aiohttp.ClientError as error:
            found.wrong.append(f"a caller met {error!r}")
            continue
        served = response.headers.get("x-wissel-model", "")
        found.answers[f"{response.status} by {served} after {response.headers.get('x-wissel-attempts')}"] += 1
        # The last candidate never fails.
        name = "a" if served == "patient" else served
        if response.status != 200 or f'"{name}"' not in text:
            found.wrong.append(f"a caller was answered {response.status} by {served}: {text[:200]}")


@asynccontextmanager
async def _running(home: Path, found: Found, mode: str) -> AsyncGenerator[EnvoyProcess]:
    runners: list[web.AppRunner] = []
    clusters: list[dict[str, str]] = []
    for number, name in enumerate(FAILING):
        application = web.Application(client_max_size=LARGEST + (1 << 20))
        application.router.add_route("*", "/{path:.*}", Server(name, found, random.Random(number)).answer)
        runners.append(web.AppRunner(application, handler_cancellation=True))
        await runners[-1].setup()
        port = free_port()
        await web.TCPSite(runners[-1], "127.0.0.1", port).start()
        clusters.append({"name": name, "address": f"127.0.0.1:{port}"})
        os.environ[f"{name.upper()}_KEY"] = f"secret-{name}"
    path = home / "wissel.yaml"
    path.write_text(yaml.safe_dump(_document(clusters, home)))
    bootstrap = replace(plan(load(path)), request_body_mode=mode)
    if mode != "BUFFERED":
        bootstrap = replace(bootstrap, response_body_mode="STREAMED")
    try:
        async with running_app(path, data=home, grace=0.0), running_envoy(bootstrap, home) as envoy:
            yield envoy
    finally:
        for runner in runners:
            await runner.cleanup()


def _document(clusters: list[dict[str, str]], home: Path) -> dict[str, Any]:
    def model(name: str, cluster: str, **more: Any) -> dict[str, Any]:
        credential = {"env": f"{cluster.upper()}_KEY"}
        return {
            "name": name,
            "cluster": cluster,
            "upstream_model": f"{cluster}-upstream",
            "credential": credential,
            **more,
        }

    patience = {"first_token": f"{FIRST_TOKEN:g}s"}
    return {
        "listen": {"ext_proc": f"127.0.0.1:{free_port()}", "admin": f"127.0.0.1:{free_port()}"},
        "models": [
            model("a", "a", fallbacks=["b", "c"], timeouts=patience),
            # 31 MiB take a busy machine longer than that.
            model("patient", "a", fallbacks=["b", "c"]),
            model("b", "b"),
            model("c", "c"),
        ],
        "failover": {"first_token": "held", "on_refusal": True},
        # Each shall be asked, however much it fails.
        "health": {"failures": 64, "window": "1s"},
        "access": {
            "keys": [{"id": "caller", "sha256": sha256(b"caller").hexdigest()}],
            "rules": [{"id": "all", "effect": "permit"}],
        },
        "envoy": {
            "listen": f"127.0.0.1:{free_port()}",
            "admin": f"127.0.0.1:{free_port()}",
            "clusters": clusters,
            "discovery": {"file": str(home / "clusters.json"), "grace": "2s"},
        },
    }


def main() -> None:
    """Print the report; exit 1 if anything was wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.failover", description="What reaches whom.")
    parser.add_argument("--duration", type=float, default=60.0, help="seconds")
    parser.add_argument("--mode", choices=["BUFFERED", "FULL_DUPLEX_STREAMED"], default="BUFFERED")
    arguments = parser.parse_args()
    report = asyncio.run(soak(arguments.duration, arguments.mode))
    print(json.dumps(report, indent=2))
    sys.exit(0 if not report["wrong"] and report["envoy_is_alive"] else 1)


if __name__ == "__main__":
    main()
