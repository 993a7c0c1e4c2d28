"""What the documents say is there: pages, files, keys, metrics, and configurations that can be used."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

import wissel
from documents import FIRST_ROUTE, GUIDES, NAMED, PAGES, README, ROOT, blocks, name_of, spans, with_canary
from real import needs_envoy
from wissel.config import load
from wissel.demo.parts import envoy_binary
from wissel.envoy import plan, render
from wissel.telemetry.counting import Telemetry
from wissel.telemetry.gauges import (
    Revision,
    StoreHealth,
    show_clusters,
    show_config,
    show_cooling,
    show_rollouts,
    show_store,
    show_store_state,
)
from wissel.telemetry.meters import SERIES

CHANGELOG = ROOT / "CHANGELOG.md"
EVERYTHING = "\n".join(page.read_text() for page in PAGES)
SCHEMA: dict[str, Any] = json.loads((ROOT / "config/wissel.schema.json").read_text())
PART = jsonschema.Draft202012Validator({**SCHEMA, "required": []})


def one_line(text: str) -> str:
    return " ".join(text.split())


# Configurations.

EXAMPLES = [
    pytest.param(text, id=f"{name_of(page)}:{at}")
    for page in GUIDES
    for at, text in enumerate(blocks("yaml", page.read_text()))
]
WHOLE = [each for each in EXAMPLES if re.search(r"^models:", str(each.values[0]), re.MULTILINE)]


def written(text: str, folder: Path) -> Path:
    path = folder / "wissel.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("text", [*WHOLE, pytest.param(with_canary(), id="with canary")])
def test_a_whole_configuration_can_be_used(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OPENAI_API_KEY", "k")

    assert load(written(text, tmp_path)).models


@pytest.mark.parametrize("text", EXAMPLES)
def test_a_part_of_a_configuration_is_as_the_schema_says(text: str):
    PART.validate(yaml.safe_load(text))


def test_the_first_canary_is_on_its_way_to_callers(tmp_path: Path):
    config = load(written(with_canary(), tmp_path))

    assert {each.target for each in config.routes} & {each.name for each in config.rollouts} == {"chat"}


@needs_envoy
@pytest.mark.slow
def test_envoy_takes_the_bootstrap_of_the_first_route(tmp_path: Path):
    bootstrap = tmp_path / "envoy.yaml"
    bootstrap.write_text(render(plan(load(written(FIRST_ROUTE, tmp_path)))))
    command = [envoy_binary(), "--mode", "validate", "-c", str(bootstrap), "--log-level", "error"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr


# Links.


def headings(page: Path) -> set[str]:
    """As GitHub names them in addresses."""
    titles = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).strip().replace(" ", "-") for title in titles}


def links(page: Path) -> Iterator[tuple[Path, str]]:
    """Each place that a page leads to, with the heading there."""
    for target, heading in re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", page.read_text()):
        yield (page.parent / target if target else page), heading


@pytest.mark.parametrize("page", [*GUIDES, CHANGELOG], ids=name_of)
def test_every_file_that_a_page_links_to_is_there(page: Path):
    assert [str(target) for target, _ in links(page) if not target.exists()] == []


@pytest.mark.parametrize("page", GUIDES, ids=name_of)
def test_every_heading_that_a_page_links_to_is_there(page: Path):
    assert [f"{target}#{at}" for target, at in links(page) if at and at not in headings(target)] == []


def test_the_readme_leads_to_every_page():
    found = {target.resolve() for target, _ in links(PAGES[0])}

    assert [name_of(page) for page in PAGES[1:] if page not in found] == []


@pytest.mark.parametrize("page", [*GUIDES, CHANGELOG], ids=name_of)
def test_every_module_that_a_page_names_is_there(page: Path):
    named = {word for span in spans(page.read_text()) for word in span.split() if re.fullmatch(r"[\w/]+\.py", word)}
    there = [*(ROOT / "src").rglob("*.py"), *(ROOT / "tests").rglob("*.py")]

    assert [name for name in sorted(named) if not any(f"/{path}".endswith(f"/{name}") for path in there)] == []


# What the README named while it was the only page.


def test_no_key_that_was_named_is_lost():
    told = {key for text in blocks("yaml", EVERYTHING) for key in keys_of(yaml.safe_load(text))}

    assert [key for key in NAMED["keys"] if key not in told] == []


def keys_of(value: object, above: str = "") -> Iterator[str]:
    match value:
        case dict():
            for name, inner in value.items():
                key = f"{above}.{name}".lstrip(".")
                yield key
                yield from keys_of(inner, key)
        case list():
            for inner in value:
                yield from keys_of(inner, above)
        case _:
            pass


def test_nothing_else_that_was_named_is_lost():
    told = one_line(EVERYTHING)

    assert [words for words in NAMED["others"] if words not in told] == []


# What the documents say of the code.


def test_what_there_is_to_watch_is_what_is_counted():
    telemetry = Telemetry()
    meter = telemetry.meter
    show_config(meter, lambda: Revision("r1", 0.0, is_refused=False))
    show_store(meter, lambda: StoreHealth(0.0, 0))
    show_store_state(meter, ("ok",), lambda: "ok")
    show_rollouts(meter, list)
    show_clusters(meter, lambda: ("v1", 1, 0))
    show_cooling(meter, list, dict)
    there = {each.name for each in meter.instruments}
    text = (ROOT / "docs/operating.md").read_text().partition("## What to watch")[2]
    # `….name` stands for the beginning of the name before it.
    names = re.findall(r"`((?:wissel|gen_ai|…)\.[\w.*]+)", text)
    told = {name.replace("….", "gen_ai.client.operation.") for name in names}
    families = {name.removesuffix("*") for name in told if name.endswith("*")}

    assert {name for name in told if not name.endswith("*")} - there == set()
    assert {name for name in there if name not in told and not name.startswith(tuple(families))} == set()


def test_the_documents_say_how_many_series_an_instrument_keeps():
    assert f"at most {SERIES:,} series" in one_line((ROOT / "docs/telemetry.md").read_text())


def test_every_section_of_the_file_stands_in_the_page_about_it():
    table = (ROOT / "docs/configuration.md").read_text().partition("## The sections")[2]

    assert {name for name in SCHEMA["properties"] if f"`{name}`" not in table} == set()


def test_the_changelog_tells_of_the_version_that_this_is():
    versions = re.findall(r"^## (\d+\.\d+\.\d+)", CHANGELOG.read_text(), re.MULTILINE)

    assert versions[0] == wissel.__version__


def test_the_readme_stays_short():
    assert len(README.splitlines()) <= 200
