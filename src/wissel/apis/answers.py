"""A model's answer, whole or as a stream of events, read while it passes.

A reader takes the body as it arrives, in chunks cut anywhere, and gives back
the bytes that go on, which are the same bytes; only the chunk of usage that
wissel itself asked a stream for is taken out again. What a body says is told to
its API, which learns from it.
"""

import json
from collections.abc import Mapping
from typing import Final, Protocol, cast

from wissel.apis.api import Api, UsageOnAsk
from wissel.apis.encoding import READABLE, Inflater
from wissel.apis.findings import Findings
from wissel.apis.shapes import Json
from wissel.apis.sse import Splitter, data_of

MAX_JSON_BYTES: Final = 8 * 1024 * 1024
"""A larger body is passed on unread."""
MAX_USAGE_EVENT_BYTES: Final = 16 * 1024
"""A longer event is not the chunk of usage, so none of it is held back."""

_NO_BULK: Final = b'"":0'
"""What is read in place of a member that is bulk."""


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

    __slots__ = ("_api", "_passed", "_splitter", "_strip", "found")

    def __init__(self, api: Api, *, strip: UsageOnAsk | None) -> None:
        self.found = Findings()
        self._api = api
        self._splitter = Splitter()
        self._strip = strip
        self._passed = 0
        """How many bytes of the splitter's rest went on already."""

    def feed(self, data: bytes, *, now: float) -> bytes:
        on: list[bytes] = []
        for piece in self._splitter.feed(data):
            if not piece.whole:
                self.found.unread = "too_large"
            elif self._read(piece.raw, now):
                continue
            if self._strip is not None:
                on.append(piece.raw[self._passed :])
                self._passed = max(0, self._passed - len(piece.raw))
        if self._strip is None:
            return data
        rest = self._splitter.rest
        if self._passed or self._splitter.in_long_event or not _may_be_usage(rest, self._strip):
            on.append(rest[self._passed :])
            self._passed = len(rest)
        return b"".join(on)

    def finish(self) -> bytes:
        rest = self._splitter.rest
        # Without its blank line it is no event, but clients take it for one, and so does this.
        only_usage = not self._splitter.in_long_event and self._read(rest, self.found.last_at)
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
        said = _parse(data)
        if said is None:
            self.found.unread = "malformed"
            return False
        self._api.learn(self.found, said)
        if self._api.has_output(said):
            self.found.tick(now)
        return self._strip is not None and self._strip.is_chunk(said) and _may_be_usage(event, self._strip)


class JsonReader:
    """Reads a body that is one JSON object."""

    __slots__ = ("_api", "_held", "_size", "found")

    def __init__(self, api: Api) -> None:
        self.found = Findings()
        self._api = api
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
            body = b"".join(self._held)
            self._held.clear()
            if self._api.bulk is not None:
                # It is slow to parse, and every other stream would wait.
                body = self._api.bulk.sub(_NO_BULK, body)
            said = _parse(body)
            if said is None:
                self.found.unread = "malformed"
            else:
                self._api.learn(self.found, said)
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


def reader_for(api: Api, headers: Mapping[str, str], *, strip: bool) -> Reader | None:
    """What reads a response with these headers; None where nothing here can.

    With `strip` a stream loses its chunk of usage, except where it is compressed: its bytes cannot be changed.
    """
    coding = headers.get("content-encoding", "").strip().lower()
    if coding not in READABLE:
        return None
    plain = coding in {"", "identity"}
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "text/event-stream":
        reader: Reader = StreamReader(api, strip=api.usage_on_ask if strip and plain else None)
    elif kind == "application/json" or kind.endswith("+json"):
        reader = JsonReader(api)
    else:
        return None
    return reader if plain else Inflating(reader)


def _parse(data: bytes) -> Json | None:
    try:
        said = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return cast("Json", said) if isinstance(said, dict) else None


def _may_be_usage(event: bytes, usage: UsageOnAsk) -> bool:
    """Whether an event that begins so may be the chunk of usage; once it may not, no longer one may."""
    return len(event) <= MAX_USAGE_EVENT_BYTES and not usage.other.search(event)
