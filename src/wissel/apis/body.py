"""From the bytes of an LLM call to the members of its JSON, and back with another model.

Bodies are read once and never written again: only the bytes of the `model`
value are exchanged, and what else is put in, so unknown members, number
formats, escapes and key order reach the upstream as the caller sent them. To
know where a value stands, its object is walked member by member; whatever lies
inside is left to the windows. Reading is lenient where an upstream can
complain for itself, and strict where two readers could disagree about what was
asked.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from wissel.apis.windows import WINDOW, Cursor, LongText, Slices, named_twice, whole
from wissel.core.bounds import Bounds, beyond
from wissel.core.quoting import quoted
from wissel.errors import UnreadableError

Written = bytes | tuple[bytes | memoryview, ...]
"""A body that goes on; a large one in parts, for to copy it would hold everybody up."""


def size_of(written: Written) -> int:
    return len(written) if isinstance(written, bytes) else sum(map(len, written))


@dataclass(frozen=True, slots=True)
class Splice:
    """A stretch of bytes, and what stands there instead."""

    start: int
    end: int
    text: str


@dataclass(frozen=True, slots=True)
class Body:
    """A JSON object as bytes, its members, and where their values stand."""

    data: bytes | bytearray
    members: Mapping[str, Any]
    spans: Mapping[str, tuple[int, int]]
    """Of each member's value, quotes included."""
    model: str

    def with_model(self, name: str, *splices: Splice) -> Written:
        """The same bytes, asking for another model, and changed where `splices` say so."""
        start, end = self.spans["model"]
        return spliced(self.data, (Splice(start, end, json.dumps(name)), *splices))

    def model_in(self, name: str, *splices: Splice) -> tuple[int, int]:
        """From where to where the model stands in what `with_model` makes of the same arguments."""
        start, _ = self.spans["model"]
        moved = sum(len(each.text.encode()) - each.end + each.start for each in splices if each.start < start)
        return start + moved, start + moved + len(json.dumps(name))

    def leaving_out(self, name: str) -> Splice:
        """What takes a member out, and the comma that parts it from the next one on the way to the model's.

        So the stretches of several members never meet.
        """
        start, end = self.spans[name]
        key_end = self.data.rindex(b'"', 0, start)
        key = self.data.rindex(b'"', 0, key_end)
        if start < self.spans["model"][0]:
            return Splice(key, self.data.index(b",", end) + 1, "")
        return Splice(self.data.rindex(b",", 0, key), end, "")

    def inside(self, name: str) -> Iterator[tuple[str, int, int]]:
        """Of a member that is an object, each member's name, and from where to where its value stands.

        Raises UnreadableError where it is too long to be walked at once.
        """
        start, end = self.spans[name]
        if end - start > WINDOW:
            raise UnreadableError(f'"{name}" is longer than {WINDOW} bytes', param=name)
        cursor = Cursor(self.data[start:end], Bounds())
        inner = whole(cursor.name(first=True))
        while inner is not None:
            begin = start + cursor.here
            whole(cursor.value(1))
            yield inner, begin, start + cursor.here
            inner = whole(cursor.name(first=False))


def in_order(splices: Iterable[Splice]) -> list[Splice]:
    """As their stretches follow each other; what is put in stands before what is taken out there."""
    return sorted(splices, key=lambda each: (each.start, each.end))


def spliced(data: bytes | bytearray, splices: Iterable[Splice]) -> Written:
    """The same bytes, changed where `splices` say so; a large body in parts."""
    view = memoryview(data)
    parts: list[bytes | memoryview] = []
    at = 0
    for splice in in_order(splices):
        parts += view[at : splice.start], splice.text.encode()
        at = splice.end
    written = (*parts, view[at:])
    return written if len(view) > WINDOW else b"".join(written)


def read_body(data: bytes | bytearray, bounds: Bounds) -> Slices[Body]:
    """The outermost object of a JSON body.

    Raises UnreadableError where the body is no JSON object in UTF-8, names a
    member twice, has no usable `model`, or is beyond a bound.
    """
    if not data:
        raise UnreadableError("the body is empty; send a JSON object")
    cursor = Cursor(data, bounds)
    yield from cursor.size_up()
    if (yield from cursor.mark()) != "{":
        yield from cursor.value(0)
        raise UnreadableError("the body is not a JSON object")
    members: dict[str, Any] = {}
    spans: dict[str, tuple[int, int]] = {}
    name = yield from cursor.name(first=True)
    while name is not None:
        if name in members:
            raise named_twice(name)
        if name != "model" and name.lower() == "model":
            # Some servers do not mind letter case, and would read this one.
            raise UnreadableError(f'the body names the model as {quoted(name)}; write "model"', param=name)
        if len(members) == bounds.members:
            raise beyond(bounds, "members")
        start = cursor.here
        members[name] = yield from cursor.value(1)
        spans[name] = (start, cursor.here)
        name = yield from cursor.name(first=False)
    yield from cursor.finish()
    model = members.get("model")
    if not isinstance(model, str) or not model:
        raise UnreadableError("the body must name a model: a non-empty string", param="model")
    if len(model) > bounds.model_name or isinstance(model, LongText):
        raise beyond(bounds, "model_name")
    return Body(data, members, spans, model)
