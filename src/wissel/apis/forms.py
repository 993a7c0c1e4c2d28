"""Which models a body names that is no LLM call: a form's fields, JSON, or a file of JSON lines.

A passthrough's body goes on as it is, so what it names must be what any server
behind would read in it. Bodies are therefore read strictly: what two readers
could take apart in two ways is refused, and never guessed at. Forms are read as
RFC 2046 and 7578 say, and where these leave a choice the form must not use it.
"""

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Final
from urllib.parse import unquote_plus

from wissel.apis.places import is_model, named_in_json
from wissel.apis.windows import WINDOW, Slices, count_of, read_json
from wissel.core.bounds import Bounds, beyond
from wissel.core.quoting import quoted
from wissel.errors import UnreadableError

_PARAMETER: Final = re.compile(r';\s*([^\s=;"]+)=(?:"((?:[^"\\]|\\.)*)"|([^\s;",]*))\s*')
_BOUNDARY: Final = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]")
_LINES: Final = re.compile(r"jsonl|ndjson|jsonlines|json-seq")
_LONGEST_HEAD: Final = 8192
_LONGEST_PURPOSE: Final = 64
"""What is longer may be whatever a server takes it for."""
_PAUSE: Final = 64
"""Short lines."""
_BREATH: Final = 2048
"""Members looked at between two pauses."""
_PIECE: Final = 512 * 1024
"""Bytes of which everything may be looked at without a pause."""


