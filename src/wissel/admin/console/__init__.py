"""The page at `/`: plain files of this package, the same for everybody, with nothing in them to keep secret.

They ask the API next to them for all that they show. Every file is named here,
so no path of a request ever becomes a path on disk.
"""

from collections.abc import Mapping
from importlib.resources import files
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler

_TYPES: Final = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}

_FILES: Final[Mapping[str, str]] = {
    "/": "index.html",
    **{
        f"/console/{name}": name
        for name in (
            "console.css",
            "icon.svg",
            "theme.js",
            "console.js",
            "api.js",
            "charts.js",
            "configuration.js",
            "dialogs.js",
            "dom.js",
            "experiments.js",
            "explorer.js",
            "failover.js",
            "limits.js",
            "recent.js",
            "rollouts.js",
            "tiers.js",
            "traffic.js",
            "units.js",
        )
    },
}
"""By the path that serves it."""

PATHS: Final = frozenset(_FILES)


def routes() -> list[web.RouteDef]:
    """One for each file."""
    return [web.get(path, _serving(name)) for path, name in _FILES.items()]


def _serving(name: str) -> Handler:
    body = files(__name__).joinpath(name).read_bytes()
    content_type = _TYPES[name.rpartition(".")[2]]

    async def serve(_: web.Request) -> web.StreamResponse:
        return web.Response(body=body, content_type=content_type, charset="utf-8")

    return serve
