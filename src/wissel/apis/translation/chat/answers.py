"""A chat completion and an answer, each from the other."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from wissel.apis.shapes import Json, object_of, objects_of
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

_REASONS: Final[Mapping[str, Reason]] = {
    "stop": "end",
    "length": "length",
    "tool_calls": "tools",
    "function_call": "tools",
    "content_filter": "refusal",
}
FINISH_REASONS: Final[Mapping[Reason, str]] = {
    "end": "stop",
    "sequence": "stop",
    "pause": "stop",
    "length": "length",
    "context": "length",
    "tools": "tool_calls",
    "refusal": "content_filter",
}


def read_answer(said: Json, occasion: Occasion) -> WholeAnswer | None:
    """None where it holds no choice."""
    choices = objects_of(said.get("choices"))
    if not choices:
        return None
    message = object_of(choices[0].get("message"))
    name = text_of(said.get("id"))
    parts = tuple(_parts(message, name or occasion.id))
    stop = stop_of(choices[0]) or END
    created = said.get("created")
    return WholeAnswer(
        name,
        text_of(said.get("model")),
        created if isinstance(created, int) else 0,
        parts,
        waiting_for_tools(stop) if any(isinstance(part, ToolCall) for part in parts) else stop,
        usage_in(said),
    )


def text_of(value: object) -> str:
    return value if isinstance(value, str) else ""


def stop_of(choice: Json) -> Stop | None:
    """None where it goes on; a reason that nobody knows is taken for the usual one."""
    reason = choice.get("finish_reason")
    if not isinstance(reason, str):
        return None
    # vLLM's: what it stopped at.
    met = choice.get("stop_reason")
    if reason == "stop" and isinstance(met, str):
        return Stop("sequence", met)
    return Stop(_REASONS.get(reason, "end"))


def waiting_for_tools(stop: Stop) -> Stop:
    """Of an answer with calls: many servers say `stop` then as ever."""
    return Stop("tools") if stop.reason == "end" else stop


def _parts(message: Json, owner: str) -> Iterator[Part]:
    told = reasoning_text(message)
    blocks = list(thinking(message))
    if blocks and (not told or "".join(block.text for block in blocks) == told):
        yield from blocks
    elif told:
        signature = next((block.signature for block in blocks if block.signature), "")
        yield Reasoning(told, signature)
    content = message.get("content")
    if isinstance(content, str) and content:
        yield Text(content)
    for part in objects_of(content):
        # Mistral's, whose thoughts are parts of the content.
        if part.get("type") == "thinking":
            yield Reasoning("".join(text_of(each.get("text")) for each in objects_of(part.get("thinking"))))
        elif text := text_of(part.get("text")):
            yield Text(text)
    if refusal := text_of(message.get("refusal")):
        yield Declined(refusal)
    calls = objects_of(message.get("tool_calls"))
    if (legacy := message.get("function_call")) is not None:
        calls.append({"function": legacy})
    for number, call in enumerate(calls):
        function = object_of(call.get("function"))
        called = text_of(call.get("id")) or made_id("call", owner, number)
        yield ToolCall(called, text_of(function.get("name")), arguments_of(function))


def reasoning_text(message: Json) -> str:
    """DeepSeek's word for it, which most took over, or OpenRouter's and vLLM's."""
    return text_of(message.get("reasoning_content")) or text_of(message.get("reasoning"))


def thinking(message: Json) -> Iterator[Reasoning]:
    """Thoughts with their signatures, as LiteLLM tells Anthropic's."""
    for block in objects_of(message.get("thinking_blocks")):
        if block.get("type") == "redacted_thinking":
            yield Reasoning("", hidden=text_of(block.get("data")))
        else:
            yield Reasoning(text_of(block.get("thinking")), text_of(block.get("signature")))


def arguments_of(function: Json) -> str:
    """As a text, which they are not everywhere."""
    arguments = function.get("arguments")
    if isinstance(arguments, dict):
        return compact(arguments)
    return text_of(arguments)


def write_answer(answer: WholeAnswer, occasion: Occasion) -> dict[str, Any]:
    texts = [part.text for part in answer.parts if isinstance(part, Text)]
    refusals = [part.text for part in answer.parts if isinstance(part, Declined)]
    message: dict[str, Any] = {
        "role": "assistant",
        "content": "".join(texts) if texts else None,
        "refusal": "".join(refusals) if refusals else None,
    }
    thoughts = [part for part in answer.parts if isinstance(part, Reasoning)]
    if words := "".join(thought.text for thought in thoughts):
        message["reasoning_content"] = words
    if any(thought.signature or thought.hidden for thought in thoughts):
        message["thinking_blocks"] = [thinking_block(thought) for thought in thoughts]
    calls = [part for part in answer.parts if isinstance(part, ToolCall)]
    if calls:
        message["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments or "{}"}}
            for call in calls
        ]
    finish = FINISH_REASONS[answer.stop.reason]
    written: dict[str, Any] = {
        "id": answer.id or f"chatcmpl-{occasion.id}",
        "object": "chat.completion",
        "created": answer.created or occasion.now,
        "model": answer.model or occasion.model,
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": finish}],
    }
    if answer.usage is not None:
        written["usage"] = write_usage(answer.usage)
    return written


def thinking_block(thought: Reasoning) -> dict[str, str]:
    """As it can be sent back."""
    if thought.hidden:
        return {"type": "redacted_thinking", "data": thought.hidden}
    return {"type": "thinking", "thinking": thought.text, "signature": thought.signature}


def write_usage(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": usage.written_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }
