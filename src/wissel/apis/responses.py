"""OpenAI's responses: instructions and items, answered by items or by typed events."""

from collections.abc import Iterator
from typing import Any, Final

from wissel.apis.api import Api, Beginning, KeptAnswers, Simulation
from wissel.apis.errors import openai_error
from wissel.apis.estimate import MEDIA
from wissel.apis.findings import Findings
from wissel.apis.models import OPENAI_MODELS
from wissel.apis.parts import modalities_of
from wissel.apis.prompt import Prompt, list_of_objects, role_of
from wissel.apis.shapes import Json, object_of, objects_of, words_in
from wissel.apis.simulated import SEAL, Answer, Said, event, last_input
from wissel.apis.windows import Slices

_ENDS: Final = frozenset({"response.completed", "response.incomplete", "response.failed", "response.cancelled"})
_FINAL_STATES: Final = frozenset({"completed", "failed", "cancelled"})


def _read(prompt: Prompt, members: Json) -> Slices[None]:
    yield from prompt.say_member("system", members, "instructions")
    asked = members.get("input")
    if asked is None or isinstance(asked, str):
        yield from prompt.say_prompts(members, "input")
        return
    prompt.heard.add("input")
    for item in list_of_objects(members, "input", prompt.bounds):
        kind = str(item.get("type"))
        if kind.endswith("_call_output"):
            yield from prompt.say_message("tool", item, "output")
        elif "role" in item or ("content" in item and kind in {"message", "None"}):
            yield from prompt.say_message(role_of(item), item)
        elif modalities_of(item) & MEDIA.keys():
            yield from prompt.show(item)
        else:
            yield from prompt.weigh(item)
        yield from prompt.pause()


def _learn(found: Findings, said: Json) -> None:
    if said.get("type") in _ENDS:
        found.ended = True
    response = object_of(said.get("response")) or said
    found.take(response)
    status = response.get("status") if response.get("object") == "response" else None
    if status == "incomplete":
        reason = object_of(response.get("incomplete_details")).get("reason")
        found.finish(reason if isinstance(reason, str) else status)
    elif status in _FINAL_STATES:
        found.finish(status)


def _id_in(said: Json) -> object:
    response = object_of(said.get("response")) or said
    # Events of items carry ids of their own, and no response.
    return response.get("id") if response.get("object") == "response" else None


def _output(said: Json) -> int:
    if said.get("object") == "response":
        return words_in(said.get("output"))
    return words_in(said.get("delta")) if str(said.get("type")).endswith(".delta") else 0


_SILENT: Final = frozenset(
    {"response.created", "response.queued", "response.in_progress", "response.content_part.added"}
    | {"response.reasoning_summary_part.added"}
)
"""Events that come before any word."""


def _begins(said: Json) -> Beginning:
    kind = str(said.get("type"))
    response = object_of(said.get("response")) or said
    if kind == "error" or said.get("error") or response.get("error") or response.get("status") == "failed":
        return "error"
    if kind in _SILENT:
        return ""
    if kind == "response.output_item.added":
        # Of a call it tells the name; of anything else that more will come.
        return "" if object_of(said.get("item")).get("type") in {"message", "reasoning"} else "words"
    return "refusal" if kind.startswith("response.refusal.") or _is_refusal(response) else "words"


def _is_refusal(response: Json) -> bool:
    if object_of(response.get("incomplete_details")).get("reason") == "content_filter":
        return True
    parts = [part for item in objects_of(response.get("output")) for part in objects_of(item.get("content"))]
    return any(part.get("type") == "refusal" for part in parts)


def _whole(answer: Answer, *, done: bool = True) -> dict[str, Any]:
    usage = {
        "input_tokens": answer.input_tokens,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": answer.output_tokens,
        "output_tokens_details": {"reasoning_tokens": answer.thought_tokens},
        "total_tokens": answer.input_tokens + answer.output_tokens,
    }
    cut = {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}
    return {
        "id": f"resp_{answer.server}_{answer.number}",
        "object": "response",
        "created_at": answer.created,
        "status": "completed" if done else "in_progress",
        **(cut if done and answer.ended == "length" else {}),
        "model": answer.model,
        "output": [_item(answer, at, part, whole=True) for at, part in enumerate(answer.said)] if done else [],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": usage if done else None,
        "served_by": answer.server,
    }


