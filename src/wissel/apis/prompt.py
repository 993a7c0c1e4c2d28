"""Messages, items and prompts become turns, whichever API's body they stand in.

Contents are read by one set of names, for no two APIs mean different things by
the type of a part.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final, cast

from wissel.apis.shapes import Json, objects_of
from wissel.core.request import Modality, Role, Turn
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


class Prompt:
    """Gathers turns, modalities and token counts while one body is read."""

    __slots__ = ("needs", "tokens", "turns")

    def __init__(self) -> None:
        self.turns: list[Turn] = []
        self.needs: set[Modality] = {"text"}
        self.tokens = 0
        """Of prompts that come as token numbers."""

    def say(self, role: Role, content: object) -> None:
        """One turn; a message that mixes tool results and text becomes one turn of each."""
        text, results = self._texts(content)
        if results:
            self.turns.append(Turn("tool", "\n".join(results)))
        if text or not results:
            self.turns.append(Turn(role, "\n".join(text)))

    def _texts(self, content: object) -> tuple[list[str], list[str]]:
        if isinstance(content, str):
            return [content], []
        text: list[str] = []
        results: list[str] = []
        for part in objects_of(content):
            kind = part.get("type")
            if kind == "tool_result":
                inner, _ = self._texts(part.get("content"))
                results.append("\n".join(inner))
            elif isinstance(kind, str) and kind in _MODALITIES:
                self.needs.add(_MODALITIES[kind])
            elif isinstance(found := part.get("text", part.get("refusal")), str):
                text.append(found)
        return text, results

    def say_messages(self, members: Json) -> None:
        """A turn for each of the `messages`."""
        for message in list_of_objects(members, "messages"):
            self.say(role_of(message), message.get("content"))

    def say_prompts(self, value: object, *, param: str) -> None:
        """A prompt as text, as token numbers, or as a list of either."""
        match value:
            case None:
                return
            case str():
                self.turns.append(Turn("user", value))
            case list():
                items = cast("list[object]", value)
                self.tokens += sum(1 for item in items if isinstance(item, int))
                for item in items:
                    if not isinstance(item, int):
                        self.say_prompts(item, param=param)
            case _:
                raise UnreadableError(f'"{param}" must be a string or an array', param=param)


def role_of(message: Json) -> Role:
    role = message.get("role")
    return _ROLES.get(role, "user") if isinstance(role, str) else "user"


def list_of_objects(members: Json, name: str) -> Iterator[Json]:
    """The array that `name` stands for. Raises UnreadableError where it is something else."""
    value = members.get(name)
    if value is None:
        return
    if not isinstance(value, list):
        raise UnreadableError(f'"{name}" must be an array', param=name)
    for index, item in enumerate(cast("list[object]", value)):
        if not isinstance(item, dict):
            raise UnreadableError(f'"{name}[{index}]" must be an object', param=f"{name}[{index}]")
        yield cast("Mapping[str, Any]", item)
