"""Errors of providers: whatever says that a request failed, read from any format, in the caller's own.

Servers answer with their format's errors, with those of what stands before them,
with pages for people, and with nothing. The status counts before all else.
"""

import json
import re
from collections.abc import Mapping
from typing import Any, Final, cast

from wissel.apis.errors import anthropic_type
from wissel.apis.shapes import Json, object_of
from wissel.apis.translation.form import Trouble
from wissel.apis.translation.writing import compact
from wissel.core.quoting import quoted
from wissel.core.sentences import type_of

REQUEST_ID_HEADERS: Final = ("x-request-id", "request-id", "apim-request-id", "x-amzn-requestid")
"""Where providers tell by what name they know a request."""

_BAD_GATEWAY: Final = 502
_OVERLOADED: Final = 529
_UNAVAILABLE: Final = 503
_MOST_SAID: Final = 4096
"""Characters of a provider's message that are told."""
_TITLE: Final = re.compile(r"<title[^>]*>\s*([^<]{1,400}?)\s*</title", re.IGNORECASE)

_STATUSES: Final[Mapping[str, int]] = {
    "invalid_request_error": 400,
    "invalid_prompt": 400,
    "context_length_exceeded": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "insufficient_quota": 429,
    "gateway_timeout_error": 504,
    "timeout_error": 504,
    "overloaded_error": _OVERLOADED,
}
"""The status of an error that is told within an answer, by its `type` or its `code`; of any other 500."""


def read_trouble(status: int, body: bytes, headers: Mapping[str, str]) -> Trouble:
    """An answer whose status says that the request failed; names of `headers` are in lower case."""
    said = _parse(body)
    request_id = next((headers[name] for name in REQUEST_ID_HEADERS if headers.get(name)), "")
    if said is None:
        return Trouble(status, _of_a_page(status, body), request_id=request_id)
    return _told(said, status, request_id)


def trouble_within(said: Json) -> Trouble:
    """An error that an answer, or an event of one, tells although its status promised none."""
    error = object_of(said.get("error")) or said
    named = [name for name in (error.get("code"), error.get("type"), error.get("status")) if name is not None]
    numbers = [name for name in named if isinstance(name, int) and 400 <= name < 600]
    known = [_STATUSES[name] for name in named if isinstance(name, str) and name in _STATUSES]
    return _told(said, (*numbers, *known, 500)[0], "")


def no_answer(body: bytes) -> Trouble:
    """Of a body that should be an answer and is none."""
    said = _parse(body)
    if said is not None and (said.get("error") or said.get("type") == "error"):
        return trouble_within(said)
    if said is not None:
        return Trouble(_BAD_GATEWAY, "the provider's answer holds nothing that its format calls an answer")
    return Trouble(_BAD_GATEWAY, _of_a_page(200, body))


def _told(said: Json, status: int, request_id: str) -> Trouble:
    error = object_of(said.get("error")) or said
    told = (said.get("error"), error.get("message"), error.get("detail"), error.get("msg"))
    message = next((text for text in told if isinstance(text, str) and text.strip()), "")
    kind, code, param = error.get("type"), error.get("code"), error.get("param")
    if not isinstance(code, str):
        code = kind if isinstance(kind, str) and kind != "error" else None
    mine = said.get("request_id")
    return Trouble(
        status,
        message[:_MOST_SAID] or f"the provider answered {status} and does not say why",
        code[:_MOST_SAID] if code else None,
        param[:_MOST_SAID] if isinstance(param, str) else None,
        request_id or (mine[:_MOST_SAID] if isinstance(mine, str) else ""),
    )


def _parse(body: bytes) -> Json | None:
    try:
        said: Any = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if isinstance(said, list) and said:
        # Gemini's.
        said = cast("list[Any]", said)[0]
    return cast("Json", said) if isinstance(said, dict) else None


def _of_a_page(status: int, body: bytes) -> str:
    text = body[:_MOST_SAID].decode("utf-8", "replace").strip()
    if title := _TITLE.search(text):
        return f"the provider answered {status} with a page: {quoted(title[1])}"
    if not text or text.startswith("<"):
        return f"the provider answered {status} and does not say why"
    return f"the provider answered {status} with no JSON: {quoted(text)}"


def openai_trouble(trouble: Trouble) -> tuple[int, str]:
    """The status and the body that tell it to OpenAI's clients."""
    status = _UNAVAILABLE if trouble.status == _OVERLOADED else trouble.status
    error = {"message": trouble.message, "type": type_of(status), "param": trouble.param, "code": trouble.code}
    return status, compact({"error": error})


def anthropic_trouble(trouble: Trouble) -> tuple[int, str]:
    """The status and the body that tell it to Anthropic's clients."""
    status = _OVERLOADED if trouble.status == _UNAVAILABLE else trouble.status
    error: dict[str, Any] = {"type": anthropic_type(status), "message": trouble.message}
    # With what OpenAI's errors say besides, as refusals have it.
    error |= {name: value for name, value in (("param", trouble.param), ("code", trouble.code)) if value}
    return status, compact({"type": "error", "error": error, "request_id": trouble.request_id or None})
