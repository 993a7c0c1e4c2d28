"""A rollout as JSON, and back.

The record outlives the process and the version that wrote it, so it says which
layout it has. Frozen dataclasses become objects, tuples lists, and a value that
may be one of several classes says which under `is`; what equals its default is
left out. Floats keep every digit: a rollout read back goes on as if nothing
had happened.
"""

import types
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import cache
from typing import Any, Literal, Union, cast, get_args, get_origin, get_type_hints

from wissel.core.rollouts.rollout import Rollout
from wissel.errors import StoreError

LAYOUT = 1

_KIND = "is"


def dump(rollout: Rollout) -> dict[str, Any]:
    """What `json.dumps` takes."""
    return {"layout": LAYOUT, **cast("dict[str, Any]", encode(rollout))}


def load(record: Mapping[str, Any]) -> Rollout:
    """Raises StoreError for a record of another layout, or none at all."""
    if record.get("layout") != LAYOUT:
        raise StoreError(f'a rollout record has layout "{record.get("layout")}", this version reads {LAYOUT}')
    try:
        return cast("Rollout", decode(Rollout, record))
    except (KeyError, TypeError, ValueError, AttributeError) as problem:
        raise StoreError(f"a rollout record cannot be read: {problem!r}") from problem


def encode(value: object) -> object:
    """Any value made of frozen dataclasses, tuples, mappings and scalars, as JSON has it."""
    if is_dataclass(value) and not isinstance(value, type):
        shown = {f.name: getattr(value, f.name) for f in fields(value)}
        plain = {f.name: encode(shown[f.name]) for f in fields(value) if shown[f.name] != _default(f)}
        return {**plain, _KIND: type(value).__name__} if type(value) in _tagged() else plain
    if isinstance(value, Mapping):
        return {str(key): encode(item) for key, item in cast("Mapping[object, object]", value).items()}
    if isinstance(value, tuple):
        return [encode(item) for item in cast("tuple[object, ...]", value)]
    return value


def _default(each: Field[Any]) -> object:
    return each.default_factory() if each.default_factory is not MISSING else each.default


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def _arms(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in {Union, types.UnionType} else ()


@cache
def _tagged() -> frozenset[type]:
    """The classes that somewhere in a rollout stand for each other."""
    found: set[type] = set()
    seen: set[Any] = set()

    def visit(hint: Any) -> None:
        if hint in seen:
            return
        seen.add(hint)
        classes = [arm for arm in _arms(hint) if is_dataclass(arm)]
        if len(classes) > 1:
            found.update(cast("list[type]", classes))
        for inner in get_args(hint) if get_origin(hint) is not Literal else ():
            visit(inner)
        if is_dataclass(hint):
            for inner in _hints(cast("type", hint)).values():
                visit(inner)

    visit(Rollout)
    return frozenset(found)


def decode(hint: Any, value: Any) -> Any:
    """What `encode` made of a value of this type.

    Raises KeyError, TypeError, ValueError or AttributeError for anything else.
    """
    origin = get_origin(hint)
    if arms := _arms(hint):
        if value is None or not isinstance(value, Mapping):
            return value
        classes = cast("list[type]", [arm for arm in arms if is_dataclass(arm)])
        named = {each.__name__: each for each in classes}
        chosen = classes[0] if len(classes) == 1 else named[cast("Mapping[str, str]", value)[_KIND]]
        return decode(chosen, value)
    if is_dataclass(hint):
        hints = _hints(cast("type", hint))
        return cast("Any", hint)(**{name: decode(hints[name], value[name]) for name in hints if name in value})
    if origin is tuple:
        return tuple(decode(get_args(hint)[0], item) for item in value)
    if origin is Mapping or (isinstance(origin, type) and issubclass(origin, Mapping)):
        key, item = get_args(hint)
        return {(int(k) if key is int else k): decode(item, v) for k, v in value.items()}
    return value