def models_in(data: bytes | bytearray, content_type: str, bounds: Bounds) -> Slices[tuple[str, ...]]:
    """Every model that the body names, in any spelling; none where it is nothing that names models.

    Raises UnreadableError where it cannot be read, or not in one way only.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if "," in content_type.partition(";")[0]:
        raise UnreadableError(f"the content-type is {quoted(content_type)}; send one")
    if kind.startswith("multipart/"):
        return (yield from _of_parts(data, _boundary(content_type), bounds))
    if kind == "application/x-www-form-urlencoded":
        return tuple((yield from named_in_pairs(data, bounds)))
    if _LINES.search(kind):
        return (yield from _of_lines(data, bounds))
    # Some servers read JSON whatever it is called.
    return (yield from _of_json(data, bounds, is_json=kind == "application/json" or kind.endswith("+json")))


def named_in_pairs(data: bytes | bytearray, bounds: Bounds) -> Slices[list[str]]:
    """What a query, or a form that looks like one, says where a model is named."""
    if (yield from count_of(b"&;", data, bounds.fields)) >= bounds.fields:
        raise beyond(bounds, "fields")
    cuts = sorted([*_places_of(b"&", data), *_places_of(b";", data), len(data)])
    found: list[str] = []
    for start, end in pairwise([-1, *cuts]):
        yield
        name, equals, _ = data[start + 1 : min(end, start + 2 + _LONGEST_HEAD)].partition(b"=")
        if len(name) <= _LONGEST_HEAD and is_model(_decoded(name)):
            value = start + 1 + len(name) + len(equals)
            if end - value > 9 * bounds.model_name:
                raise beyond(bounds, "model_name")
            found.append(_decoded(data[value:end]))
    return found


def _places_of(mark: bytes, data: bytes | bytearray) -> Iterator[int]:
    at = data.find(mark)
    while at >= 0:
        yield at
        at = data.find(mark, at + 1)


def _decoded(text: bytes | bytearray) -> str:
    return unquote_plus(text.decode("utf-8", "replace"))


def _of_json(data: bytes | bytearray, bounds: Bounds, *, is_json: bool) -> Slices[tuple[str, ...]]:
    if (yield from _is_blank(data)):
        return ()
    try:
        return tuple((yield from _named_in(data, bounds)))
    except UnreadableError:
        if is_json:
            raise
        return ()


def _named_in(data: bytes | bytearray, bounds: Bounds) -> Slices[dict[str, None]]:
    return (yield from _named_by((yield from read_json(data, bounds)), bounds))


def _named_by(value: object, bounds: Bounds) -> Slices[dict[str, None]]:
    found: dict[str, None] = {}
    for number, name in enumerate(named_in_json(value)):
        if name is not None:
            found[name] = None
        if number % _BREATH == _BREATH - 1:
            yield
    if len(found) > bounds.fields:
        raise beyond(bounds, "fields")
    return found


def _of_lines(data: bytes | bytearray, bounds: Bounds) -> Slices[tuple[str, ...]]:
    if (yield from count_of(b"\n", data, bounds.lines)) > bounds.lines:
        raise beyond(bounds, "lines")
    found: dict[str, None] = {}
    at = number = paused = 0
    while at < len(data):
        end = data.find(b"\n", at)
        end = len(data) if end < 0 else end
        line, at, number = data[at:end], end + 1, number + 1
        if not (yield from _is_blank(line)):
            found.update((yield from _named_in(line, bounds)))
            if len(found) > bounds.fields:
                raise beyond(bounds, "fields")
        if number % _PAUSE == 0 or at - paused > WINDOW:
            paused = at
            yield
    return tuple(found)


def _is_blank(text: bytes | bytearray) -> Slices[bool]:
    for at in range(0, len(text), _PIECE):
        if at:
            yield
        if not text[at : at + _PIECE].isspace():
            return False
    return True


# Forms of parts.


def _boundary(content_type: str) -> bytes:
    kind, _, _ = content_type.partition(";")
    at, found = len(kind), list[str]()
    while parameter := _PARAMETER.match(content_type, at):
        at = parameter.end()
        name, in_quotes, bare = parameter.groups()
        if name.lower().partition("*")[0] == "boundary":
            # With a `*` it would be in pieces or in an encoding, which not every server knows.
            found += [in_quotes if in_quotes is not None else bare] if "*" not in name else ["", ""]
    if len(found) != 1 or content_type[at:].strip(" ;") or not _BOUNDARY.fullmatch(found[0]):
        raise _unclear("the content-type should have one boundary")
    return b"--" + found[0].encode()


def _of_parts(data: bytes | bytearray, line: bytes, bounds: Bounds) -> Slices[tuple[str, ...]]:
    found: dict[str, None] = {}
    files: list[tuple[bytes | bytearray, bool]] = []
    is_batch = False
    number, at = 0, _behind_first(data, line)
    while not data.startswith(b"--", at):
        if number == bounds.fields:
            raise beyond(bounds, "fields")
        head, value, at = yield from _part(data, line, at)
        name, says_lines, is_file = _field(head.decode("utf-8", "surrogateescape"))
        if is_model(name):
            if len(value) > 4 * bounds.model_name:
                raise beyond(bounds, "model_name")
            # The name as it stands, and as a server that trims it would read it.
            text = value.decode("utf-8", "replace")
            found.update(dict.fromkeys((text, text.strip())))
        elif name == "purpose":
            is_batch = is_batch or len(value) > _LONGEST_PURPOSE or value.strip() == b"batch"
        elif is_file:
            files.append((value, says_lines))
        elif value[:64].lstrip().startswith((b"{", b"[")) or name == "session":
            said = yield from read_json(value, bounds)
            found.update((yield from _named_by(said, bounds)))
            found.update((yield from _named_by({name: said}, bounds)))
        number += 1
        yield
    yield from _end(data, line, at)
    for value, says_lines in files:
        if is_batch or says_lines:
            found.update(dict.fromkeys((yield from _of_lines(value, bounds))))
    return tuple(found)


# A delimiter is a line of its own, ended by CRLF, with nothing before the first; behind the last one anything may
# follow that does not look like another.


def _behind_first(data: bytes | bytearray, line: bytes) -> int:
    start = 2 if data.startswith(b"\r\n") else 0
    if not data.startswith(line, start):
        raise _unclear("it should begin with the boundary")
    return start + len(line)


def _part(data: bytes | bytearray, line: bytes, at: int) -> Slices[tuple[bytes | bytearray, bytes | bytearray, int]]:
    """The headers and the value of the part behind a delimiter, and where the next one ends."""
    if not data.startswith(b"\r\n", at):
        raise _unclear("each part should stand between lines of the boundary, ended by CRLF")
    end = yield from _find(line, data, at)
    if end < 0:
        raise _unclear("it should end with the boundary and two hyphens")
    if data[end - 2 : end] != b"\r\n" or end - 2 < at + 2:
        raise _unclear("each part should stand between lines of the boundary, ended by CRLF")
    blank = data.find(b"\r\n\r\n", at, min(end, at + _LONGEST_HEAD))
    if blank < 0:
        raise _unclear("each part should have headers and then an empty line")
    return data[at + 2 : blank], data[blank + 4 : end - 2], end + len(line)


def _end(data: bytes | bytearray, line: bytes, at: int) -> Slices[None]:
    behind = bytes(data[at + 2 : at + 4])
    if behind not in {b"", b"\r\n"} or (yield from _find(line, data, at)) >= 0:
        raise _unclear("nothing but a line's end should follow the last boundary, and no other boundary")


def _find(line: bytes, data: bytes | bytearray, at: int) -> Slices[int]:
    """As `find`, which takes a tenth of a second where much of the text is nearly what is looked for."""
    for start in range(at, len(data), _PIECE):
        if start > at:
            yield
        found = data.find(line, start, start + _PIECE + len(line) - 1)
        if found >= 0:
            return found
    return -1


def _field(head: str) -> tuple[str, bool, bool]:
    """Of one part: its one name, whether it says that it is lines of JSON, and whether it is a file."""
    names: list[str] = []
    is_file = False
    for line in head.split("\r\n"):
        header, colon, value = line.partition(":")
        if not colon or header != header.strip() or "\n" in line or "\r" in line:
            raise _unclear("a part has a header of more than one line, or none")
        if header.lower() == "content-transfer-encoding" and value.strip().lower() not in {"7bit", "8bit", "binary"}:
            raise _unclear("a part is encoded; send it as it is")
        if header.lower() == "content-disposition":
            inside, has_file = _disposition(value.strip())
            names += inside
            is_file = is_file or has_file
    if len(names) != 1:
        raise _unclear("each part should have one content-disposition with one name")
    return names[0], bool(_LINES.search(head.lower())), is_file or names[0] == "file"


def _disposition(text: str) -> tuple[list[str], bool]:
    """The names, and whether there is the name of a file."""
    kind, semicolon, _ = text.partition(";")
    at, names, is_file = len(kind), list[str](), False
    while found := _PARAMETER.match(text, at):
        at = found.end()
        parameter, in_quotes, bare = found.groups()
        plain = parameter.lower().partition("*")[0]
        is_file = is_file or plain == "filename"
        if plain == "name":
            # With a `*` it would be in an encoding that not every server knows.
            names += [re.sub(r"\\(.)", r"\1", in_quotes or bare or "")] if "*" not in parameter else ["", ""]
    if kind.strip().lower() != "form-data" or not semicolon or text[at:].strip(" ;"):
        raise _unclear("each part should be form-data with a name")
    return names, is_file


def _unclear(why: str) -> UnreadableError:
    return UnreadableError(f"the form cannot be read: {why}")
