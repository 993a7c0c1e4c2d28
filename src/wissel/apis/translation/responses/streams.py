"""The events of a response of OpenAI's and of an answer, each from the other.

A response says everything three times: in pieces, whole when a part ends, and
once more in the response that ends it. Reading, the pieces count, and what is
whole only where there were none; writing, every part is kept until the end.
"""

from collections.abc import Mapping
from dataclasses import replace
from io import StringIO
from typing import Any, Final

from wissel.apis.shapes import Json, object_of
from wissel.apis.translation.form import (
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
    Text,
    ToolCall,
    Trouble,
)
from wissel.apis.translation.responses.answers import (
    BETWEEN_SUMMARIES,
    BROKEN_OFF,
    begin,
    call_of,
    created_in,
    ending,
    item_id,
    stop_of,
    text_of,
    thought_of,
    write_content,
    write_item,
)
from wissel.apis.translation.troubles import openai_trouble, trouble_within
from wissel.apis.translation.writing import in_json, named_event
from wissel.apis.usage import ToldUsage

_ENDS: Final = frozenset({"response.completed", "response.incomplete", "response.failed", "response.cancelled"})
_PIECES: Final[Mapping[str, type[Part]]] = {
    "response.output_text.delta": Text,
    "response.refusal.delta": Declined,
    "response.function_call_arguments.delta": ToolCall,
    "response.reasoning_summary_text.delta": Reasoning,
    "response.reasoning_text.delta": Reasoning,
}
_WHOLE: Final[Mapping[str, tuple[type[Text | Declined], str]]] = {
    "response.output_text.done": (Text, "text"),
    "response.refusal.done": (Declined, "refusal"),
}
"""And where it stands there."""


class _Open:
    """A part that has begun."""

    __slots__ = ("index", "is_open", "said", "source")

    def __init__(self, index: int) -> None:
        self.index = index
        self.is_open = True
        self.said = False
        """Whether any piece of it came."""
        self.source: tuple[object, object] = ("", 0)
        """Of a thought: the kind of its pieces, and the number of the one that goes on."""


_Place = tuple[int | str, int]
"""The number of an item, or its id where servers do not number, as llama.cpp's does not; and the number of what it
contains, which is -1 for all that have one content only."""


