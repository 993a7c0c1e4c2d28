"""A mutant is tried: tests run on a wissel that has it, until one of them fails.

Importing what others wrote costs seconds, and importing wissel a part of one.
So a warm process imports everything once, forgets what is ours, and forks: the
child imports wissel with the mutant in it, and asks pytest.
"""

import contextlib
import gc
import importlib.util
import os
import sys
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Final, Literal

import pytest
from tests.mutation.mutants import Mutant
from tests.mutation.traced import Traced, trace

End = Literal["killed", "survived", "no program"]

ROOT: Final = Path(__file__).parents[2]
SOURCES: Final = ("src/wissel/core", "src/wissel/apis")

EVERYWHERE: Final = ("tests/core", "tests/apis")
"""What is asked after a module's own tests."""
NEIGHBOURS: Final = ("tests/extproc", "tests/test_router.py", "tests/config")
"""What is asked last: those who call what is mutated."""

_OPTIONS: Final = ("-x", "-q", "-p", "no:cacheprovider", "-p", "no:randomly", "-m", "not slow", "--timeout=0")
_EXAMPLES: Final = 25
"""Of each law of hypothesis that does not say how many it needs: the same ones each time."""


@dataclass(frozen=True, slots=True)
class Trial:
    end: End
    test: str = ""
    """The one that failed first."""


OUT_OF_TIME: Final = "out of time"
"""Stands where the test's name would, if the tests did not come to an end."""


def stages(mutant: Mutant, traced: Traced) -> tuple[tuple[str, ...], ...]:
    """The tests that are asked about a mutant, those most likely to notice first."""
    module = Path(mutant.path).relative_to("src/wissel")
    own = str(Path("tests") / module.with_name(f"test_{module.name}"))
    running = traced.of(mutant.path, mutant.line, (ROOT / mutant.path).read_text())
    if running is None:
        return (*(((own,),) if (ROOT / own).exists() else ()), EVERYWHERE, NEIGHBOURS)
    by_cost = sorted(running, key=lambda test: traced.seconds.get(test, 0.0))
    near = tuple(test for test in by_cost if test.startswith(f"{own}::"))
    return tuple(stage for stage in (near, tuple(test for test in by_cost if test not in near)) if stage)


def traced_by(tests: Sequence[str]) -> Traced:
    """Of each line the tests that run it, in a process of its own."""
    _be_predictable()
    with _silence():
        return trace([*_OPTIONS, "--hypothesis-profile=mutants"], tests, ROOT, SOURCES)


def warm() -> None:
    """Imports everything, once, and forgets what is ours."""
    with _silence():
        status = pytest.main([*_OPTIONS, "--collect-only", *EVERYWHERE, *NEIGHBOURS])
    assert status == pytest.ExitCode.OK, f"the tests cannot be collected: {status}"
    _be_predictable()
    keep = {__name__, "tests", "tests.mutation", "tests.mutation.mutants", "tests.mutation.traced", "__main__"}
    for name, module in list(sys.modules.items()):
        if name not in keep and _is_ours(module):
            del sys.modules[name]
    gc.freeze()


def _be_predictable() -> None:
    # Only now: pytest wants to be the first to import it.
    import hypothesis

    hypothesis.settings.register_profile(
        "mutants", max_examples=_EXAMPLES, derandomize=True, database=None, deadline=None, print_blob=False
    )


def examine(mutant: Mutant, tests: Sequence[str]) -> Trial:
    """In a process of its own."""
    try:
        code = compile(mutant.source, mutant.path, "exec", dont_inherit=True)
    except (SyntaxError, ValueError):
        return Trial("no program")
    sys.meta_path.insert(0, _Changed(mutant.path, code))
    failures = _Failures()
    with _silence():
        status = pytest.main([*_OPTIONS, "--hypothesis-profile=mutants", *tests], plugins=[failures])
    if status in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        return Trial("survived")
    return Trial("killed", failures.first or "wissel cannot be imported")


class _Changed(SourceFileLoader):
    """Finds and loads the one module that is mutated."""

    def __init__(self, path: str, code: CodeType) -> None:
        parts = Path(path).relative_to("src").with_suffix("").parts
        super().__init__(".".join(parts), str(ROOT / path))
        self._code = code

    def find_spec(self, name: str, path: object = None, target: ModuleType | None = None) -> ModuleSpec | None:
        return importlib.util.spec_from_file_location(name, self.path, loader=self) if name == self.name else None

    def get_code(self, fullname: str) -> CodeType:
        return self._code


class _Failures:
    """Remembers the test that failed first."""

    def __init__(self) -> None:
        self.first = ""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed and not self.first:
            self.first = report.nodeid


def _is_ours(module: ModuleType) -> bool:
    file = getattr(module, "__file__", None)
    path = Path(file) if file else None
    return path is not None and any(path.is_relative_to(ROOT / folder) for folder in ("src", "tests"))


@contextlib.contextmanager
def _silence() -> Generator[None]:
    """What pytest says is of no use here."""
    sys.stdout.flush()
    with Path(os.devnull).open("w") as nothing:
        kept = [(fd, os.dup(fd)) for fd in (1, 2)]
        try:
            for fd, _ in kept:
                os.dup2(nothing.fileno(), fd)
            yield
            sys.stdout.flush()
        finally:
            for fd, copy in kept:
                os.dup2(copy, fd)
                os.close(copy)
