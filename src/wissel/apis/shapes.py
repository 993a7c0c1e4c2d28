"""Values of JSON by what they should be; what is something else counts as empty."""

from collections.abc import Mapping
from typing import Any, Final, cast

Json = Mapping[str, Any]
"""An object."""


def object_of(value: object) -> Json:
    return cast("Json", value) if isinstance(value, dict) else {}


def objects_of(value: object) -> list[Json]:
    """The members of an array, each in its place."""
    return [object_of(each) for each in cast("list[object]", value)] if isinstance(value, list) else []


_NO_WORDS: Final = frozenset({"id", "role", "type"})
"""Members that name what words are and not what they say."""


def words_in(value: object) -> int:
    """Bytes of the texts in a value."""
    size, left = 0, [value]
    while left:
        match left.pop():
            case str(text):
                size += len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
            case list() as items:
                left += cast("list[object]", items)
            case dict() as members:
                left += [each for name, each in cast("Json", members).items() if name not in _NO_WORDS]
            case _:
                pass
    return size
