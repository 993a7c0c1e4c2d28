"""A message of Anthropic's and an answer, each from the other."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from wissel.apis.shapes import Json, objects_of
from wissel.apis.translation.form import (
    END,
    Declined,
    Occasion,
    Part,
    Reason,
    Reasoning,
    Stop,
    Text,
    ToolCall,
    WholeAnswer,
)
from wissel.apis.translation.writing import compact, made_id
from wissel.apis.usage import usage_in
from wissel.core.outcome import Usage
from wissel.core.request import BYTES_PER_TOKEN

_REASONS: Final[Mapping[str, Reason]] = {
    "end_turn": "end",
    "stop_sequence": "sequence",
    "pause_turn": "pause",
    "max_tokens": "length",
    "model_context_window_exceeded": "context",
    "tool_use": "tools",
    "refusal": "refusal",
}
_STOP_REASONS: Final[Mapping[Reason, str]] = {reason: name for name, reason in _REASONS.items()}

INVALID_JSON: Final = "INVALID_JSON"
"""The member under which Anthropic wants arguments sent back that are no object of JSON."""


def read_answer(said: Json, occasion: Occasion) -> WholeAnswer | None:
    """None where it has no content."""
    if not isinstance(said.get("content"), list):
        return None
    name, model = said.get("id"), said.get("model")
    return WholeAnswer(
        name if isinstance(name, str) else "",
        model if isinstance(model, str) else "",
        0,
        tuple(_parts(said, name if isinstance(name, str) else occasion.id)),
        stop_of(said) or END,
        usage_in(said),
    )


def stop_of(said: Json) -> Stop | None:
    """None where it goes on; a reason that nobody knows is taken for the usual one."""
    reason = said.get("stop_reason")
    if not isinstance(reason, str):
        return None
    met = said.get("stop_sequence")
    known = _REASONS.get(reason, "end")
    # llama.cpp tells the sequence, and the usual reason.
    if known in {"end", "sequence"} and isinstance(met, str) and met:
        return Stop("sequence", met)
    return Stop(known)


def _parts(said: Json, owner: str) -> Iterator[Part]:
    for number, block in enumerate(objects_of(said.get("content"))):
        if (part := part_of(block, owner, number)) is None:
            continue
        if isinstance(part, Text) and not part.text:
            continue
        yield part


def part_of(block: Json, owner: str, number: int) -> Part | None:
    """None of what only Anthropic's own tools say: those were not asked for, since no other format has them."""
    match block:
        case {"type": "text", "text": str(text)}:
            return Text(text)
        case {"type": "thinking", "thinking": str(text)}:
            signature = block.get("signature")
            return Reasoning(text, signature if isinstance(signature, str) else "")
        case {"type": "redacted_thinking", "data": str(data)}:
            return Reasoning("", hidden=data)
        case {"type": "tool_use", "name": str(name)}:
            told = block.get("id")
            called = told if isinstance(told, str) and told else made_id("toolu", owner, number)
            given = block.get("input")
            return ToolCall(called, name, compact(given) if given else "")
        case _:
            return None


def write_answer(answer: WholeAnswer, occasion: Occasion) -> dict[str, Any]:
    stop = refused(answer.stop, answer.parts)
    size = sum(_size(part) for part in answer.parts)
    return {
        "id": answer.id or f"msg_{occasion.id}",
        "type": "message",
        "role": "assistant",
        "model": answer.model or occasion.model,
        "content": [write_part(part) for part in answer.parts],
        **ending(stop),
        "usage": write_usage(answer.usage or guessed(occasion, size)),
    }


def _size(part: Part) -> int:
    return len(part.arguments if isinstance(part, ToolCall) else part.text)


def guessed(occasion: Occasion, size: int) -> Usage:
    """Where a provider told none and a message must: `size` is the length of the answer's words."""
    return Usage(occasion.input_tokens, -(-size // BYTES_PER_TOKEN))


def refused(stop: Stop, parts: tuple[Part, ...]) -> Stop:
    """Of an answer whose words are a refusal, which is no part here but a reason."""
    if stop.reason == "end" and any(isinstance(part, Declined) for part in parts):
        return Stop("refusal")
    return stop


def ending(stop: Stop) -> dict[str, Any]:
    return {"stop_reason": _STOP_REASONS[stop.reason], "stop_sequence": stop.sequence or None}


def write_part(part: Part) -> dict[str, Any]:
    match part:
        case Text(text) | Declined(text):
            return {"type": "text", "text": text}
        case Reasoning(hidden=hidden) if hidden:
            return {"type": "redacted_thinking", "data": hidden}
        case Reasoning(text, signature):
            return {"type": "thinking", "thinking": text, "signature": signature}
        case ToolCall(called, name, arguments):
            return {"type": "tool_use", "id": called, "name": name, "input": _input(arguments)}


def _input(arguments: str) -> dict[str, Any]:
    if not arguments.strip():
        return {}
    try:
        said = json.loads(arguments)
    except (ValueError, RecursionError):
        said = None
    return said if isinstance(said, dict) else {INVALID_JSON: arguments}  # pyright: ignore[reportUnknownVariableType]


def write_usage(usage: Usage) -> dict[str, Any]:
    beside = usage.cached_tokens + usage.written_tokens
    written: dict[str, Any] = {
        "input_tokens": max(0, usage.input_tokens - beside),
        "cache_creation_input_tokens": usage.written_tokens,
        "cache_read_input_tokens": usage.cached_tokens,
        "output_tokens": usage.output_tokens,
    }
    if usage.reasoning_tokens:
        written["output_tokens_details"] = {"thinking_tokens": usage.reasoning_tokens}
    return written
