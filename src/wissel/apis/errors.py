"""A refusal as a body, in the shape of OpenAI's errors, which every client library reads."""

import json

from wissel.core.decision import Denied


def openai_error(denied: Denied) -> bytes:
    told = {"message": denied.message, "type": denied.type, "param": denied.param, "code": denied.code}
    return json.dumps({"error": told}).encode()
