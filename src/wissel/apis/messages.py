"""Anthropic's messages: the system prompt beside them, tool results within, and errors of their own shape."""

import json
from collections.abc import Iterator
from typing import Any, Final

from wissel.apis.api import Api, Beginning, Simulation
from wissel.apis.errors import anthropic_type
from wissel.apis.findings import Findings
from wissel.apis.models import ANTHROPIC_MODELS
from wissel.apis.prompt import Prompt
from wissel.apis.shapes import Json, object_of, words_in
from wissel.apis.simulated import SEAL, Answer, Said, event, last_message
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


_SILENT: Final = frozenset({"message_start", "ping", "content_block_stop"})
"""Events that come before any word."""


def _begins(said: Json) -> Beginning:
    kind = said.get("type")
    if kind == "error" or said.get("error"):
        return "error"
    if kind in _SILENT:
        return ""
    if (object_of(said.get("delta")).get("stop_reason") or said.get("stop_reason")) == "refusal":
        return "refusal"
    is_block = kind in {"content_block_start", "content_block_delta"}
    return "words" if not is_block or _output(said) else ""


def _error(denied: Denied) -> bytes:
    # With what OpenAI's errors say besides, so that a refusal's code is told whichever API was called.
    told = {
        "type": anthropic_type(denied.status),
        "message": denied.message,
        "param": denied.param,
        "code": denied.code,
    }
    return json.dumps({"type": "error", "error": told}).encode()


_STOPS: Final = {"done": "end_turn", "length": "max_tokens", "tools": "tool_use"}


def _stop(answer: Answer) -> str:
    return "refusal" if answer.of("refusal") else _STOPS[answer.ended]


def _block(answer: Answer, at: int, part: Said, *, whole: bool) -> dict[str, Any]:
    text = part.text if whole else ""
    match part.kind:
        case "thought":
            return {"type": "thinking", "thinking": text, "signature": SEAL if whole else ""}
        case "call":
            name = f"toolu_{answer.server}_{answer.number}_{at}"
            return {"type": "tool_use", "id": name, "name": part.name, "input": json.loads(text or "{}")}
        case _:
            return {"type": "text", "text": text}


def _usage(answer: Answer) -> dict[str, Any]:
    thought = answer.thought_tokens
    details = {"output_tokens_details": {"thinking_tokens": thought}} if thought else {}
    return {"output_tokens": answer.output_tokens, **details}


def _whole(answer: Answer) -> dict[str, Any]:
    return {
        "id": f"msg_{answer.server}_{answer.number}",
        "type": "message",
        "role": "assistant",
        "model": answer.model,
        "content": [_block(answer, at, part, whole=True) for at, part in enumerate(answer.said)],
        "stop_reason": _stop(answer),
        "stop_sequence": None,
        "usage": {"input_tokens": answer.input_tokens, **_usage(answer)},
        "served_by": answer.server,
    }


def _told(answer: Answer, at: int, part: Said) -> Iterator[dict[str, Any]]:
    """A block of a stream."""
    kinds = {"thought": ("thinking_delta", "thinking"), "call": ("input_json_delta", "partial_json")}
    kind, member = kinds.get(part.kind, ("text_delta", "text"))
    yield {"type": "content_block_start", "index": at, "content_block": _block(answer, at, part, whole=False)}
    if at == 0:
        yield {"type": "ping"}
    deltas = [{"type": kind, member: piece} for piece in part.pieces]
    if part.kind == "thought":
        deltas.append({"type": "signature_delta", "signature": SEAL})
    yield from ({"type": "content_block_delta", "index": at, "delta": delta} for delta in deltas)
    yield {"type": "content_block_stop", "index": at}


def _events(answer: Answer) -> Iterator[bytes]:
    begun = {"input_tokens": answer.input_tokens, "output_tokens": 1}
    start: dict[str, Any] = {**_whole(answer), "content": [], "stop_reason": None, "usage": begun}
    ending = {"stop_reason": _stop(answer), "stop_sequence": None}
    told: list[dict[str, Any]] = [
        {"type": "message_start", "message": start},
        *(each for at, part in enumerate(answer.said) for each in _told(answer, at, part)),
        {"type": "message_delta", "delta": ending, "usage": _usage(answer)},
        {"type": "message_stop"},
    ]
    for each in told:
        yield event(each, each["type"])


MESSAGES: Final = Api(
    name="messages",
    paths=("/v1/messages",),
    counting_paths=("/v1/messages/count_tokens",),
    counted=lambda tokens: {"input_tokens": tokens},
    marker="anthropic-version",
    operation="chat",
    read=_read,
    output_limits=("max_tokens",),
    usage_on_ask=None,
    learn=_learn,
    output=_output,
    begins=_begins,
    error=_error,
    models=ANTHROPIC_MODELS,
    kept=None,
    simulation=Simulation(last_message, _whole, _events),
)
