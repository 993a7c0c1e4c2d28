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
        match each := left.pop():
            case str():
                size += len(each) if each.isascii() else len(each.encode("utf-8", "surrogatepass"))
            case list():
                left += cast("list[object]", each)
            case dict():
                left += [value for name, value in cast("Json", each).items() if name not in _NO_WORDS]
            case _:
                pass
    return size
