"""A provider's answer, whole or streamed or an error, in the words of the caller's format.

    bytes as they arrive -> events of the provider's format -> canonical events -> bytes of the caller's

Bodies are plain: the request of which an answer is translated asks its server
for `identity`. What the canonical form cannot say was refused in the request, so
an answer has nothing to lose but what only its own provider's clients read.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Final, cast

from wissel.apis.shapes import Json
from wissel.apis.skeleton import Skeleton
from wissel.apis.sse import DataLines, Piece, Splitter, data_of
from wissel.apis.translation.dialect import Dialect
from wissel.apis.translation.form import (
    COST_OF_EVENT,
    COST_OF_PART,
    MOST_HELD,
    TOO_LONG,
    Delta,
    Ended,
    Event,
    Failed,
    Occasion,
    PartBegan,
    PartEnded,
    Reasoning,
    Signed,
    Started,
    ToolCall,
    Trouble,
    WholeAnswer,
)
from wissel.apis.translation.troubles import no_answer, read_trouble
from wissel.apis.translation.writing import compact

_SCAN: Final = json.JSONDecoder().raw_decode
_NO_JSON: Final = Trouble(502, "the provider's stream holds an event that is no object of JSON", "malformed_event")
_LONG_EVENT: Final = Trouble(502, "the provider's stream holds an event too long to be translated", "event_too_long")


def translated_answer(body: bytes, occasion: Occasion, *, spoken: Dialect, wanted: Dialect) -> tuple[int, bytes]:
    """A body whose status promised an answer; the status and the body for the caller.

    The status is 200 unless the body is none: then it is that of the error which it is written as.
    """
    answer = _answer_in(body, occasion, spoken)
    if answer is None:
        status, text = wanted.write_trouble(no_answer(body))
        return status, text.encode()
    return 200, compact(wanted.write_answer(answer, occasion)).encode()


def translated_error(
    status: int, body: bytes, headers: Mapping[str, str], *, wanted: Dialect
) -> tuple[int, bytes, dict[str, str]]:
    """An answer whose status says that the request failed: status, body and added headers for the caller.

    Names of `headers` are in lower case. `retry-after` is the same for everybody, and stays as it is.
    """
    trouble = read_trouble(status, body, headers)
    told, text = wanted.write_trouble(trouble)
    return told, text.encode(), {wanted.request_id_header: trouble.request_id} if trouble.request_id else {}


def events_of(answer: WholeAnswer) -> Iterator[Event]:
    """A whole answer, told as a stream."""
    yield Started(answer.id, answer.model, answer.created, answer.usage)
    for index, part in enumerate(answer.parts):
        match part:
            case ToolCall(arguments=text):
                yield PartBegan(index, replace(part, arguments=""))
            case Reasoning(text=text):
                yield PartBegan(index, Reasoning("", hidden=part.hidden))
            case _:
                text = part.text
                yield PartBegan(index, replace(part, text=""))
        if text:
            yield Delta(index, text)
        if isinstance(part, Reasoning) and part.signature:
            yield Signed(index, part.signature)
        yield PartEnded(index)
    yield Ended(answer.stop, answer.usage)


class StreamTranslation:
    """Translates one stream, or in place of one an answer that came at once."""

    __slots__ = ("_held", "_lines", "_occasion", "_reader", "_skeleton", "_splitter", "_spoken", "_writer", "ended")

    def __init__(self, occasion: Occasion, *, spoken: Dialect, wanted: Dialect) -> None:
        self._occasion = occasion
        self._spoken = spoken
        self._reader = spoken.reader(occasion)
        self._writer = wanted.writer(occasion)
        self._splitter = Splitter()
        self._held = 0
        self._skeleton: Skeleton | None = None
        """Of an event that comes in parts."""
        self._lines = DataLines()
        self.ended = False
        """Whether the caller was told the end, or of an error; what follows is not read."""

    def feed(self, data: bytes) -> bytes:
        """Take the next bytes, cut anywhere; what they mean for the caller."""
        if self.ended:
            return b""
        told: list[str] = []
        for piece in self._splitter.feed(data):
            if self._skeleton is None and piece.whole:
                self._read(data_of(piece.raw), told)
            else:
                self._read_part(piece, told)
            if self.ended:
                break
        return "".join(told).encode()

    def finish(self) -> bytes:
        """The stream is over. Raises CutError where its answer was not: the caller must see it cut as well."""
        if self.ended:
            return b""
        told: list[str] = []
        # Without its blank line it is no event, but clients take it for one, and so does this.
        rest = self._splitter.rest
        if self._skeleton is None:
            data = data_of(rest)
            if not data and rest.lstrip()[:1] == b"{":
                # A server that does not stream, or an error.
                answer = _answer_in(rest, self._occasion, self._spoken)
                self._tell(list(events_of(answer)) if answer else [Failed(no_answer(rest))], told)
            elif _is_whole(data):
                self._read(data, told)
        if not self.ended:
            self._tell(self._reader.finish(), told)
        return "".join(told).encode()

    def _read(self, data: bytes, told: list[str]) -> None:
        if not data:
            return
        said = _parse(data)
        if isinstance(said, dict):
            self._tell(self._reader.read(cast("Json", said)), told)
        elif said is None and data.strip() == b"[DONE]":
            self._tell(self._reader.end(), told)
        else:
            self._tell([Failed(_NO_JSON)], told)

    def _read_part(self, piece: Piece, told: list[str]) -> None:
        """Of an event that is too long to be held, only what it says briefly: enough where the rest is known."""
        if self._skeleton is None:
            self._skeleton, self._lines = Skeleton(), DataLines()
        self._skeleton.feed(self._lines.feed(piece.raw))
        if self._splitter.in_long_event:
            return
        text, self._skeleton = self._skeleton.finish(), None
        said: Json = json.loads(text) if text else {}
        if self._reader.repeats(said):
            self._tell(self._reader.read(said), told)
        else:
            self._tell([Failed(_LONG_EVENT)], told)

    def _tell(self, events: list[Event], told: list[str]) -> None:
        for event in events:
            match event:
                case Delta():
                    self._held += len(event.text) + COST_OF_EVENT
                case PartBegan():
                    self._held += COST_OF_PART
                case Signed():
                    self._held += len(event.signature)
                case Ended() | Failed():
                    self.ended = True
                case _:
                    pass
            if self._held > MOST_HELD and not self.ended:
                event = Failed(TOO_LONG)  # noqa: PLW2901
                self.ended = True
            told.append(self._writer.write(event))
            if self.ended:
                break


def _answer_in(body: bytes, occasion: Occasion, spoken: Dialect) -> WholeAnswer | None:
    said = _parse(body)
    return spoken.read_answer(cast("Json", said), occasion) if isinstance(said, dict) else None


def _is_whole(data: bytes) -> bool:
    return data.strip() == b"[DONE]" or _parse(data) is not None


def _parse(data: bytes) -> object:
    """None where it is no JSON, or null."""
    try:
        text = data.decode()
        said, end = _SCAN(text)
        # Space around it is rare, and the slower way minds none.
        return said if end == len(text) else json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None
