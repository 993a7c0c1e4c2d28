"""A model's answer, whole or as a stream of events, read while it passes.

A reader takes the body as it arrives, in chunks cut anywhere, and gives back
the bytes that go on, which are the same bytes; only the chunk of usage that
wissel itself asked a stream for is taken out again. What a body says is told to
its API, which learns from it.
"""

import json
from collections.abc import Mapping
from typing import Final, Literal, Protocol, cast

from wissel.apis.api import Api, UsageOnAsk
from wissel.apis.encoding import READABLE, Inflater
from wissel.apis.findings import Findings
from wissel.apis.shapes import Json
from wissel.apis.skeleton import Skeleton
from wissel.apis.sse import DataLines, Splitter, data_of

MOST_HELD_BYTES: Final = 64 * 1024
"""Of a body; of a larger one only the skeleton is read."""
MAX_USAGE_EVENT_BYTES: Final = 16 * 1024
"""A longer event is not the chunk of usage, so none of it is held back."""
_SAYS_NOTHING: Final = frozenset({"", "text/plain", "application/octet-stream", "binary/octet-stream"})
"""Types that servers send whatever the body is."""

Kind = Literal["stream", "whole", "untold", "unread"]
"""Of a body: server-sent events, one JSON object, one of the two, or something else."""


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
    """Reads server-sent events; with `strip`, its chunk of usage is taken out."""

    __slots__ = ("_api", "_long", "_passed", "_splitter", "_strip", "found")

    def __init__(self, api: Api, *, strip: UsageOnAsk | None) -> None:
        self.found = Findings()
        self._api = api
        self._long: _LongEvent | None = None
        """The event that comes in parts."""
        self._splitter = Splitter()
        self._strip = strip
        self._passed = 0
        """How many bytes of the splitter's rest went on already."""

    def feed(self, data: bytes, *, now: float) -> bytes:
        on: list[bytes] = []
        for piece in self._splitter.feed(data):
            if not piece.whole:
                self._read_part(piece.raw, now, is_last=not self._splitter.in_long_event)
            elif self._read(piece.raw, now):
                continue
            if self._strip is not None:
                on.append(piece.raw[self._passed :])
                self._passed = max(0, self._passed - len(piece.raw))
        rest = self._splitter.rest
        if self._api.output_limits:
            self.found.pending_bytes = len(rest) + (self._long.size if self._long else 0)
        if self._strip is None:
            return data
        if self._passed or self._splitter.in_long_event or not _may_be_usage(rest, self._strip):
            on.append(rest[self._passed :])
            self._passed = len(rest)
        return b"".join(on)

    def finish(self) -> bytes:
        rest = self._splitter.rest
        self.found.pending_bytes = 0
        # Without its blank line it is no event, but clients take it for one, and so does this.
        in_long_event = self._splitter.in_long_event
        if in_long_event:
            self._read_part(rest, self.found.last_at, is_last=True)
        only_usage = not in_long_event and self._read(rest, self.found.last_at)
        held = rest[self._passed :] if self._strip is not None and not only_usage else b""
        if self.found.chunks and not self.found.ended and not self.found.finish_reasons and not self.found.error:
            self.found.error = "truncated"
        return held

    def _read(self, event: bytes, now: float) -> bool:
        """Learn from an event; whether it is the chunk that is taken out."""
        data = data_of(event)
        if not data:
            return False
        if data.strip() == b"[DONE]":
            self.found.ended = True
            return False
        said = parsed(data)
        if said is None:
            self.found.unread = "malformed"
            return False
        self._learn(said, self._api.output(said), now)
        return self._strip is not None and self._strip.is_chunk(said) and _may_be_usage(event, self._strip)

    def _read_part(self, part: bytes, now: float, *, is_last: bool) -> None:
        self._long = self._long or _LongEvent()
        self._long.size += len(part)
        self._long.skeleton.feed(self._long.lines.feed(part))
        if is_last:
            long, self._long = self._long, None
            said = parsed(long.skeleton.finish() or b"")
            if said is None:
                self.found.unread = "malformed"
            else:
                self._learn(said, self._api.output(said) + _words_dropped(self._api, long.skeleton), now)

    def _learn(self, said: Json, words: int, now: float) -> None:
        _learn(self._api, self.found, said)
        if words:
            self.found.tick(now, words)


