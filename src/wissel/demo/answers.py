"""A request's body becomes the body of an answer, as OpenAI and Anthropic write them, whole or as events.

What it says depends only on the request and on who serves it, so a test can
expect it: the model's name, the server's, and the caller's own last words.
"""

import base64
import hashlib
import json
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

Body = Mapping[str, Any]
"""Of a request, as JSON."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What one server says to one request."""

    server: str
    number: int
    """Of the request at this server; makes ids."""
    body: Body
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


@dataclass(frozen=True, slots=True)
class API:
    """One of the APIs: how a question is found in its requests and how an answer reads."""

    question: Callable[[Body], str]
    whole: Callable[[Answer], dict[str, Any]]
    events: Callable[[Answer], Iterator[bytes]] | None
    """The answer as server-sent events; None where the API has no stream."""


def tokens(text: str) -> int:
    """About as many as a tokenizer would count."""
    return max(1, len(text) // 4)


# --- Chat and completions ----------------------------------------------------------------------------------------


def _chat(answer: Answer) -> dict[str, Any]:
    message = {"role": "assistant", "content": answer.text, "refusal": None}
    return {
        **_completion_head(answer, "chat.completion"),
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
        "usage": _completion_usage(answer),
    }


def _chat_events(answer: Answer) -> Iterator[bytes]:
    deltas = [{"role": "assistant", "content": ""}, *({"content": piece} for piece in answer.pieces), {}]
    choices = [{"index": 0, "delta": delta, "finish_reason": None if delta else "stop"} for delta in deltas]
    yield from _completion_events(answer, "chat.completion.chunk", choices)


def _completion(answer: Answer) -> dict[str, Any]:
    return {
        **_completion_head(answer, "text_completion"),
        "choices": [{"index": 0, "text": answer.text, "logprobs": None, "finish_reason": "stop"}],
        "usage": _completion_usage(answer),
    }


def _text_events(answer: Answer) -> Iterator[bytes]:
    texts = [*answer.pieces, ""]
    choices = [{"index": 0, "text": text, "finish_reason": None if text else "stop"} for text in texts]
    yield from _completion_events(answer, "text_completion", choices)


def _completion_events(answer: Answer, kind: str, choices: list[dict[str, Any]]) -> Iterator[bytes]:
    head = _completion_head(answer, kind)
    options: Body = answer.body.get("stream_options") or {}
    with_usage = bool(options.get("include_usage"))
    for choice in choices:
        yield _event({**head, "choices": [choice], **({"usage": None} if with_usage else {})})
    if with_usage:
        yield _event({**head, "choices": [], "usage": _completion_usage(answer)})
    yield b"data: [DONE]\n\n"


def _completion_head(answer: Answer, kind: str) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{answer.server}-{answer.number}",
        "object": kind,
        "created": answer.created,
        "model": answer.model,
        "system_fingerprint": f"fp_{answer.server}",
        "served_by": answer.server,
    }


def _completion_usage(answer: Answer) -> dict[str, int]:
    counts = answer.input_tokens, answer.output_tokens
    return {"prompt_tokens": counts[0], "completion_tokens": counts[1], "total_tokens": sum(counts)}


# --- Responses ---------------------------------------------------------------------------------------------------


def _response(answer: Answer, *, done: bool = True) -> dict[str, Any]:
    usage = {
        "input_tokens": answer.input_tokens,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": answer.output_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": answer.input_tokens + answer.output_tokens,
    }
    return {
        "id": f"resp_{answer.server}_{answer.number}",
        "object": "response",
        "created_at": answer.created,
        "status": "completed" if done else "in_progress",
        "model": answer.model,
        "output": [_item(answer, answer.text)] if done else [],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": usage if done else None,
        "served_by": answer.server,
    }