def _events(answer: Answer) -> Iterator[bytes]:
    last = _whole(answer)
    told: list[dict[str, Any]] = [
        {"type": "response.created", "response": _whole(answer, done=False)},
        {"type": "response.in_progress", "response": _whole(answer, done=False)},
        *(each for at, part in enumerate(answer.said) for each in _told(answer, at, part)),
        {"type": f"response.{last['status']}", "response": last},
    ]
    for number, each in enumerate(told):
        yield event({**each, "sequence_number": number}, each["type"])


def _told(answer: Answer, at: int, part: Said) -> Iterator[dict[str, Any]]:
    """An item of a stream."""
    item = _item(answer, at, part, whole=True)
    place: dict[str, Any] = {"item_id": item["id"], "output_index": at}
    yield {"type": "response.output_item.added", "output_index": at, "item": _item(answer, at, part, whole=False)}
    match part.kind:
        case "thought":
            place["summary_index"] = 0
            kind, name = "response.reasoning_summary_text", "response.reasoning_summary_part"
            yield {"type": f"{name}.added", **place, "part": {"type": "summary_text", "text": ""}}
            yield from ({"type": f"{kind}.delta", **place, "delta": piece} for piece in part.pieces)
            yield {"type": f"{kind}.done", **place, "text": part.text}
            yield {"type": f"{name}.done", **place, "part": item["summary"][0]}
        case "call":
            kind = "response.function_call_arguments"
            yield from ({"type": f"{kind}.delta", **place, "delta": piece} for piece in part.pieces)
            yield {"type": f"{kind}.done", **place, "arguments": part.text}
        case _:
            place["content_index"] = 0
            is_text = part.kind == "text"
            kind, member = ("output_text", "text") if is_text else ("refusal", "refusal")
            more: dict[str, Any] = {"logprobs": []} if is_text else {}
            yield {"type": "response.content_part.added", **place, "part": _part(part, "")}
            for piece in part.pieces:
                yield {"type": f"response.{kind}.delta", **place, "delta": piece, **more}
            yield {"type": f"response.{kind}.done", **place, member: part.text, **more}
            yield {"type": "response.content_part.done", **place, "part": _part(part, part.text)}
    yield {"type": "response.output_item.done", "output_index": at, "item": item}


def _item(answer: Answer, at: int, part: Said, *, whole: bool) -> dict[str, Any]:
    of = f"{answer.server}_{answer.number}" + (f"_{at}" if at else "")
    status = "completed" if whole else "in_progress"
    match part.kind:
        case "thought":
            summary = [{"type": "summary_text", "text": part.text}] if whole else []
            sealed = {"encrypted_content": SEAL} if whole else {}
            return {"id": f"rs_{of}", "type": "reasoning", "summary": summary, **sealed}
        case "call":
            call = {"id": f"fc_{of}", "type": "function_call", "status": status, "call_id": f"call_{of}"}
            return {**call, "name": part.name, "arguments": part.text if whole else ""}
        case _:
            content = [_part(part, part.text)] if whole else []
            message = {"id": f"msg_{of}", "type": "message", "status": status, "role": "assistant"}
            return {**message, "content": content}


def _part(part: Said, text: str) -> dict[str, Any]:
    if part.kind == "refusal":
        return {"type": "refusal", "refusal": text}
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


RESPONSES: Final = Api(
    name="responses",
    paths=("/v1/responses", "/v1/responses/compact"),
    counting_paths=("/v1/responses/input_tokens",),
    counted=lambda tokens: {"object": "response.input_tokens", "input_tokens": tokens},
    marker="",
    operation="chat",
    read=_read,
    output_limits=("max_output_tokens",),
    usage_on_ask=None,
    learn=_learn,
    output=_output,
    begins=_begins,
    error=openai_error,
    models=OPENAI_MODELS,
    kept=KeptAnswers(
        asks_to_keep=lambda members: members.get("store") is not False,
        id_in=_id_in,
        goes_on_by="previous_response_id",
        asks=frozenset({("GET", ""), ("DELETE", ""), ("POST", "cancel"), ("GET", "input_items")}),
        listed=None,
    ),
    simulation=Simulation(last_input, _whole, _events),
)
