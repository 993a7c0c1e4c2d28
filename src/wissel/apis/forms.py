"""Which models a body names that is no LLM call: a form's fields, or the members of a JSON object.

A passthrough's body goes on as it is, so what it names must be what any server
behind would read in it. Forms are therefore read strictly: what two readers
could take apart in two ways is refused, and never guessed at.
"""

import json
import re
from typing import Any, Final, cast
from urllib.parse import parse_qsl, unquote

from wissel.core.refusals import quoted
from wissel.errors import UnreadableError

_BOUNDARY: Final = re.compile(r';\s*boundary=(?:"([^"\\]{1,70})"|([^\s;"\\]{1,70}))\s*(?=;|$)', re.IGNORECASE)
_PARAMETER: Final = re.compile(r';\s*([^\s=;"]+)=(?:"((?:[^"\\]|\\.)*)"|([^\s;"]*))\s*')
_DISPOSITION: Final = "content-disposition"


def models_in(data: bytes, content_type: str) -> tuple[str, ...]:
    """Every text that the body gives as `model`, in any spelling of that name.

    Raises UnreadableError where it cannot be read, or not in one way only.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if "," in content_type:
        raise UnreadableError(f"the content-type is {quoted(content_type)}; send one")
    if kind.startswith("multipart/"):
        return tuple(_of_parts(data, content_type))
    if kind == "application/x-www-form-urlencoded":
        return tuple(named_in_pairs(data.decode("utf-8", "replace")))
    # Some servers read JSON whatever it is called, and in whatever Unicode.
    return _of_json(data, is_json=kind == "application/json" or kind.endswith("+json"))


def named_in_pairs(text: str) -> list[str]:
    """What a query, or a form that looks like one, says in `model`."""
    return [value for name, value in parse_qsl(text.replace(";", "&"), keep_blank_values=True) if _is_model(name)]


def _is_model(name: str) -> bool:
    return unquote(name).strip().removesuffix("[]").lower() == "model"


def _of_json(data: bytes, *, is_json: bool) -> tuple[str, ...]:
    if not data.strip():
        return ()
    try:
        # With pairs in place of mappings, so that a name may stand twice; JSON's own lists hold no tuples.
        found: Any = json.loads(data, object_pairs_hook=tuple)
    except RecursionError:
        raise UnreadableError("the body is nested too deeply") from None
    except ValueError as error:
        if not is_json:
            return ()
        raise UnreadableError(f"the body is not JSON: {error}") from None
    members = cast("tuple[tuple[str, object], ...]", found) if isinstance(found, tuple) else ()
    return tuple(value for name, value in members if _is_model(name) and isinstance(value, str))


def _of_parts(data: bytes, content_type: str) -> list[str]:
    boundaries = _BOUNDARY.findall(content_type)
    if len(boundaries) != 1 or content_type.lower().count("boundary") != 1:
        raise _unclear("the content-type should have one boundary")
    line = b"--" + "".join(boundaries[0]).encode("utf-8", "surrogateescape")
    pieces = data.split(line)
    # Where each reader sees the parts begin: a line of its own, ended by CRLF, and nothing before the first.
    first, *parts, last = pieces if len(pieces) > 1 else ([b"?"] * 2)
    if first not in {b"", b"\r\n"} or last not in {b"--", b"--\r\n"}:
        raise _unclear("it should begin and end with the boundary")
    models: list[str] = []
    for part in parts:
        if not part.startswith(b"\r\n") or not part.endswith(b"\r\n"):
            raise _unclear("each part should stand between lines of the boundary, ended by CRLF")
        head, blank, value = part[2:-2].partition(b"\r\n\r\n")
        if not blank:
            raise _unclear("each part should have headers and then an empty line")
        if _is_model(_field_name(head.decode("utf-8", "surrogateescape"))):
            # The name as it stands, and as a server that trims it would read it.
            text = value.decode("utf-8", "replace")
            models += dict.fromkeys((text, text.strip()))
    return models


def _field_name(head: str) -> str:
    """Of one part; a part has one name."""
    found: list[str] = []
    for line in head.split("\r\n"):
        name, colon, value = line.partition(":")
        if not colon or name != name.strip() or "\n" in line or "\r" in line:
            raise _unclear("a part has a header of more than one line, or none")
        if name.lower() == "content-transfer-encoding" and value.strip().lower() not in {"7bit", "8bit", "binary"}:
            raise _unclear("a part is encoded; send it as it is")
        if name.lower() == _DISPOSITION:
            found += _names(value.strip())
    if len(found) != 1:
        raise _unclear("each part should have one content-disposition with one name")
    return found[0]


def _names(disposition: str) -> list[str]:
    kind, semicolon, _ = disposition.partition(";")
    at, names = len(kind), list[str]()
    while found := _PARAMETER.match(disposition, at):
        at = found.end()
        parameter, quoted, bare = found.groups()
        if parameter.lower().partition("*")[0] == "name":
            # With a `*` it would be in an encoding that not every server knows.
            names += [re.sub(r"\\(.)", r"\1", quoted or bare or "")] if "*" not in parameter else ["", ""]
    if kind.strip().lower() != "form-data" or not semicolon or disposition[at:].strip(" ;"):
        raise _unclear("each part should be form-data with a name")
    return names


def _unclear(why: str) -> UnreadableError:
    return UnreadableError(f"the form cannot be read: {why}")
