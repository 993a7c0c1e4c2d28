"""A file or text into a `Config`, or into every problem that it has."""

from pathlib import Path

from pydantic import ValidationError

from wissel.config.document import Problem, drop_follow_ups, plain, read
from wissel.config.model import Config
from wissel.config.references import reference_problems
from wissel.config.shapes import shape_problems
from wissel.errors import ConfigError


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
        raise ConfigError([problem.render(source) for problem in sorted(problems, key=_in_order)])
    return config


def _in_order(problem: Problem) -> tuple[object, ...]:
    return problem.at, problem.fault
