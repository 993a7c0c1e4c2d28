"""The events of a message of Anthropic's and of an answer, each from the other.

A message tells one block after another, and clients know the open one only. What
an answer tells meanwhile of other parts waits until the block has ended.
"""

from collections.abc import Mapping
from io import StringIO
from typing import Any, Final

from wissel.apis.shapes import Json, object_of
from wissel.apis.translation.form import (
    END,
    CutError,
    Declined,
    Delta,
    Ended,
    Event,
    Failed,
    Occasion,
    Part,
    PartBegan,
    PartEnded,
    Reasoning,
    Signed,
    Started,
    Stop,
    Text,
    ToolCall,
)
from wissel.apis.translation.messages.answers import (
    ending,
    guessed,
    part_of,
    refused,
    stop_of,
    write_part,
    write_usage,
)
from wissel.apis.translation.troubles import anthropic_trouble, trouble_within
from wissel.apis.translation.writing import in_json, named_event
from wissel.apis.usage import ToldUsage
from wissel.core.outcome import Usage

_TEXTS: Final[Mapping[str, str]] = {
    "text_delta": "text",
    "thinking_delta": "thinking",
    "input_json_delta": "partial_json",
}
"""Where a delta has its text."""


class _Block:
    """One that is open."""

    __slots__ = ("index", "rest")

    def __init__(self, index: int, rest: str) -> None:
        self.index = index
        """Of its part."""
        self.rest = rest
        """Arguments that came with the call itself, told where none follow."""


def _number(said: Json) -> int:
    index = said.get("index")
    return index if isinstance(index, int) else -1


class MessagesReader:
    """From a message's events to an answer's."""

    __slots__ = ("_blocks", "_name", "_occasion", "_parts", "_started", "_stop", "_usage")

    def __init__(self, occasion: Occasion) -> None:
        self._occasion = occasion
        self._usage = ToldUsage()
        self._started = False
        self._name = ""
        self._parts = 0
        self._blocks: dict[int, _Block] = {}
        """Those that are open and understood, by their index."""
        self._stop: Stop | None = None

    def read(self, said: Json) -> list[Event]:
        match said.get("type"):
            case "content_block_delta":
                return self._delta(said)
            case "content_block_start":
                return self._begin(said)
            case "content_block_stop":
                block = self._blocks.pop(_number(said), None)
                return [] if block is None else self._end_of(block)
            case "message_start" if not self._started:
                return [self._start(object_of(said.get("message")))]
            case "message_delta":
                self._usage.take(said, has_counted=True)
                self._stop = stop_of(object_of(said.get("delta"))) or self._stop
                return []
            case "message_stop":
                return self.end()
            case "error":
                return [Failed(trouble_within(said))]
            case _:
                return []

    def repeats(self, said: Json) -> bool:  # noqa: ARG002  # no event does
        """Whether an event says again what was told already."""
        return False

    def end(self) -> list[Event]:
        """The stream says that it is over."""
        events: list[Event] = [] if self._started else [self._start({})]
        for block in self._blocks.values():
            events += self._end_of(block)
        return [*events, Ended(self._stop or END, self._usage.usage)]

    def finish(self) -> list[Event]:
        """Nothing follows. Raises CutError where the answer had not ended."""
        if self._stop is None:
            raise CutError("the stream was cut before the answer had ended")
        return self.end()

    def _start(self, message: Json) -> Started:
        self._started = True
        self._usage.take(message)
        name, model = message.get("id"), message.get("model")
        self._name = name if isinstance(name, str) else ""
        return Started(self._name, model if isinstance(model, str) else "", 0, self._usage.usage)

    def _begin(self, said: Json) -> list[Event]:
        events: list[Event] = [] if self._started else [self._start({})]
        told = object_of(said.get("content_block"))
        part = part_of(told, self._name or self._occasion.id, self._parts)
        if part is None:
            return events
        index = self._parts
        self._parts += 1
        rest = part.arguments if isinstance(part, ToolCall) else ""
        self._blocks[_number(said)] = _Block(index, rest)
        match part:
            case Text(text) | Declined(text):
                events.append(PartBegan(index, Text("")))
            case Reasoning(text, _, hidden):
                events.append(PartBegan(index, Reasoning("", hidden=hidden)))
            case ToolCall(called, name):
                text = ""
                events.append(PartBegan(index, ToolCall(called, name, "")))
        if text:
            events.append(Delta(index, text))
        if isinstance(part, Reasoning) and part.signature:
            events.append(Signed(index, part.signature))
        return events

    def _delta(self, said: Json) -> list[Event]:
        block = self._blocks.get(_number(said))
        if block is None:
            return []
        delta = object_of(said.get("delta"))
        kind = delta.get("type")
        if kind == "signature_delta":
            signature = delta.get("signature")
            return [Signed(block.index, signature)] if isinstance(signature, str) and signature else []
        text = delta.get(_TEXTS.get(kind, "") if isinstance(kind, str) else "")
        if not isinstance(text, str) or not text:
            return []
        block.rest = ""
        return [Delta(block.index, text)]

    def _end_of(self, block: _Block) -> list[Event]:
        rest: list[Event] = [Delta(block.index, block.rest)] if block.rest else []
        return [*rest, PartEnded(block.index)]


