"""From the bytes of an LLM call to a `Request`, and back with another model.

Bodies are read once and never written again: only the bytes of the `model`
value are exchanged, and a stream's wish for usage is put in, so unknown
members, number formats, escapes and key order reach the upstream as the caller
sent them. To know where a value stands, its object is walked member by member;
whatever lies inside is left to the JSON scanner. The readers are lenient where an upstream can complain for
itself, and strict where two readers could disagree about what was asked.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, NoReturn, cast
from urllib.parse import unquote

from wissel.apis.forms import named_in_pairs
from wissel.core.refusals import quoted
from wissel.core.request import Api, Conversation, Modality, Request, Role, Turn, estimate_tokens
from wissel.errors import UnreadableError

_FORMS: Final = frozenset({"multipart/form-data", "application/x-www-form-urlencoded"})
"""Bodies that name things in a way that is not JSON's; some servers read JSON sent so as a form."""

_SPACE = re.compile(r"[ \t\n\r]*")
_COLON = re.compile(r"[ \t\n\r]*:[ \t\n\r]*")
_COMMA_OR_END = re.compile(r"[ \t\n\r]*(?:(,)[ \t\n\r]*|})")


def _no_constant(name: str) -> NoReturn:
    raise UnreadableError(f'the body is not JSON: "{name}" is no JSON number')


_SCAN = json.JSONDecoder(parse_constant=_no_constant).raw_decode


@dataclass(frozen=True, slots=True)
class Splice:
    """A stretch of text, and what stands there instead."""

    start: int
    end: int
    text: str


@dataclass(frozen=True, slots=True)
class Body:
    """A JSON object as text, its members, and where their values stand."""

    text: str
    members: Mapping[str, Any]
    spans: Mapping[str, tuple[int, int]]
    """Of each member's value, quotes included."""
    model: str

    def with_model(self, name: str, *splices: Splice) -> bytes:
        """The same bytes, asking for another model, and changed where `splices` say so."""
        start, end = self.spans["model"]
        parts: list[str] = []
        at = 0
        for splice in sorted((Splice(start, end, json.dumps(name)), *splices), key=lambda each: each.start):
            parts += self.text[at : splice.start], splice.text
            at = splice.end
        return "".join((*parts, self.text[at:])).encode()

    def asking_for_usage(self) -> tuple[Splice, ...]:
        """What makes a stream of completions tell its usage; nothing where it does so already, or never will.

        Where `include_usage` is there twice, both say yes, whichever a server reads.
        """
        options = self.members.get("stream_options")
        if options is None:
            if "stream_options" in self.spans:
                return (Splice(*self.spans["stream_options"], f"{{{_INCLUDE_USAGE}}}"),)
            _, end = self.spans["model"]
            return (Splice(end, end, f', "stream_options": {{{_INCLUDE_USAGE}}}'),)
        if not isinstance(options, dict):
            # It is wrong, and the upstream will say so.
            return ()
        if cast("Mapping[str, Any]", options).get("include_usage") is True:
            return ()
        inside = list(_members(self.text, self.spans["stream_options"][0]))
        found = tuple(Splice(start, end, "true") for name, _, start, end in inside if name == "include_usage")
        start = self.spans["stream_options"][0] + 1
        return found or (Splice(start, start, f"{_INCLUDE_USAGE}, " if inside else _INCLUDE_USAGE),)


_INCLUDE_USAGE: Final = '"include_usage": true'


def normalise_path(path: str) -> str:
    """The one spelling under which rules and calls know a path.

    Lower case, percent-decoded once, without query, empty and dot segments, so
    that every way to write a path meets the same rules.
    """
    bare = unquote(path.partition("?")[0].partition("#")[0]).replace("\\", "/").lower()
    segments: list[str] = []
    for segment in bare.split("/"):
        if segment == "..":
            segments[-1:] = []
        elif segment not in {"", "."}:
            segments.append(segment)
    return "/" + "/".join(segments)


def is_plain(path: str) -> bool:
    """Whether every server would read `path` the same way: no encoded, empty or dot segments."""
    bare = path.partition("?")[0].lower()
    return not any(trick in bare for trick in ("//", "/.", "%2f", "%2e", "%5c", "\\", "%00", "#"))


