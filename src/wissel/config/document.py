"""YAML text as values that remember where they stand.

A scalar is kept as it was written and never guessed at: `no`, `1.10` and `017`
are text until the field that receives them says otherwise. So a name stays a
name, and the octal and sexagesimal numbers of YAML 1.1 do not exist here.

The text is read event by event instead of through PyYAML's constructor, which
silently takes the last of two equal keys and expands aliases without a bound.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import cast

import yaml

from wissel.core.quoting import Quoted

Path = tuple[str | int, ...]
"""Keys and indexes from the root to a value."""

MAX_BYTES = 4 << 20
MAX_DEPTH = 32
MAX_VALUES = 200_000
"""After aliases are expanded; what a thousand routes need is a tenth of it."""

_LOADER = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_PLAIN_KEY = re.compile(r"[\w-]+")
_TAG = "tag:yaml.org,2002:"
_TAGS = {"!", *(_TAG + name for name in ("str", "int", "float", "bool", "null", "map", "seq"))}


@dataclass(frozen=True, slots=True, order=True)
class Mark:
    """A place in the text, as editors count: from 1."""

    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Scalar:
    text: str
    at: Mark
    plain: bool = True
    """Written without quotes."""
    size: int = 1
    height: int = 0

    @property
    def empty(self) -> bool:
        """Whether nothing was written where a value belongs."""
        return self.plain and self.text in {"", "~"}


@dataclass(frozen=True, slots=True)
class Sequence:
    items: tuple["Node", ...]
    at: Mark
    size: int
    height: int


@dataclass(frozen=True, slots=True)
class Entry:
    at: Mark
    """Where the key stands."""
    value: "Node"


@dataclass(frozen=True, slots=True)
class Mapping:
    entries: dict[str, Entry]
    at: Mark
    size: int
    height: int


Node = Scalar | Sequence | Mapping


@dataclass(frozen=True, slots=True)
class Problem:
    """Something to be put right, and where."""

    at: Mark
    path: Path
    message: str
    meant: Path | None = None
    """What was probably meant to stand there; that it is missing needs no second problem."""
    hint: Callable[[], str] | None = None
    """Ends the message, where finding that end takes a search."""

    def render(self, source: str) -> str:
        return f"{source}:{self.at.line}:{self.at.column}: {self.fault}"

    @property
    def fault(self) -> str:
        return f"{render_path(self.path)}: {self.message}" if self.path else self.message


def render_path(path: Path) -> str:
    """The path as the documentation writes it: `routes[2].target`, `aliases["gpt-4.1"]`."""
    text = ""
    for part in path:
        match part:
            case int():
                text += f"[{part}]"
            case str() if _PLAIN_KEY.fullmatch(part):
                text += f".{part}" if text else part
            case str():
                text += f'["{part}"]'
    return text


@dataclass(frozen=True, slots=True)
class Place:
    """A path into the document; there may be nothing there."""

    path: Path
    node: Node | None
    at: Mark
    """Of the value; of what should hold it, where there is none."""
    key_at: Mark | None = None
    """Of the key that leads here, in a mapping."""

    def __getitem__(self, part: str | int) -> "Place":
        match self.node, part:
            case Mapping(entries=entries), str() if part in entries:
                return Place((*self.path, part), entries[part].value, entries[part].value.at, entries[part].at)
            case Sequence(items=items), int() if 0 <= part < len(items):
                return Place((*self.path, part), items[part], items[part].at)
            case _:
                return Place((*self.path, part), None, self.at)

    @property
    def present(self) -> bool:
        return self.node is not None

    @property
    def text(self) -> str | None:
        """The scalar as written; None where there is none."""
        match self.node:
            case Scalar(text=text) as scalar if not scalar.empty:
                return text
            case _:
                return None

    def items(self) -> Iterator["Place"]:
        """The members of a sequence; none of anything else."""
        if isinstance(self.node, Sequence):
            for index in range(len(self.node.items)):
                yield self[index]

    def entries(self) -> Iterator[tuple[str, "Place"]]:
        """The members of a mapping; none of anything else."""
        if isinstance(self.node, Mapping):
            for key in self.node.entries:
                yield key, self[key]

    def as_key(self) -> "Place":
        """The key that leads here, as a value."""
        at = self.key_at or self.at
        return Place(self.path, Scalar(str(self.path[-1]), at), at)

    def problem(self, message: str) -> Problem:
        return Problem(self.at, self.path, message)

    def key_problem(self, message: str, meant: Path | None = None) -> Problem:
        """A problem of the key that leads here."""
        return Problem(self.key_at or self.at, self.path, message, meant)


def drop_follow_ups(problems: list[Problem], explained: list[Problem]) -> list[Problem]:
    """`problems` without those that `explained` already speaks of."""
    places = {(problem.at, problem.path) for problem in explained}
    meant = {problem.meant for problem in explained}
    return [problem for problem in problems if (problem.at, problem.path) not in places and problem.path not in meant]


def plain(node: Node) -> object:
    """The bare values: dicts, lists, texts, and None where nothing was written."""
    match node:
        case Scalar(text=text):
            return None if node.empty else text if node.plain else Quoted(text)
        case Sequence(items=items):
            return [plain(item) for item in items]
        case Mapping(entries=entries):
            return {key: plain(entry.value) for key, entry in entries.items()}


def read(raw: bytes) -> tuple[Place, list[Problem]]:
    """The root of the document and what is wrong with its YAML; the root is absent where it cannot be read at all."""
    try:
        text = _decode(raw)
        composer = _Composer(iter(_events(text)))
        root = composer.document()
    except _UnreadableError as error:
        return Place((), None, Mark(1, 1)), [error.problem]
    return Place((), root, root.at), composer.problems


class _UnreadableError(Exception):
    """Reading cannot go on."""

    def __init__(self, at: Mark, message: str) -> None:
        super().__init__(message)
        self.problem = Problem(at, (), message)


def _decode(raw: bytes) -> str:
    if len(raw) > MAX_BYTES:
        raise _UnreadableError(Mark(1, 1), f"the file has {len(raw)} bytes, and at most {MAX_BYTES} are read")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        column = error.start - raw.rfind(b"\n", 0, error.start)
        raise _UnreadableError(Mark(line, column), f"not UTF-8: the byte 0x{raw[error.start]:02x}") from error
    if found := _UNPRINTABLE.search(text):
        line = text.count("\n", 0, found.start()) + 1
        column = found.start() - text.rfind("\n", 0, found.start())
        raise _UnreadableError(Mark(line, column), f"the control character U+{ord(found.group()):04X} is not text")
    return text


def _events(text: str) -> Iterator[yaml.Event]:
    try:
        yield from cast(Iterator[yaml.Event], yaml.parse(text, Loader=_LOADER))  # pyright: ignore[reportUnknownMemberType]  # its stub has no types
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        at = _mark(mark) if mark else Mark(1, 1)
        raise _UnreadableError(at, _syntax_message(error, text, at)) from error
    # PyYAML lets chr() speak for escapes beyond Unicode.
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise _UnreadableError(Mark(1, 1), f"not YAML: {error}") from error


def _syntax_message(error: yaml.MarkedYAMLError, text: str, at: Mark) -> str:
    lines = text.splitlines()
    line = lines[at.line - 1] if at.line <= len(lines) else ""
    if "\t" in line[: len(line) - len(line.lstrip())]:
        return "not YAML: the line is indented with a tab; use spaces"
    context = f" ({error.context})" if error.context else ""
    return f"not YAML: {error.problem}{context}"


def _mark(mark: yaml.Mark) -> Mark:
    return Mark(mark.line + 1, mark.column + 1)


@dataclass(slots=True)
class _Composer:
    """Events into nodes; what can be read past is noted in `problems`."""

    events: Iterator[yaml.Event]
    problems: list[Problem] = field(default_factory=list[Problem])
    anchors: dict[str, Node] = field(default_factory=dict[str, Node])
    open_anchors: set[str] = field(default_factory=set[str])

    def document(self) -> Node:
        next(self.events)  # the stream starts
        if isinstance(next(self.events), yaml.StreamEndEvent):
            raise _UnreadableError(Mark(1, 1), "the file is empty; it should hold a mapping, with `models` at least")
        root = self._node(next(self.events), (), 0)
        next(self.events)  # the document ends
        after = next(self.events)
        if not isinstance(after, yaml.StreamEndEvent):
            self.problems.append(Problem(_mark(after.start_mark), (), "a second document; the file should hold one"))
        return root

    def _node(self, event: yaml.Event, path: Path, depth: int) -> Node:
        at = _mark(event.start_mark)
        if isinstance(event, yaml.AliasEvent):
            return self._aliased(event.anchor, at)
        assert isinstance(event, yaml.NodeEvent)  # the parser's grammar says so
        if depth > MAX_DEPTH:
            raise _UnreadableError(at, f"nested deeper than {MAX_DEPTH} levels")
        tag: str | None = getattr(event, "tag", None)
        if tag is not None and tag not in _TAGS:
            self.problems.append(Problem(at, path, f'the tag "{tag}" is not understood; leave it out'))
        if event.anchor:
            self.open_anchors.add(event.anchor)
        match event:
            case yaml.SequenceStartEvent():
                node = self._sequence(at, path, depth)
            case yaml.MappingStartEvent():
                node = self._mapping(at, path, depth)
            case _:
                node = self._scalar(event, at, path)
        if node.size > MAX_VALUES or depth + node.height > MAX_DEPTH:
            limit = f"{MAX_VALUES} values" if node.size > MAX_VALUES else f"{MAX_DEPTH} levels"
            raise _UnreadableError(at, f"grows beyond {limit} when its aliases are expanded")
        if event.anchor:
            self.open_anchors.discard(event.anchor)
            self.anchors[event.anchor] = node
        return node

    def _aliased(self, name: str, at: Mark) -> Node:
        if name in self.open_anchors:
            raise _UnreadableError(at, f'"*{name}" stands inside the value that it names')
        if name not in self.anchors:
            raise _UnreadableError(at, f'no value before this is marked "&{name}"')
        return self.anchors[name]

    def _scalar(self, event: yaml.Event, at: Mark, path: Path) -> Scalar:
        assert isinstance(event, yaml.ScalarEvent)  # the parser's grammar says so
        scalar = Scalar(event.value, at, plain=not event.style)
        if scalar.empty:
            self.problems.append(Problem(at, path, "nothing is written here; give a value or leave the key out"))
        return scalar

    def _sequence(self, at: Mark, path: Path, depth: int) -> Sequence:
        items: list[Node] = []
        while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
            items.append(self._node(event, (*path, len(items)), depth + 1))
        return Sequence(tuple(items), at, 1 + sum(item.size for item in items), _height(items))

    def _mapping(self, at: Mark, path: Path, depth: int) -> Mapping:
        entries: dict[str, Entry] = {}
        merged: list[Mapping] = []
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            key_at = _mark(event.start_mark)
            merges = isinstance(event, yaml.ScalarEvent) and event.value == "<<" and not event.style
            key = self._key(event, path, depth)
            value = self._node(next(self.events), (*path, key), depth + 1)
            if merges:
                merged += self._mergeable(value, key_at, path)
            elif key in entries:
                line = entries[key].at.line
                self.problems.append(
                    Problem(key_at, (*path, key), f'the key "{key}" is written twice, first in line {line}')
                )
            else:
                entries[key] = Entry(key_at, value)
        for source in merged:
            entries = {**source.entries, **entries}
        values = [entry.value for entry in entries.values()]
        return Mapping(entries, at, 1 + sum(value.size for value in values), _height(values))

    def _key(self, event: yaml.Event, path: Path, depth: int) -> str:
        if isinstance(event, yaml.ScalarEvent):
            if event.anchor:
                self.anchors[event.anchor] = Scalar(event.value, _mark(event.start_mark), plain=not event.style)
            return event.value
        node = self._node(event, path, depth + 1)
        if isinstance(node, Scalar):
            return node.text
        self.problems.append(Problem(node.at, path, "a key should be a word, and here is a list or mapping"))
        return ""

    def _mergeable(self, value: Node, at: Mark, path: Path) -> list[Mapping]:
        sources = value.items if isinstance(value, Sequence) else (value,)
        mappings = [source for source in sources if isinstance(source, Mapping)]
        if len(mappings) < len(sources):
            self.problems.append(Problem(at, path, '"<<" should be given a mapping, or a list of them'))
        return mappings


def _height(nodes: list[Node]) -> int:
    return 1 + max((node.height for node in nodes), default=0)
