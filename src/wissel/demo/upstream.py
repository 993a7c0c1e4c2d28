"""A model's server, simulated: it speaks the APIs, says who answered, and misbehaves on demand.

It keeps every request as it arrived, byte for byte, so a test can see what a
model would have seen. How slow and how faulty it is can be changed while it
serves: by attribute, or from another process with `PUT /_behaviour`.
"""

import argparse
import asyncio
import dataclasses
import json
import random
import signal
import ssl
import time
from collections import deque
from collections.abc import AsyncGenerator, Collection, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from multidict import CIMultiDict

from wissel.apis.api import Api
from wissel.apis.simulated import Answer
from wissel.apis.table import PATHS, kept_at
from wissel.apis.translation.dialects import DIALECTS
from wissel.apis.translation.form import Trouble
from wissel.core.affinity import MadeId
from wissel.core.sentences import type_of
from wissel.demo.kept import Shelf

_MAX_BODY = 64 * 1024 * 1024


@dataclass(slots=True)
class Behaviour:
    """How a server behaves; change it at any time."""

    latency: float = 0.0
    """Seconds until the answer begins."""
    event_gap: float = 0.0
    """Seconds between two events of a stream."""
    error_rate: float = 0.0
    """The share of requests that end with `error_status`."""
    error_status: float = 500


