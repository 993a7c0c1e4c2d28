"""The chunks of a chat completion and the events of an answer, each from the other.

A chunk does not say that a call is complete; that it is shows where another
begins, if what was told of it until then is whole, and else at the end. Only so
can formats that tell one thing after another pass it on at once, and calls whose
arguments come in turns are put together right.
"""

import json
from contextlib import suppress
from io import StringIO
from typing import Any, Final

from wissel.apis.shapes import Json, object_of, objects_of
from wissel.apis.translation.chat.answers import (
    FINISH_REASONS,
    arguments_of,
    reasoning_text,
    stop_of,
    text_of,
    thinking,
    thinking_block,
    waiting_for_tools,
    write_usage,
)
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
    Trouble,
)
from wissel.apis.translation.troubles import openai_trouble, trouble_within
from wissel.apis.translation.writing import compact, in_json, made_id
from wissel.apis.usage import ToldUsage

_NAMELESS: Final = Trouble(502, "the provider's answer calls a tool and does not say which", "nameless_tool_call")
_BEHIND: Final = Trouble(502, "the provider's answer goes on with a tool call that had ended", "tool_call_ended")


class _Call:
    __slots__ = ("arguments", "id", "index", "name")

    def __init__(self, index: int, call_id: str, name: str) -> None:
        self.index = index
        """Of its part."""
        self.id = call_id
        """As its server wrote it."""
        self.name = name
        self.arguments: StringIO | None = StringIO()
        """None once it has ended."""

    def end(self) -> list[Event]:
        if self.arguments is None:
            return []
        self.arguments = None
        return [PartEnded(self.index)]

    def end_if_whole(self) -> list[Event]:
        """Behind the end of an object nothing can follow."""
        with suppress(ValueError, RecursionError):
            if self.arguments is not None and isinstance(json.loads(self.arguments.getvalue()), dict):
                return self.end()
        return []

    def is_another(self, call_id: str, name: str, arguments: str) -> bool:
        """Whether what is told under its number begins another call, as Gemini and Ollama have it.

        Others repeat id and name with each piece.
        """
        if not name or (name == self.name and call_id == self.id != ""):
            return False
        if name != self.name or call_id:
            return True
        # Without an id, by how arguments begin.
        return arguments.startswith("{") and (self.arguments is None or self.arguments.tell() > 0)


