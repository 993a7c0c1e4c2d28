"""What a model's answer says about itself: tokens, finish reasons, errors, and when its words came.

All APIs are read by one set of names: no two of them mean different things by
the same member. A reader takes the body as it arrives, in chunks cut anywhere,
and gives back the bytes that go on, which are the same bytes; only the chunk
of usage that wissel itself asked a stream for is taken out again.
"""

import json
import re
from collections.abc import Mapping
from typing import Any, Final, Protocol, TypeGuard, cast

from wissel.apis.encoding import READABLE, Inflater
from wissel.apis.sse import Splitter, data_of
from wissel.core.outcome import Usage

MAX_JSON_BYTES: Final = 8 * 1024 * 1024
"""A larger body is passed on unread."""
MAX_USAGE_EVENT_BYTES: Final = 16 * 1024
"""A longer event is not the chunk of usage, so none of it is held back."""

_MAX_COUNT: Final = 2**53
_MAX_CHOICES: Final = 1024
_MAX_NAME: Final = 256

_HAS_CHOICE: Final = re.compile(rb'"choices"\s*:\s*\[\s*[^\]\s]|^data: ?\[')
"""In the beginning of an event: it is no chunk of usage, whatever follows."""

_VECTOR: Final = re.compile(rb'"embedding"\s*:\s*(?:\[[^\[\]]*\]|"[^"]*")')
"""Most of an answer with embeddings, and nothing to learn from; quotes within a string have a backslash before them."""

_ENDS: Final = frozenset(
    {"message_stop", "response.completed", "response.incomplete", "response.failed", "response.cancelled"}
)
"""The `type` of a stream's last event."""

_FINAL_STATES: Final = frozenset({"completed", "failed", "cancelled"})

Json = Mapping[str, Any]


class Findings:
    """What was learned from a body so far."""

    __slots__ = ("_counts", "_finished", "chunks", "ended", "error", "first_at", "last_at", "model", "unread")

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._finished: dict[int, str] = {}
        self.model = ""
        self.error = ""
        self.ended = False
        """Whether the body said that nothing follows."""
        self.unread = ""
        """Why some of the body was not read: `encoding`, `malformed` or `too_large`."""
        self.chunks = 0
        self.first_at: float | None = None
        """When the first chunk with output came."""
        self.last_at = 0.0

    @property
    def usage(self) -> Usage | None:
        """Later counts stand for earlier ones: providers send them as running totals."""
        if not self._counts:
            return None
        counts = self._counts.get
        # Anthropic counts what it reads from its cache, or writes there, beside the input; the others within.
        beside = counts("cache_read", 0) + counts("cache_written", 0)
        return Usage(
            counts("input", 0) + beside,
            counts("output", 0),
            counts("cached", 0) + counts("cache_read", 0),
            counts("reasoning", 0),
        )

    @property
    def finish_reasons(self) -> tuple[str, ...]:
        """In the order of the choices."""
        return tuple(self._finished[index] for index in sorted(self._finished))

    def take(self, said: Json) -> None:
        """Learn from a body, or from an event of one."""
        kind = said.get("type")
        if kind in _ENDS:
            self.ended = True
        inner = said
        if isinstance(kind, str):
            inner = _object(said.get("message" if kind == "message_start" else "response")) or said
        if not self.model and isinstance(model := inner.get("model"), str):
            self.model = model[:_MAX_NAME]
        if usage := _object(inner.get("usage")):
            self._counts.update(_counts_of(usage))
        if error := inner.get("error"):
            self._fail(_object(error) or {})
        elif kind == "error":
            self._fail(said)
        self._finish(inner)

    def tick(self, now: float) -> None:
        """A chunk with output came."""
        self.chunks += 1
        if self.first_at is None:
            self.first_at = now
        self.last_at = now

    def _fail(self, error: Json) -> None:
        named = (error.get(name) for name in ("type", "code"))
        self.error = next((name[:_MAX_NAME] for name in named if isinstance(name, str) and name != "error"), "error")

    def _finish(self, inner: Json) -> None:
        for at, choice in enumerate(_objects(inner.get("choices"))):
            if isinstance(reason := choice.get("finish_reason"), str):
                index = choice.get("index")
                self._finished_as(reason, index if isinstance(index, int) else at)
        stop = inner.get("stop_reason", _object(inner.get("delta")).get("stop_reason"))
        if isinstance(stop, str):
            self._finished_as(stop)
        status = inner.get("status") if inner.get("object") == "response" else None
        if status == "incomplete":
            reason = _object(inner.get("incomplete_details")).get("reason")
            self._finished_as(reason if isinstance(reason, str) else "incomplete")
        elif status in _FINAL_STATES:
            self._finished_as(cast("str", status))

    def _finished_as(self, reason: str, index: int = 0) -> None:
        if index in self._finished or len(self._finished) < _MAX_CHOICES:
            self._finished[index] = reason[:_MAX_NAME]


class Reader(Protocol):
    """Reads one body."""

    found: Findings

    def feed(self, data: bytes, *, now: float) -> bytes:
        """Take the next bytes; those that go on."""
        ...

    def finish(self) -> bytes:
        """The body is over; the bytes still held."""
        ...


