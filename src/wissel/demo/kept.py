"""What a simulated server keeps of its answers, and how it answers who asks for them later.

An answer in the background is done as soon as its server's latency has passed;
until then it is queued, and may be cancelled.
"""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from wissel.apis.simulated import Answer
from wissel.apis.table import APIS

Json = dict[str, Any]

_MOST: Final = 10_000


@dataclass(slots=True)
class _Entry:
    answer: Answer
    whole: Json
    done_at: float
    """By `time.monotonic`."""


@dataclass(slots=True)
class Shelf:
    """Of one server, by API and id."""

    entries: dict[tuple[str, str], _Entry] = field(default_factory=dict[tuple[str, str], _Entry])

    def keep(self, api: str, answer: Answer, whole: Json, *, after: float = 0.0) -> None:
        """An answer that its caller wants kept, and that is done `after` so many seconds."""
        if len(self.entries) >= _MOST:
            del self.entries[next(iter(self.entries))]
        self.entries[api, whole["id"]] = _Entry(answer, whole, time.monotonic() + after)

    def has(self, api: str, made: str) -> bool:
        """Whether a call may go on from it."""
        return (api, made) in self.entries

    def as_it_is(self, api: str, made: str) -> Json:
        """The answer, at this moment."""
        entry = self.entries[api, made]
        if api == "chat" or time.monotonic() >= entry.done_at or entry.whole["status"] == "cancelled":
            return entry.whole
        return {**entry.whole, "status": "queued", "output": [], "usage": None}

    def events(self, made: str, after: int) -> list[bytes]:
        """A response as events once more, those behind the one that has the number `after`."""
        told = APIS["responses"].simulation.events
        assert told is not None
        return list(told(self.entries["responses", made].answer))[after + 1 :]

    def asked(self, api: str, method: str, made: str, word: str, body: Json) -> Json | None:
        """What is said to a request about an answer; None where there is no such answer."""
        entry = self.entries.get((api, made))
        if entry is None:
            return None
        match method, word:
            case "DELETE", _:
                del self.entries[api, made]
                return {"id": made, "object": "response" if api == "responses" else DELETED, "deleted": True}
            case "POST", "cancel":
                if time.monotonic() < entry.done_at:
                    entry.whole |= {"status": "cancelled", "output": []}
                return entry.whole
            case "POST", _:
                entry.whole |= {"metadata": body.get("metadata")}
                return entry.whole
            case _, "input_items":
                return listed(_items(entry.answer.body.get("input"), made))
            case _, "messages":
                said = entry.answer.body["messages"]
                return listed([{"id": f"{made}-{at}", **each} for at, each in enumerate(said)])
            case _:
                return self.as_it_is(api, made)


DELETED: Final = "chat.completion.deleted"


def _items(asked: object, made: str) -> list[Json]:
    texts = [asked] if isinstance(asked, str) else []
    parts: Iterable[Mapping[str, str]] = ({"type": "input_text", "text": text} for text in texts)
    return [
        {"id": f"item_{made}_{at}", "type": "message", "role": "user", "status": "completed", "content": [part]}
        for at, part in enumerate(parts)
    ]


def listed(data: list[Json]) -> Json:
    """A page of things, the only one."""
    ends = {"first_id": data[0]["id"], "last_id": data[-1]["id"]} if data else {"first_id": None, "last_id": None}
    return {"object": "list", "data": data, **ends, "has_more": False}
