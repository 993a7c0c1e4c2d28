"""Messages, items and prompts become turns, whichever API's body they stand in.

Contents are read by one set of names, for no two APIs mean different things by
the type of a part.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Final, cast

from wissel.apis.estimate import MEDIA, text_tokens, weigh, weigh_medium
from wissel.apis.parts import modalities_of
from wissel.apis.shapes import Json
from wissel.apis.windows import Slices
from wissel.core.bounds import Bounds, beyond
from wissel.core.request import Role, Turn, first_of
from wissel.errors import UnreadableError

_ROLES: Final[Mapping[str, Role]] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "function": "tool",
}

_BREATH: Final = 256
"""Things read between two pauses."""
_VALUES_TO_A_PART: Final = 8
"""So many values of a structure are as much work as one part."""
_BREATH_CHARACTERS: Final = 256 * 1024
_MOST_JOINED: Final = 64 * 1024
"""Characters of a turn's first parts that are kept, and of its last ones; the last of each may go beyond."""
_TOKENS_AT_ONCE: Final = 16 * 1024
_TOOL_RESULTS: Final = frozenset({"tool_result", "mcp_tool_result"})
_OF_TEXT: Final = 2
"""The members of a part that is nothing but text."""


class Prompt:
    """Gathers turns, what they carry and estimates of tokens while one body is read."""

    __slots__ = (
        "_context",
        "_has_unknown",
        "_longest",
        "_parts",
        "_since",
        "bounds",
        "heard",
        "needs",
        "prompts",
        "tokens",
        "turns",
    )

    def __init__(self, bounds: Bounds) -> None:
        self.bounds: Final = bounds
        self.turns: list[Turn] = []
        self.needs: set[str] = {"text"}
        """Modalities; and the first kind of part that is none, as a sentence names it."""
        self.tokens = 0
        """Of all that a provider bills."""
        self.prompts = 1
        """How many are answered apart."""
        self.heard: set[str] = set()
        """The members of the body that were read."""
        self._has_unknown = False
        self._context = 0
        self._longest = 0
        self._parts = 0
        self._since = 0

    @property
    def context_tokens(self) -> int:
        """What a model has to hold at once: everything, but of several prompts only the longest."""
        return self._context + self._longest

    def say(self, role: Role, content: object) -> Slices[None]:
        """One turn; a message that mixes tool results and text becomes one turn of each."""
        text, results = yield from self._texts(content, is_outer=True)
        if results:
            self.turns.append(Turn("tool", _joined(results)))
        if text or not results:
            self.turns.append(Turn(role, _joined(text)))

    def say_member(self, role: Role, members: Json, name: str) -> Slices[None]:
        """One turn, if that member of the body says anything."""
        self.heard.add(name)
        if members.get(name):
            yield from self.say(role, members[name])

    def say_message(self, role: Role, message: Json, content: str = "content") -> Slices[None]:
        """One turn, with all else that the message shows to a model."""
        self._size_up(message)
        yield from self.say(role, message.get(content))
        rest = {name: value for name, value in message.items() if name not in {"role", content}}
        if rest:
            for image in self._few(_listed(rest.pop("images", None))):
                # Pictures of an answer, as OpenRouter tells them and clients send them back.
                yield from self._show(cast("Json", image) if isinstance(image, dict) else {"image": image})
            yield from self.weigh(rest)

    def weigh(self, value: object) -> Slices[None]:
        """Something that a model is shown and nobody here reads."""
        tokens, values = yield from weigh(value)
        self._count(tokens)
        self._since += values // _VALUES_TO_A_PART
        yield from self.pause()

    def show(self, item: Json) -> Slices[None]:
        """Something that is no message: a medium, or a structure."""
        yield from self._texts([item], is_outer=False)

    def _texts(self, content: object, *, is_outer: bool) -> Slices[tuple[list[str], list[str]]]:
        if isinstance(content, str):
            return [self._hear(content)], []
        text: list[str] = []
        results: list[str] = []
        for part in self._few(_listed(content)):
            if isinstance(part, str):
                text.append(self._hear(part))
            elif not isinstance(part, dict):
                yield from self.weigh(part)
            elif (said := cast("Json", part)).get("type") in _TOOL_RESULTS:
                self._size_up(said)
                inner, _ = yield from self._texts(said.get("content"), is_outer=False)
                (results if is_outer else text).append(_joined(inner))
                yield from self.weigh({name: value for name, value in said.items() if name != "content"})
            elif (found := (yield from self._show(said))) is not None:
                text.append(found)
            yield from self.pause()
        return text, results

    def _show(self, part: Json) -> Slices[str | None]:
        """What a part carries is needed, and counted; its text, if it has some."""
        self._size_up(part)
        carried = modalities_of(part)
        if carried <= MEDIA.keys() or not self._has_unknown:
            self.needs |= carried
            self._has_unknown = self._has_unknown or not carried <= MEDIA.keys()
        words = part.get("text", part.get("refusal"))
        text = words if isinstance(words, str) else None
        if not carried.isdisjoint(MEDIA):
            yield from self._see(part, carried)
        elif text is None:
            yield from self.weigh(part)
        else:
            self._hear(text)
            if len(part) > _OF_TEXT:
                yield from self.weigh({name: value for name, value in part.items() if value is not text})
        return text

    def _see(self, part: Json, carried: Collection[str]) -> Slices[None]:
        for modality, medium in MEDIA.items():
            if modality in carried:
                tokens, values = yield from weigh_medium(modality, part)
                self._count(tokens, least=medium.least)
                self._since += 1 + values // _VALUES_TO_A_PART

    def _few(self, parts: list[object]) -> list[object]:
        self._parts += len(parts)
        if self._parts > self.bounds.parts:
            raise beyond(self.bounds, "parts")
        return parts

    def _size_up(self, said: Json) -> None:
        """What is taken apart here is so at once, and so must be small; a structure within may have more members."""
        if len(said) > self.bounds.members:
            raise beyond(self.bounds, "members")

    def _hear(self, text: str) -> str:
        self._count(text_tokens(text))
        self._since += len(text) // (_BREATH_CHARACTERS // _BREATH)
        return text

    def _count(self, tokens: int, *, least: int | None = None) -> None:
        self.tokens += tokens
        self._context += tokens if least is None else least

    def pause(self) -> Slices[None]:
        """A pause, where enough was read since the last one."""
        self._since += 1
        if self._since > _BREATH:
            self._since = 0
            yield

    def say_messages(self, members: Json) -> Slices[None]:
        """A turn for each of the `messages`."""
        self.heard.add("messages")
        for message in list_of_objects(members, "messages", self.bounds):
            yield from self.say_message(role_of(message), message)
            yield from self.pause()

    def say_prompts(self, members: Json, param: str, *, takes_parts: bool = False) -> Slices[None]:
        """A prompt as text, as token numbers, or as a list of either; with `takes_parts` also as content parts."""
        self.heard.add(param)
        value: object = members.get(param)
        prompts = _listed(value)
        if prompts and type(prompts[0]) is int and isinstance(value, list):
            prompts = [cast("object", value)]
        if len(prompts) > self.bounds.messages:
            raise beyond(self.bounds, "messages")
        self.prompts = max(1, len(prompts))
        for prompt in prompts:
            before, self._context = self._context, 0
            match prompt:
                case str():
                    self.turns.append(Turn("user", self._hear(prompt)))
                case list():
                    yield from self._say_tokens(cast("list[object]", prompt))
                case dict() if takes_parts:
                    yield from self.say("user", cast("Json", prompt).get("content", prompt))
                case _:
                    raise UnreadableError(f'"{param}" must be a string or an array', param=param)
            before, self._context = self._context, before
            self._longest = max(self._longest, before)
            yield from self.pause()

    def _say_tokens(self, prompt: list[object]) -> Slices[None]:
        for start in range(0, len(prompt), _TOKENS_AT_ONCE):
            some = prompt[start : start + _TOKENS_AT_ONCE]
            others = [each for each in some if type(each) is not int]
            self._count(len(some) - len(others))
            for each in others:
                yield from self.weigh(each)
            if start:
                yield