def ambiguity(path: str, content_type: str) -> UnreadableError | None:
    """What in an LLM call's head lets another reader see another model than the body's `model`; None if nothing."""
    if named_in_query(path):
        return UnreadableError("the query names a model; name it in the body alone", param="model")
    kind = content_type.partition(";")[0].strip().lower()
    if kind in _FORMS or "," in content_type:
        return UnreadableError(f"the content-type is {quoted(content_type)}; send application/json")
    return None


def named_in_query(path: str) -> list[str]:
    """The models that a query asks for, in any spelling of `model`."""
    return named_in_pairs(path.partition("?")[2])


def read_body(data: bytes) -> Body:
    """The outermost object of a JSON body.

    Raises UnreadableError where the body is no JSON object in UTF-8, names a
    member twice, or has no usable `model`.
    """
    if not data:
        raise UnreadableError("the body is empty; send a JSON object")
    try:
        text = data.decode()
        return _walk(text)
    except UnicodeDecodeError as error:
        raise UnreadableError(f"the body is not UTF-8: byte {error.start} cannot be decoded") from None
    except json.JSONDecodeError as error:
        raise UnreadableError(
            f"the body is not JSON: {error.msg.lower()} at line {error.lineno}, column {error.colno}"
        ) from None
    except RecursionError:
        raise UnreadableError("the body is nested too deeply") from None
    except ValueError as error:
        # The scanner's only other complaint: an integer of more digits than Python converts.
        raise UnreadableError(f"the body is not usable JSON: {str(error).lower()}") from None


def _walk(text: str) -> Body:
    at = _skip(text, 0)
    if text[at : at + 1] != "{":
        _SCAN(text, at)
        raise UnreadableError("the body is not a JSON object")
    members: dict[str, Any] = {}
    spans: dict[str, tuple[int, int]] = {}
    end = at + 1
    for name, value, start, end in _members(text, at):
        if name in members:
            raise UnreadableError(f"the body names {quoted(name)} twice", param=name)
        if name != "model" and name.lower() == "model":
            # Some servers do not mind letter case, and would read this one.
            raise UnreadableError(f'the body names the model as {quoted(name)}; write "model"', param=name)
        members[name] = value
        spans[name] = (start, end)
    closing = _skip(text, end)
    if (rest := _skip(text, closing + 1)) != len(text):
        raise json.JSONDecodeError("Extra data", text, rest)
    model = members.get("model")
    if not isinstance(model, str) or not model:
        raise UnreadableError("the body must name a model: a non-empty string", param="model")
    return Body(text, members, spans, model)


def _members(text: str, at: int) -> Iterator[tuple[str, Any, int, int]]:
    """Each member of the object that begins at `at`: its name, its value, and from where to where that stands."""
    at = _skip(text, at + 1)
    closed = text[at : at + 1] == "}"
    while not closed:
        if text[at : at + 1] != '"':
            raise json.JSONDecodeError("Expecting property name enclosed in double quotes", text, at)
        name, at = _SCAN(text, at)
        colon = _COLON.match(text, at)
        if colon is None:
            raise json.JSONDecodeError("Expecting ':' delimiter", text, _skip(text, at))
        start = colon.end()
        value, end = _SCAN(text, start)
        mark = _COMMA_OR_END.match(text, end)
        if mark is None:
            raise json.JSONDecodeError("Expecting ',' delimiter", text, _skip(text, end))
        closed = mark[1] is None
        at = mark.end()
        yield name, value, start, end


def _skip(text: str, at: int) -> int:
    return cast("re.Match[str]", _SPACE.match(text, at)).end()


def understand(api: Api, path: str, headers: Mapping[str, str], body: Body) -> Request:
    """The call as the decision reads it. Raises UnreadableError where messages or input are of no use."""
    reader = _Reader()
    _READERS[api](reader, body.members)
    return Request(
        api=api,
        path=path,
        model=body.model,
        conversation=Conversation(tuple(reader.turns)),
        needs=frozenset(reader.needs),
        input_tokens=reader.tokens + sum(estimate_tokens(turn.text) for turn in reader.turns),
        max_output_tokens=_output_limit(body.members),
        stream=body.members.get("stream") is True,
        headers=headers,
    )


