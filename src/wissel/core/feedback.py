"""What a caller thinks of an answer: one score for one request, the same over the admin API and through Envoy.

Any caller who may call at all may score any request whose id it knows: the id
is 96 random bits, and only whoever got the answer was told.
"""

import json
import re
from dataclasses import dataclass
from typing import Any, Final, Literal, cast

from wissel.errors import UnreadableError

FEEDBACK_PATH: Final = "/v1/feedback"

_MOST_BYTES: Final = 16 * 1024
_REQUEST_ID: Final = re.compile(r"[!-~]{1,100}")

ScoreAnswer = Literal["accepted", "already_given", "request_not_found", "store_away", "feedback_not_kept"]
"""What became of it; only an accepted score counts."""


@dataclass(frozen=True, slots=True)
class Feedback:
    request_id: str
    """The answer's `x-wissel-request-id`."""
    score: float
    """From 0 to 1, the best."""


def read_feedback(data: bytes | bytearray) -> Feedback:
    """`{"request_id": …, "score": 0…1}`; UnreadableError says what is wrong with it."""
    if len(data) > _MOST_BYTES:
        raise UnreadableError(f"feedback has at most {_MOST_BYTES} bytes")
    try:
        body: Any = json.loads(data)
    except (ValueError, RecursionError):
        raise UnreadableError("the body is not JSON") from None
    asked = cast("dict[str, Any]", body) if isinstance(body, dict) else {}
    request_id, score = asked.get("request_id"), asked.get("score")
    if not isinstance(request_id, str) or not _REQUEST_ID.fullmatch(request_id):
        raise UnreadableError('give "request_id": the x-wissel-request-id of the answer', param="request_id")
    if isinstance(score, bool) or not isinstance(score, int | float) or not 0 <= score <= 1:
        raise UnreadableError('give "score": a number from 0 to 1', param="score")
    return Feedback(request_id, float(score))
