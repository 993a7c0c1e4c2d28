"""Who may call an admin listener.

Loopback needs nothing; anywhere else every call demands a token or a client's
certificate, but the probes and the files of the console, which are the same
everywhere. An operator may do everything, a viewer may look: read, and ask what
a request would meet.

A web page that somebody happens to visit cannot use this API. No cookie is ever
set or read, so no page can borrow a token. Requests that a browser sends for
another origin are refused, and so is a host name that is not ours, since a
foreign name may have been pointed at loopback. A certificate is shown by the
browser unasked, so what it is to change must be said in JSON, which no page
can send to another origin without asking, and nobody answers that.
"""

import hmac
import ipaddress
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final, Literal

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from wissel.admin.console import PATHS
from wissel.admin.discovery import PATH as DISCOVERY
from wissel.admin.errors import error
from wissel.config import Config, admin_token, viewer_token
from wissel.core.names import DISCOVERY_CLUSTER

BODY_LIMIT: Final = 32 * 1024 * 1024
"""Bytes of a request that an admin listener reads."""

_PROBES: Final = frozenset({"/healthz", "/readyz"})
_READING: Final = frozenset({"GET", "HEAD"})
_ASKING: Final = frozenset({"/v1/route", DISCOVERY})
"""Calls that change nothing although they carry a body."""
_NAMED_BY: Final = frozenset({"URI", "DNS", "email"})
"""Kinds of alternative names in a certificate that name a caller."""

Role = Literal["operator", "viewer"]

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


@dataclass(frozen=True, slots=True)
class Staff:
    """Who may call; where it is empty, everybody who reaches the listener."""

    token: str | None = None
    """An operator's."""
    viewer_token: str | None = None
    operators: frozenset[str] = frozenset()
    """Names in certificates."""
    viewers: frozenset[str] = frozenset()

    @property
    def is_everybody(self) -> bool:
        return self.token is None and not self.operators and not self.viewers


EVERYBODY: Final = Staff()

Known = Callable[[], Staff]
"""Who may call at this moment: tokens are rotated while the listener is open."""


def everybody() -> Staff:
    """Of a listener that only those can reach who may do everything."""
    return EVERYBODY


def staff(config: Config) -> Staff:
    """Those in the configuration. Raises ConfigError for a token that cannot be had."""
    tls = config.admin.tls
    named = (tls.operators, tls.viewers) if tls else (frozenset[str](), frozenset[str]())
    return Staff(admin_token(config), viewer_token(config), *named)


def own_headers(known: Staff) -> frozenset[str]:
    """Meant for the listener itself, and no part of a call that it asks about or passes on."""
    return frozenset({"authorization"} if known.token else ())


def guard(known: Known) -> Middleware:
    """Refuses whoever may not call now; where everybody may, the application must be served on loopback only."""

    @web.middleware
    async def guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
        return _refusal(request, known()) or await handler(request)

    return guarded


async def show_safely(request: web.Request, response: web.StreamResponse) -> None:
    """Put the headers that keep browsers safe on an answer, also on aiohttp's own: for `on_response_prepare`."""
    response.headers.update(_PAGE_HEADERS if request.path in PATHS else _SAFE_HEADERS)


def _refusal(request: web.Request, known: Staff) -> web.Response | None:
    if request.path in _PROBES:
        return None
    origin = request.headers.get("origin")
    if origin is not None and origin.partition("://")[2] != request.host:
        return error(403, f'requests from "{origin}" are not served', code="foreign_origin")
    if known.is_everybody:
        foreign = error(403, f'"{request.host}" is not a loopback address', code="foreign_host")
        # An Envoy asks for its own name of this listener, which no browser can look up.
        by_envoy = request.path == DISCOVERY and request.host == DISCOVERY_CLUSTER
        return None if by_envoy or _is_loopback(request.host) else foreign
    # The page asks for the token; it tells nothing before it has one.
    return None if request.path in PATHS else _unauthorized(request, known)


def _unauthorized(request: web.Request, known: Staff) -> web.Response | None:
    by_token, by_certificate = _role_of_token(request, known), _role_of_certificate(request, known)
    changes = not (request.method in _READING or request.path in _ASKING)
    match by_token or by_certificate:
        case None:
            refused = error(401, "send the admin token as `authorization: Bearer <token>`", code="admin_token_required")
            if known.token is None:
                refused = error(403, "show a client certificate of an operator or viewer", code="certificate_required")
            else:
                refused.headers["www-authenticate"] = "Bearer"
            return refused
        case "viewer" if changes:
            return error(403, "a viewer may not change anything", code="operator_required")
        case _ if changes and by_token is None and request.content_type != "application/json":
            return error(415, "send content-type: application/json", code="json_required")
        case _:
            return None


def _role_of_token(request: web.Request, known: Staff) -> Role | None:
    scheme, _, shown = request.headers.get("authorization", "").partition(" ")
    secret = shown.strip() if scheme.lower() == "bearer" else ""
    if known.token is not None and _is(secret, known.token):
        return "operator"
    return "viewer" if known.viewer_token is not None and _is(secret, known.viewer_token) else None


def _role_of_certificate(request: web.Request, known: Staff) -> Role | None:
    """By what the connection showed; only what `client_ca` has signed gets this far."""
    if not (names := _certified_names(request.get_extra_info("peercert") or {})):
        return None
    named = names | {"*"}
    return "operator" if named & known.operators else "viewer" if named & known.viewers else None


def _certified_names(certificate: Mapping[str, Any]) -> frozenset[str]:
    """The alternative names; of a certificate without any, its common name."""
    alternative = frozenset(value for kind, value in certificate.get("subjectAltName", ()) if kind in _NAMED_BY)
    subject = chain.from_iterable(certificate.get("subject", ()))
    return alternative or frozenset(value for name, value in subject if name == "commonName")


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
