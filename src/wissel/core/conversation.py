"""A name for a conversation that all its requests share, whatever its client adds on the way.

The first of these that a request has: an id of the session that its client
sends, in a header or in the body; the conversation that its previous response
belongs to; and else how it began, which is the first words of a person after
the first line of the instructions. Tools, later turns, turns that a harness
adds, clocks, lines about billing and retrieved texts change from request to
request, and are no part of it. `user` names who asks, and not what about.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, Final

import mmh3

from wissel.core.harness import HARNESS, MOST_LOOKED_AT, Harness
from wissel.core.request import Request, first_of

SESSION_HEADERS: Final = (
    "x-session-id",
    "x-claude-code-session-id",  # Claude Code
    "session-id",  # Codex
    "session_id",  # Codex, before 2026
    "conversation_id",  # Codex, of old
    "x-opencode-session",  # OpenCode
    "x-session-affinity",  # OpenCode, for other providers
    "x-task-id",  # Cline
    "x-roo-task-id",  # Roo Code
    "x-kilocode-taskid",  # Kilo Code
    "x-amp-thread-id",  # Amp
    "x-openwebui-chat-id",  # Open WebUI
    "x-litellm-session-id",  # LiteLLM
    "helicone-session-id",
)
"""Headers in which clients name a session, by what they document or send."""

SESSION_MEMBERS: Final = (
    "session_id",
    "chat_id",
    "thread_id",
    "conversation_id",
    "conversation",
    "conversation.id",
    "metadata.session_id",
    "metadata.conversation_id",
    "metadata.thread_id",
    "metadata.user_id",
    "litellm_session_id",
    "prompt_cache_key",
)
"""Members of a body that do, and members of its objects."""

PREVIOUS: Final = "previous_response_id"

LONGEST: Final = 256
"""Characters of a key; a longer id is known by its hash."""

_BEGINNING: Final = 2000
"""Characters of the first words, and of the line before them."""
_INSTRUCTIONS: Final = 8 * _BEGINNING
"""Characters of the instructions among which that line is looked for."""

_SESSION: Final = re.compile(r"(?:^|[_.:;/-])session[_:=-]+([0-9A-Za-z][0-9A-Za-z-]{7,})")
_WORD: Final = re.compile(r"(?=(?:[^0-9]*[0-9]){3})[\w:.-]*")
_RANDOM: Final = re.compile(r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-|[0-9A-Za-z]{16}")

_MONTH: Final = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*"
_PASSING: Final = re.compile(
    r"\d{4}-\d\d?-\d\d?|\d\d?[./]\d\d?[./]\d{2,4}|\d\d?:\d\d|\b\d{10,}\b"
    rf"|\b{_MONTH}\.? \d|\d(?:st|nd|rd|th)?\.? {_MONTH}\b|\b(?:mon|tues|wednes|thurs|fri|satur|sun)day\b"
    r"|billing|\b(?:request|trace|message|turn)[-_ ]?(?:id|number)\b|\b[0-9a-f]{8}\b|\b[0-9a-f-]{16,}\b"
    r"|^\W*(?:retrieved|context|memor(?:y|ies)|documents?|sources?|search results)\b[^.]*:",
    re.IGNORECASE,
)
"""In a line of the instructions: it is another one in each request."""
_CLOCK: Final = re.compile(
    r"^\W*(?:the )?(?:current |local |today'?s? )?(?:date|time|datetime|timestamp|today)\b.*\d",
    re.IGNORECASE,
)
"""A line of the first words that only tells when they were sent."""


@dataclass(frozen=True, slots=True)
class ConversationIds:
    """`conversation`, as the decision reads it: where clients name the session, the first one present."""

    headers: tuple[str, ...] = SESSION_HEADERS
    members: tuple[str, ...] = SESSION_MEMBERS
    harness: Harness = HARNESS
    """What is no person's of the words that it begins with."""


def conversation_key(request: Request, ids: ConversationIds) -> str | None:
    """None where nobody has said anything."""
    named = _named(request, ids) or request.thread or request.labels.get(PREVIOUS, "")
    if named:
        return named if len(named) <= LONGEST else _hashed(named)
    return _beginning(request, ids.harness)


def _named(request: Request, ids: ConversationIds) -> str:
    for name in ids.headers:
        if value := request.headers.get(name, "").strip():
            return value
    for place in ids.members:
        if value := _READ.get(place, str.strip)(request.labels.get(place, "")):
            return value
    return ""


def _session_in(text: str) -> str:
    """The session that a longer id holds, as `user_…_session_…` and `{"session_id": …}`; empty where it is a user's."""
    if text.lstrip().startswith("{"):
        try:
            said: Any = json.loads(text)
        except (ValueError, RecursionError):
            return ""
        session = said.get("session_id")
        return session if isinstance(session, str) else ""
    found = _SESSION.search(text)
    return found[1] if found else ""


def _unique(text: str) -> str:
    """The text, if it looks made rather than written; one that is written may be shared by all conversations."""
    return text if _WORD.fullmatch(text) and _RANDOM.search(text) else ""


_READ: Final[Mapping[str, Callable[[str], str]]] = {
    "metadata.user_id": _session_in,
    "user": _session_in,
    "prompt_cache_key": _unique,
}
"""Places that name a session only sometimes."""


def _beginning(request: Request, harness: Harness) -> str | None:
    turns = request.conversation.turns
    said = first_of((turn.text for turn in turns if turn.role == "user"), MOST_LOOKED_AT)
    words = (harness.spoken(text) for text in said)
    first = next(filter(None, words), request.conversation.first_user)
    if not first:
        return None
    before = takewhile(lambda turn: turn.role != "user", turns)
    instructions = (turn.text[:_INSTRUCTIONS] for turn in before if turn.role == "system")
    lines = (_first_line(harness.spoken(text)) for text in first_of(instructions, _INSTRUCTIONS))
    head = next(filter(None, lines), "")
    spoken = [line.strip() for line in first[:_BEGINNING].splitlines()]
    lasting = [line for line in spoken if line and not _CLOCK.search(line)]
    return _hashed("\n".join((head, *(lasting or spoken))))


def _first_line(instructions: str) -> str:
    """The first line that stays what it is from request to request."""
    lines = (line.strip() for line in instructions.splitlines())
    return next((line[:_BEGINNING] for line in lines if line and not _PASSING.search(line)), "")


def _hashed(text: str) -> str:
    return mmh3.mmh3_x64_128_digest(text.encode("utf-8", "surrogatepass")).hex()
