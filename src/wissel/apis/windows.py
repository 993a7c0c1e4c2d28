"""JSON of any size, read a window at a time.

    bytes -> generator -> the value, with long texts cut to their beginnings and ends

The scanner of the standard library is fast and strict, and holds everybody up
until it is done. So it is given a window of the bytes at a time: what lies whole
in a window is its work, and what is longer is walked by us, member by member,
item by item, or, if it is one long text, piece by piece. Between windows the
generator yields, and whoever drives it may do something else; a small body
is one window, and is read without a pause.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import suppress
from typing import Any, Final, NoReturn, TypeVar, cast

from wissel.core.bounds import Bounds, beyond
from wissel.core.quoting import quoted
from wissel.errors import UnreadableError

WINDOW: Final = 32 * 1024
"""Bytes: of the densest JSON two milliseconds' work."""

T = TypeVar("T")
Slices = Generator[None, None, T]
"""Work that yields wherever it may pause, a few milliseconds apart at most, and returns what it came to."""

Scan = Callable[[str, int], tuple[Any, int]]

_ITEMS: Final = 512
"""Between two pauses, of those that we walk ourselves."""
_MARGIN: Final = 3
"""Characters that must follow a value in its window: a number may go on behind its dot or the sign of its exponent."""
_LONGEST_ESCAPE: Final = 12
_HALF: Final = len("\\ud83d")
_KEPT_PIECES: Final = 3
"""Of a long text."""
_SIZED_UP: Final = 1 << 20
_OF_MEMBER: Final = 2
"""Levels down to the items of an array that is a member of the outermost object."""

_SPACE: Final = re.compile(r"[ \t\n\r]*")
_NUMERIC: Final = frozenset("-0123456789")
_ENDINGS: Final = {"{": "},", "[": "],", '"': '",'}
"""How an item that begins so ends, and a next one follows."""
_TOO_LONG: Final = object()
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"


class LongText(str):
    """The beginning and the end of a text that is longer than a window."""

    __slots__ = ("omitted",)

    omitted: int
    """Bytes between them."""


def whole(work: Slices[T]) -> T:
    """All of it at once, where nobody else is waiting."""
    while True:
        try:
            next(work)
        except StopIteration as done:
            return cast("T", done.value)


def count_of(marks: bytes, data: bytes | bytearray, most: int) -> Slices[int]:
    """How often any of `marks` stands in the text; counted no further than shows that it is more than `most`."""
    found = 0
    for at in range(0, len(data), _SIZED_UP):
        if at:
            yield
        found += sum(data.count(mark, at, at + _SIZED_UP) for mark in marks)
        if found > most:
            break
    return found


def _no_constant(name: str) -> NoReturn:
    raise UnreadableError(f'the body is not JSON: "{name}" is no JSON number')


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        ((twice, _),) = Counter(name for name, _ in pairs).most_common(1)
        raise named_twice(twice)
    return found


def named_twice(name: str) -> UnreadableError:
    """An object has two members of one name."""
    return UnreadableError(f"the body names {quoted(name)} twice", param=name)


SCAN: Final[Scan] = json.JSONDecoder(parse_constant=_no_constant).raw_decode
"""Of a name that an object has twice, the last one stands, as most readers have it."""
SCAN_ONCE: Final[Scan] = json.JSONDecoder(parse_constant=_no_constant, object_pairs_hook=_once).raw_decode
"""An object that has a name twice cannot be read."""