def _response_events(answer: Answer) -> Iterator[bytes]:
    item = f"msg_{answer.server}_{answer.number}"
    at: dict[str, Any] = {"item_id": item, "output_index": 0, "content_index": 0}
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": _response(answer, done=False)},
        {"type": "response.in_progress", "response": _response(answer, done=False)},
        {"type": "response.output_item.added", "output_index": 0, "item": _item(answer, None)},
        {"type": "response.content_part.added", **at, "part": _part("")},
        *({"type": "response.output_text.delta", **at, "delta": piece, "logprobs": []} for piece in answer.pieces),
        {"type": "response.output_text.done", **at, "text": answer.text, "logprobs": []},
        {"type": "response.content_part.done", **at, "part": _part(answer.text)},
        {"type": "response.output_item.done", "output_index": 0, "item": _item(answer, answer.text)},
        {"type": "response.completed", "response": _response(answer)},
    ]
    for number, event in enumerate(events):
        yield _event({**event, "sequence_number": number}, event["type"])


def _item(answer: Answer, text: str | None) -> dict[str, Any]:
    return {
        "id": f"msg_{answer.server}_{answer.number}",
        "type": "message",
        "status": "in_progress" if text is None else "completed",
        "role": "assistant",
        "content": [] if text is None else [_part(text)],
    }


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


# --- Anthropic's messages ----------------------------------------------------------------------------------------


def _message(answer: Answer) -> dict[str, Any]:
    return {
        "id": f"msg_{answer.server}_{answer.number}",
        "type": "message",
        "role": "assistant",
        "model": answer.model,
        "content": [{"type": "text", "text": answer.text}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": answer.input_tokens, "output_tokens": answer.output_tokens},
        "served_by": answer.server,
    }


def _message_events(answer: Answer) -> Iterator[bytes]:
    begun = {"input_tokens": answer.input_tokens, "output_tokens": 1}
    start: dict[str, Any] = {**_message(answer), "content": [], "stop_reason": None, "usage": begun}
    ending = {"stop_reason": "end_turn", "stop_sequence": None}
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": start},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "ping"},
        *(
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": piece}}
            for piece in answer.pieces
        ),
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": ending, "usage": {"output_tokens": answer.output_tokens}},
        {"type": "message_stop"},
    ]
    for event in events:
        yield _event(event, event["type"])


# --- Embeddings --------------------------------------------------------------------------------------------------


def _embeddings(answer: Answer) -> dict[str, Any]:
    asked = answer.body.get("input", "")
    texts = [asked] if isinstance(asked, str) else list(asked)
    vectors = [_vector(str(text), int(answer.body.get("dimensions") or 8)) for text in texts]
    if answer.body.get("encoding_format") == "base64":
        values: list[Any] = [base64.b64encode(struct.pack(f"<{len(v)}f", *v)).decode() for v in vectors]
    else:
        values = list(vectors)
    count = sum(tokens(str(text)) for text in texts)
    return {
        "object": "list",
        "data": [{"object": "embedding", "index": i, "embedding": value} for i, value in enumerate(values)],
        "model": answer.model,
        "usage": {"prompt_tokens": count, "total_tokens": count},
        "served_by": answer.server,
    }


def _vector(text: str, dimensions: int) -> list[float]:
    """Of length one, the same for the same text; near texts are not near."""
    noise = hashlib.shake_256(text.encode()).digest(dimensions)
    raw = [byte - 127.5 for byte in noise]
    length = sum(x * x for x in raw) ** 0.5
    return [x / length for x in raw]


# --- What is asked -----------------------------------------------------------------------------------------------


def _last_message(body: Body) -> str:
    return plain(body["messages"][-1].get("content"))


def _prompt(body: Body) -> str:
    return plain(body.get("prompt"))


def _input(body: Body) -> str:
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


def _event(data: Mapping[str, Any], name: str | None = None) -> bytes:
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(data, ensure_ascii=False)}\n\n".encode()


APIS: Mapping[str, API] = {
    "/v1/chat/completions": API(_last_message, _chat, _chat_events),
    "/v1/completions": API(_prompt, _completion, _text_events),
    "/v1/responses": API(_input, _response, _response_events),
    "/v1/messages": API(_last_message, _message, _message_events),
    "/v1/embeddings": API(_input, _embeddings, None),
}
"""By path."""
