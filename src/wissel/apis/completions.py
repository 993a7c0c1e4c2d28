"""OpenAI's completions of a text, which came before chat."""

from collections.abc import Iterator
from typing import Any, Final

from wissel.apis import choices
from wissel.apis.api import Api, Simulation
from wissel.apis.errors import openai_error
from wissel.apis.models import OPENAI_MODELS
from wissel.apis.prompt import Prompt
from wissel.apis.shapes import Json, objects_of, words_in
from wissel.apis.simulated import Answer, plain
from wissel.apis.windows import Slices


def _read(prompt: Prompt, members: Json) -> Slices[None]:
    yield from prompt.say_prompts(members, "prompt")


def _output(said: Json) -> int:
    return sum(words_in(choice.get("text")) for choice in objects_of(said.get("choices")))


def _question(body: Json) -> str:
    return plain(body.get("prompt"))


def _whole(answer: Answer) -> dict[str, Any]:
    return {
        **choices.head(answer, "text_completion"),
        "choices": [{"index": 0, "text": answer.text, "logprobs": None, "finish_reason": "stop"}],
        "usage": choices.usage(answer),
    }


def _events(answer: Answer) -> Iterator[bytes]:
    texts = [*answer.pieces, ""]
    told = [{"index": 0, "text": text, "finish_reason": None if text else "stop"} for text in texts]
    yield from choices.events(answer, "text_completion", told)


COMPLETIONS: Final = Api(
    name="completions",
    paths=("/v1/completions",),
    counting_paths=(),
    counted=None,
    marker="",
    operation="text_completion",
    read=_read,
    output_limits=("max_tokens",),
    usage_on_ask=choices.USAGE_ON_ASK,
    learn=choices.learn,
    output=_output,
    begins=choices.begins,
    error=openai_error,
    models=OPENAI_MODELS,
    kept=None,
    simulation=Simulation(_question, _whole, _events),
)
