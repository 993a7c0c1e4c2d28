"""A response of OpenAI's and an answer, each from the other."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from wissel.apis.shapes import Json, object_of, objects_of
from wissel.apis.translation.form import (
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
from wissel.apis.translation.writing import made_id
from wissel.apis.usage import usage_in
from wissel.core.outcome import Usage

_INCOMPLETE: Final[Mapping[str, Reason]] = {"max_output_tokens": "length", "content_filter": "refusal"}
_WHY_INCOMPLETE: Final[Mapping[Reason, str]] = {
    "length": "max_output_tokens",
    "context": "max_output_tokens",
    "refusal": "content_filter",
}
BROKEN_OFF: Final = frozenset({"failed", "cancelled"})
"""States in which no answer is to be had."""
BETWEEN_SUMMARIES: Final = "\n\n"


def read_answer(said: Json, occasion: Occasion) -> WholeAnswer | None:
    """None where it holds no output, or was broken off."""
    if not isinstance(said.get("output"), list) or text_of(said.get("status")) in BROKEN_OFF:
        return None
    name = text_of(said.get("id"))
    parts = tuple(_parts(said, name or occasion.id))
    return WholeAnswer(
        name,
        text_of(said.get("model")),
        created_in(said),
        parts,
        stop_of(said, has_called=any(isinstance(part, ToolCall) for part in parts)),
        usage_in(said),
    )


def text_of(value: object) -> str:
    return value if isinstance(value, str) else ""


def created_in(response: Json) -> int:
    created = response.get("created_at")
    return int(created) if isinstance(created, int | float) else 0


def stop_of(response: Json, *, has_called: bool) -> Stop:
    """Of one that has ended."""
    if response.get("status") == "incomplete":
        why = object_of(response.get("incomplete_details")).get("reason")
        return Stop(_INCOMPLETE.get(text_of(why), "length"))
    return Stop("tools" if has_called else "end")


def _parts(said: Json, owner: str) -> Iterator[Part]:
    for number, item in enumerate(objects_of(said.get("output"))):
        match item.get("type"):
            case "message":
                for part in objects_of(item.get("content")):
                    if text := text_of(part.get("text")):
                        yield Text(text)
                    if refusal := text_of(part.get("refusal")):
                        yield Declined(refusal)
            case "function_call":
                yield call_of(item, owner, number)
            case "reasoning":
                thought = thought_of(item)
                if thought is not None:
                    yield thought
            case _:
                # Only OpenAI's own tools say more, and they were not asked for, since no other format has them.
                pass


def call_of(item: Json, owner: str, number: int) -> ToolCall:
    called = text_of(item.get("call_id")) or text_of(item.get("id")) or made_id("call", owner, number)
    return ToolCall(called, text_of(item.get("name")), text_of(item.get("arguments")))


def thought_of(item: Json) -> Reasoning | None:
    """None of one that tells nothing, as most are whose caller did not ask for a summary."""
    told = objects_of(item.get("summary")) or objects_of(item.get("content"))
    text = BETWEEN_SUMMARIES.join(text_of(each.get("text")) for each in told)
    sealed = text_of(item.get("encrypted_content"))
    if told:
        return Reasoning(text, sealed)
    return Reasoning("", hidden=sealed) if sealed else None


def write_answer(answer: WholeAnswer, occasion: Occasion) -> dict[str, Any]:
    name = answer.id or f"resp_{occasion.id}"
    written = begin(name, answer.created or occasion.now, answer.model or occasion.model, occasion)
    items = [write_item(part, item_id(part, name, at)) for at, part in enumerate(answer.parts)]
    return written | ending(answer.stop, items, answer.usage)


def begin(name: str, created: int, model: str, occasion: Occasion) -> dict[str, Any]:
    """A response before it says anything."""
    return {
        "id": name,
        "object": "response",
        "created_at": created,
        "status": "in_progress",
        "error": None,
        "incomplete_details": None,
        "model": model,
        "output": [],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        **occasion.repeated,
        "usage": None,
    }


def ending(stop: Stop, items: list[dict[str, Any]], usage: Usage | None) -> dict[str, Any]:
    """What changes once a response has ended."""
    why = _WHY_INCOMPLETE.get(stop.reason)
    return {
        "status": "incomplete" if why else "completed",
        "incomplete_details": {"reason": why} if why else None,
        "output": items,
        "usage": None if usage is None else write_usage(usage),
    }


def item_id(part: Part, owner: str, at: int) -> str:
    match part:
        case ToolCall():
            prefix = "fc"
        case Reasoning():
            prefix = "rs"
        case _:
            prefix = "msg"
    return f"{prefix}_{owner}_{at}"


def write_item(part: Part, name: str) -> dict[str, Any]:
    """A part that has ended."""
    match part:
        case Text() | Declined():
            message = {"id": name, "type": "message", "status": "completed", "role": "assistant"}
            return {**message, "content": [write_content(part)]}
        case ToolCall(called, function, arguments):
            call = {"id": name, "type": "function_call", "status": "completed", "call_id": called, "name": function}
            return {**call, "arguments": arguments or "{}"}
        case Reasoning(text, signature, hidden):
            summary = [{"type": "summary_text", "text": text}] if not hidden else []
            sealed = {"encrypted_content": signature or hidden} if signature or hidden else {}
            return {"id": name, "type": "reasoning", "summary": summary, **sealed}


def write_content(part: Text | Declined) -> dict[str, Any]:
    if isinstance(part, Declined):
        return {"type": "refusal", "refusal": part.text}
    return {"type": "output_text", "text": part.text, "annotations": [], "logprobs": []}


def write_usage(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": usage.written_tokens},
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }
