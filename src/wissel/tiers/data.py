"""Files of labels into battles.

Two kinds of rows, one JSON object a line: how well both models did,
`{"prompt", "strong", "weak"}` with numbers between 0 and 1, or who won between
two named models, `{"prompt", "model_a", "model_b", "winner"}`. A `route` or
`subject` says what the prompt is about; a `weight` how often the row counts.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np

from wissel.core.request import question
from wissel.errors import ConfigError
from wissel.tiers.base import STRONG, WEAK, Battles, Prompts

T = TypeVar("T")

_WINNERS = {"model_a": 1.0, "model_b": 0.0, "tie": 0.5, "tie (bothbad)": 0.5}
"""As the arena's files have it: the quality of a."""


@dataclass(frozen=True)
class Source:
    """A file of labels, and how much each of its rows counts."""

    path: Path
    weight: float = 1.0

    @classmethod
    def parse(cls, written: str) -> "Source":
        """`FILE` or `FILE:WEIGHT`. Raises ConfigError."""
        path, colon, weight = written.rpartition(":")
        if not colon or Path(written).exists():
            return cls(Path(written))
        try:
            found = float(weight)
        except ValueError:
            return cls(Path(written))
        if not 0 < found < float("inf"):
            raise ConfigError([f'--data: the weight of "{path}" is {weight}; it should be greater than 0'])
        return cls(Path(path), found)

    def digest(self) -> str:
        return sha256(self.path.read_bytes()).hexdigest()


@dataclass(frozen=True)
class _Row:
    prompt: str
    model_a: str
    model_b: str
    quality_a: float
    quality_b: float
    weight: float
    topic: str


def read(source: Source, embed: Callable[[list[str]], Prompts]) -> Battles:
    """The file's battles. Raises ConfigError, naming the line."""
    rows = _lines(source.path, _row)
    models = tuple(dict.fromkeys(name for row in rows for name in (row.model_a, row.model_b)))
    index = {name: at for at, name in enumerate(models)}
    return Battles(
        embed([row.prompt for row in rows]),
        models,
        np.array([index[row.model_a] for row in rows], np.intp),
        np.array([index[row.model_b] for row in rows], np.intp),
        np.array([row.quality_a for row in rows]),
        np.array([row.quality_b for row in rows]),
        np.array([row.weight for row in rows]) * source.weight,
        tuple(row.topic for row in rows),
    )


def read_prompts(path: Path) -> list[str]:
    """Only the prompts of a file, which needs no labels then. Raises ConfigError, naming the line."""
    return _lines(path, _prompt)


def _lines(path: Path, parse: Callable[[Mapping[str, Any]], T]) -> list[T]:
    try:
        # splitlines would also cut at signs that JSON may hold
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "not text"
        raise ConfigError([f'--data: "{path}" cannot be read: {why}']) from error
    found: list[T] = []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                read = _parsed(line)
                if not isinstance(read, dict):
                    raise ValueError("should be a JSON object")  # noqa: TRY004, TRY301 - as json's own errors
                found.append(parse(cast("Mapping[str, Any]", read)))
            except ValueError as error:
                raise ConfigError([f"{path}:{number}: {error}"]) from error
    if not found:
        raise ConfigError([f'--data: "{path}" has no rows'])
    return found


def _parsed(line: str) -> Any:
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"is no JSON: {error.msg.lower()}, at its character {error.colno}") from error
    except RecursionError as error:
        raise ValueError("is nested too deeply") from error


def _prompt(row: Mapping[str, Any]) -> str:
    prompt = row.get("prompt")
    if not isinstance(prompt, str) or not question(prompt):
        hint = "; it was exported without prompts: see tiers[].learn.prompts" if "served" in row else ""
        raise ValueError(f'"prompt" should be some text{hint}')
    return question(prompt)


def _row(row: Mapping[str, Any]) -> _Row:
    prompt = _prompt(row)
    topic = str(row.get("route") or row.get("subject") or "")
    weight = _number(row.get("weight", 1.0), "weight", highest=float("inf"))
    if "winner" in row:
        model_a, model_b = str(row.get("model_a") or ""), str(row.get("model_b") or "")
        if not model_a or not model_b or model_a == model_b:
            raise ValueError('"model_a" and "model_b" should name two models')
        won = {**_WINNERS, model_a: 1.0, model_b: 0.0}.get(str(row["winner"]))
        if won is None:
            raise ValueError(f'"winner" is "{row["winner"]}"; it should be model_a, model_b or tie')
        return _Row(prompt, model_a, model_b, won, 1 - won, weight, topic)
    if STRONG not in row or WEAK not in row:
        raise ValueError('should have "strong" and "weak", or "model_a", "model_b" and "winner"')
    strong, weak = _number(row[STRONG], STRONG), _number(row[WEAK], WEAK)
    return _Row(prompt, STRONG, WEAK, strong, weak, weight, topic)


def _number(value: Any, name: str, *, highest: float = 1.0) -> float:
    if not isinstance(value, int | float) or not 0 <= value <= highest:
        raise ValueError(f'"{name}" is {json.dumps(value)}; it should be a number from 0 to {highest:g}')
    return float(value)
