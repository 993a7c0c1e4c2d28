"""What one peer may cost the server: limits, and allowances that useful work earns."""

from dataclasses import dataclass

_PERIOD = 10.0
"""Seconds over which the frames of a peer are counted."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one peer may cost."""

    message_bytes: int = 256 << 20
    """Of one message; a larger one ends its stream with RESOURCE_EXHAUSTED."""
    queued_bytes: int = 256 << 20
    """Waiting on one stream for its peer to read; beyond it the stream is reset."""
    memory_bytes: int = 1 << 30
    """Half-read messages and queues of all connections together; the stream that would exceed it ends."""
    streams: int = 4096
    """Open at once on one connection; Envoy holds one for every response that is streaming."""
    header_bytes: int = 64 << 10
    resets: int = 1000
    """Streams in ten seconds that a peer may reset before any answer, beyond those it let be answered."""
    idle_frames: int = 2000
    """Frames in ten seconds that bring nothing (pings, settings, empty data), beyond those its traffic explains."""
    handshake: float = 10.0
    """Seconds for a new connection to speak TLS, and then HTTP/2."""
    stall: float = 30.0
    """Seconds that a peer may leave its socket unread, while open and while closing."""


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


class Memory:
    """Bytes that are held for peers, of all connections of a server together."""

    __slots__ = ("held", "limit")

    def __init__(self, limit: int) -> None:
        self.held = 0
        self.limit = limit

    def hold(self, count: int) -> bool:
        """Count bytes that are held from now on, or given up (negative); whether all are within the limit."""
        self.held += count
        return self.held <= self.limit
