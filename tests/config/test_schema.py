"""The JSON Schema says what the loader accepts."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from wissel.config import json_schema

CONFIG = Path(__file__).parents[2] / "config"


def errors(values: object) -> list[str]:
    return [error.message for error in Draft202012Validator(json_schema()).iter_errors(values)]


def test_the_committed_schema_is_the_current_one():
    """If it is not: `wissel schema > config/wissel.schema.json`."""
    assert json.loads((CONFIG / "wissel.schema.json").read_text()) == json_schema()


def test_every_key_has_a_description():
    schema = json_schema()
    sections: dict[str, Any] = {"Config": schema, **schema["$defs"]}
    silent = [
        f"{section}.{key}"
        for section, each in sections.items()
        for key, described in each.get("properties", {}).items()
        # Pydantic leaves out a description that is also that of the section referred to.
        if not (described.get("description") or schema["$defs"][described["$ref"].rpartition("/")[2]]["description"])
    ]

    assert silent == []
    assert all(each.get("description") for each in sections.values())


@pytest.mark.parametrize("name", ["example.yaml", "minimal.yaml"])
def test_the_examples_are_valid_and_tell_editors_of_the_schema(name: str):
    text = (CONFIG / name).read_text()

    assert text.startswith("# yaml-language-server: $schema=wissel.schema.json\n")
    assert errors(yaml.safe_load(text)) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"models": [{"name": "m"}]},
        {"models": []},
        {"models": [{"name": "m", "cluster": "c"}], "modles": []},
        {"models": [{"name": "m", "cluster": "c", "credential": "sk-x"}]},
        {"models": [{"name": "m", "cluster": "c", "context": None}]},
        {"models": [{"name": "m", "cluster": "c"}], "admin": {"token": {"env": "A", "file": "b"}}},
    ],
)
def test_what_the_loader_refuses_the_schema_refuses(wrong: dict[str, Any]):
    assert errors(wrong)
