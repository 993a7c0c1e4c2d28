"""What a value is where nobody said otherwise."""

import dataclasses
import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from typing import Any, get_type_hints

import pytest
from pydantic import ConfigDict, PydanticSchemaGenerationError, TypeAdapter, ValidationError
from pydantic.errors import PydanticUndefinedAnnotation

import wissel.apis
import wissel.core
from factories import snapshot
from wissel.config import compile_snapshot, parse
from wissel.core.snapshot import Snapshot, Terms

BARE = b"models: [{name: m, cluster: c}]"
OF_TERMS = ("allow_headers", "upgrades", "max_body_bytes", "bounds", "failover")


def kinds() -> Iterator[type]:
    """Every dataclass of the core and of the APIs."""
    for package in (wissel.core, wissel.apis):
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            module = importlib.import_module(found.name)
            for _, kind in inspect.getmembers(module, inspect.isclass):
                if dataclasses.is_dataclass(kind) and kind.__module__ == found.name:
                    yield kind


def defaults(kind: Any) -> Iterator[tuple[str, Any, Any]]:
    """Name, type and default of each field that has one."""
    try:
        hints = get_type_hints(kind)
    except NameError:
        return
    for each in dataclasses.fields(kind):
        if each.default is not dataclasses.MISSING:
            yield each.name, hints[each.name], each.default


@pytest.mark.parametrize("kind", list(kinds()), ids=lambda kind: f"{kind.__module__}.{kind.__qualname__}")
def test_a_default_is_of_the_type_that_its_field_says(kind: type):
    for name, hint, default in defaults(kind):
        if default is None and type(None) in getattr(hint, "__args__", ()):
            continue
        assert default is not None, name
        if dataclasses.is_dataclass(hint):
            assert isinstance(default, hint), name
            continue
        try:
            adapter = TypeAdapter[Any](hint, config=ConfigDict(arbitrary_types_allowed=True))
        except (PydanticSchemaGenerationError, PydanticUndefinedAnnotation, TypeError):
            continue
        try:
            adapter.validate_python(default, strict=True)
        except ValidationError as error:
            pytest.fail(f"{name} = {default!r}: {error}")


def test_the_file_and_the_code_have_the_same_defaults():
    compiled, plain = compile_snapshot(parse(BARE)), snapshot()

    assert {name: getattr(compiled.terms, name) for name in OF_TERMS} == {
        name: getattr(Terms(), name) for name in OF_TERMS
    }
    for name in ("health", "on_store_failure", "default_output_tokens", "keep_origins", "conversation", "pin"):
        assert getattr(compiled, name) == getattr(plain, name), name
    assert isinstance(compiled, Snapshot)
