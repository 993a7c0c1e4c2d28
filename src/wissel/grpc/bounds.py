"""What one peer may cost the server: limits, allowances that useful work earns, and the memory of all streams.

A body that Envoy sends whole is one message, and what becomes of it may take a
while: it waits for its last bytes, for its decision, for the peer to take the
answer. All three are one account for each stream, and the accounts of all
connections have one limit. Where it is passed, the newest large stream ends of
whoever holds most: those before it come to their end, the many small ones never
pay for a few large ones, and nobody pays for somebody else.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Final, Protocol, Self

_PERIOD = 10.0
"""Seconds over which the frames of a peer are counted."""
_MEBIBYTE = 1 << 20
_LARGE = 64 << 10
"""Bytes above which a stream counts as a large one."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one peer may cost."""

    message_bytes: int = 64 * _MEBIBYTE
    """Of one message; a larger one ends its stream with RESOURCE_EXHAUSTED."""
    queued_bytes: int = 65 * _MEBIBYTE
    """Waiting on one stream for its peer to read; beyond it the stream ends with RESOURCE_EXHAUSTED."""
    memory_bytes: int = 128 * _MEBIBYTE
    """Messages that are half read, not answered yet or not taken yet, of all connections together."""
    streams: int = 4096
    """Open at once on one connection; Envoy holds one for every response that is streaming."""
    header_bytes: int = 64 << 10
    resets: int = 1000
    """Streams in ten seconds that a peer may reset before any answer, beyond those it let be answered."""
    idle_frames: int = 2000
    """Frames in ten seconds that bring nothing (pings, settings, empty data), beyond those its traffic explains."""
    handshake: float = 10.0
    """Seconds for a new connection to speak TLS, and then HTTP/2."""
    silence: float = 30.0
    """Seconds that a stream may bring nothing while it owes its first message or the rest of one; it ends within
    twice as long. One that owes nothing may be silent for as long as a model thinks."""
    stall: float = 30.0
    """Seconds that a peer may leave its socket unread, while open and while closing."""

    @classmethod
    def for_bodies(cls, max_body_bytes: int) -> Self:
        """For a server whose peers send bodies of up to so many bytes.

        A message holds one body and some more; one that is up to twice as
        large still gets an answer that says so. Two such at once are kept.
        """
        message = 2 * max(max_body_bytes, 4 * _MEBIBYTE)
        return cls(message_bytes=message, queued_bytes=message + _MEBIBYTE, memory_bytes=2 * message)


class Allowance:
    """So many events in a period; useful work earns more."""

    __slots__ = ("_left", "_limit", "_since")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._left = limit
        self._since = 0.0

    def earn(self, count: int) -> None:
        self._left += count

    def spend(self, now: float) -> bool:
        """Whether one more event is within the allowance."""
        if now - self._since > _PERIOD:
            self._since = now
            self._left = self._limit
        self._left -= 1
        return self._left >= 0


class Account(Protocol):
    """One stream, as its memory is counted."""

    held: int
    """Bytes; changed by `Memory` alone."""
    owner: str
    """Whom it serves."""

    def give_up(self) -> None:
        """End, and hold nothing any more."""
        ...


class Memory:
    """Bytes that are held for peers, of all connections of a server together."""

    __slots__ = ("_large", "_limit", "_small", "held")

    def __init__(self, limit: int) -> None:
        self.held = 0
        self._limit: Final = limit
        # The newest last.
        self._small: Final[dict[Account, None]] = {}
        self._large: Final[dict[Account, None]] = {}

    def hold(self, account: Account, count: int) -> None:
        """Count bytes that are held from now on, or given up (negative); beyond the limit the newest gives up."""
        before = account.held
        account.held = after = before + count
        self.held += count
        if not after or (before <= _LARGE) != (after <= _LARGE):
            (self._small if before <= _LARGE else self._large).pop(account, None)
        if after:
            (self._small if after <= _LARGE else self._large)[account] = None
        while count > 0 and self.held > self._limit:
            self._next_to_go().give_up()

    def _next_to_go(self) -> Account:
        accounts = self._large or self._small
        by_owner = Counter[str]()
        for account in accounts:
            by_owner[account.owner] += account.held
        greediest = max(by_owner, key=by_owner.__getitem__)
        return next(account for account in reversed(accounts) if account.owner == greediest)
