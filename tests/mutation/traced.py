"""Which tests run a line, so that only they are asked about a change there.

Every test runs once with the lines of `core/` and `apis/` counted to it. A line
that runs when its module is imported belongs to no test; of a change there all
are asked.
"""

import ast
import contextlib
import time
from collections import defaultdict
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import coverage
import pytest

IMPORT: Final = ""
"""The test that a line belongs to which runs when its module is imported."""


@dataclass(frozen=True, slots=True)
class Traced:
    tests: Mapping[str, Mapping[int, frozenset[str]]]
    """By module and line."""
    seconds: Mapping[str, float]
    """Of CPU, by test."""

    def __or__(self, other: "Traced") -> "Traced":
        tests: dict[str, dict[int, frozenset[str]]] = defaultdict(lambda: defaultdict(frozenset))
        for path, lines in (*self.tests.items(), *other.tests.items()):
            for line, names in lines.items():
                tests[path][line] |= names
        return Traced(tests, {**self.seconds, **other.seconds})

    def of(self, path: str, line: int, source: str) -> frozenset[str] | None:
        """The tests that run the statement at a line, an empty set for none; None where importing runs it."""
        first, last = statement(source, line)
        lines = self.tests.get(path, {})
        found = frozenset[str]().union(*(lines.get(each, frozenset()) for each in range(first, last + 1)))
        return None if IMPORT in found else found


def statement(source: str, line: int) -> tuple[int, int]:
    """From which line to which the innermost statement goes, of a compound one its head."""
    found = (line, line)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.stmt) and node.lineno <= line <= (node.end_lineno or line):
            body = getattr(node, "body", None) or getattr(node, "cases", None)
            last = (node.end_lineno or line) if body is None else (_first_line(body[0]) - 1)
            if line <= max(last, node.lineno):
                found = node.lineno, max(last, node.lineno)
    return found


def _first_line(node: ast.stmt | ast.match_case) -> int:
    return node.pattern.lineno if isinstance(node, ast.match_case) else node.lineno


def trace(options: Sequence[str], tests: Sequence[str], root: Path, folders: Sequence[str]) -> Traced:
    """Run the tests, which must pass, in this process, which has not imported what is traced."""
    counting = coverage.Coverage(data_file=None, config_file=False, include=[f"{root}/{each}/*" for each in folders])
    switching = _Switching(counting)
    counting.start()
    status = pytest.main([*options, *tests], plugins=[switching])
    counting.stop()
    assert status == pytest.ExitCode.OK, f"the tests fail without a mutant: {switching.failed}"
    data = counting.get_data()
    return Traced(
        {
            str(Path(path).relative_to(root)): {
                line: frozenset(names) for line, names in data.contexts_by_lineno(path).items()
            }
            for path in data.measured_files()
        },
        dict(switching.seconds),
    )


class _Switching:
    """Tells coverage which test runs."""

    def __init__(self, counting: coverage.Coverage) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.failed = ""
        self._counting = counting

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        test = item.nodeid.partition("[")[0]
        self._counting.switch_context(test)
        began = time.process_time()
        try:
            return (yield)
        finally:
            self.seconds[test] += time.process_time() - began
            with contextlib.suppress(coverage.CoverageException):
                self._counting.switch_context(IMPORT)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed and not self.failed:
            self.failed = f"{report.nodeid}: {report.longreprtext}"