class StreamReader:
    """Reads server-sent events; with `strip`, the chunk of usage is taken out."""

    __slots__ = ("_passed", "_splitter", "_strip", "found")

    def __init__(self, *, strip: bool) -> None:
        self.found = Findings()
        self._splitter = Splitter()
        self._strip = strip
        self._passed = 0
        """How many bytes of the splitter's rest went on already."""

    def feed(self, data: bytes, *, now: float) -> bytes:
        on: list[bytes] = []
        for piece in self._splitter.feed(data):
            if not piece.whole:
                self.found.unread = "too_large"
            elif self._read(piece.raw, now) and self._strip:
                continue
            if self._strip:
                on.append(piece.raw[self._passed :])
                self._passed = max(0, self._passed - len(piece.raw))
        if not self._strip:
            return data
        rest = self._splitter.rest
        if self._passed or self._splitter.in_long_event or not _may_be_usage(rest):
            on.append(rest[self._passed :])
            self._passed = len(rest)
        return b"".join(on)

    def finish(self) -> bytes:
        rest = self._splitter.rest
        # Without its blank line it is no event, but clients take it for one, and so does this.
        only_usage = not self._splitter.in_long_event and self._read(rest, self.found.last_at)
        held = rest[self._passed :] if self._strip and not only_usage else b""
        if self.found.chunks and not self.found.ended and not self.found.finish_reasons and not self.found.error:
            self.found.error = "truncated"
        return held

    def _read(self, event: bytes, now: float) -> bool:
        """Learn from an event; whether it is nothing but usage."""
        data = data_of(event)
        if not data:
            return False
        if data.strip() == b"[DONE]":
            self.found.ended = True
            return False
        said = _parse(data)
        if said is None:
            self.found.unread = "malformed"
            return False
        self.found.take(said)
        if _has_output(said):
            self.found.tick(now)
        return said.get("choices") == [] and bool(_object(said.get("usage"))) and _may_be_usage(event)


class JsonReader:
    """Reads a body that is one JSON object."""

    __slots__ = ("_held", "_size", "found")

    def __init__(self) -> None:
        self.found = Findings()
        self._held: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes, *, now: float) -> bytes:  # noqa: ARG002  # a whole body has no pace
        self._size += len(data)
        if self._size > MAX_JSON_BYTES:
            self._held.clear()
            self.found.unread = "too_large"
        else:
            self._held.append(data)
        return data

    def finish(self) -> bytes:
        if self._held:
            # Numbers are slow to parse, and every other stream would wait.
            said = _parse(_VECTOR.sub(b'"embedding":0', b"".join(self._held)))
            self._held.clear()
            if said is None:
                self.found.unread = "malformed"
            else:
                self.found.take(said)
                self.found.ended = True
        return b""


class Inflating:
    """Reads a compressed body with another reader; the bytes go on as they are."""

    __slots__ = ("_inflater", "_reader", "found")

    def __init__(self, reader: Reader) -> None:
        self.found = reader.found
        self._reader = reader
        self._inflater = Inflater()

    def feed(self, data: bytes, *, now: float) -> bytes:
        if self.found.unread != "encoding":
            plain = self._inflater.feed(data)
            if plain is None:
                self.found.unread = "encoding"
            else:
                self._reader.feed(plain, now=now)
        return data

    def finish(self) -> bytes:
        if self.found.unread != "encoding":
            self._reader.finish()
        return b""


def reader_for(headers: Mapping[str, str], *, strip: bool) -> Reader | None:
    """What reads a response with these headers; None where nothing here can.

    A compressed stream keeps its chunk of usage, for its bytes cannot be changed.
    """
    coding = headers.get("content-encoding", "").strip().lower()
    if coding not in READABLE:
        return None
    plain = coding in {"", "identity"}
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "text/event-stream":
        reader: Reader = StreamReader(strip=strip and plain)
    elif kind == "application/json" or kind.endswith("+json"):
        reader = JsonReader()
    else:
        return None
    return reader if plain else Inflating(reader)


def _parse(data: bytes) -> Json | None:
    try:
        said = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return cast("Json", said) if isinstance(said, dict) else None


def _may_be_usage(event: bytes) -> bool:
    """Whether an event that begins so may be the chunk of usage; once it may not, no longer one may."""
    return len(event) <= MAX_USAGE_EVENT_BYTES and not _HAS_CHOICE.search(event)


def _has_output(said: Json) -> bool:
    kind = said.get("type")
    if isinstance(kind, str):
        return kind == "content_block_delta" or kind.endswith(".delta")
    for choice in _objects(said.get("choices")):
        delta = _object(choice.get("delta"))
        if choice.get("text") or any(value for name, value in delta.items() if name != "role"):
            return True
    return False


_NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "input": ("prompt_tokens", "input_tokens"),
    "output": ("completion_tokens", "output_tokens"),
    "cache_read": ("cache_read_input_tokens",),
    "cache_written": ("cache_creation_input_tokens",),
}
_DETAILS: Final[Mapping[str, tuple[tuple[str, ...], str]]] = {
    "cached": (("prompt_tokens_details", "input_tokens_details"), "cached_tokens"),
    "reasoning": (("completion_tokens_details", "output_tokens_details"), "reasoning_tokens"),
}


def _counts_of(usage: Json) -> dict[str, int]:
    counts: dict[str, int] = {}
    for count, names in _NAMES.items():
        for name in names:
            if _is_count(value := usage.get(name)):
                counts[count] = value
    for count, (places, name) in _DETAILS.items():
        for place in places:
            if _is_count(value := _object(usage.get(place)).get(name)):
                counts[count] = value
    return counts


def _is_count(value: object) -> TypeGuard[int]:
    return type(value) is int and 0 <= value < _MAX_COUNT


def _object(value: object) -> Json:
    return cast("Json", value) if isinstance(value, dict) else {}


def _objects(value: object) -> list[Json]:
    return [_object(each) for each in cast("list[object]", value)] if isinstance(value, list) else []
