"""Who may call an admin listener.

Loopback needs no token; anywhere else every call demands one but the probes
and the files of the console, which are the same everywhere. An operator's
token may do everything, a viewer's may look: read, and ask what a request would
meet. No cookie is ever set or read, so no page of another origin can borrow
either.
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
_READING: Final = frozenset({"GET", "HEAD"})
_ASKING: Final = frozenset({"/v1/route"})
"""Calls that change nothing although they carry a body."""
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


def guard(token: str | None, viewer: str | None = None) -> Middleware:
    """Refuses whoever may not call; without `token` the application must be served on loopback only.

    `token` is an operator's and `viewer` a viewer's.
    """

    @web.middleware
    async def guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
        response = _refusal(request, token, viewer) or await handler(request)
        response.headers.update(_PAGE_HEADERS if request.path in PATHS else _SAFE_HEADERS)
        return response

    return guarded


def _refusal(request: web.Request, token: str | None, viewer: str | None) -> web.Response | None:
    if request.path in _PROBES:
        return None
    origin = request.headers.get("origin")
    if origin is not None and origin.partition("://")[2] != request.host:
        return error(403, f'requests from "{origin}" are not served', code="foreign_origin")
    if token is None:
        foreign = error(403, f'"{request.host}" is not a loopback address', code="foreign_host")
        return None if _is_loopback(request.host) else foreign
    # The page asks for the token; it tells nothing before it has one.
    return None if request.path in PATHS else _unauthorized(request, token, viewer)


def _unauthorized(request: web.Request, token: str, viewer: str | None) -> web.Response | None:
    scheme, _, shown = request.headers.get("authorization", "").partition(" ")
    secret = shown.strip() if scheme.lower() == "bearer" else ""
    if _is(secret, token):
        return None
    if viewer is not None and _is(secret, viewer):
        if request.method in _READING or request.path in _ASKING:
            return None
        return error(403, "a viewer's token may not change anything", code="operator_required")
    refused = error(401, "send the admin token as `authorization: Bearer <token>`", code="admin_token_required")
    refused.headers["www-authenticate"] = "Bearer"
    return refused


def _is(shown: str, token: str) -> bool:
    return hmac.compare_digest(shown.encode("utf-8", "surrogateescape"), token.encode())


def _is_loopback(host: str) -> bool:
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host
    if name.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False
