"""A request's id becomes what served it, so that a score given later counts where it belongs.

Each request is remembered for a day, and takes one score: the first.
"""

import json
from collections.abc import Iterable
from typing import Any, Final

from wissel.errors import StoreError
from wissel.store.base import AlreadyGiven, Answered, Scope, Served, Unknown
from wissel.store.connection import RedisConnection, Script
from wissel.store.keys import FEEDBACK_TTL, Keys

# KEYS: served, score. ARGV: score, TTL.
_ACCEPT: Final = Script("""
local served = redis.call('GET', KEYS[1])
if not served then return {0} end
if not redis.call('SET', KEYS[2], ARGV[1], 'NX', 'EX', ARGV[2]) then return {1} end
return {2, served}
""")


class FeedbackStore:
    """The requests of one configuration namespace that feedback can be given on."""

    def __init__(self, connection: RedisConnection, keys: Keys) -> None:
        self._connection = connection
        self._keys = keys

    async def remember(self, requests: Iterable[tuple[str, Answered]]) -> None:
        """Keep what served each request, by its id; to repeat it changes nothing. Raises StoreError."""
        await self._connection.run_all(
            [
                ("SET", self._keys.served(request_id), _dump(answered), "EX", FEEDBACK_TTL)
                for request_id, answered in requests
            ]
        )

    async def accept(self, request_id: str, score: float) -> Answered | AlreadyGiven | Unknown:
        """Take a score in [0, 1]; Answered says what to count it for, and is given once per request. Raises StoreError.

        If the answer is lost on its way the score is not counted: it may only be missing, never double.
        """
        names = [self._keys.served(request_id), self._keys.score(request_id)]
        code, *served = await self._connection.call(_ACCEPT, names, [score, FEEDBACK_TTL])
        match code:
            case 0:
                return Unknown()
            case 1:
                return AlreadyGiven()
            case _:
                return _load(served[0])


def _dump(answered: Answered) -> str:
    return json.dumps({"served": _arm(answered.served), "lesson": answered.lesson}, separators=(",", ":"))


def _arm(served: Served | None) -> list[str | int] | None:
    if served is None:
        return None
    scope, counted = served.scope, int(served.is_counted)
    return [scope.split, scope.revision, scope.attempt, scope.step, served.arm, served.bucket, counted]


def _load(text: str) -> Answered:
    try:
        fields: dict[str, Any] = json.loads(text)
        arm: list[Any] | None = fields["served"]
        if arm is None:
            return Answered(None, fields["lesson"])
        split, revision, attempt, step, name, bucket, counted = arm
    except (ValueError, TypeError, KeyError) as error:
        raise StoreError(f"redis: a served request cannot be read: {error!r}") from error
    served = Served(Scope(split, revision, attempt, step), name, bucket, is_counted=bool(counted))
    return Answered(served, fields["lesson"])
