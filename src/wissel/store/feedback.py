"""A request's id becomes the arm that served it, so that a score given later counts where it belongs.

Each request is remembered for a day, and takes one score: the first.
"""

import json
from collections.abc import Iterable
from typing import Any, Final

from wissel.errors import StoreError
from wissel.store.base import AlreadyGiven, Scope, Served, Unknown
from wissel.store.connection import Connection, Script
from wissel.store.keys import FEEDBACK_TTL, Keys

# KEYS: served, score. ARGV: score, TTL.
_ACCEPT: Final = Script("""
local served = redis.call('GET', KEYS[1])
if not served then return {0} end
if not redis.call('SET', KEYS[2], ARGV[1], 'NX', 'EX', ARGV[2]) then return {1} end
return {2, served}
""")


class Feedback:
    """The requests of one configuration namespace that feedback can be given on."""

    def __init__(self, connection: Connection, keys: Keys) -> None:
        self._connection = connection
        self._keys = keys

    async def remember(self, requests: Iterable[tuple[str, Served]]) -> None:
        """Keep which arm served each request, by its id; to repeat it changes nothing. Raises StoreError."""
        await self._connection.run_all(
            [
                ("SET", self._keys.served(request_id), _dump(served), "EX", FEEDBACK_TTL)
                for request_id, served in requests
            ]
        )

    async def accept(self, request_id: str, score: float) -> Served | AlreadyGiven | Unknown:
        """Take a score in [0, 1]; Served says what to count it for, and is given once per request. Raises StoreError.

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


def _dump(served: Served) -> str:
    scope = served.scope
    counted = int(served.is_counted)
    return json.dumps([scope.split, scope.revision, scope.attempt, scope.step, served.arm, served.bucket, counted])


def _load(text: str) -> Served:
    try:
        fields: list[Any] = json.loads(text)
        split, revision, attempt, step, arm, bucket, counted = fields
    except ValueError as error:
        raise StoreError(f"redis: a served request cannot be read: {error}") from error
    return Served(Scope(split, revision, attempt, step), arm, bucket, is_counted=bool(counted))
