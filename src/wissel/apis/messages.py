"""Anthropic's messages: the system prompt beside them, tool results within, and errors of their own shape."""

import json
from collections.abc import Iterator
from typing import Any, Final

from wissel.apis.api import Api, Simulation
from wissel.apis.errors import anthropic_type
from wissel.apis.findings import Findings
from wissel.apis.models import ANTHROPIC_MODELS
from wissel.apis.prompt import Prompt
from wissel.apis.shapes import Json, object_of, words_in
from wissel.apis.simulated import Answer, event, last_message
from wissel.apis.windows import Slices
from wissel.core.decision import Denied


def _read(prompt: Prompt, members: Json) -> Slices[None]:
    yield from prompt.say_member("system", members, "system")
    yield from prompt.say_messages(members)


def _learn(found: Findings, said: Json) -> None:
    if said.get("type") == "message_stop":
        found.ended = True
    message = object_of(said.get("message")) or said
    # What a stream begins with is a guess where it was made of another format's.
    found.take(message, has_counted=said.get("type") == "message_delta")
    found.finish(message.get("stop_reason", object_of(message.get("delta")).get("stop_reason")))


def _output(said: Json) -> int:
    if said.get("type") in {"content_block_delta", "content_block_start"}:
        return words_in(said.get("delta")) + words_in(said.get("content_block"))
    return words_in(said.get("content"))


def _error(denied: Denied) -> bytes:
    # With what OpenAI's errors say besides, so that a refusal's code is told whichever API was called.
    told = {
        "type": anthropic_type(denied.status),
        "message": denied.message,
        "param": denied.param,
        "code": denied.code,
    }
    return json.dumps({"type": "error", "error": told}).encode()


def _whole(answer: Answer) -> dict[str, Any]:
    return {
        "id": f"msg_{answer.server}_{answer.number}",
        "type": "message",
        "role": "assistant",
        "model": answer.model,
        "content": [{"type": "text", "text": answer.text}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": answer.input_tokens, "output_tokens": answer.output_tokens},
        "served_by": answer.server,
    }


def _events(answer: Answer) -> Iterator[bytes]:
    begun = {"input_tokens": answer.input_tokens, "output_tokens": 1}
    start: dict[str, Any] = {**_whole(answer), "content": [], "stop_reason": None, "usage": begun}
    ending = {"stop_reason": "end_turn", "stop_sequence": None}
    told: list[dict[str, Any]] = [
        {"type": "message_start", "message": start},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "ping"},
        *(
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": piece}}
            for piece in answer.pieces
        ),
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": ending, "usage": {"output_tokens": answer.output_tokens}},
        {"type": "message_stop"},
    ]
    for each in told:
        yield event(each, each["type"])


MESSAGES: Final = Api(
    name="messages",
    paths=("/v1/messages",),
    counting_paths=("/v1/messages/count_tokens",),
    marker="anthropic-version",
    operation="chat",
    read=_read,
    output_limits=("max_tokens",),
    usage_on_ask=None,
    learn=_learn,
    output=_output,
    error=_error,
    models=ANTHROPIC_MODELS,
    kept=None,
    simulation=Simulation(last_message, _whole, _events),
)
