"""Values of JSON by what they should be; what is something else counts as empty."""

from collections.abc import Mapping
from typing import Any, cast

Json = Mapping[str, Any]
"""An object."""


def object_of(value: object) -> Json:
    return cast("Json", value) if isinstance(value, dict) else {}


def objects_of(value: object) -> list[Json]:
    """The members of an array, each in its place."""
    return [object_of(each) for each in cast("list[object]", value)] if isinstance(value, list) else []
