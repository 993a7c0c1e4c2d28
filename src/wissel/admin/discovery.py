"""Envoy's clusters over REST, as an Envoy asks for them that cannot see the published file."""

import json
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from aiohttp import web

from wissel.admin.errors import error

PATH: Final = "/v3/discovery:clusters"
"""Envoy's own name for the question."""


class ClusterSource(Protocol):
    """Keeps what is published."""

    def response(self) -> Mapping[str, object]:
        """As Envoy reads it."""
        ...

    def polled(self, asker: str, version: str) -> bool:
        """An Envoy that has this version asks; whether there is another one for it."""
        ...


class DiscoveryApi:
    """Of one process; `publisher` gives None where the configuration leaves Envoy's clusters to its bootstrap."""

    def __init__(self, publisher: Callable[[], ClusterSource | None]) -> None:
        self._publisher = publisher

    def routes(self) -> list[web.RouteDef]:
        return [web.get(PATH, self.show), web.post(PATH, self.poll)]

    async def show(self, _: web.Request) -> web.Response:
        publisher = self._publisher()
        return _nothing() if publisher is None else web.json_response(publisher.response())

    async def poll(self, request: web.Request) -> web.Response:
        """A DiscoveryRequest; 304 for who has it all."""
        publisher = self._publisher()
        if publisher is None:
            return _nothing()
        try:
            asked: Any = await request.json()
            node, version = asked.get("node", {}).get("id", ""), asked.get("version_info", "")
        except (json.JSONDecodeError, UnicodeDecodeError, AttributeError):
            return error(400, "send a DiscoveryRequest in JSON", code="unreadable_request")
        if publisher.polled(f"{node} at {request.remote}", str(version)):
            return web.json_response(publisher.response())
        return web.Response(status=304)


def _nothing() -> web.Response:
    return error(404, "envoy.discovery is static: nothing is published here", code="no_discovery")
