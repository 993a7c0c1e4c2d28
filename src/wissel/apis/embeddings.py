"""OpenAI's embeddings: texts become vectors, never a stream."""

import base64
import hashlib
import struct
from typing import Any, Final

from wissel.apis.api import Api, Beginning, Simulation
from wissel.apis.errors import openai_error
from wissel.apis.findings import Findings
from wissel.apis.models import OPENAI_MODELS
from wissel.apis.prompt import Prompt
from wissel.apis.shapes import Json
from wissel.apis.simulated import Answer, last_input, tokens
from wissel.apis.windows import Slices


def _read(prompt: Prompt, members: Json) -> Slices[None]:
    yield from prompt.say_prompts(members, "input", takes_parts=True)
    # As vLLM takes them, of a model that reads a conversation.
    yield from prompt.say_messages(members)


def _learn(found: Findings, said: Json) -> None:
    found.take(said)


def _begins(said: Json) -> Beginning:
    return "error" if said.get("error") else "words"


def _output(_: Json) -> int:
    return 0


def _whole(answer: Answer) -> dict[str, Any]:
    asked = answer.body.get("input", "")
    texts = [asked] if isinstance(asked, str) else list(asked)
    vectors = [_vector(str(text), int(answer.body.get("dimensions") or 8)) for text in texts]
    if answer.body.get("encoding_format") == "base64":
        values: list[Any] = [base64.b64encode(struct.pack(f"<{len(v)}f", *v)).decode() for v in vectors]
    else:
        values = list(vectors)
    count = sum(tokens(str(text)) for text in texts)
    return {
        "object": "list",
        "data": [{"object": "embedding", "index": i, "embedding": value} for i, value in enumerate(values)],
        "model": answer.model,
        "usage": {"prompt_tokens": count, "total_tokens": count},
        "served_by": answer.server,
    }


def _vector(text: str, dimensions: int) -> list[float]:
    """Of length one, the same for the same text; near texts are not near."""
    noise = hashlib.shake_256(text.encode()).digest(dimensions)
    raw = [byte - 127.5 for byte in noise]
    length = sum(x * x for x in raw) ** 0.5
    return [x / length for x in raw]


EMBEDDINGS: Final = Api(
    name="embeddings",
    paths=("/v1/embeddings",),
    counting_paths=(),
    counted=None,
    marker="",
    operation="embeddings",
    read=_read,
    output_limits=(),
    usage_on_ask=None,
    learn=_learn,
    output=_output,
    begins=_begins,
    error=openai_error,
    models=OPENAI_MODELS,
    kept=None,
    simulation=Simulation(last_input, _whole, None),
)