class ResponsesReader:
    """From a response's events to an answer's."""

    __slots__ = ("_has_called", "_name", "_occasion", "_parts", "_places", "_started", "_usage")

    def __init__(self, occasion: Occasion) -> None:
        self._occasion = occasion
        self._usage = ToldUsage()
        self._started = False
        self._name = ""
        self._parts = 0
        self._places: dict[_Place, _Open] = {}
        self._has_called = False

    def read(self, said: Json) -> list[Event]:
        kind = said.get("type")
        if not isinstance(kind, str):
            return [Failed(trouble_within(said))] if said.get("error") else []
        if piece := _PIECES.get(kind):
            return self._piece(piece, kind, said)
        if kind == "error":
            return [Failed(trouble_within(said))]
        if kind in _ENDS:
            return self._end(object_of(said.get("response")))
        events: list[Event] = []
        if not self._started and kind.startswith("response."):
            events.append(self._start(object_of(said.get("response"))))
        if kind == "response.output_item.added":
            item = object_of(said.get("item"))
            if item.get("type") == "function_call":
                self._begin_call((_output(said), -1), item, events)
        elif kind in _WHOLE:
            part, name = _WHOLE[kind]
            self._finish_text((_output(said), _content(said)), part, text_of(said.get(name)), events)
        elif kind == "response.output_item.done":
            self._end_item(_output(said), object_of(said.get("item")), events)
        return events

    def repeats(self, said: Json) -> bool:
        """Whether an event says again what was told already."""
        kind = text_of(said.get("type"))
        if kind in _ENDS:
            return True
        told = self._places.get((_output(said), -1)) or self._places.get((_output(said), 0))
        return kind.endswith(".done") and told is not None and told.said

    def end(self) -> list[Event]:
        """A mark of other formats."""
        return []

    def finish(self) -> list[Event]:
        """Nothing follows. Raises CutError: an answer that has ended says so itself."""
        raise CutError("the stream was cut before the answer had ended")

    def _start(self, response: Json) -> Started:
        self._started = True
        self._name = text_of(response.get("id"))
        return Started(self._name, text_of(response.get("model")), created_in(response), None)

    def _piece(self, kind: type[Part], name: str, said: Json) -> list[Event]:
        text = said.get("delta")
        if not isinstance(text, str) or not text:
            return []
        place = (_output(said), _content(said) if kind is Text or kind is Declined else -1)
        part = self._places.get(place)
        events: list[Event] = []
        if part is None:
            if not self._started:
                events.append(self._start({}))
            if kind is ToolCall:
                self._begin_call(place, {**said, "id": None}, events)
                part = self._places[place]
            else:
                part = self._begin(place, kind(""), events)  # pyright: ignore[reportCallIssue]
        if not part.is_open:
            # It was told whole when it ended.
            return events
        if kind is Reasoning:
            source = (name, said.get("summary_index", said.get("content_index")))
            if not part.said:
                part.source = source
            elif source[0] != part.source[0]:
                # The thought itself beside its summary.
                return events
            elif source != part.source:
                part.source = source
                text = BETWEEN_SUMMARIES + text
        part.said = True
        events.append(Delta(part.index, text))
        return events

    def _begin(self, place: _Place, part: Part, events: list[Event]) -> _Open:
        begun = self._places[place] = _Open(self._parts)
        self._parts += 1
        events.append(PartBegan(begun.index, part))
        return begun

    def _begin_call(self, place: _Place, item: Json, events: list[Event]) -> ToolCall:
        self._has_called = True
        call = call_of(item, self._name or self._occasion.id, self._parts)
        self._begin(place, replace(call, arguments=""), events)
        return call

    def _finish_text(self, place: _Place, kind: type[Text | Declined], text: str, events: list[Event]) -> None:
        part = self._places.get(place)
        if part is None and text:
            part = self._begin(place, kind(""), events)
        if part is not None and part.is_open:
            if not part.said and text:
                events.append(Delta(part.index, text))
            self._close(part, events)

    def _close(self, part: _Open, events: list[Event]) -> None:
        part.is_open, part.said = False, True
        events.append(PartEnded(part.index))

    def _end_item(self, output: int | str, item: Json, events: list[Event]) -> None:
        place = (output, -1)
        part = self._places.get(place)
        match item.get("type"):
            case "message":
                contents = item.get("content")
                for number, content in enumerate(contents if isinstance(contents, list) else ()):  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
                    told = object_of(content)
                    kind = Declined if told.get("type") == "refusal" else Text
                    text = text_of(told.get("refusal" if kind is Declined else "text"))
                    self._finish_text((output, number), kind, text, events)
            case "function_call":
                if part is None:
                    self._begin_call(place, item, events)
                    part = self._places[place]
                if part.is_open:
                    arguments = text_of(item.get("arguments"))
                    if not part.said and arguments:
                        events.append(Delta(part.index, arguments))
                    self._close(part, events)
            case "reasoning":
                self._end_thought(place, part, thought_of(item), events)
            case _:
                pass

    def _end_thought(self, place: _Place, part: _Open | None, thought: Reasoning | None, events: list[Event]) -> None:
        if part is None and thought is not None:
            part = self._begin(place, replace(thought, text="", signature=""), events)
            if thought.text:
                events.append(Delta(part.index, thought.text))
        if part is not None and part.is_open:
            sealed = thought.signature or (thought.hidden if part.said else "") if thought else ""
            if sealed:
                events.append(Signed(part.index, sealed))
            self._close(part, events)

    def _end(self, response: Json) -> list[Event]:
        if (status := text_of(response.get("status"))) in BROKEN_OFF:
            if response.get("error"):
                return [Failed(trouble_within(response))]
            return [Failed(Trouble(500, f"the provider's answer is {status}"))]
        self._usage.take(response)
        events: list[Event] = [] if self._started else [self._start(response)]
        named = {output for output, _ in self._places}
        for number, item in enumerate(_items(response)):
            # Of a server that tells the whole at the end only; of the others it is known.
            name = text_of(item.get("id"))
            self._end_item(name if name in named else number, item, events)
        for part in self._places.values():
            if part.is_open:
                self._close(part, events)
        events.append(Ended(stop_of(response, has_called=self._has_called), self._usage.usage))
        return events


def _items(response: Json) -> list[Json]:
    output = response.get("output")
    return [object_of(item) for item in output] if isinstance(output, list) else []  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]


def _output(said: Json) -> int | str:
    index = said.get("output_index")
    if isinstance(index, int):
        return index
    return text_of(said.get("item_id")) or text_of(object_of(said.get("item")).get("id"))


def _content(said: Json) -> int:
    index = said.get("content_index")
    return index if isinstance(index, int) else 0


class _Part:
    """One that is being told."""

    __slots__ = ("at", "before", "behind", "name", "part", "signature", "text")

    def __init__(self, part: Part, at: int, name: str) -> None:
        self.part = part
        self.at = at
        """Its place in the output."""
        self.name = name
        """The id of its item."""
        self.text = StringIO()
        self.signature = ""
        self.before = ""
        """How a delta of it begins, and how it goes on behind the text."""
        self.behind = ""


