"""What a model that is simulated says: the same in every API's format.

It depends only on the request and on who serves it, so a test can expect it:
the model's name, the server's, and the caller's own last words. Where these are
`simulate: thought, text, call, call`, the answer is made of that: a thought, the
usual words, calls of the tools that the request names, or a `refusal`; with
`length` it ends for want of tokens, with `cut` its stream breaks off, and with
`status 429` it is an error. Each API writes it as its providers write
their answers, whole or as events.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, cast

from wissel.apis.shapes import Json, object_of, objects_of

THOUGHT: Final = "The caller wants to see a thought."
SEAL: Final = "c2lnbmVk"
"""The signature of a thought."""
REFUSED: Final = "I will not say that."
_SCRIPT: Final = re.compile(r"\s*simulate: ([a-z0-9, ]+)")


@dataclass(frozen=True, slots=True)
class Said:
    """A part of an answer."""

    kind: Literal["thought", "text", "refusal", "call"]
    text: str
    """Of a call, its arguments."""
    name: str = ""
    """Of the tool that is called."""

    @property
    def pieces(self) -> list[str]:
        """As a model would stream it."""
        words = self.text.split(" ")
        return [words[0], *(f" {word}" for word in words[1:])]


@dataclass(frozen=True, slots=True)
class Answer:
    """What one server says to one request."""

    server: str
    number: int
    """Of the request at this server; makes ids."""
    body: Json
    question: str
    created: int
    """Unix time."""

    @property
    def model(self) -> str:
        return str(self.body["model"])

    @property
    def text(self) -> str:
        asked = self.question if len(self.question) <= 200 else f"{self.question[:200]}…"
        return f'This is {self.model} on {self.server}. You said: "{asked}"'

    @property
    def pieces(self) -> list[str]:
        """The text as a model would stream it."""
        return Said("text", self.text).pieces

    @property
    def script(self) -> list[str]:
        """What the caller wants simulated; nothing where it asks for no more than words."""
        found = _SCRIPT.match(self.question)
        return [word.strip() for word in found[1].split(",")] if found else []

    @property
    def said(self) -> list[Said]:
        """Its parts, in order."""
        tools, found = _tools(self.body), list[Said]()
        for word in self.script or ["text"]:
            match word:
                case "thought":
                    found.append(Said("thought", THOUGHT))
                case "text":
                    found.append(Said("text", self.text))
                case "refusal":
                    found.append(Said("refusal", REFUSED))
                case "call":
                    number = sum(each.kind == "call" for each in found)
                    name = tools[number % len(tools)] if tools else "tool"
                    found.append(Said("call", json.dumps({"number": number, "by": self.server}), name))
                case _:
                    pass
        return found

    def of(self, kind: str) -> list[Said]:
        """Those of its parts."""
        return [each for each in self.said if each.kind == kind]

    @property
    def ended(self) -> Literal["done", "length", "tools"]:
        """Why nothing follows."""
        if "length" in self.script:
            return "length"
        return "tools" if self.of("call") else "done"

    @property
    def is_cut(self) -> bool:
        """Whether its stream breaks off."""
        return "cut" in self.script

    @property
    def status(self) -> int:
        """Of HTTP."""
        told = [word.removeprefix("status ") for word in self.script if word.startswith("status ")]
        return int(told[0]) if told and told[0].isdecimal() else 200

    @property
    def input_tokens(self) -> int:
        return tokens(self.question)

    @property
    def output_tokens(self) -> int:
        return sum(len(each.pieces) for each in self.said)

    @property
    def thought_tokens(self) -> int:
        """Of the output."""
        return sum(len(each.pieces) for each in self.of("thought"))


def _tools(body: Json) -> list[str]:
    """Names of the tools that a request brings, in the words of any API."""
    told = objects_of(body.get("tools"))
    names = [tool.get("name", object_of(tool.get("function")).get("name")) for tool in told]
    return [name for name in names if isinstance(name, str)]


def tokens(text: str) -> int:
    """About as many as a tokenizer would count."""
    return max(1, len(text) // 4)


def last_message(body: Json) -> str:
    """The last words of `messages`."""
    return plain(body["messages"][-1].get("content"))


def last_input(body: Json) -> str:
    """The last words of `input`: a text, texts, or items."""
    match body.get("input"):
        case [*_, {"content": content}]:
            return plain(content)
        case asked:
            return plain(asked)


def plain(content: Any) -> str:
    """The words of a content that is a string, a list of parts or nothing."""
    match content:
        case str():
            return content
        case list():
            return " ".join(map(plain, cast("list[Any]", content)))
        case {"text": str(text)}:
            return text
        case _:
            return ""


def event(data: Mapping[str, Any], name: str | None = None) -> bytes:
    """A server-sent event."""
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(data, ensure_ascii=False)}\n\n".encode()
