"""Who may call an admin listener.

Loopback needs no token; anywhere else every call demands one but the probes
and the files of the console, which are the same everywhere.
A web page that the operator happens to visit cannot use this API: requests
that a browser sends for another origin are refused, and so is a host name
that is not ours, since a foreign name may have been pointed at loopback.
"""

import hmac
import ipaddress
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from wissel.admin.console import PATHS
from wissel.admin.errors import error

BODY_LIMIT: Final = 32 * 1024 * 1024
"""Bytes of a request that an admin listener reads."""

_PROBES: Final = frozenset({"/healthz", "/readyz"})
_SAFE_HEADERS: Final = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}

_PAGE_HEADERS: Final = {
    **_SAFE_HEADERS,
    # Only its own files, nobody's frame, and no text that becomes markup or code.
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
    ),
}
"""Of the console, which has to run."""


def guard(token: str | None) -> Middleware:
    """Refuses whoever may not call; without `token` the application must be served on loopback only."""

    @web.middleware
    async def guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
        response = _refusal(request, token) or await handler(request)
        response.headers.update(_PAGE_HEADERS if request.path in PATHS else _SAFE_HEADERS)
        return response

    return guarded


def _refusal(request: web.Request, token: str | None) -> web.Response | None:
    if request.path in _PROBES:
        return None
    origin = request.headers.get("origin")
    if origin is not None and origin.partition("://")[2] != request.host:
        return error(403, f'requests from "{origin}" are not served', code="foreign_origin")
    if token is None:
        if not _is_loopback(request.host):
            return error(403, f'"{request.host}" is not a loopback address', code="foreign_host")
        return None
    if request.path in PATHS:
        # The page asks for the token; it tells nothing before it has one.
        return None
    scheme, _, shown = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not hmac.compare_digest(shown.strip().encode(), token.encode()):
        refused = error(401, "send the admin token as `authorization: Bearer <token>`", code="admin_token_required")
        refused.headers["www-authenticate"] = "Bearer"
        return refused
    return None


def _is_loopback(host: str) -> bool:
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host
    if name.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False