class ChatReader:
    """From chunks to events."""

    __slots__ = (
        "_calls",
        "_has_worded",
        "_kind",
        "_latest",
        "_name",
        "_occasion",
        "_open",
        "_parts",
        "_started",
        "_stop",
        "_usage",
    )

    def __init__(self, occasion: Occasion) -> None:
        self._occasion = occasion
        self._usage = ToldUsage()
        self._started = False
        self._name = ""
        """Of the answer."""
        self._parts = 0
        self._open = -1
        """The part whose text goes on."""
        self._kind: type[Part] | None = None
        """What it is."""
        self._calls: dict[object, _Call] = {}
        """By the number that they have here, or by their id."""
        self._latest: object = None
        """Of the calls, the one that began last."""
        self._has_worded = False
        """Whether thoughts come as plain text, so that their blocks are that text again."""
        self._stop: Stop | None = None

    def read(self, said: Json) -> list[Event]:
        if said.get("error"):
            return [Failed(trouble_within(said))]
        choices = said.get("choices")
        if not isinstance(choices, list) or not choices:
            self._usage.take(said)
            return []
        choice = object_of(choices[0])  # pyright: ignore[reportUnknownArgumentType]
        if said.get("usage") or "usage" in choice or "x_groq" in said:
            self._usage.take(said)
        events: list[Event] = []
        if not self._started:
            self._start(said, events)
        delta = object_of(choice.get("delta"))
        if delta:
            self._read_delta(delta, events)
        self._stop = stop_of(choice) or self._stop
        return events

    def repeats(self, said: Json) -> bool:  # noqa: ARG002  # no chunk does
        """Whether an event says again what was told already."""
        return False

    def end(self) -> list[Event]:
        """The stream says that it is over."""
        events: list[Event] = []
        if not self._started:
            self._start({}, events)
        self._close(events)
        for call in self._calls.values():
            events += call.end()
        stop = self._stop or END
        events.append(Ended(waiting_for_tools(stop) if self._calls else stop, self._usage.usage))
        return events

    def finish(self) -> list[Event]:
        """Nothing follows. Raises CutError where the answer had not ended."""
        if self._stop is None:
            raise CutError("the stream was cut before the answer had ended")
        return self.end()

    def _start(self, said: Json, events: list[Event]) -> None:
        self._started = True
        self._name = text_of(said.get("id"))
        created = said.get("created")
        model = text_of(said.get("model"))
        told = self._usage.usage
        events.append(Started(self._name, model, created if isinstance(created, int) else 0, told))

    def _read_delta(self, delta: Json, events: list[Event]) -> None:
        if text := reasoning_text(delta):
            self._has_worded = True
            self._say(Reasoning, text, events)
        if "thinking_blocks" in delta:
            for block in thinking(delta):
                self._think(block, events)
        content = delta.get("content")
        if isinstance(content, str):
            if content:
                self._say(Text, content, events)
        elif content is not None:
            self._read_parts(content, events)
        if text := text_of(delta.get("refusal")):
            self._say(Declined, text, events)
        if (calls := delta.get("tool_calls")) is not None:
            for call in objects_of(calls):
                self._call(call, events)
        if (legacy := delta.get("function_call")) is not None:
            self._call({"index": 0, "function": legacy}, events)

    def _read_parts(self, content: object, events: list[Event]) -> None:
        for part in objects_of(content):
            for thought in objects_of(part.get("thinking")):
                if text := text_of(thought.get("text")):
                    self._say(Reasoning, text, events)
            if text := text_of(part.get("text")):
                self._say(Text, text, events)

    def _say(self, kind: type[Text | Declined | Reasoning], text: str, events: list[Event]) -> None:
        if self._kind is not kind:
            self._begin(kind(""), events)
            self._open, self._kind = self._parts - 1, kind
        if text:
            events.append(Delta(self._open, text))

    def _think(self, block: Reasoning, events: list[Event]) -> None:
        if block.hidden:
            self._begin(block, events)
            events.append(PartEnded(self._parts - 1))
            return
        if block.text and not self._has_worded:
            self._say(Reasoning, block.text, events)
        if block.signature:
            self._say(Reasoning, "", events)
            events.append(Signed(self._open, block.signature))
            self._close(events)

    def _call(self, told: Json, events: list[Event]) -> None:
        function = object_of(told.get("function"))
        call_id, name = text_of(told.get("id")), text_of(function.get("name"))
        arguments, number = arguments_of(function), told.get("index")
        # What has neither number nor id is another call where it has a name, and else more of the latest.
        key: object = number if isinstance(number, int) else (call_id or ((self._parts,) if name else self._latest))
        call = self._calls.get(key)
        if call is not None and call.is_another(call_id, name, arguments):
            events += call.end()
            call = None
        if call is None and name:
            call = _Call(self._parts, call_id, name)
            made = call_id or made_id("call", self._name or self._occasion.id, self._parts)
            self._begin(ToolCall(made, name, ""), events)
            self._calls[key], self._latest = call, key
        if not arguments:
            return
        if call is None:
            events.append(Failed(_NAMELESS))
        elif call.arguments is not None:
            call.arguments.write(arguments)
            events.append(Delta(call.index, arguments))
        elif not arguments.isspace():
            events.append(Failed(_BEHIND))

    def _begin(self, part: Part, events: list[Event]) -> None:
        self._close(events)
        if (latest := self._calls.get(self._latest)) is not None:
            events += latest.end_if_whole()
        events.append(PartBegan(self._parts, part))
        self._parts += 1

    def _close(self, events: list[Event]) -> None:
        if self._kind is not None:
            events.append(PartEnded(self._open))
            self._kind = None


