"""One name, one class: whoever searches for it finds the thing that was meant."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import wissel

ROOT = Path(wissel.__file__).parent
BECOMES = ("core", "classifiers", "encoders", "tiers")
"""Where the value lives that a section of the configuration becomes; the two may have one name."""


def public_classes() -> Iterator[tuple[str, Path]]:
    for path in sorted(ROOT.rglob("*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                yield node.name, path.relative_to(ROOT)


def is_section_and_value(places: list[Path]) -> bool:
    sections = [path for path in places if path.is_relative_to("config/model")]
    values = [path for path in places if path.parts[0] in BECOMES]
    return len(sections) == len(values) == 1 and len(places) == 2


def test_no_two_public_classes_have_one_name_but_a_section_and_what_it_becomes():
    places = defaultdict[str, list[Path]](list)
    for name, path in public_classes():
        places[name].append(path)
    doubled = {name: found for name, found in places.items() if len(found) > 1 and not is_section_and_value(found)}

    assert not doubled
    assert len(places) > 300
    assert is_section_and_value(places["Rollout"])
