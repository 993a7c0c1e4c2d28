"""Bodies that take long to read: many small things, one huge thing, and all that is allowed at once."""

import json
from collections.abc import Callable
from typing import Final

from redteam.attack import MEBIBYTE, Attack, Blow, Target, at_once
from wissel.core.bounds import Bounds

CHAT, EMBEDDINGS, FORM = "/v1/chat/completions", "/v1/embeddings", "/v1/audio/transcriptions"
SIZES: Final = (1, 31)
"""MiB: what passes anywhere, and just under `listen.max_body_bytes`."""

_Body = tuple[str, str, bytes]
"""Path, content type, bytes."""


def _filled(path: str, before: bytes, unit: bytes, after: bytes, size: int, between: bytes = b",") -> _Body:
    count = (size - len(before) - len(after)) // (len(unit) + len(between))
    return path, "application/json", before + between.join([unit] * count) + after


def messages(size: int) -> _Body:
    return _filled(CHAT, b'{"model":"attacked","messages":[', b"{}", b"]}", size)


def model_name(size: int) -> _Body:
    return _filled(CHAT, b'{"messages":[],"model":"', b"o", b'"}', size, b"")


def content_parts(size: int) -> _Body:
    opening = b'{"model":"attacked","messages":[{"role":"user","content":['
    return _filled(CHAT, opening, b'{"type":"text","text":"a"}', b"]}]}", size)


def nested_arrays(size: int) -> _Body:
    return _filled(EMBEDDINGS, b'{"model":"attacked","input":[', b"[[1],[2]]", b"]}", size)


def members(size: int) -> _Body:
    names = b",".join(b'"%d":1' % number for number in range(size // 12))
    return CHAT, "application/json", b'{"model":"attacked",%b}' % names


def inner_members(size: int) -> _Body:
    names = b",".join(b'"%d":1' % number for number in range(size // 12))
    return CHAT, "application/json", b'{"model":"attacked","metadata":{%b}}' % names


def escapes(size: int) -> _Body:
    return _filled(CHAT, b'{"model":"attacked","messages":[{"role":"user","content":"', b"\\n", b'"}]}', size, b"")


def pairs(size: int) -> _Body:
    return FORM, "application/x-www-form-urlencoded", b"a&" * (size // 2)


def form_parts(size: int) -> _Body:
    part = b'--e\r\ncontent-disposition: form-data; name="a"\r\n\r\n\r\n'
    return FORM, "multipart/form-data; boundary=e", part * (size // len(part)) + b"--e--\r\n"


def near_boundaries(size: int) -> _Body:
    """Every byte of it may begin the boundary, and none does."""
    boundary = b"-" * 30 + b"x" + b"-" * 30
    part = b'--%b\r\ncontent-disposition: form-data; name="a"\r\n\r\n' % boundary
    return FORM, f"multipart/form-data; boundary={boundary.decode()}", part + b"-" * (size - len(part))


def json_lines(size: int) -> _Body:
    return FORM, "application/jsonl", b'{"body":{"model":"attacked"}}\n' * (size // 26)


def just_allowed(size: int) -> _Body:
    """A body under every bound at once, and as large as it may be."""
    most = Bounds()
    part = {"type": "text", "text": "w"}
    parts = most.parts // most.messages
    said = [{"role": "user", "content": [part] * parts} for _ in range(most.messages - 1)]
    deep: object = 1
    for _ in range(most.depth - 3):
        deep = [deep]
    body = {
        "model": "attacked",
        "messages": said,
        "tools": [deep],
        "metadata": [1] * (most.values - most.messages * (3 + 3 * parts) - 5000),
        **{f"m{number}": "x" for number in range(most.members - 10)},
    }
    text = json.dumps(body, separators=(",", ":"))
    filling = max(0, size - len(text) - 20)
    return CHAT, "application/json", f'{text[:-1]},"user":"{"é" * (filling // 2)}"}}'.encode()


def _blow(make: Callable[[int], _Body], mebibytes: int, hands: int = 1) -> Callable[[], Blow]:
    def prepare() -> Blow:
        path, kind, body = make(mebibytes * MEBIBYTE)

        def blow(target: Target, _: int) -> int:
            return target.post(path, body, kind)

        return at_once(hands, blow)

    return prepare


_MAKERS: Final[dict[str, tuple[Callable[[int], _Body], str]]] = {
    "messages": (messages, "a call of nothing but empty messages"),
    "model-name": (model_name, "one model's name"),
    "content-parts": (content_parts, "one message of small parts"),
    "nested-arrays": (nested_arrays, "embeddings of arrays in arrays"),
    "members": (members, "numbered members of the outermost object"),
    "inner-members": (inner_members, "numbered members of an object within"),
    "escapes": (escapes, "one text of nothing but escapes"),
    "pairs": (pairs, "`a&a&…` to a passthrough"),
    "form-parts": (form_parts, "a form of empty parts to a passthrough"),
    "near-boundaries": (near_boundaries, "a form whose one part is nearly a boundary, all along"),
    "json-lines": (json_lines, "a file of short lines to a passthrough"),
    "just-allowed": (just_allowed, "a body just under every bound at once"),
}

HANDS: Final = 4

ATTACKS: Final = (
    *(
        Attack(f"{name}-{size}M", f"{says}, {size} MiB", _blow(make, size), in_sample=(name, size) == ("messages", 31))
        for name, (make, says) in _MAKERS.items()
        for size in SIZES
    ),
    Attack("many-31M", f"{HANDS} bodies of one text at once, 31 MiB each", _blow(escapes, 31, HANDS)),
)