class ResponsesWriter:
    """From an answer's events to a response's."""

    __slots__ = ("_items", "_number", "_occasion", "_open", "_response")

    def __init__(self, occasion: Occasion) -> None:
        self._occasion = occasion
        self._number = 0
        self._response: dict[str, Any] = {}
        self._open: dict[int, _Part] = {}
        """By part."""
        self._items: list[dict[str, Any]] = []

    def write(self, event: Event) -> str:
        match event:
            case Delta(index, text):
                part = self._open[index]
                opening = ""
                if isinstance(part.part, Reasoning) and not part.text.tell():
                    opening = self._open_summary(part)
                part.text.write(text)
                return f"{opening}{part.before}{in_json(text)}{part.behind}{self._next()}}}\n\n"
            case PartBegan(index, begun):
                return self._begin(index, begun)
            case Signed(index, signature):
                self._open[index].signature += signature
                return ""
            case PartEnded(index):
                return self._end_part(self._open.pop(index))
            case Started():
                name = event.id or f"resp_{self._occasion.id}"
                created, model = event.created or self._occasion.now, event.model or self._occasion.model
                self._response = begin(name, created, model, self._occasion)
                return self._say("response.created", response=self._response) + self._say(
                    "response.in_progress", response=self._response
                )
            case Ended(stop, usage):
                self._response |= ending(stop, self._items, usage)
                return self._say(f"response.{self._response['status']}", response=self._response)
            case Failed(trouble):
                return self._fail(trouble)

    def _next(self) -> int:
        self._number += 1
        return self._number - 1

    def _say(self, kind: str, **told: Any) -> str:
        return named_event({"type": kind, **told, "sequence_number": self._next()})

    def _begin(self, index: int, begun: Part) -> str:
        at = len(self._items)
        part = self._open[index] = _Part(begun, at, item_id(begun, self._response["id"], at))
        item: dict[str, Any] = write_item(begun, part.name)
        # Its place is kept: parts may end in another order.
        self._items.append(item)
        match begun:
            case Text() | Declined():
                item = {**item, "status": "in_progress", "content": []}
                kind = "output_text" if isinstance(begun, Text) else "refusal"
                self._prepare(part, kind, ',"content_index":0', ',"logprobs":[]' if kind == "output_text" else "")
                return self._say("response.output_item.added", output_index=at, item=item) + self._say(
                    "response.content_part.added", **self._place(part), part=write_content(begun)
                )
            case ToolCall():
                item = {**item, "status": "in_progress", "arguments": ""}
                self._prepare(part, "function_call_arguments", "", "")
            case Reasoning():
                item = {**item, "summary": []}
                self._prepare(part, "reasoning_summary_text", ',"summary_index":0', "")
        return self._say("response.output_item.added", output_index=at, item=item)

    def _prepare(self, part: _Part, kind: str, place: str, behind: str) -> None:
        name = f"response.{kind}.delta"
        part.before = (
            f'event: {name}\ndata: {{"type":"{name}","item_id":{in_json(part.name)},'
            f'"output_index":{part.at}{place},"delta":'
        )
        part.behind = f'{behind},"sequence_number":'

    def _place(self, part: _Part) -> dict[str, Any]:
        return {"item_id": part.name, "output_index": part.at, "content_index": 0}

    def _open_summary(self, part: _Part) -> str:
        place = {"item_id": part.name, "output_index": part.at, "summary_index": 0}
        empty = {"type": "summary_text", "text": ""}
        return self._say("response.reasoning_summary_part.added", **place, part=empty)

    def _end_part(self, part: _Part) -> str:
        text = part.text.getvalue()
        match part.part:
            case Text() | Declined():
                whole = replace(part.part, text=text)
                content, place = write_content(whole), self._place(part)
                if isinstance(whole, Text):
                    done = self._say("response.output_text.done", **place, text=text, logprobs=[])
                else:
                    done = self._say("response.refusal.done", **place, refusal=text)
                done += self._say("response.content_part.done", **place, part=content)
            case ToolCall():
                whole = replace(part.part, arguments=text or "{}")
                done = "" if text else f"{part.before}{in_json('{}')}{part.behind}{self._next()}}}\n\n"
                place = {"item_id": part.name, "output_index": part.at}
                kind = "response.function_call_arguments.done"
                done += self._say(kind, **place, arguments=whole.arguments)
            case Reasoning():
                whole, done = replace(part.part, text=text, signature=part.signature), ""
                if text:
                    place = {"item_id": part.name, "output_index": part.at, "summary_index": 0}
                    done = self._say("response.reasoning_summary_text.done", **place, text=text) + self._say(
                        "response.reasoning_summary_part.done", **place, part={"type": "summary_text", "text": text}
                    )
        item = self._items[part.at] = write_item(whole, part.name)
        return done + self._say("response.output_item.done", output_index=part.at, item=item)

    def _fail(self, trouble: Trouble) -> str:
        if not self._response:
            told = {"code": trouble.code, "message": trouble.message, "param": trouble.param}
            return self._say("error", **told)
        status = openai_trouble(trouble)[0]
        code = "rate_limit_exceeded" if status == 429 else "invalid_prompt" if status < 500 else "server_error"
        error = {"code": code, "message": trouble.message}
        self._response |= {"status": "failed", "output": self._items, "error": error}
        return self._say("response.failed", response=self._response)