class _Waiting:
    """A part that began while a block was open."""

    __slots__ = ("has_ended", "part", "signature", "text")

    def __init__(self, part: Part) -> None:
        self.part = part
        self.text = StringIO()
        self.signature = ""
        self.has_ended = False


class MessagesWriter:
    """From an answer's events to a message's."""

    __slots__ = ("_blocks", "_delta", "_has_refused", "_occasion", "_open", "_size", "_waiting")

    def __init__(self, occasion: Occasion) -> None:
        self._occasion = occasion
        self._blocks = 0
        """How many ended."""
        self._open = -1
        """The part that the open block tells."""
        self._delta = ""
        """How a delta of it begins."""
        self._waiting: dict[int, _Waiting] = {}
        """By part, in the order in which they began."""
        self._size = 0
        """Of all texts."""
        self._has_refused = False

    def write(self, event: Event) -> str:
        match event:
            case Delta(index, text):
                self._size += len(text)
                if index == self._open:
                    return f"{self._delta}{in_json(text)}}}}}\n\n"
                self._waiting[index].text.write(text)
                return ""
            case Started():
                return self._start(event)
            case Ended(stop, usage):
                return self._end(stop, usage)
            case Failed(trouble):
                return f"event: error\ndata: {anthropic_trouble(trouble)[1]}\n\n"
            case _:
                return self._write_part(event)

    def _write_part(self, event: PartBegan | Signed | PartEnded) -> str:
        match event:
            case PartBegan(index, part) if self._open < 0:
                return self._begin(index, part)
            case Signed(index, signature) if index == self._open:
                return self._signed(signature)
            case PartEnded(index) if index == self._open:
                return self._stop() + self._tell_waiting()
            case PartBegan(index, part):
                self._waiting[index] = _Waiting(part)
            case Signed(index, signature):
                self._waiting[index].signature += signature
            case PartEnded(index):
                self._waiting[index].has_ended = True
        return ""

    def _start(self, event: Started) -> str:
        message: dict[str, Any] = {
            "id": event.id or f"msg_{self._occasion.id}",
            "type": "message",
            "role": "assistant",
            "model": event.model or self._occasion.model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": write_usage(event.usage or guessed(self._occasion, 0)),
        }
        return named_event({"type": "message_start", "message": message})

    def _begin(self, index: int, part: Part) -> str:
        self._open = index
        match part:
            case Text() | Declined():
                self._has_refused = self._has_refused or isinstance(part, Declined)
                kind, name = "text_delta", "text"
            case Reasoning():
                kind, name = "thinking_delta", "thinking"
            case ToolCall():
                kind, name = "input_json_delta", "partial_json"
        self._delta = (
            'event: content_block_delta\ndata: {"type":"content_block_delta",'
            f'"index":{self._blocks},"delta":{{"type":"{kind}","{name}":'
        )
        return named_event({"type": "content_block_start", "index": self._blocks, "content_block": write_part(part)})

    def _signed(self, signature: str) -> str:
        delta = {"type": "signature_delta", "signature": signature}
        return named_event({"type": "content_block_delta", "index": self._blocks, "delta": delta})

    def _stop(self) -> str:
        ended = named_event({"type": "content_block_stop", "index": self._blocks})
        self._blocks += 1
        self._open = -1
        return ended

    def _tell_waiting(self) -> str:
        """What waits is told, up to the first part that goes on."""
        told: list[str] = []
        while self._open < 0 and self._waiting:
            index = next(iter(self._waiting))
            waiting = self._waiting.pop(index)
            told.append(self._begin(index, waiting.part))
            if text := waiting.text.getvalue():
                told.append(f"{self._delta}{in_json(text)}}}}}\n\n")
            if waiting.signature:
                told.append(self._signed(waiting.signature))
            if waiting.has_ended:
                told.append(self._stop())
        return "".join(told)

    def _end(self, stop: Stop, usage: Usage | None) -> str:
        parts = (Declined(""),) if self._has_refused else ()
        counted = write_usage(usage or guessed(self._occasion, self._size))
        delta = {"type": "message_delta", "delta": ending(refused(stop, parts)), "usage": counted}
        return named_event(delta) + named_event({"type": "message_stop"})
