"""What a model that is simulated says: the same in every API's format.

It depends only on the request and on who serves it, so a test can expect it:
the model's name, the server's, and the caller's own last words. Each API
writes it as its providers write their answers, whole or as events.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from wissel.apis.shapes import Json


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
        words = self.text.split(" ")
        return [words[0], *(f" {word}" for word in words[1:])]

    @property
    def input_tokens(self) -> int:
        return tokens(self.question)

    @property
    def output_tokens(self) -> int:
        return len(self.pieces)


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
