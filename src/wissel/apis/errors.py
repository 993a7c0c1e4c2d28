"""A refusal as a body, in the shape of OpenAI's errors, which every client library reads."""

import json

from wissel.core.decision import Denied


def openai_error(denied: Denied) -> bytes:
    return error_body(denied.message, kind=denied.type, code=denied.code, param=denied.param)


def error_body(message: str, *, kind: str, code: str, param: str | None = None) -> bytes:
    return json.dumps({"error": {"message": message, "type": kind, "param": param, "code": code}}).encode()
