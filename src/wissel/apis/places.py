"""Where a request that is no LLM call can name a model: one table, by who reads it there.

    members of JSON, words of a path, names of a query -> every model that is named

What goes past unread but for its models must be read as any server behind would
read it, so names are taken in every spelling and from every place of every
provider at once. A place that is missing here lets nothing through: what names
no model that is known is refused to everybody who may not use all of them.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final, cast
from urllib.parse import unquote

EACH: Final = "*"
"""Every item of an array."""


@dataclass(frozen=True, slots=True)
class ModelPlace:
    """Members on the way to a name, from the outermost object in; all in lower case."""

    provider: str
    path: tuple[str, ...]

    def __str__(self) -> str:
        return ".".join(self.path).replace(f".{EACH}", "[]")


IN_JSON: Final = (
    ModelPlace("all", ("model",)),
    ModelPlace("openrouter", ("models", EACH)),
    ModelPlace("litellm", ("fallbacks", EACH)),
    ModelPlace("litellm", ("fallbacks", EACH, "model")),
    ModelPlace("openai realtime", ("session", "model")),
    ModelPlace("openai realtime", ("session", "input_audio_transcription", "model")),
    ModelPlace("openai realtime", ("session", "audio", "input", "transcription", "model")),
    ModelPlace("openai realtime", ("input_audio_transcription", "model")),
    ModelPlace("openai realtime", ("response", "model")),
    ModelPlace("openai batches", ("body", "model")),
    ModelPlace("openai evals", ("data_source", "model")),
    ModelPlace("openai evals", ("testing_criteria", EACH, "model")),
    ModelPlace("openai fine-tuning", ("grader", "model")),
    ModelPlace("openai fine-tuning", ("method", "reinforcement", "grader", "model")),
    ModelPlace("openai assistants", ("assistant", "model")),
    ModelPlace("anthropic batches", ("requests", EACH, "params", "model")),
    ModelPlace("anthropic batches", ("params", "model")),
    ModelPlace("gemini", ("requests", EACH, "model")),
    ModelPlace("gemini", ("requests", EACH, "request", "model")),
    ModelPlace("gemini", ("request", "model")),
    ModelPlace("gemini batches", ("batch", "model")),
    ModelPlace("bedrock", ("modelid",)),
    ModelPlace("watsonx", ("model_id",)),
    ModelPlace("triton, mlflow", ("model_name",)),
)
"""In a body, in each line of a file of JSON, and in each item where a body is an array."""

IN_PATHS: Final = {
    "models": "openai, gemini, vertex, hugging face",
    "model": "bedrock",
    "deployments": "azure",
    "engines": "openai before 2023",
}
"""Words of a path that a model follows, and whose they are."""

_VERBS: Final = frozenset(
    {
        "generatecontent", "streamgeneratecontent", "batchgeneratecontent", "embedcontent", "batchembedcontents",
        "asyncbatchembedcontent", "counttokens", "computetokens", "predict", "predictlongrunning", "rawpredict",
        "streamrawpredict", "serverstreamingpredict", "fetchpredictoperation",
    }
)  # fmt: skip
"""What Google's paths say behind the model's name and a colon."""


def _plain(name: str) -> str:
    return unquote(name).strip().removesuffix("[]").lower()


_NAMES: Final = frozenset({"model", "models", "modelid", "model_id", "model_name", "modelname"})
"""Of a form's field or a query's."""


def is_model(name: str) -> bool:
    """Whether a field of this name, in any spelling, names a model."""
    return _plain(name) in _NAMES


_Tree = dict[str, Any]


def _tree() -> _Tree:
    root: _Tree = {}
    for place in IN_JSON:
        at = root
        for step in place.path:
            at = at.setdefault(step, {})
        at[""] = {}
    return root


_PLACES: Final = _tree()
"""The table by its members, an end marked by an empty name."""


def named_in_json(value: object) -> Iterator[str | None]:
    """Every model that a JSON value names, and None for every member or item that was looked at on the way.

    What is no text where a name should be is none that is known.
    """
    return _named(value, {EACH: _PLACES} if isinstance(value, list) else _PLACES)


def _named(value: object, places: _Tree) -> Iterator[str | None]:
    if "" in places and value is not None:
        if isinstance(value, str):
            yield value
        elif not isinstance(value, dict | list):
            yield json.dumps(value)[:200]
        elif len(places) == 1:
            yield "[…]" if isinstance(value, list) else "{…}"
    if isinstance(value, dict):
        for name, inner in cast("dict[str, object]", value).items():
            yield None
            if (further := places.get(_plain(name))) is not None:
                yield from _named(inner, further)
    elif isinstance(value, list) and EACH in places:
        for inner in cast("list[object]", value):
            yield None
            yield from _named(inner, places[EACH])


def named_in_path(path: str) -> list[str]:
    """The models that a path, as the caller wrote it, has behind a word of the table."""
    words = [unquote(word) for word in path.partition("?")[0].split("/") if word]
    found: list[str] = []
    for word, following in pairwise(words):
        if word.lower() in IN_PATHS:
            name, colon, verb = following.rpartition(":")
            found.append(name if colon and verb.lower() in _VERBS else following)
    return found