class Cursor:
    """A place in a JSON text of bytes, and the window that it stands in."""

    __slots__ = (
        "_ascii",
        "_base",
        "_bounds",
        "_is_last",
        "_measures",
        "_place",
        "_scan",
        "_tried",
        "_values",
        "at",
        "data",
        "fresh",
        "text",
    )

    def __init__(self, data: bytes | bytearray, bounds: Bounds, scan: Scan = SCAN) -> None:
        self.data = data
        self._bounds = bounds
        self._scan = scan
        self._measures = True
        self._values = 0
        self._tried: int = -1
        """Where the latest window began that was tried at once."""
        self.fresh = False
        """Whether a window was opened since the last pause."""
        self._open(len(_BYTE_ORDER_MARK) if data.startswith(_BYTE_ORDER_MARK) else 0)

    def _open(self, base: int) -> None:
        data, end = self.data, min(base + WINDOW, len(self.data))
        for _ in range(3):
            # Not within a character of several bytes.
            if end < len(data) and data[end] & 0xC0 == 0x80:
                end -= 1
        try:
            self.text = data[base:end].decode()
        except UnicodeDecodeError as error:
            raise UnreadableError(f"the body is not UTF-8: byte {base + error.start} cannot be decoded") from None
        self._base = base
        self._is_last = end == len(data)
        self._ascii = len(self.text) == end - base
        self._place = (0, 0)
        self.at = 0

    def _move_on(self) -> None:
        """Open the window that begins here."""
        self._open(self.here)
        self.fresh = True

    @property
    def here(self) -> int:
        """The place, in bytes."""
        if self._ascii:
            return self._base + self.at
        chars, size = self._place
        size += len(self.text[chars : self.at].encode())
        self._place = (self.at, size)
        return self._base + size

    def size_up(self) -> Slices[None]:
        """Find out whether the text can hold more values, or be deeper, than it may: mostly it cannot."""
        bounds = self._bounds
        brackets = yield from count_of(b"[{", self.data, bounds.depth)
        self._measures = brackets > bounds.depth
        if not self._measures:
            commas = yield from count_of(b",", self.data, bounds.values)
            self._measures = commas + brackets > bounds.values

    # What stands here.

    def mark(self) -> Slices[str]:
        """The next character that is no space; empty at the end of the text."""
        while True:
            text = self.text
            self.at = at = cast("re.Match[str]", _SPACE.match(text, self.at)).end()
            if at < len(text):
                return text[at]
            if self._is_last:
                return ""
            self._move_on()
            yield

    def name(self, *, first: bool) -> Slices[str | None]:
        """The next name of an object, which begins here or is walked already; None behind its end.

        The cursor stands at the name's value then.
        """
        if first:
            self.at += 1
            mark = yield from self.mark()
        else:
            mark = yield from self._next("}")
        if mark == "}":
            self.at += 1
            return None
        return (yield from self._name(mark))

    def _next(self, closing: str) -> Slices[str]:
        """What the next item begins with, behind its comma; or `closing`."""
        mark = yield from self.mark()
        if mark == closing:
            return mark
        if mark != ",":
            raise self.unreadable("Expecting ',' delimiter", self.at)
        self.at += 1
        mark = yield from self.mark()
        if mark == closing:
            raise self.unreadable("Expecting value", self.at)
        return mark

    def _name(self, mark: str) -> Slices[str]:
        if mark != '"':
            raise self.unreadable("Expecting property name enclosed in double quotes", self.at)
        name = self._small(0)
        if name is _TOO_LONG:
            raise UnreadableError(f"a member's name is longer than {WINDOW} bytes")
        if (yield from self.mark()) != ":":
            raise self.unreadable("Expecting ':' delimiter", self.at)
        self.at += 1
        yield from self.mark()
        return name

    def value(self, depth: int) -> Slices[Any]:
        """The value that begins here; the cursor stands behind it then. `depth` is of what it stands in."""
        found = self._small(depth)
        if found is _TOO_LONG:
            found = yield from self._long(depth)
        if self.fresh:
            self.fresh = False
            yield
        return found

    def _small(self, depth: int) -> Any:
        """As `value`, if a window can hold all of it; `_TOO_LONG` if not."""
        while True:
            text = self.text
            try:
                scanned = self._scan(text, self.at)
            except json.JSONDecodeError as error:
                if self._is_last:
                    raise self.unreadable(error.msg, error.pos) from None
            except RecursionError:
                raise beyond(self._bounds, "depth") from None
            except ValueError as error:
                # The scanner's only other complaint: an integer of more digits than Python converts.
                raise UnreadableError(f"the body is not usable JSON: {str(error).lower()}") from None
            else:
                found: Any = scanned[0]
                end = scanned[1]
                if self._is_last or end <= len(text) - _MARGIN:
                    self.at = end
                    if self._measures and isinstance(found, dict | list):
                        self._measure(found, depth)
                    return scanned[0]
            if self.at == 0:
                return _TOO_LONG
            self._move_on()

    def _measure(self, found: Any, depth: int) -> None:
        bounds = self._bounds
        level: list[Any] = [found]
        while level:
            depth += 1
            if depth > bounds.depth:
                raise beyond(bounds, "depth")
            self._count(sum(map(len, level)))
            insides: list[Any] = [each.values() if type(each) is dict else each for each in level]
            level = [each for values in insides for each in values if type(each) is dict or type(each) is list]

    def _count(self, values: int) -> None:
        self._values += values
        if self._values > self._bounds.values:
            raise beyond(self._bounds, "values")

    # What is longer than a window, and begins with this one.

    def _long(self, depth: int) -> Slices[Any]:
        yield
        match self.text[:1]:
            case '"':
                return (yield from self._long_text())
            case "[" | "{" if depth >= self._bounds.depth:
                raise beyond(self._bounds, "depth")
            case "[":
                return (yield from self._long_array(depth + 1))
            case "{":
                return (yield from self._long_object(depth + 1))
            case _:
                raise self.unreadable("Expecting value", 0)

    def _long_object(self, depth: int) -> Slices[dict[str, Any]]:
        self.at += 1
        found: dict[str, Any] = {}
        mark: str = yield from self.mark()
        while mark != "}":
            run = self._run("{}", ",", depth) if mark == '"' else None
            if not run:
                name = yield from self._name(mark)
                run = {name: (yield from self.value(depth))}
                self._count(1)
            if self._scan is SCAN_ONCE and (twice := found.keys() & run):
                raise named_twice(twice.pop())
            found |= run
            yield from self._pause(len(found))
            mark = yield from self._next("}")
        self.at += 1
        return found

    def _long_array(self, depth: int) -> Slices[list[Any]]:
        self.at += 1
        found: list[Any] = []
        mark: str = yield from self.mark()
        while mark != "]":
            run = self._run("[]", _ENDINGS.get(mark, ","), depth)
            if not run:
                run = [(yield from self.value(depth))]
                self._count(1)
            found += run
            if depth == _OF_MEMBER and len(found) > self._bounds.messages and mark not in _NUMERIC:
                raise beyond(self._bounds, "messages")
            yield from self._pause(len(found))
            mark = yield from self._next("]")
        self.at += 1
        return found

    def _pause(self, done: int) -> Slices[None]:
        if self.fresh or done % _ITEMS == 0:
            self.fresh = False
            yield

    def _run(self, brackets: str, ending: str, depth: int) -> Any:
        """What follows from here and stands whole in this window, at once; None where that cannot be seen.

        What is cut anywhere but between two items is no JSON, so a wrong guess is known as one.
        """
        if self._base == self._tried:
            return None
        self._tried = self._base
        end = self.text.rfind(ending, self.at) + len(ending) - 1
        if end <= self.at:
            return None
        text = f"{brackets[0]}{self.text[self.at : end]}{brackets[1]}"
        try:
            found, scanned = self._scan(text, 0)
        except (ValueError, RecursionError):
            return None
        if scanned != len(text):
            return None
        self.at = end
        if self._measures:
            self._measure(found, depth - 1)
        return found

    def _long_text(self) -> Slices[LongText]:
        self.at = 1
        begin = self.here
        kept: list[str] = []
        sizes: list[int] = []
        is_end = False
        while not is_end:
            before = self.here
            piece, is_end = self._piece()
            if len(kept) == _KEPT_PIECES:
                # The first is kept, and the last ones: the very last may be short.
                del kept[1], sizes[1]
            kept.append(piece)
            sizes.append(self.here - before)
            if not is_end:
                self._move_on()
                yield
        found = LongText("".join(kept))
        found.omitted = self.here - begin - sum(sizes)
        return found

    def _piece(self) -> tuple[str, bool]:
        """What a text says from here to its end, or to where the window ends; and whether it was its end."""
        text = f'"{self.text[self.at :]}'
        try:
            found, end = SCAN(text, 0)
        except json.JSONDecodeError as error:
            problem = error
        else:
            self.at += end - 1
            return found, True
        for cut in range(len(text), len(text) - _LONGEST_ESCAPE, -1):
            # The window may end within an escape.
            with suppress(json.JSONDecodeError):
                found, _ = SCAN(f'{text[:cut]}"', 0)
                if self._is_last:
                    break
                if "\ud800" <= found[-1:] <= "\udbff":
                    # Half of a character, whose other half comes next.
                    found, cut = found[:-1], cut - _HALF  # noqa: PLW2901
                self.at += cut - 1
                return found, False
        raise self.unreadable(problem.msg, self.at + problem.pos - 1)

    def unreadable(self, why: str, at: int) -> UnreadableError:
        """`at` is a place in the window."""
        self.at = max(0, min(at, len(self.text)))
        self._place = (0, 0)
        place, data = self.here, self.data
        what = why.lower().removesuffix(" at")
        if place > WINDOW:
            return UnreadableError(f"the body is not JSON: {what} at byte {place}")
        line = data.count(b"\n", 0, place) + 1
        column = len(data[data.rfind(b"\n", 0, place) + 1 : place].decode("utf-8", "replace")) + 1
        return UnreadableError(f"the body is not JSON: {what} at line {line}, column {column}")

    def finish(self) -> Slices[None]:
        """Nothing but space may follow. Raises UnreadableError."""
        if (yield from self.mark()):
            raise self.unreadable("Extra data", self.at)


def read_json(data: bytes | bytearray, bounds: Bounds) -> Slices[Any]:
    """The value of a whole text, in which no object has a name twice. Raises UnreadableError."""
    cursor = Cursor(data, bounds, SCAN_ONCE)
    yield from cursor.size_up()
    yield from cursor.mark()
    found = yield from cursor.value(0)
    yield from cursor.finish()
    return found
