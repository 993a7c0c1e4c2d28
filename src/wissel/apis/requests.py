"""From an LLM call's body to the `Request` that is decided."""

from collections.abc import Iterator, Mapping
from typing import Final, cast

from wissel.apis.api import Api
from wissel.apis.body import Body
from wissel.apis.estimate import UNBILLED
from wissel.apis.labels import labels_in
from wissel.apis.prompt import Prompt
from wissel.apis.shapes import Json, object_of
from wissel.apis.windows import Slices
from wissel.core.affinity import MadeId
from wissel.core.bounds import Bounds
from wissel.core.quoting import quoted
from wissel.core.request import MAX_OUTPUT_TOKENS, Conversation, Request
from wissel.errors import UnreadableError

_LONGEST_SETTING: Final = 64
"""Characters of a text beside the messages that is taken for a setting, which no model is shown."""
_MOST_ANSWERS: Final = 1_000
_MOST_NAMED: Final = 32
"""Models that a caller lists; a plan is far shorter."""


def understand(api: Api, path: str, headers: Mapping[str, str], body: Body, bounds: Bounds) -> Slices[Request]:
    """The call as the decision reads it. Raises UnreadableError where messages or input are of no use."""
    members = body.members
    streams = _streams(members)
    prompt = Prompt(bounds)
    yield from api.read(prompt, members)
    for name, value in cast("Mapping[str, object]", members).items():
        is_shown = isinstance(value, dict | list) or (isinstance(value, str) and len(value) > _LONGEST_SETTING)
        if is_shown and name not in prompt.heard and name not in UNBILLED:
            yield from prompt.weigh(cast("object", value))
    kept = api.kept
    previous = members.get(kept.goes_on_by) if kept is not None else None
    return Request(
        api=api.name,
        path=path,
        model=body.model,
        conversation=Conversation(tuple(prompt.turns)),
        needs=frozenset(prompt.needs),
        input_tokens=prompt.tokens,
        context_tokens=prompt.context_tokens,
        max_output_tokens=max((_whole(value) for value in _reserving(api, members)), default=0),
        answers=_answers(members) * prompt.prompts if api.output_limits else 0,
        only_counts=path in api.counting_paths,
        stream=streams,
        headers=headers,
        labels=labels_in(members),
        keeps=kept is not None and kept.asks_to_keep(members),
        previous=MadeId(api.name, previous) if isinstance(previous, str) and previous else None,
        goes_on_by=kept.goes_on_by if kept is not None else "",
        fallbacks=_named(members),
    )


def _named(members: Json) -> tuple[str, ...]:
    """What `models` lists, as OpenRouter's callers write it."""
    listed = members.get("models")
    names = cast("list[object]", listed) if isinstance(listed, list) else []
    return tuple(name for name in names[:_MOST_NAMED] if isinstance(name, str))


def _streams(members: Json) -> bool:
    # Only names of its length: to lower a thousand long ones would take everybody's time.
    alike = (name for name in members if len(name) == len("stream") and name.lower() == "stream")
    if odd := next((name for name in alike if name != "stream"), None):
        # Some servers do not mind letter case.
        raise UnreadableError(f'the body asks for a stream as {quoted(odd)}; write "stream"', param=odd)
    stream = members.get("stream")
    if stream is not None and not isinstance(stream, bool):
        # Some servers take "true" and 1 for true, some take "false" for it, and others refuse.
        raise UnreadableError('"stream" must be true or false', param="stream")
    return stream is True


def _reserving(api: Api, members: Json) -> Iterator[object]:
    """Whichever of them a server keeps to, and what it may think besides."""
    yield from (members.get(name) for name in api.output_limits)
    if api.output_limits:
        yield object_of(members.get("thinking")).get("budget_tokens")
        yield object_of(members.get("reasoning")).get("max_tokens")
        yield members.get("thinking_budget")


def _answers(members: Json) -> int:
    asked = max(_whole(members.get("n")), _whole(members.get("best_of")), 1)
    return min(asked, _MOST_ANSWERS)


def _whole(value: object) -> int:
    """A number as lenient servers read it; 0 for what is none."""
    match value:
        case bool():
            return 0
        case int() | float() if value > 0:
            return int(min(value, MAX_OUTPUT_TOKENS))
        case str() if value.strip().isdecimal():
            return int(min(float(value.strip()[:_LONGEST_SETTING]), MAX_OUTPUT_TOKENS))
        case _:
            return 0
