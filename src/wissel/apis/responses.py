"""OpenAI's responses: instructions and items, answered by items or by typed events."""

from collections.abc import Iterator
from typing import Any, Final

from wissel.apis.api import Api, KeptAnswers, Simulation
from wissel.apis.errors import openai_error
from wissel.apis.estimate import MEDIA
from wissel.apis.findings import Findings
from wissel.apis.models import OPENAI_MODELS
from wissel.apis.parts import modalities_of
from wissel.apis.prompt import Prompt, list_of_objects, role_of
from wissel.apis.shapes import Json, object_of, words_in
from wissel.apis.simulated import Answer, event, last_input
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


def _whole(answer: Answer, *, done: bool = True) -> dict[str, Any]:
    usage = {
        "input_tokens": answer.input_tokens,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": answer.output_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": answer.input_tokens + answer.output_tokens,
    }
    return {
        "id": f"resp_{answer.server}_{answer.number}",
        "object": "response",
        "created_at": answer.created,
        "status": "completed" if done else "in_progress",
        "model": answer.model,
        "output": [_item(answer, answer.text)] if done else [],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": usage if done else None,
        "served_by": answer.server,
    }


def _events(answer: Answer) -> Iterator[bytes]:
    item = f"msg_{answer.server}_{answer.number}"
    at: dict[str, Any] = {"item_id": item, "output_index": 0, "content_index": 0}
    told: list[dict[str, Any]] = [
        {"type": "response.created", "response": _whole(answer, done=False)},
        {"type": "response.in_progress", "response": _whole(answer, done=False)},
        {"type": "response.output_item.added", "output_index": 0, "item": _item(answer, None)},
        {"type": "response.content_part.added", **at, "part": _part("")},
        *({"type": "response.output_text.delta", **at, "delta": piece, "logprobs": []} for piece in answer.pieces),
        {"type": "response.output_text.done", **at, "text": answer.text, "logprobs": []},
        {"type": "response.content_part.done", **at, "part": _part(answer.text)},
        {"type": "response.output_item.done", "output_index": 0, "item": _item(answer, answer.text)},
        {"type": "response.completed", "response": _whole(answer)},
    ]
    for number, each in enumerate(told):
        yield event({**each, "sequence_number": number}, each["type"])


def _item(answer: Answer, text: str | None) -> dict[str, Any]:
    return {
        "id": f"msg_{answer.server}_{answer.number}",
        "type": "message",
        "status": "in_progress" if text is None else "completed",
        "role": "assistant",
        "content": [] if text is None else [_part(text)],
    }


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


RESPONSES: Final = Api(
    name="responses",
    paths=("/v1/responses", "/v1/responses/compact"),
    counting_paths=("/v1/responses/input_tokens",),
    marker="",
    operation="chat",
    read=_read,
    output_limits=("max_output_tokens",),
    usage_on_ask=None,
    learn=_learn,
    output=_output,
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
