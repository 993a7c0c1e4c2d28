"""What the documents say is there: files, commands, metrics, alerts, and configurations that can be used."""

import re
import subprocess
from pathlib import Path

import pytest
from typer.main import get_command

from real import needs_envoy
from wissel.cli import app
from wissel.config import load
from wissel.demo.parts import envoy_binary
from wissel.envoy import plan, render
from wissel.telemetry.counting import Telemetry
from wissel.telemetry.gauges import Revision, StoreHealth, show_config, show_rollouts, show_store
from wissel.telemetry.meters import SERIES

ROOT = Path(__file__).parents[2]
GUIDES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / ".github").glob("*.md"))]
README = GUIDES[0].read_text()


def blocks(language: str, text: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


CONFIGURATIONS = [block for block in blocks("yaml", README) if re.search(r"^models:", block, re.MULTILINE)]
FIRST_ROUTE = next(block for block in CONFIGURATIONS if "envoy:" in block)


@pytest.mark.parametrize("text", CONFIGURATIONS)
def test_a_whole_configuration_of_the_readme_can_be_used(text: str, tmp_path: Path):
    path = tmp_path / "wissel.yaml"
    path.write_text(text)

    assert load(path).routes


@needs_envoy
@pytest.mark.slow
def test_envoy_takes_the_bootstrap_of_the_first_route(tmp_path: Path):
    config, bootstrap = tmp_path / "wissel.yaml", tmp_path / "envoy.yaml"
    config.write_text(FIRST_ROUTE)
    bootstrap.write_text(render(plan(load(config))))
    command = [envoy_binary(), "--mode", "validate", "-c", str(bootstrap), "--log-level", "error"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.name)
def test_every_file_that_a_guide_links_to_is_there(guide: Path):
    linked = re.findall(r"\]\((?!https?:|#)([^)#]+)", guide.read_text())

    assert [name for name in linked if not (guide.parent / name).exists()] == []


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.name)
def test_every_heading_that_a_guide_links_to_is_there(guide: Path):
    text = guide.read_text()
    headings = {
        re.sub(r"[^a-z0-9 -]", "", line.lower()).strip().replace(" ", "-")
        for line in re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    }

    assert set(re.findall(r"\]\(#([^)]+)\)", text)) - headings == set()


def test_every_command_that_a_guide_names_is_one():
    text = "\n".join(guide.read_text() for guide in GUIDES)
    code = "\n".join([*blocks("sh", text), *(f"`{inline}" for inline in re.findall(r"`([^`\n]+)`", text))])
    named = set(re.findall(r"(?:^|`)wissel ([a-z][a-z-]*)", code, re.MULTILINE))
    known = set(getattr(get_command(app), "commands", {}))

    assert len(named) > 10
    assert named - known == set()


def test_every_command_is_in_the_readme():
    known = set(getattr(get_command(app), "commands", {}))

    assert {name for name in known if f"`wissel {name}" not in (ROOT / "docs/commands.md").read_text()} == set()


def test_what_there_is_to_watch_is_what_is_counted():
    telemetry = Telemetry()
    meter = telemetry.meter
    show_config(meter, lambda: Revision("r1", 0.0, is_refused=False))
    show_store(meter, lambda: StoreHealth(0.0, 0))
    show_rollouts(meter, list)
    there = {each.name for each in meter.instruments}
    text = (ROOT / "docs/operating.md").read_text().partition("## What to watch")[2]
    # `….name` stands for the beginning of the name before it.
    names = re.findall(r"`((?:wissel|gen_ai|…)\.[\w.*]+)", text)
    told = {name.replace("….", "gen_ai.client.operation.") for name in names}
    families = {name.removesuffix("*") for name in told if name.endswith("*")}

    assert {name for name in told if not name.endswith("*")} - there == set()
    assert {name for name in there if name not in told and not name.startswith(tuple(families))} == set()


def test_the_readme_says_how_many_series_an_instrument_keeps():
    assert f"at most {SERIES:,} series" in (ROOT / "docs/telemetry.md").read_text()