@dataclass(frozen=True, slots=True)
class Recorded:
    """A request as it arrived."""

    method: str
    path: str
    headers: CIMultiDict[str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(slots=True)
class Upstream:
    """A simulated server."""

    name: str
    models: Collection[str] = ()
    """The models that it has; empty: any."""
    behaviour: Behaviour = field(default_factory=Behaviour)
    requests: deque[Recorded] = field(default_factory=lambda: deque(maxlen=1000))
    """The latest requests, oldest first."""
    kept: Shelf = field(default_factory=Shelf)
    """The answers that callers wanted kept."""
    dice: random.Random = field(default_factory=random.Random)
    """Decides which requests fail."""
    address: str = ""
    """`host:port` while it runs."""
    served: int = 0
    """Requests so far."""
    runner: web.AppRunner | None = None
    """Runs it while it runs."""
    tls: ssl.SSLContext | None = None
    """What it listens with; None: plain."""

    async def go_down(self) -> None:
        """Refuse connections from now on and break off those that are open, as if its process had been killed."""
        if self.runner is None or self.runner.server is None:
            return
        for site in list(self.runner.sites):
            await site.stop()
        for connection in self.runner.server.connections:
            if connection.transport is not None:
                connection.transport.abort()

    async def come_back(self) -> None:
        """Listen where it did before it went down."""
        host, _, port = self.address.rpartition(":")
        await self.listen(host, int(port))

    async def listen(self, host: str, port: int) -> None:
        """Take requests at `port`; 0: at a free one."""
        assert self.runner is not None
        await web.TCPSite(self.runner, host, port, ssl_context=self.tls).start()
        self.address = f"{host}:{self.runner.addresses[0][1]}"

    def application(self) -> web.Application:
        application = web.Application(client_max_size=_MAX_BODY)
        application.router.add_get("/v1/models", self._list)
        application.router.add_put("/_behaviour", self._behave)
        application.router.add_route("*", "/{path:.*}", self._serve)
        return application

    async def _list(self, _: web.Request) -> web.Response:
        models = [{"id": name, "object": "model", "created": 0, "owned_by": self.name} for name in self.models]
        return self._json({"object": "list", "data": models})

    async def _behave(self, request: web.Request) -> web.Response:
        asked = await request.json()
        try:
            self.behaviour = dataclasses.replace(self.behaviour, **{key: float(asked[key]) for key in asked})
        except (TypeError, ValueError) as error:
            return self._error(400, str(error), "invalid_request_error")
        return self._json(dataclasses.asdict(self.behaviour))

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        self.requests.append(Recorded(request.method, request.path_qs, CIMultiDict(request.headers), raw))
        self.served += 1
        if found := kept_at(request.method, request.path):
            return await self._revisit(request, raw, *found)
        api = PATHS.get(request.path)
        if api is None or request.method != "POST":
            return self._error(404, f"no such path: {request.method} {request.path}", "invalid_request_error")
        try:
            body = json.loads(raw)
            answer = Answer(self.name, self.served, body, api.simulation.question(body), created=int(time.time()))
            model = answer.model
        except (ValueError, TypeError, KeyError, AttributeError, IndexError):
            return self._error(400, "the body cannot be read", "invalid_request_error")
        if (refused := self._refused(api, answer, model)) is not None:
            return refused
        if request.path in api.counting_paths:
            return self._json({"input_tokens": answer.input_tokens})
        background = bool(body.get("background"))
        if api.kept is not None and api.kept.asks_to_keep(body):
            after = self.behaviour.latency if background else 0.0
            self.kept.keep(api.name, answer, api.simulation.whole(answer), after=after)
        await asyncio.sleep(0.0 if background else self.behaviour.latency)
        if self.dice.random() < self.behaviour.error_rate:
            status = int(self.behaviour.error_status)
            kind = "server_error" if status >= 500 else "invalid_request_error"
            return self._error(status, f"{self.name} fails as it was asked to", kind)
        if not body.get("stream") or api.simulation.events is None:
            whole = api.simulation.whole(answer)
            return self._json(self.kept.as_it_is(api.name, whole["id"]) if background else whole)
        return await self._stream(request, api.simulation.events(answer), is_cut=answer.is_cut)

    def _refused(self, api: Api, answer: Answer, model: str) -> web.Response | None:
        """What is said to a call that needs what is not here, or wants to see an error."""
        if self.models and model not in self.models:
            return self._error(404, f"The model `{model}` does not exist", "invalid_request_error", "model_not_found")
        previous = answer.body.get(api.kept.goes_on_by) if api.kept is not None else None
        if previous is not None and not self.kept.has(api.name, previous):
            message = f"Previous response with id '{previous}' not found."
            return self._error(400, message, "invalid_request_error", "previous_response_not_found")
        return None if answer.status == 200 else self._fail(api, answer.status)

    async def _revisit(self, request: web.Request, raw: bytes, api: Api, made: MadeId) -> web.StreamResponse:
        word = request.path.partition(made.id)[2].strip("/")
        said = self.kept.asked(api.name, request.method, made.id, word, json.loads(raw or b"{}"))
        if said is None:
            return self._error(404, f"Response with id '{made.id}' not found.", "invalid_request_error")
        if request.query.get("stream") == "true":
            after = int(request.query.get("starting_after", -1))
            return await self._stream(request, self.kept.events(made.id, after))
        return self._json(said)

    async def _stream(
        self, request: web.Request, events: Iterable[bytes], *, is_cut: bool = False
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream", "x-served-by": self.name})
        await response.prepare(request)
        # Who hangs up in the middle has heard enough.
        with suppress(ConnectionResetError):
            told = list(events)
            for event in told[: len(told) // 2] if is_cut else told:
                await response.write(event)
                await asyncio.sleep(self.behaviour.event_gap)
        if is_cut and request.transport is not None:
            request.transport.close()
        return response

    def _fail(self, api: Api, status: int) -> web.Response:
        """An error as the API's provider words it, that the caller asked for."""
        message = f"{self.name} fails as it was asked to"
        dialect = DIALECTS.get(api.name)
        if dialect is None:
            return self._error(status, message, type_of(status))
        told, body = dialect.write_trouble(Trouble(status, message, "simulated"))
        headers = {"x-served-by": self.name, "retry-after": "1"}
        headers[dialect.request_id_header] = f"req_{self.name}_{self.served}"
        return web.Response(text=body, status=told, headers=headers, content_type="application/json")

    def _json(self, data: object, status: int = 200) -> web.Response:
        return web.json_response(data, status=status, headers={"x-served-by": self.name})

    def _error(self, status: int, message: str, kind: str, code: str | None = None) -> web.Response:
        # With a `type` on top, so that Anthropic's clients read it as well.
        error = {"message": message, "type": kind, "param": "model" if code else None, "code": code}
        return self._json({"type": "error", "error": error}, status)


@asynccontextmanager
async def running_upstream(
    upstream: Upstream, *, host: str = "127.0.0.1", port: int = 0, tls: ssl.SSLContext | None = None
) -> AsyncGenerator[Upstream]:
    """Serve `upstream` while the block runs; port 0 takes a free one, `upstream.address` says which."""
    upstream.runner = runner = web.AppRunner(upstream.application(), access_log=None, shutdown_timeout=1.0)
    upstream.tls = tls
    await runner.setup()
    try:
        await upstream.listen(host, port)
        yield upstream
    finally:
        await runner.cleanup()


async def _main(arguments: argparse.Namespace) -> None:
    upstream = Upstream(
        arguments.name,
        models=arguments.model,
        behaviour=Behaviour(arguments.latency, arguments.event_gap, arguments.error_rate),
    )
    stop = asyncio.Event()
    for sign in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(sign, stop.set)
    async with running_upstream(upstream, host=arguments.host, port=arguments.port):
        print(f"{upstream.name} on http://{upstream.address}", flush=True)
        await stop.wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m wissel.demo.upstream", description="A simulated model server.")
    parser.add_argument("--name", required=True, help="who it says it is")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0: a free one")
    parser.add_argument("--model", action="append", default=[], help="a model that it has; may be given often")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds until an answer begins")
    parser.add_argument("--event-gap", type=float, default=0.0, help="seconds between two events of a stream")
    parser.add_argument("--error-rate", type=float, default=0.0, help="the share of requests that end with 500")
    asyncio.run(_main(parser.parse_args()))
