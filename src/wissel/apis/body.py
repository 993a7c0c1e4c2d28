"""From the bytes of an LLM call to the members of its JSON, and back with another model.

Bodies are read once and never written again: only the bytes of the `model`
value are exchanged, and what else is put in, so unknown members, number
formats, escapes and key order reach the upstream as the caller sent them. To
know where a value stands, its object is walked member by member; whatever lies
inside is left to the JSON scanner. Reading is lenient where an upstream can
complain for itself, and strict where two readers could disagree about what was
asked.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn, cast

from wissel.core.refusals import quoted
from wissel.errors import UnreadableError

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

    def inside(self, name: str) -> Iterator[tuple[str, int, int]]:
        """Of a member that is an object, each member's name, and from where to where its value stands."""
        return ((inner, start, end) for inner, _, start, end in _members(self.text, self.spans[name][0]))


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
