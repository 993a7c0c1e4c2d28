"""What a router model is asked, and how its answer is read.

    routes, conversation -> prompt -> (the model, wherever it runs) -> answer -> route

A router model knows its own prompt and no other, so every byte counts: the
templates are the model cards', spacing included. Routes stand first and in the
operator's order, so that everything before the conversation is the same for
every request and can be computed once. Nothing here knows who runs the model.
"""

import ast
import json
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

from wissel.core.intent import OTHER
from wissel.core.request import Conversation, Turn
from wissel.core.snapshot import Route

ProfileName = Literal["arch_router", "plano_orchestrator"]

MAX_TURNS = 16
BYTES_PER_TOKEN = 4
"""The gateway's estimate; rounded down, where `core.request` rounds up."""
ELLIPSIS = "…"


@dataclass(frozen=True, slots=True)
class Profile:
    """How one family of router models is asked and answers."""

    before_routes: str
    before_conversation: str
    after_conversation: str
    budget: int
    """Tokens of template and conversation together, by the gateway's estimate."""
    write_routes: Callable[[Sequence[Mapping[str, str]]], str]
    write_conversation: Callable[[Sequence[Mapping[str, str]]], str]
    answer_with: Callable[[str], object]
    """What `route` holds in the answer that names this route, or OTHER."""

    @property
    def template_bytes(self) -> int:
        return sum(
            len(part.encode()) for part in (self.before_routes, self.before_conversation, self.after_conversation)
        )

    @property
    def least_budget(self) -> int:
        """The smallest that shows the model something of the conversation."""
        return self.template_bytes // BYTES_PER_TOKEN + 1

    def prompt(self, routes: Iterable[Route], turns: Iterable[Turn]) -> str:
        """The text of the one user message that the model is sent."""
        described = [{"name": route.name, "description": describe(route)} for route in routes]
        said = [{"role": turn.role, "content": turn.text} for turn in turns]
        return (
            self.before_routes
            + _defuse(self.write_routes(described))
            + self.before_conversation
            + _defuse(self.write_conversation(said))
            + self.after_conversation
        )

    def answers(self, routes: Iterable[Route]) -> dict[str, str]:
        """Every legal answer by the route it names, in the routes' order; the last is for `other`."""
        names = [*(route.name for route in routes), OTHER]
        return {name: json.dumps({"route": self.answer_with(name)}) for name in names}

    def trim(self, conversation: Conversation, budget: int | None = None) -> tuple[Turn, ...]:
        """The turns that the model is shown, as its gateway picks them.

        Users and assistants only, the last `MAX_TURNS` of them, newest first
        while the budget lasts. The user turn that would break it loses its
        middle, because people say what they want before or after what they paste.
        """
        spoken = [turn for turn in conversation.turns if turn.role in {"user", "assistant"} and turn.text][-MAX_TURNS:]
        left = (self.budget if budget is None else budget) - self.template_bytes // BYTES_PER_TOKEN
        shown: list[Turn] = []
        for turn in reversed(spoken):
            tokens = len(_utf8(turn.text)) // BYTES_PER_TOKEN
            if tokens > left:
                if left > 0 and (turn.role == "user" or not shown):
                    shown.append(Turn(turn.role, trim_middle(turn.text, left * BYTES_PER_TOKEN)))
                break
            left -= tokens
            shown.append(turn)
        return tuple(reversed(shown))


def describe(route: Route) -> str:
    """A route in words: its description, or else its domain and action."""
    return route.description or ": ".join(filter(None, (route.domain, route.action)))


