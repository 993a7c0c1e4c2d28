"""A closed set of answers, folded into what a model must read to choose among them.

    answers, as tokens -> Trie -> (one forward pass) -> probabilities at each branch -> Choice

The answers share beginnings, and after its last branch an answer says nothing
new. What is left is a small tree: the tokens up to each branch. Laid out in one
row, parents before children, all of it fits behind the prompt in the same
forward pass if every token sees only its ancestors; so a forced token costs no
step, a branch costs no step of its own either, and the probability of every
answer comes out exactly, not only that of the best.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

PROMPT_END = -1
"""The node before the first: the prompt's last token."""


@dataclass(frozen=True, slots=True)
class Branch:
    """A place where the answers part."""

    node: int
    """The node after which they part, or PROMPT_END."""
    tokens: tuple[int, ...]
    """The legal next tokens, ascending."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What the model says of a set of answers."""

    greedy: int
    """The answer that greedy decoding would write, where only these answers are legal."""
    probabilities: tuple[float, ...]
    """Of each answer, in their order; they add up to one."""


@dataclass(frozen=True, slots=True)
class Trie:
    """Answers as a tree of tokens, without the tails that nothing depends on."""

    tokens: tuple[int, ...]
    """The nodes' tokens; a node comes after its parent."""
    parents: tuple[int, ...]
    """Of each node the one before it, or PROMPT_END."""
    branches: tuple[Branch, ...]
    paths: tuple[tuple[tuple[int, int], ...], ...]
    """Of each answer its turns: which branch, and which of its tokens."""

    @property
    def depths(self) -> tuple[int, ...]:
        """How many tokens after the prompt's last each node stands, from 1."""
        depths: list[int] = []
        for parent in self.parents:
            depths.append(1 if parent == PROMPT_END else depths[parent] + 1)
        return tuple(depths)

    @property
    def lineages(self) -> tuple[frozenset[int], ...]:
        """Each node's ancestors and itself: what it may see."""
        lineages: list[frozenset[int]] = []
        for node, parent in enumerate(self.parents):
            lineages.append(frozenset({node}) if parent == PROMPT_END else lineages[parent] | {node})
        return tuple(lineages)

    def choose(self, odds: Sequence[Sequence[float]]) -> Choice:
        """`odds` are the probabilities of each branch's tokens, each branch adding up to one."""
        likeliest = [max(range(len(row)), key=row.__getitem__) for row in odds]
        return Choice(
            next(i for i, path in enumerate(self.paths) if all(likeliest[branch] == turn for branch, turn in path)),
            tuple(prod(odds[branch][turn] for branch, turn in path) for path in self.paths),
        )


def fold(answers: Sequence[Sequence[int]]) -> Trie:
    """The trie of `answers`; they must differ, and none may begin another (ValueError)."""
    tokens: list[int] = []
    parents: list[int] = []
    branches: list[Branch] = []
    paths: list[list[tuple[int, int]]] = [[] for _ in answers]

    def grow(members: Sequence[int], depth: int, node: int) -> None:
        while len(members) > 1:
            if any(len(answers[member]) == depth for member in members):
                raise ValueError("two answers are the same to the tokenizer, or one begins another")
            following = sorted({answers[member][depth] for member in members})
            if len(following) > 1:
                part(members, depth, node, tuple(following))
                return
            node = add(following[0], node)
            depth += 1

    def part(members: Sequence[int], depth: int, node: int, following: tuple[int, ...]) -> None:
        branch = len(branches)
        branches.append(Branch(node, following))
        for turn, token in enumerate(following):
            group = [member for member in members if answers[member][depth] == token]
            for member in group:
                paths[member].append((branch, turn))
            if len(group) > 1:
                grow(group, depth + 1, add(token, node))

    def add(token: int, parent: int) -> int:
        tokens.append(token)
        parents.append(parent)
        return len(tokens) - 1

    grow(range(len(answers)), 0, PROMPT_END)
    return Trie(tuple(tokens), tuple(parents), tuple(branches), tuple(tuple(path) for path in paths))
