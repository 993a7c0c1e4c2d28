"""From an LLM call's body to the `Request` that is decided."""

from collections.abc import Mapping
from typing import Final

from wissel.apis.api import Api
from wissel.apis.body import Body
from wissel.apis.labels import labels_in
from wissel.apis.prompt import Prompt
from wissel.apis.windows import Slices
from wissel.core.bounds import Bounds
from wissel.core.request import Conversation, Request

MAX_OUTPUT_TOKENS: Final = 10_000_000
"""More than any model answers; a caller's number may have thousands of digits."""


def understand(api: Api, path: str, headers: Mapping[str, str], body: Body, bounds: Bounds) -> Slices[Request]:
    """The call as the decision reads it. Raises UnreadableError where messages or input are of no use."""
    prompt = Prompt(bounds)
    yield from api.read(prompt, body.members)
    return Request(
        api=api.name,
        path=path,
        model=body.model,
        conversation=Conversation(tuple(prompt.turns)),
        needs=frozenset(prompt.needs),
        input_tokens=prompt.tokens,
        max_output_tokens=_output_limit(api, body),
        stream=body.members.get("stream") is True,
        headers=headers,
        labels=labels_in(body.members),
    )


def _output_limit(api: Api, body: Body) -> int:
    for name in api.output_limits:
        value = body.members.get(name)
        if type(value) is int and value > 0:
            return min(value, MAX_OUTPUT_TOKENS)
    return 0
