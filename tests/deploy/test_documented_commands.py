"""Every command that a document names is tried: its words and options, and that what it starts does start."""

import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from documents import GUIDES, NAMED, PAGES, README, ROOT, code, lines, spans, with_canary
from wissel.cli import app

WISSEL: Any = get_command(app)


@dataclass(frozen=True)
class Command:
    """One of wissel's as a document writes it."""

    path: tuple[str, ...]
    leaf: Any
    rest: tuple[str, ...]

    @property
    def options(self) -> list[str]:
        return [word.partition("=")[0].strip("[]") for word in self.rest if re.match(r"\[?--?[a-zA-Z]", word)]

    @property
    def named(self) -> Iterator[str]:
        """Itself and each of its options, by the longest of the option's names."""
        yield " ".join(self.path)
        for option in self.options:
            for param in self.leaf.params:
                if option in param.opts:
                    yield f"{' '.join(self.path)} {max(param.opts, key=len)}"


def commands(line: str) -> Iterator[Command]:
    """The commands that a line stands for: `wissel rollout list|get` are two. KeyError for one that is not there."""
    words = shlex.split(line, comments=True)
    if words[:1] != ["wissel"]:
        return
    found: list[tuple[tuple[str, ...], Any]] = [(("wissel",), WISSEL)]
    at = 1
    while at < len(words) and all(hasattr(command, "commands") for _, command in found):
        if not re.fullmatch(r"[a-z][a-z|-]*", words[at]):
            break
        found = [((*path, name), command.commands[name]) for path, command in found for name in words[at].split("|")]
        at += 1
    rest = tuple(word for word in words[at:] if word != "&")
    yield from (Command(path, command, rest) for path, command in found)


TYPED = sorted({line for page in GUIDES for line in lines(page.read_text()) if line.startswith("wissel ")})
SAID = [each for page in GUIDES for each in spans(page.read_text()) if each.startswith("wissel ")]


@pytest.mark.parametrize("line", TYPED)
def test_every_command_of_a_block_can_be_typed_so(line: str):
    (command,) = commands(line)

    assert command.leaf.make_context(command.path[-1], list(command.rest)) is not None


OFFLINE = re.compile(r"wissel (check|explain|envoy|rollout simulate) ")
"""Commands of the README that need nobody who serves."""


@pytest.mark.slow
def test_what_the_readme_types_before_anything_serves_succeeds(tmp_path: Path):
    (tmp_path / "wissel.yaml").write_text(with_canary())
    typed = [line for line in lines(README) if OFFLINE.match(line)]
    done = [
        subprocess.run(
            [sys.executable, "-m", *shlex.split(line), *(["--runs", "3"] if "simulate" in line else [])],
            cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False,
        )
        for line in typed
    ]  # fmt: skip

    assert len(typed) == 4
    assert [each.stderr for each in done if each.returncode] == []


def test_every_command_that_a_page_names_is_one_with_these_options():
    wrong = [
        f"{span}: {option}"
        for span in SAID
        for command in commands(span)
        for option in command.options
        if not any(option in (*param.opts, *param.secondary_opts) for param in command.leaf.params)
    ]

    assert len(SAID) > 30
    assert wrong == []


def test_every_command_stands_in_the_table_of_commands():
    table = (ROOT / "docs/commands.md").read_text()

    assert {name for name in WISSEL.commands if f"`wissel {name}" not in table} == set()


def test_every_target_of_make_that_a_page_names_is_one():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {found.group(1) for each in code(GUIDES) if (found := re.match(r"make ([a-z-]+)", each))}

    assert len(named) > 5
    assert named - targets == set()


def test_every_profile_of_compose_that_a_page_names_is_one():
    services: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    there = {profile for service in services.values() for profile in service.get("profiles", [])}
    named = {
        found.group(1) for each in code(GUIDES) if (found := re.search(r"docker compose --profile ([\w-]+)", each))
    }

    assert len(named) > 0
    assert named - there == set()


def modules() -> dict[str, set[str]]:
    """What pages and the Makefile start with `python -m`, with the options that they give it."""
    found: dict[str, set[str]] = {}
    for line in [*code(GUIDES), *(ROOT / "Makefile").read_text().replace("$(BIN)/", "").splitlines()]:
        if match := re.match(r"\s*python -m ((?:tests|wissel)\.[\w.]+)(.*)", line):
            found.setdefault(match[1], set()).update(re.findall(r"--[a-z0-9-]+", match[2]))
    return found


MODULES = {name: options for name, options in modules().items() if name != "wissel.encoders.export"}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.* found in sys.modules:RuntimeWarning")
@pytest.mark.parametrize("name", sorted(MODULES))
def test_every_module_that_a_page_starts_starts_with_these_options(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    # As `python -m` does it, in a process where what they all import is there already.
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module(name, run_name="__main__", alter_sys=True)
    said = capsys.readouterr().out

    assert ended.value.code in {0, None}
    assert {option for option in MODULES[name] if option not in said} == set()


def test_every_benchmark_stands_in_the_table_of_benchmarks():
    benches = {path.stem for path in (ROOT / "tests/bench").glob("*.py") if "def main(" in path.read_text()}
    table = (ROOT / "docs/benchmarks.md").read_text()

    assert {name for name in benches if f"python -m tests.bench.{name}" not in table} == set()


def test_no_command_that_was_named_is_lost():
    said = code(PAGES)
    told = {name for line in said if line.startswith("wissel ") for each in commands(line) for name in each.named}
    told |= {f"python -m {name}" for name in MODULES}
    told |= {f"python -m {name} {option}" for name, options in MODULES.items() for option in options}
    rest = "\n".join(said)

    assert [name for name in NAMED["commands"] if name not in told and name not in rest] == []
