"""What is written where it is kept or repeated: names, ids, signatures and paths of megabytes."""

import json
from collections.abc import Callable
from typing import Final

from redteam.attack import MEBIBYTE, Attack, Blow, Target, at_once

CHAT: Final = "/v1/chat/completions"


def _always(path: str, body: object, **headers: str) -> Callable[[], Blow]:
    def prepare() -> Blow:
        written = json.dumps(body).encode()

        def blow(target: Target, _: int) -> int:
            return target.post(path, written, **headers)

        return at_once(1, blow)

    return prepare


_LONG: Final = "m" * (8 * MEBIBYTE)
_ASKED: Final = {"model": "attacked", "messages": [{"role": "user", "content": "hello"}]}

ATTACKS: Final = (
    Attack("long-name", "a model's name of 8 MiB, which is refused and told of", _always(CHAT, {"model": _LONG})),
    Attack(
        "long-user", "ids of the conversation of 8 MiB", _always(CHAT, {**_ASKED, "user": _LONG, "session_id": _LONG})
    ),
    Attack(
        "long-previous",
        "the id of an earlier answer, of 8 MiB",
        _always("/v1/responses", {"model": "attacked", "input": "hello", "previous_response_id": _LONG}),
    ),
    Attack(
        "long-score",
        "feedback on a request of 8 MiB of name",
        _always("/v1/feedback", {"request_id": _LONG, "score": 1}),
    ),
    Attack("odd-score", "feedback on half a character", _always("/v1/feedback", {"request_id": "\ud800", "score": 1})),
    Attack(
        "many-headers", "a session of 50,000 characters in a header", _always(CHAT, _ASKED, x_session_id="s" * 50_000)
    ),
)
