"""How a path is written, and what in the head of a call could name another model than its body.

Every way to write a path is brought to one spelling, so that all of them meet
the same rules; what servers could read in two ways is told apart here, and
refused by who asks.
"""

from typing import Final
from urllib.parse import unquote

from wissel.apis.forms import named_in_pairs
from wissel.apis.windows import whole
from wissel.core.bounds import Bounds
from wissel.core.quoting import quoted
from wissel.errors import UnreadableError

_FORMS: Final = frozenset({"multipart/form-data", "application/x-www-form-urlencoded"})
"""Bodies that name things in a way that is not JSON's; some servers read JSON sent so as a form."""

LONGEST: Final = 8192
"""Characters of a path without its query. No server has longer ones, and to read one takes time before anybody knows
who asks."""


def normalise_path(path: str) -> str:
    """The one spelling under which rules and calls know a path.

    Lower case, percent-decoded once, without query, empty and dot segments, so
    that every way to write a path meets the same rules.
    """
    return spelled_path(path).lower()


def spelled_path(path: str) -> str:
    """As `normalise_path`, with the letters as they were written."""
    bare = unquote(path.partition("?")[0].partition("#")[0]).replace("\\", "/")
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


def check_call(path: str, content_type: str, bounds: Bounds) -> None:
    """Raises UnreadableError where an LLM call's head lets another reader see another model than the body's `model`."""
    if named_in_query(path, bounds):
        raise UnreadableError("the query names a model; name it in the body alone", param="model")
    kind = content_type.partition(";")[0].strip().lower()
    if kind in _FORMS or "," in content_type:
        raise UnreadableError(f"the content-type is {quoted(content_type)}; send application/json")


def named_in_query(path: str, bounds: Bounds) -> list[str]:
    """The models that a query asks for, in any spelling. Raises UnreadableError for one of too many fields."""
    query = path.partition("?")[2]
    return whole(named_in_pairs(query.encode("utf-8", "surrogateescape"), bounds)) if query else []
