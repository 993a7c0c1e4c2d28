"""Refusals in the same form as on the request path."""

from aiohttp import web


def error(status: int, message: str, *, code: str) -> web.Response:
    """An OpenAI error."""
    body = {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": code}}
    return web.json_response(body, status=status)
