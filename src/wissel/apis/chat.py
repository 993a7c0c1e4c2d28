"""OpenAI's chat completions, which most servers speak."""

from collections.abc import Iterator
from typing import Any, Final

from wissel.apis import choices
from wissel.apis.api import Api, KeptAnswers, Simulation
from wissel.apis.errors import openai_error
from wissel.apis.models import OPENAI_MODELS
from wissel.apis.prompt import Prompt
from wissel.apis.shapes import Json, objects_of, words_in
from wissel.apis.simulated import Answer, last_message
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


def _whole(answer: Answer) -> dict[str, Any]:
    message = {"role": "assistant", "content": answer.text, "refusal": None}
    return {
        **choices.head(answer, "chat.completion"),
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
        "usage": choices.usage(answer),
    }


def _events(answer: Answer) -> Iterator[bytes]:
    deltas = [{"role": "assistant", "content": ""}, *({"content": piece} for piece in answer.pieces), {}]
    told = [{"index": 0, "delta": delta, "finish_reason": None if delta else "stop"} for delta in deltas]
    yield from choices.events(answer, "chat.completion.chunk", told)


CHAT: Final = Api(
    name="chat",
    paths=("/v1/chat/completions",),
    counting_paths=(),
    marker="",
    operation="chat",
    read=_read,
    output_limits=("max_completion_tokens", "max_tokens"),
    usage_on_ask=choices.USAGE_ON_ASK,
    learn=choices.learn,
    output=_output,
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