class _LongEvent:
    __slots__ = ("lines", "size", "skeleton")

    def __init__(self) -> None:
        self.size = 0
        self.lines = DataLines()
        self.skeleton = Skeleton()


class JsonReader:
    """Reads a body that is one JSON object."""

    __slots__ = ("_api", "_held", "_size", "_skeleton", "found")

    def __init__(self, api: Api) -> None:
        self.found = Findings()
        self._api = api
        self._held: list[bytes] = []
        self._size = 0
        self._skeleton: Skeleton | None = None
        """Of a body that is too large to hold."""

    def feed(self, data: bytes, *, now: float) -> bytes:  # noqa: ARG002  # a whole body has no pace
        self._size += len(data)
        self._held.append(data)
        if self._api.output_limits:
            self.found.pending_bytes = self._size
        if self._size > MOST_HELD_BYTES:
            self._skeleton = self._skeleton or Skeleton()
            for each in self._held:
                self._skeleton.feed(each)
            self._held.clear()
        return data

    def finish(self) -> bytes:
        if self._size:
            skeleton, self._size, self.found.pending_bytes = self._skeleton, 0, 0
            said = parsed((skeleton.finish() or b"") if skeleton else b"".join(self._held))
            if said is None:
                self.found.unread = "malformed"
            else:
                _learn(self._api, self.found, said)
                dropped = _words_dropped(self._api, skeleton) if skeleton else 0
                self.found.seen_bytes += self._api.output(said) + dropped
                self.found.ended = True
        return b""


class GuessingReader:
    """Reads a body whose type is not told, or says nothing: what begins as JSON is, and all else a stream."""

    __slots__ = ("_api", "_held", "_reader", "_strip", "found")

    def __init__(self, api: Api, *, strip: UsageOnAsk | None) -> None:
        self.found = Findings()
        self._api = api
        self._strip = strip
        self._held = b""
        self._reader: Reader | None = None

    def feed(self, data: bytes, *, now: float) -> bytes:
        if self._reader is None:
            self._held += data
            begin = data.lstrip()[:1]
            if not begin and len(self._held) <= MOST_HELD_BYTES:
                return b""
            # What is blank for so long waits for a whole answer: a stream says that it lives in other ways.
            self._reader = JsonReader(self._api) if begin in b"{[" else StreamReader(self._api, strip=self._strip)
            self._reader.found = self.found
            data, self._held = self._held, b""
        return self._reader.feed(data, now=now)

    def finish(self) -> bytes:
        return self._held if self._reader is None else self._reader.finish()


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


def reader_for(api: Api, headers: Mapping[str, str], *, strip: bool) -> Reader | None:
    """What reads a response with these headers; None where nothing here can.

    With `strip` a stream loses its chunk of usage, except where it is compressed: its bytes cannot be changed.
    """
    coding = headers.get("content-encoding", "").strip().lower()
    if coding not in READABLE:
        return None
    plain = coding in {"", "identity"}
    on_ask = api.usage_on_ask if strip and plain else None
    reader: Reader
    match kind_of(headers):
        case "stream":
            reader = StreamReader(api, strip=on_ask)
        case "untold":
            reader = GuessingReader(api, strip=on_ask)
        case "whole":
            reader = JsonReader(api)
        case "unread":
            return None
    return reader if plain else Inflating(reader)


def kind_of(headers: Mapping[str, str]) -> Kind:
    """What a response is by its content-type, whatever it is packed in."""
    told = headers.get("content-type", "").partition(";")[0].strip().lower()
    if told == "text/event-stream":
        return "stream"
    if told in _SAYS_NOTHING:
        return "untold"
    return "whole" if told == "application/json" or told.endswith("+json") else "unread"


def _learn(api: Api, found: Findings, said: Json) -> None:
    api.learn(found, said)
    if api.kept is not None and not found.id:
        found.name(api.kept.id_in(said))


def parsed(data: bytes) -> Json | None:
    """The object that stands there; None where none does."""
    try:
        said = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return cast("Json", said) if isinstance(said, dict) else None


def _words_dropped(api: Api, skeleton: Skeleton) -> int:
    """What was too long to be kept is taken for words, where an answer has any."""
    return skeleton.dropped if api.output_limits else 0


def _may_be_usage(event: bytes, usage: UsageOnAsk) -> bool:
    """Whether an event that begins so may be the chunk of usage; once it may not, no longer one may."""
    return len(event) <= MAX_USAGE_EVENT_BYTES and not usage.other.search(event)
