"""What the core and the APIs hand around is a value: nobody changes it, and nobody adds to it."""

import dataclasses
import importlib
import pkgutil
from collections.abc import Iterator
from functools import cached_property

import pytest

import wissel.apis
import wissel.core


def modules() -> Iterator[str]:
    for package in (wissel.core, wissel.apis):
        yield from (found.name for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."))


def dataclasses_of(name: str) -> list[type]:
    module = importlib.import_module(name)
    return [
        it
        for it in vars(module).values()
        if isinstance(it, type) and dataclasses.is_dataclass(it) and it.__module__ == name
    ]


ALL = [it for name in modules() for it in dataclasses_of(name)]


@pytest.mark.parametrize("value", ALL, ids=lambda it: f"{it.__module__}.{it.__qualname__}")
def test_a_value_cannot_be_changed(value):
    assert value.__dataclass_params__.frozen is True


@pytest.mark.parametrize("value", ALL, ids=lambda it: f"{it.__module__}.{it.__qualname__}")
def test_a_value_has_room_for_nothing_but_its_fields_and_what_it_works_out_once(value):
    works_out = any(isinstance(member, cached_property) for member in vars(value).values())

    assert ("__slots__" in vars(value)) is not works_out
