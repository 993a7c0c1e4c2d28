"""What an error is in the words of providers: a body in the shape of OpenAI's, and Anthropic's names for statuses."""

import json
from collections.abc import Mapping
from typing import Final

from wissel.core.decision import Denied


def openai_error(denied: Denied) -> bytes:
    return error_body(denied.message, kind=denied.type, code=denied.code, param=denied.param)


def error_body(message: str, *, kind: str, code: str, param: str | None = None) -> bytes:
    return json.dumps({"error": {"message": message, "type": kind, "param": param, "code": code}}).encode()


_ANTHROPIC: Final[Mapping[int, str]] = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "gateway_timeout_error",
    529: "overloaded_error",
}


def anthropic_type(status: int) -> str:
    """Anthropic's `type` of an error."""
    return _ANTHROPIC.get(status, "api_error" if status >= 500 else "invalid_request_error")
