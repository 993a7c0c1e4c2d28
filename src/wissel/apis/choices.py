"""What chat and completions share: answers with choices, and usage that a stream tells where it is asked."""

import re
from collections.abc import Iterator
from typing import Any, Final

from wissel.apis.api import Beginning, UsageOnAsk
from wissel.apis.body import Body, Splice
from wissel.apis.findings import Findings
from wissel.apis.shapes import Json, object_of, objects_of, words_in
from wissel.apis.simulated import Answer, event

_INCLUDE_USAGE: Final = '"include_usage": true'


# What is asked.


def _ask_for_usage(body: Body) -> tuple[Splice, ...]:
    """Where `include_usage` is there twice, both say yes, whichever a server reads."""
    options = body.members.get("stream_options")
    if options is None:
        if "stream_options" in body.spans:
            return (Splice(*body.spans["stream_options"], f"{{{_INCLUDE_USAGE}}}"),)
        _, end = body.spans["model"]
        return (Splice(end, end, f', "stream_options": {{{_INCLUDE_USAGE}}}'),)
    told = object_of(body.members["stream_options"])
    if not isinstance(options, dict) or told.get("include_usage") is True:
        # What is no object is wrong, and the upstream will say so.
        return ()
    inside = list(body.inside("stream_options"))
    found = tuple(Splice(start, end, "true") for name, start, end in inside if name == "include_usage")
    start = body.spans["stream_options"][0] + 1
    return found or (Splice(start, start, f"{_INCLUDE_USAGE}, " if inside else _INCLUDE_USAGE),)


# What is answered.


def learn(found: Findings, said: Json) -> None:
    found.take(said)
    for at, choice in enumerate(objects_of(said.get("choices"))):
        index = choice.get("index")
        found.finish(choice.get("finish_reason"), index if isinstance(index, int) else at)


def begins(said: Json) -> Beginning:
    """A chunk that only gives the role, or counts, is no word yet."""
    if said.get("error") or said.get("object") == "error":
        return "error"
    choices = objects_of(said.get("choices"))
    if choices and all(_refuses(each) for each in choices):
        return "refusal"
    return "words" if any(_says_something(each) for each in choices) else ""


def _message(choice: Json) -> Json:
    return object_of(choice.get("delta")) or object_of(choice.get("message"))


def _refuses(choice: Json) -> bool:
    return choice.get("finish_reason") == "content_filter" or bool(_message(choice).get("refusal"))


def _says_something(choice: Json) -> bool:
    message = _message(choice)
    told = choice.get("finish_reason") or message.get("tool_calls") or choice.get("text")
    return bool(told) or words_in(message) > 0


_TELLING: Final = frozenset({"usage", "choices", "x_groq", "timings"})
"""Members of a chunk that may hold more than a word and say nothing of the answer itself."""
_WORDS: Final = frozenset(
    {"answer", "content", "data", "delta", "error", "generated_text", "message", "output", "output_text", "reasoning"}
    | {"reasoning_content", "refusal", "response", "text", "token"}
)
"""Members that are words of an answer, or of an error."""


def _is_usage(said: Json) -> bool:
    """Not where a chunk says anything else that somebody may want to read."""
    if said.get("choices") or not object_of(said.get("usage")):
        return False
    return not any(
        value and (name in _WORDS or isinstance(value, dict | list))
        for name, value in said.items()
        if name not in _TELLING
    )


USAGE_ON_ASK: Final = UsageOnAsk(
    ask=_ask_for_usage,
    is_chunk=_is_usage,
    other=re.compile(rb'"choices"\s*:\s*\[\s*[^\]\s]|^data: ?\['),
)


# What is simulated.


def head(answer: Answer, kind: str) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{answer.server}-{answer.number}",
        "object": kind,
        "created": answer.created,
        "model": answer.model,
        "system_fingerprint": f"fp_{answer.server}",
        "served_by": answer.server,
    }


def usage(answer: Answer) -> dict[str, Any]:
    counts = answer.input_tokens, answer.output_tokens
    told: dict[str, Any] = {"prompt_tokens": counts[0], "completion_tokens": counts[1], "total_tokens": sum(counts)}
    if thought := answer.thought_tokens:
        told["completion_tokens_details"] = {"reasoning_tokens": thought}
    return told


def events(answer: Answer, kind: str, choices: list[dict[str, Any]]) -> Iterator[bytes]:
    begun = head(answer, kind)
    options: Json = answer.body.get("stream_options") or {}
    with_usage = bool(options.get("include_usage"))
    for choice in choices:
        yield event({**begun, "choices": [choice], **({"usage": None} if with_usage else {})})
    if with_usage:
        yield event({**begun, "choices": [], "usage": usage(answer)})
    yield b"data: [DONE]\n\n"