def trim_middle(text: str, max_bytes: int) -> str:
    """At most `max_bytes` of UTF-8: three fifths from the start, the rest from the end, an ellipsis between."""
    data = _utf8(text)
    if len(data) <= max_bytes:
        return text
    room = max_bytes - len(ELLIPSIS.encode())
    if room <= 0:
        return data[:max_bytes].decode(errors="ignore")
    head = data[: room * 3 // 5].decode(errors="ignore")
    tail = data[len(data) - (room - len(head.encode())) :].decode(errors="ignore")
    return head + ELLIPSIS + tail


def _utf8(text: str) -> bytes:
    return text.encode(errors="replace")


_CHAT_MARK = re.compile(r"<(?=\|\w+\|>)")


def _defuse(written: str) -> str:
    """The same JSON with chat marks such as `<|im_end|>` escaped: no caller's text becomes a message of its own."""
    return _CHAT_MARK.sub(r"\\u003c", written)


def _json_lines(items: Sequence[Mapping[str, str]]) -> str:
    return "\n".join(_utf8(json.dumps(item, ensure_ascii=False)).decode() for item in items)


def _json_indented(items: Sequence[Mapping[str, str]]) -> str:
    return _utf8(json.dumps(items, ensure_ascii=False, indent=4)).decode()


PROFILES: Mapping[ProfileName, Profile] = {
    # The model card of katanemo/Arch-Router-1.5B; the blanks at two line ends are its own.
    "arch_router": Profile(
        before_routes="""
You are a helpful assistant designed to find the best suited route.
You are provided with route description within <routes></routes> XML tags:
<routes>

""",
        before_conversation="""

</routes>

<conversation>

""",
        after_conversation="""

</conversation>

Your task is to decide which route is best suit with user intent on the conversation in <conversation></conversation> XML tags.  Follow the instruction:
1. If the latest intent from user is irrelevant or user intent is full filled, response with other route {"route": "other"}.
2. You must analyze the route descriptions and find the best match route for user latest intent.\x20
3. You only response the name of the route that best matches the user's request, use the exact name in the <routes></routes>.

Based on your analysis, provide your response in the following JSON formats if you decide to match any route:
{"route": "route_name"}\x20
""",  # noqa: E501  the prompt's own lines
        budget=2048,
        write_routes=json.dumps,
        write_conversation=json.dumps,
        answer_with=lambda name: name,
    ),
    # Its successor, katanemo/Plano-Orchestrator: routes one a line, the conversation indented, an array for an answer.
    "plano_orchestrator": Profile(
        before_routes="""\
You are a helpful assistant that selects the most suitable routes based on user intent.
You are provided with a list of available routes enclosed within <routes></routes> XML tags:
<routes>
""",
        before_conversation="""
</routes>

You are also given the conversation context enclosed within <conversation></conversation> XML tags:
<conversation>
""",
        after_conversation="""
</conversation>

## Instructions
1. Analyze the latest user intent from the conversation.
2. Compare it against the available routes to find which routes can help fulfill the request.
3. Respond only with the exact route names from <routes>.
4. If no routes can help or the intent is already fulfilled, return an empty list.

## Response Format
Return your answer strictly in JSON as follows:
{"route": ["route_name_1", "route_name_2", "..."]}
If no routes are needed, return an empty list for `route`.""",
        budget=8192,
        write_routes=_json_lines,
        write_conversation=_json_indented,
        answer_with=lambda name: [] if name == OTHER else [name],
    ),
}


ReadKind = Literal["route", "other", "unknown", "unreadable"]


@dataclass(frozen=True, slots=True)
class AnswerReading:
    """What an answer says."""

    route: str
    """A known name, or OTHER."""
    kind: ReadKind
    """`unknown` names no route of ours, `unreadable` names nothing; both count as OTHER."""


ReadCounts = Counter[ReadKind]
"""How often answers were read which way, for metrics."""

_LONGEST_ANSWER = 4096
_ROUTE_PAIR = re.compile(r"""["']?route["']?\s*:\s*\[?\s*["']([^"'\n]+)""")


def read_answer(text: str, names: Collection[str]) -> AnswerReading:
    """The route that `text` names, whichever way it was written down.

    Deployed models also answer with single quotes, code fences, line breaks
    (real and escaped), several routes in an array (the first known one counts),
    the bare name, or nothing at all, which means `other`.
    """
    text = text[:_LONGEST_ANSWER].strip("`\"' \n")
    if not text:
        return AnswerReading(OTHER, "other")
    said = [text] if text in names else _names_in(text)
    if said is None:
        return AnswerReading(OTHER, "unreadable")
    known = next((name for name in said if name in names), None)
    if known is not None and known != OTHER:
        return AnswerReading(known, "route")
    return AnswerReading(OTHER, "unknown" if any(name and name != OTHER for name in said) else "other")


def _names_in(text: str) -> list[str] | None:
    """The names that the answer gives, best first; none for an empty list, None if it cannot be read."""
    body = text[text.find("{") : text.rfind("}") + 1]
    for written in (body, body.replace("\\n", "")):
        for parse in (json.loads, ast.literal_eval):
            try:
                return _names_of(cast("dict[str, Any]", parse(written))["route"])
            except (ValueError, SyntaxError, KeyError, TypeError, RecursionError, MemoryError):
                continue
    if pair := _ROUTE_PAIR.search(text):
        return [pair[1].strip()]
    # One word may be a name that we do not know; prose is not.
    return [text] if len(text.split()) == 1 and "{" not in text else None


def _names_of(value: object) -> list[str]:
    match value:
        case None:
            return []
        case str():
            return [value.strip()]
        case list():
            return [name for item in cast("list[object]", value) for name in _names_of(item)]
        case _:
            raise TypeError(value)