MAX_OUTPUT_TOKENS: Final = 10_000_000
"""More than any model answers; a caller's number may have thousands of digits."""


def _output_limit(members: Mapping[str, Any]) -> int:
    for name in ("max_completion_tokens", "max_output_tokens", "max_tokens"):
        value = members.get(name)
        if type(value) is int and value > 0:
            return min(value, MAX_OUTPUT_TOKENS)
    return 0


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

_TOOL_RESULTS: Final = frozenset({"function_call_output", "custom_tool_call_output"})


class _Reader:
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
        for part in _objects(content):
            kind = part.get("type")
            if kind == "tool_result":
                inner, _ = self._texts(part.get("content"))
                results.append("\n".join(inner))
            elif isinstance(kind, str) and kind in _MODALITIES:
                self.needs.add(_MODALITIES[kind])
            elif isinstance(found := part.get("text", part.get("refusal")), str):
                text.append(found)
        return text, results

    def prompts(self, value: object, *, param: str) -> None:
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
                        self.prompts(item, param=param)
            case _:
                raise UnreadableError(f'"{param}" must be a string or an array', param=param)


def _read_chat(reader: _Reader, members: Mapping[str, Any]) -> None:
    for message in _list_of_objects(members, "messages"):
        reader.say(_role(message), message.get("content"))


def _read_messages(reader: _Reader, members: Mapping[str, Any]) -> None:
    if members.get("system"):
        reader.say("system", members["system"])
    _read_chat(reader, members)


def _read_responses(reader: _Reader, members: Mapping[str, Any]) -> None:
    if members.get("instructions"):
        reader.say("system", members["instructions"])
    asked = members.get("input")
    if asked is None or isinstance(asked, str):
        reader.prompts(asked, param="input")
        return
    for item in _list_of_objects(members, "input"):
        if item.get("type") in _TOOL_RESULTS:
            reader.say("tool", item.get("output"))
        elif "role" in item:
            reader.say(_role(item), item.get("content"))


def _read_completions(reader: _Reader, members: Mapping[str, Any]) -> None:
    reader.prompts(members.get("prompt"), param="prompt")


def _read_embeddings(reader: _Reader, members: Mapping[str, Any]) -> None:
    reader.prompts(members.get("input"), param="input")


_READERS: Final[Mapping[Api, Callable[[_Reader, Mapping[str, Any]], None]]] = {
    "chat": _read_chat,
    "completions": _read_completions,
    "responses": _read_responses,
    "messages": _read_messages,
    "embeddings": _read_embeddings,
}


def _role(message: Mapping[str, Any]) -> Role:
    role = message.get("role")
    return _ROLES.get(role, "user") if isinstance(role, str) else "user"


def _list_of_objects(members: Mapping[str, Any], name: str) -> Iterator[Mapping[str, Any]]:
    value = members.get(name)
    if value is None:
        return
    if not isinstance(value, list):
        raise UnreadableError(f'"{name}" must be an array', param=name)
    for index, item in enumerate(cast("list[object]", value)):
        if not isinstance(item, dict):
            raise UnreadableError(f'"{name}[{index}]" must be an object', param=f"{name}[{index}]")
        yield cast("Mapping[str, Any]", item)


def _objects(value: object) -> Iterator[Mapping[str, Any]]:
    if isinstance(value, list):
        for item in cast("list[object]", value):
            if isinstance(item, dict):
                yield cast("Mapping[str, Any]", item)


def error_body(message: str, *, kind: str, code: str, param: str | None = None) -> bytes:
    """An OpenAI error, as every client library reads it."""
    return json.dumps({"error": {"message": message, "type": kind, "param": param, "code": code}}).encode()


def models_body(names: tuple[str, ...]) -> bytes:
    """The answer to `GET /v1/models`."""
    data = [model_object(name) for name in names]
    return json.dumps({"object": "list", "data": data}).encode()


def model_object(name: str) -> dict[str, object]:
    """One entry of the models list; wissel knows no creation dates."""
    return {"id": name, "object": "model", "created": 0, "owned_by": "wissel"}
