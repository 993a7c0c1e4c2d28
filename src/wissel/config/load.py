"""A file or text into a `Config`, or into every problem that it has."""

from pathlib import Path

from pydantic import ValidationError

from wissel.config.document import Problem, drop_follow_ups, plain, read
from wissel.config.model import Config
from wissel.config.references import reference_problems
from wissel.config.shapes import shape_problems
from wissel.errors import ConfigError

MAX_HINTS = 50
"""The problems that come with the nearest right name: each is a search through all of them."""


def load(path: str | Path) -> Config:
    """The configuration in the file. Raises ConfigError with all that is wrong with it."""
    try:
        raw = Path(path).read_bytes()
    except (OSError, ValueError) as error:
        why = error.strerror.lower() if isinstance(error, OSError) and error.strerror else str(error)
        raise ConfigError([f"{path}: cannot be read: {why}"]) from error
    return parse(raw, str(path))


def parse(raw: str | bytes, source: str = "config.yaml") -> Config:
    """The configuration in `raw`; `source` is the file that problems name. Raises ConfigError with all of them."""
    root, problems = read(raw.encode("utf-8", "surrogatepass") if isinstance(raw, str) else raw)
    if root.node is None:
        raise ConfigError([problem.render(source) for problem in problems])
    config = None
    try:
        config = Config.model_validate(plain(root.node))
    except ValidationError as error:
        problems += drop_follow_ups(shape_problems(root, error), problems)
    problems += drop_follow_ups(reference_problems(root), problems)
    if problems or config is None:
        raise ConfigError(_rendered(problems, source))
    return config


def _rendered(problems: list[Problem], source: str) -> list[str]:
    ordered = sorted(problems, key=_in_order)
    return [
        problem.render(source) + (problem.hint() if problem.hint and number < MAX_HINTS else "")
        for number, problem in enumerate(ordered)
    ]


def _in_order(problem: Problem) -> tuple[object, ...]:
    return problem.at, problem.fault
