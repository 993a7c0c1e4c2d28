"""Messages, items and prompts become turns, whichever API's body they stand in.

Contents are read by one set of names, for no two APIs mean different things by
the type of a part.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final, cast

from wissel.apis.shapes import Json, objects_of
from wissel.apis.windows import LongText, Slices
from wissel.core.bounds import Bounds, beyond
from wissel.core.request import BYTES_PER_TOKEN, Modality, Role, Turn, estimate_tokens
from wissel.errors import UnreadableError

_ROLES: Final[Mapping[str, Role]] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "function": "tool",
}

_MODALITIES: Final[Mapping[str, Modality]] = {
    "image_url": "image",
    "image": "image",
    "input_image": "image",
    "input_audio": "audio",
    "audio": "audio",
    "file": "file",
    "input_file": "file",
    "document": "file",
}
"""The types of content parts, over all APIs, that are not text."""


_BREATH: Final = 512
"""Things read between two pauses."""
_BREATH_CHARACTERS: Final = 256 * 1024


class Prompt:
    """Gathers turns, modalities and token counts while one body is read."""

    __slots__ = ("_parts", "_since", "bounds", "needs", "tokens", "turns")

    def __init__(self, bounds: Bounds) -> None:
        self.bounds: Final = bounds
        self.turns: list[Turn] = []
        self.needs: set[Modality] = {"text"}
        self.tokens = 0
        """An estimate of all that was said."""
        self._parts = 0
        self._since = 0

    def say(self, role: Role, content: object) -> None:
        """One turn; a message that mixes tool results and text becomes one turn of each."""
        text, results = self._texts(content, is_outer=True)
        if results:
            self.turns.append(Turn("tool", "\n".join(results)))
        if text or not results:
            self.turns.append(Turn(role, "\n".join(text)))

    def _texts(self, content: object, *, is_outer: bool) -> tuple[list[str], list[str]]:
        if isinstance(content, str):
            return [self._hear(content)], []
        text: list[str] = []
        results: list[str] = []
        parts = objects_of(content)
        self._parts += len(parts)
        if self._parts > self.bounds.parts:
            raise beyond(self.bounds, "parts")
        for part in parts:
            kind = part.get("type")
            if kind == "tool_result" and is_outer:
                inner, _ = self._texts(part.get("content"), is_outer=False)
                results.append("\n".join(inner))
            elif isinstance(kind, str) and kind in _MODALITIES:
                self.needs.add(_MODALITIES[kind])
            elif isinstance(found := part.get("text", part.get("refusal")), str):
                text.append(self._hear(found))
        return text, results

    def _hear(self, text: str) -> str:
        omitted = text.omitted if isinstance(text, LongText) else 0
        self.tokens += estimate_tokens(text) + omitted // BYTES_PER_TOKEN
        self._since += len(text) // (_BREATH_CHARACTERS // _BREATH)
        return text

    def pause(self) -> Slices[None]:
        """A pause, where enough was read since the last one."""
        self._since += 1
        if self._since > _BREATH:
            self._since = 0
            yield

    def say_messages(self, members: Json) -> Slices[None]:
        """A turn for each of the `messages`."""
        for message in list_of_objects(members, "messages", self.bounds):
            self.say(role_of(message), message.get("content"))
            yield from self.pause()

    def say_prompts(self, value: object, *, param: str) -> Slices[None]:
        """A prompt as text, as token numbers, or as a list of either."""
        prompts = cast("list[object]", value) if isinstance(value, list) else [] if value is None else [value]
        self._count(sum(not isinstance(each, int) for each in prompts))
        for prompt in prompts:
            match prompt:
                case str():
                    self.turns.append(Turn("user", self._hear(prompt)))
                case int() if isinstance(value, list):
                    self.tokens += 1
                case list():
                    self.tokens += len(cast("list[object]", prompt))
                case _:
                    raise UnreadableError(f'"{param}" must be a string or an array', param=param)
            yield from self.pause()

    def _count(self, messages: int) -> None:
        if messages > self.bounds.messages:
            raise beyond(self.bounds, "messages")


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