class ChatWriter:
    """From events to chunks."""

    __slots__ = ("_calls", "_deltas", "_head", "_occasion", "_silent", "_thoughts", "_usage")

    def __init__(self, occasion: Occasion) -> None:
        self._occasion = occasion
        self._usage = ',"usage":null' if occasion.with_usage else ""
        self._head = ""
        """How each chunk begins."""
        self._deltas: dict[int, tuple[str, str]] = {}
        """What stands before and behind the text of a delta, by part."""
        self._calls = 0
        self._silent: set[int] = set()
        """Calls without arguments so far."""
        self._thoughts: dict[int, StringIO] = {}
        """To be told again with their signatures; the other parts need no memory."""

    def write(self, event: Event) -> str:
        match event:
            case Delta(index, text):
                self._silent.discard(index)
                before, behind = self._deltas[index]
                if thought := self._thoughts.get(index):
                    thought.write(text)
                return f"{before}{in_json(text)}{behind}"
            case PartBegan(index, part):
                return self._begin(index, part)
            case Signed(index, signature):
                text = self._thoughts[index].getvalue()
                return self._thinking(Reasoning(text, signature))
            case PartEnded(index):
                before, behind = self._deltas.pop(index)
                self._thoughts.pop(index, None)
                if index not in self._silent:
                    return ""
                # Clients read arguments as JSON, and nothing is none.
                return f"{before}{in_json('{}')}{behind}"
            case Started():
                named = {
                    "id": event.id or f"chatcmpl-{self._occasion.id}",
                    "object": "chat.completion.chunk",
                    "created": event.created or self._occasion.now,
                    "model": event.model or self._occasion.model,
                }
                self._head = f'data: {compact(named)[:-1]},"choices":['
                return self._chunk({"role": "assistant", "content": ""})
            case Ended():
                return self._end(event)
            case Failed(trouble):
                return f"data: {openai_trouble(trouble)[1]}\n\n"

    def _chunk(self, delta: dict[str, Any], finish_reason: str | None = None) -> str:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
        return f"{self._head}{compact(choice)}]{self._usage}}}\n\n"

    def _around(self, before: str, behind: str) -> tuple[str, str]:
        return (
            f'{self._head}{{"index":0,"delta":{before}',
            f'{behind},"finish_reason":null}}]{self._usage}}}\n\n',
        )

    def _begin(self, index: int, part: Part) -> str:
        match part:
            case Text():
                self._deltas[index] = self._around('{"content":', "}")
            case Declined():
                self._deltas[index] = self._around('{"refusal":', "}")
            case Reasoning(hidden=hidden):
                self._deltas[index] = self._around('{"reasoning_content":', "}")
                self._thoughts[index] = StringIO()
                return self._thinking(part) if hidden else ""
            case ToolCall(call_id, name):
                number = self._calls
                self._calls += 1
                self._silent.add(index)
                self._deltas[index] = self._around(
                    f'{{"tool_calls":[{{"index":{number},"function":{{"arguments":', "}}]}"
                )
                function = {"name": name, "arguments": ""}
                return self._chunk(
                    {"tool_calls": [{"index": number, "id": call_id, "type": "function", "function": function}]}
                )
        return ""

    def _thinking(self, thought: Reasoning) -> str:
        return self._chunk({"thinking_blocks": [thinking_block(thought)]})

    def _end(self, ended: Ended) -> str:
        last = self._chunk({}, FINISH_REASONS[ended.stop.reason])
        if self._occasion.with_usage and ended.usage is not None:
            last += f'{self._head}],"usage":{compact(write_usage(ended.usage))}}}\n\n'
        return f"{last}data: [DONE]\n\n"