def _joined(texts: Sequence[str]) -> str:
    """A line each; of very many the first ones and the last ones, as of a text that is long itself."""
    ahead = list(first_of(texts, _MOST_JOINED))
    behind = list(first_of(reversed(texts[len(ahead) :]), _MOST_JOINED))
    return "\n".join((*ahead, *reversed(behind)))


def _listed(content: object) -> list[object]:
    """Content parts; one that stands alone is read as servers read it."""
    return cast("list[object]", content) if isinstance(content, list) else [] if content is None else [content]


def role_of(message: Json) -> Role:
    role = message.get("role")
    return _ROLES.get(role, "user") if isinstance(role, str) else "user"


def list_of_objects(members: Json, name: str, bounds: Bounds) -> Iterator[Json]:
    """The array that `name` stands for. Raises UnreadableError where it is something else, or too long."""
    value = members.get(name)
    if value is None:
        return
    if not isinstance(value, list):
        raise UnreadableError(f'"{name}" must be an array', param=name)
    items = cast("list[object]", value)
    if len(items) > bounds.messages:
        raise beyond(bounds, "messages")
    for index, item in enumerate(items):
        if not isinstance(item, dict):
            raise UnreadableError(f'"{name}[{index}]" must be an object', param=f"{name}[{index}]")
        yield cast("Mapping[str, Any]", item)
