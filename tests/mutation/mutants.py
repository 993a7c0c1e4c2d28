"""A module becomes its mutants: small changes of its text, each of which a test should notice.

The operators are mutmut's, and a few of ours for what it has none: a call that
is dropped, an error that is not raised, a condition that is turned around. All
of them are offered every place of a module. mutmut itself changes only what
stands in a function that has no decorator, so no constant, no table, no
property and no default of a dataclass.

A mutant is known by what it changes and not by its line, so that a list of
mutants stays true while the module around them moves.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256

import libcst as cst
import libcst.matchers as m
from libcst.metadata import ByteSpanPositionProvider, CodeSpan, MetadataWrapper
from mutmut.mutation.mutators import mutation_operators


@dataclass(frozen=True, slots=True)
class Mutant:
    path: str
    """Of the module, from the root."""
    line: int
    before: str
    """The lines that are changed."""
    after: str
    source: str
    """The whole module, changed."""
    id: str


@dataclass(frozen=True, slots=True)
class Mutants:
    mutants: tuple[Mutant, ...]
    left_out: Counter[str]
    """Changes of what no running program reads: how many of each kind."""


def mutants_of(path: str, source: str) -> Mutants:
    """In the order of the text."""
    wrapper = MetadataWrapper(cst.parse_module(source))
    places = _Places(wrapper.module, source)
    wrapper.visit(places)
    seen: Counter[tuple[str, str]] = Counter()
    mutants: list[Mutant] = []
    for changed in places.changed:
        line, before, after = _difference(source, changed)
        nth = seen[before, after]
        seen[before, after] += 1
        name = sha256("\0".join((path, before, after, str(nth))).encode()).hexdigest()[:8]
        mutants.append(Mutant(path, line, before, after, changed, name))
    return Mutants(tuple(mutants), places.left_out)


class _Places(cst.CSTVisitor):
    """Offers every node to every operator."""

    METADATA_DEPENDENCIES = (ByteSpanPositionProvider,)

    def __init__(self, module: cst.Module, source: str) -> None:
        super().__init__()
        self.left_out: Counter[str] = Counter()
        self.changed: list[str] = []
        self._module = module
        self._text = source.encode()
        self._unread: list[tuple[cst.CSTNode, str]] = []
        """The nodes that no running program reads, around the one that is visited."""
        self._casts: list[cst.Arg] = []
        """The types that values are said to have."""

    def on_visit(self, node: cst.CSTNode) -> bool:
        if m.matches(node, m.Call(func=m.Name("cast"))):
            self._casts.append(cst.ensure_type(node, cst.Call).args[0])
        why = "a type" if self._casts and node is self._casts[-1] else _unread(node)
        if why:
            self._unread.append((node, why))
        for other in _changes(node):
            if self._unread:
                self.left_out[self._unread[0][1]] += 1
            else:
                self.changed.append(self._with(node, other))
        return True

    def on_leave(self, original_node: cst.CSTNode) -> None:
        if self._unread and self._unread[-1][0] is original_node:
            self._unread.pop()

    def _with(self, node: cst.CSTNode, other: cst.CSTNode) -> str:
        if isinstance(node, cst.BaseCompoundStatement):
            # Its lines are indented as the module around them says.
            changed = self._module.deep_replace(node, other)
            assert isinstance(changed, cst.Module)
            return changed.code
        span = self.get_metadata(ByteSpanPositionProvider, node)
        assert isinstance(span, CodeSpan)
        new = self._module.code_for_node(other).encode()
        return (self._text[: span.start] + new + self._text[span.start + span.length :]).decode()


def _changes(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    for kind, operator in mutation_operators:
        if isinstance(node, kind):
            yield from operator(node)
    yield from _ours(node)


def _ours(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    match node:
        case cst.Expr(value=cst.Call() | cst.Await()) | cst.Raise():
            yield cst.Pass()
        case cst.If(test=test) | cst.While(test=test) if not m.matches(test, m.UnaryOperation(operator=m.Not())):
            bracketed = test.with_changes(lpar=[cst.LeftParen()], rpar=[cst.RightParen()])
            yield node.with_changes(test=cst.UnaryOperation(cst.Not(), bracketed))
        case cst.FormattedStringText(value=text):
            yield node.with_changes(value=f"XX{text}XX")
        case _:
            return


def _unread(node: cst.CSTNode) -> str:
    match node:
        case cst.Annotation():
            return "a type"
        case cst.Assign(value=cst.Subscript(value=cst.Name("Literal"))):
            return "a type"
        case cst.Expr(value=cst.SimpleString() | cst.ConcatenatedString()):
            return "a docstring"
        case _:
            return ""


def _difference(source: str, changed: str) -> tuple[int, str, str]:
    """The first line that differs, what stood there, and what does now."""
    old, new = source.splitlines(), changed.splitlines()
    shorter = min(len(old), len(new))
    start = next((i for i in range(shorter) if old[i] != new[i]), shorter)
    end = next((i for i in range(shorter - start) if old[-1 - i] != new[-1 - i]), shorter - start)
    return start + 1, _lines(old[start : len(old) - end]), _lines(new[start : len(new) - end])


def _lines(lines: list[str]) -> str:
    return " ".join(line.strip() for line in lines)
