"""What pydantic found wrong, in our words and at its place in the file."""

import re
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from functools import cache
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from wissel.config.document import Mapping, Path, Place, Problem, drop_follow_ups
from wissel.config.model import json_schema, quote

_WANTED = {
    "model_type": "should be a mapping",
    "dict_type": "should be a mapping",
    "tuple_type": "should be a list",
    "frozen_set_type": "should be a list",
    "string_type": "should be text",
    "int_type": "should be a whole number",
    "int_parsing": "should be a whole number",
    "int_parsing_size": "should be a whole number of a sensible size",
    "float_type": "should be a number",
    "float_parsing": "should be a number",
    "finite_number": "should be a number",
    "bool_type": "should be true or false",
    "bool_parsing": "should be true or false",
    "greater_than": "should be greater than {gt:g}",
    "greater_than_equal": "should be at least {ge:g}",
    "less_than_equal": "should be at most {le:g}",
    "too_short": "should have at least one member",
}
"""Pydantic's kinds of error, in the words of this file."""

_RENAMED = {"router": "grader"}
"""Keys as they were once called, and what they are called now."""


def nearest(name: str, names: Iterable[str]) -> str | None:
    """The name that was probably meant."""
    by_fold = {each.casefold(): each for each in sorted(names)}
    near = get_close_matches(name.casefold(), list(by_fold), n=1)
    return by_fold[near[0]] if near else None


def suggestion(name: str, names: Iterable[str]) -> str:
    """How a message about an unknown name ends; empty where nothing comes near."""
    return _meant(nearest(name, names))


def _meant(name: str | None) -> str:
    return f'; did you mean "{name}"?' if name else ""


def shape_problems(root: Place, error: ValidationError) -> list[Problem]:
    """One problem for each of pydantic's, less those that another one explains."""
    details = error.errors(include_url=False)
    unknown = [_unknown_key(_place(root, each["loc"])) for each in details if each["type"] == "extra_forbidden"]
    others = [_problem(root, each) for each in details if not _is_explained(each)]
    return unknown + drop_follow_ups(others, unknown)


def _is_explained(detail: ErrorDetails) -> bool:
    """Whether pydantic only says that something else went wrong; unknown keys are handled apart."""
    # It counts the valid members, so a list whose members are all wrong is "too short" as well.
    return detail["type"] in {"extra_forbidden", "default_factory_not_called"} or (
        detail["type"] == "too_short" and bool(detail["input"])
    )


def _unknown_key(place: Place) -> Problem:
    name, parent = str(place.path[-1]), place.path[:-1]
    keys = _keys(_schema(), parent)
    renamed = _RENAMED.get(name)
    near = renamed if renamed in keys else nearest(name, keys)
    return place.key_problem(f"unknown key {quote(name)}{_meant(near)}", (*parent, near) if near else None)


def _problem(root: Place, detail: ErrorDetails) -> Problem:
    place = _place(root, detail["loc"])
    if detail["type"] == "union_tag_invalid":
        return _unknown_type(place, str(detail.get("ctx", {})["expected_tags"]))
    if detail["type"] == "missing":
        return place.problem("missing")
    if detail["loc"] and detail["loc"][-1] == "[key]":
        return _place(root, detail["loc"][:-1]).key_problem(_message(detail))
    return place.problem(_message(detail))


def _unknown_type(place: Place, expected: str) -> Problem:
    """Of a mapping whose member `type` says which form it has."""
    if not isinstance(place.node, Mapping):
        return place.problem("should be a mapping")
    written = place["type"]
    if written.text is None:
        return written.problem("missing")
    words = re.findall(r"<(\w+)>", expected)
    wanted = f"should be {' or '.join(words)}"
    return written.problem(f"{wanted}, and is {quote(written.text)}{suggestion(written.text, words)}")


def _place(root: Place, loc: tuple[int | str, ...]) -> Place:
    """Where `loc` leads; the tags that pydantic adds for the members of a union are no keys."""
    place = root
    for part in loc:
        if not (isinstance(part, str) and part.startswith("<") and part.endswith(">")):
            place = place[part]
    return place


def _message(detail: ErrorDetails) -> str:
    context: dict[str, Any] = detail.get("ctx", {})
    value, kind = detail["input"], detail["type"]
    if kind == "value_error":
        return str(context["error"])
    wanted = _WANTED.get(kind, detail["msg"][:1].lower() + detail["msg"][1:]).format_map(context)
    hint = ""
    if kind == "literal_error":
        words = re.findall(r"'([^']*)'", str(context["expected"]))
        wanted = f"should be {' or '.join(words)}"
        hint = suggestion(value, words) if isinstance(value, str) else ""
    elif wanted == "should be a list" and isinstance(value, str):
        hint = f"; write [{value}]"
    return f"{wanted}, and is {_shown(value)}{hint}"


def _shown(value: object) -> str:
    match value:
        case _ if not value:
            return "empty"
        case dict():
            return "a mapping"
        case list():
            return "a list"
        case _:
            return quote(str(value))


@cache
def _schema() -> dict[str, Any]:
    return json_schema()


def _keys(schema: dict[str, Any], path: Path) -> list[str]:
    """Every key that may stand in the mapping at `path`."""
    found = list(_alternatives(schema, schema))
    for part in path:
        steps = [_step(each, part) for each in found]
        found = [each for step in steps if step is not None for each in _alternatives(schema, step)]
    return [key for each in found for key in each.get("properties", {})]


def _step(schema: dict[str, Any], part: str | int) -> dict[str, Any] | None:
    if isinstance(part, int):
        return schema.get("items")
    return schema.get("properties", {}).get(part) or schema.get("additionalProperties") or None


def _alternatives(root: dict[str, Any], schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if reference := schema.get("$ref"):
        yield from _alternatives(root, root["$defs"][reference.rpartition("/")[2]])
        return
    yield schema
    for member in schema.get("oneOf", []) + schema.get("anyOf", []):
        yield from _alternatives(root, member)
