"""Refusals in the same form as on the request path."""

from aiohttp import web

from wissel.apis.errors import error_body
from wissel.core.sentences import type_of


def error(status: int, message: str, *, code: str) -> web.Response:
    """An OpenAI error."""
    body = error_body(message, kind=type_of(status), code=code)
    return web.Response(body=body, status=status, content_type="application/json")
