"""What describes routes: short phrases and examples, in a fixed order, and the vectors of them."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from wissel.classifiers.threshold import MIN_OTHERS
from wissel.core.snapshot import Route
from wissel.encoders.base import Read, Vectors

Ints = NDArray[np.intp]
Bools = NDArray[np.bool_]
Learned = TypeVar("Learned")

MOST_JUDGED = 3000
"""So many examples say enough about how well messages are understood; to judge more would take long."""

FOLDS = 5
"""What is judged must not have been learned: a part of the examples, one of so many, is left out at a time."""


def phrases_of(route: Route) -> tuple[str, ...]:
    """What describes a route, without its examples: short phrases do better than one long description.

    A bare domain or action counts only where nothing says more. A vague one ("support", "help") is near to everything,
    and cost 3 points of CLINC150's validation messages over 30 described routes; a good one brought nothing.
    """
    name = route.name.replace("_", " ").replace("-", " ")
    both = f"{route.action} {route.domain}" if route.action and route.domain else ""
    bare = () if route.description or route.examples or both else (route.domain, route.action)
    return tuple(dict.fromkeys(filter(None, (name, *bare, both, route.description))))


def partings(judged: Ints, parts: Ints, rows: int) -> Iterator[tuple[Bools, Ints]]:
    """By part: which of the rows `judged` are in it, and which of all `rows` are not."""
    for part in range(int(parts.max(initial=-1)) + 1):
        held = parts == part
        yield held, np.setdiff1d(np.arange(rows), judged[held])


@dataclass(frozen=True)
class Phrases:
    """Of all routes, laid end to end: one row of any matrix is one phrase, one column one route."""

    names: tuple[str, ...]
    groups: tuple[tuple[str, ...], ...]
    """Each route's, its examples last."""
    examples: tuple[int, ...]
    """How many of each route's are examples of what users say."""

    @staticmethod
    def of(routes: Iterable[Route]) -> "Phrases":
        """The routes by name, so that their order in a configuration never matters."""
        ordered = sorted(routes, key=lambda route: route.name)
        groups = tuple(tuple(dict.fromkeys((*phrases_of(route), *route.examples))) for route in ordered)
        examples = (len(group) - len(phrases_of(route)) for route, group in zip(ordered, groups, strict=True))
        return Phrases(tuple(route.name for route in ordered), groups, tuple(examples))

    @cached_property
    def texts(self) -> tuple[str, ...]:
        return tuple(text for group in self.groups for text in group)

    @cached_property
    def starts(self) -> Ints:
        """Where each route begins."""
        return np.cumsum([0, *map(len, self.groups)])[:-1]

    @cached_property
    def owners(self) -> Ints:
        """The route of each."""
        return np.repeat(np.arange(len(self.groups)), [len(group) for group in self.groups])

    @cached_property
    def judged(self) -> Ints:
        """The examples that show how messages are understood; some of very many."""
        rows = self._telling
        if len(rows) <= MOST_JUDGED:
            return rows
        return rows[np.linspace(0, len(rows) - 1, MOST_JUDGED).astype(np.intp)]

    @cached_property
    def parts(self) -> Ints:
        """Which of the judged are left out together, a number for each from 0: of very many examples fewer parts.

        What is left is always most of the examples, or what the rest makes of them would not be what all do.
        """
        judged = len(self.judged)
        return np.arange(judged) % max(1, round(FOLDS * judged / max(1, len(self._telling))))

    @cached_property
    def _telling(self) -> Ints:
        """The examples whose routes say more than them alone."""
        ends = np.cumsum([len(group) for group in self.groups]).tolist()
        rows = [
            row
            for end, group, examples in zip(ends, self.groups, self.examples, strict=True)
            if len(group) > MIN_OTHERS
            for row in range(end - examples, end)
        ]
        return np.array(rows, np.intp)


class Phrasebook(Generic[Learned]):
    """The vectors of all routes' phrases; a changed config encodes, and learns, only what is new in it."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self._known: dict[str, tuple[Vectors, Vectors]] = {}
        self._learned: tuple[Phrases, Learned] | None = None

    def learn(self, phrases: Phrases, learn: Callable[[], Learned]) -> Learned:
        """What was learned of these phrases; `learn` is only called if they are not those of last time."""
        if self._learned is None or self._learned[0] != phrases:
            self._learned = phrases, learn()
        return self._learned[1]

    def look_up(self, phrases: Sequence[str]) -> tuple[Vectors, Vectors]:
        """A unit vector and a wording a phrase, read as a whole; blocks. Forgets the phrases that are not asked for.

        Raises what `read` raises.
        """
        new = [phrase for phrase in dict.fromkeys(phrases) if phrase not in self._known]
        read = {
            phrase: (reading.vectors[0], reading.wordings[0])
            for phrase, reading in zip(new, self._read(new) if new else (), strict=True)
        }
        self._known = {phrase: read.get(phrase) or self._known[phrase] for phrase in phrases}
        vectors, wordings = zip(*(self._known[phrase] for phrase in phrases), strict=True)
        return np.stack(vectors), np.stack(wordings)
