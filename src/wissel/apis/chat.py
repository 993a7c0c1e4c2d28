"""OpenAI's chat completions, which most servers speak."""

from collections.abc import Iterator
from typing import Any, Final

from wissel.apis import choices
from wissel.apis.api import Api, KeptAnswers, Simulation
from wissel.apis.errors import openai_error
from wissel.apis.models import OPENAI_MODELS
from wissel.apis.prompt import Prompt
from wissel.apis.shapes import Json, objects_of, words_in
from wissel.apis.simulated import Answer, Said, last_message
from wissel.apis.windows import Slices
from wissel.core.decision import ListedAnswer


def _read(prompt: Prompt, members: Json) -> Slices[None]:
    yield from prompt.say_messages(members)


def _asks_to_keep(members: Json) -> bool:
    # As lenient as servers are: to remember one answer more lets nobody see it.
    return bool(members.get("store"))


def _listed(answer: ListedAnswer) -> dict[str, Any]:
    named = {"id": answer.id, "object": "chat.completion", "created": answer.created, "model": answer.model}
    return {**named, "choices": []}


def _output(said: Json) -> int:
    return sum(words_in(each.get("delta") or each.get("message")) for each in objects_of(said.get("choices")))


_FINISH: Final = {"done": "stop", "length": "length", "tools": "tool_calls"}


def _whole(answer: Answer) -> dict[str, Any]:
    texts, refusals = answer.of("text"), answer.of("refusal")
    message: dict[str, Any] = {
        "role": "assistant",
        "content": texts[0].text if texts else None,
        "refusal": refusals[0].text if refusals else None,
    }
    if thoughts := answer.of("thought"):
        message["reasoning_content"] = thoughts[0].text
    if calls := answer.of("call"):
        message["tool_calls"] = [_call(answer, at, call, call.text) for at, call in enumerate(calls)]
    return {
        **choices.head(answer, "chat.completion"),
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": _FINISH[answer.ended]}],
        "usage": choices.usage(answer),
    }


def _call(answer: Answer, at: int, call: Said, arguments: str) -> dict[str, Any]:
    named = {"id": f"call_{answer.server}_{answer.number}_{at}", "type": "function"}
    return {**named, "function": {"name": call.name, "arguments": arguments}}


def _deltas(answer: Answer) -> Iterator[dict[str, Any]]:
    members = {"thought": "reasoning_content", "text": "content", "refusal": "refusal"}
    calls = 0
    for part in answer.said:
        if part.kind == "call":
            yield {"tool_calls": [{"index": calls, **_call(answer, calls, part, "")}]}
            for piece in part.pieces:
                yield {"tool_calls": [{"index": calls, "function": {"arguments": piece}}]}
            calls += 1
        else:
            yield from ({members[part.kind]: piece} for piece in part.pieces)


def _events(answer: Answer) -> Iterator[bytes]:
    deltas = [{"role": "assistant", "content": ""}, *_deltas(answer), {}]
    finish = _FINISH[answer.ended]
    told = [{"index": 0, "delta": delta, "finish_reason": None if delta else finish} for delta in deltas]
    yield from choices.events(answer, "chat.completion.chunk", told)


CHAT: Final = Api(
    name="chat",
    paths=("/v1/chat/completions",),
    counting_paths=(),
    counted=None,
    marker="",
    operation="chat",
    read=_read,
    output_limits=("max_completion_tokens", "max_tokens"),
    usage_on_ask=choices.USAGE_ON_ASK,
    learn=choices.learn,
    output=_output,
    begins=choices.begins,
    error=openai_error,
    models=OPENAI_MODELS,
    kept=KeptAnswers(
        asks_to_keep=_asks_to_keep,
        id_in=lambda said: said.get("id"),
        goes_on_by="",
        asks=frozenset({("GET", ""), ("POST", ""), ("DELETE", ""), ("GET", "messages")}),
        listed=_listed,
    ),
    simulation=Simulation(last_message, _whole, _events),
)
