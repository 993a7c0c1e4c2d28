"""A circuit breaker: a server that keeps failing is left alone for a while.

    closed -(failures in a row)-> open -(cooldown)-> half-open, one trial -> closed | open

The clock is the caller's.
"""

from dataclasses import dataclass


@dataclass(slots=True)
class Breaker:
    """Whether one server may be asked."""

    failures: int = 5
    """This many in a row open it."""
    cooldown: float = 10.0
    """Seconds that it stays open before one trial."""
    _failed: int = 0
    _closed_from: float = 0.0
    _trying: bool = False

    def allows(self, now: float) -> bool:
        """True where `enter` may follow."""
        return self._failed < self.failures or (now >= self._closed_from and not self._trying)

    def enter(self) -> None:
        """A request is on its way; while the breaker is half-open no other one may be."""
        self._trying = self._failed >= self.failures

    def succeed(self) -> None:
        self._failed = 0
        self._trying = False

    def fail(self, now: float) -> bool:
        """True if this is what opens it; it stays open for what was on its way all the same."""
        was_open = self._failed >= self.failures and not self._trying
        self._failed += 1
        self._trying = False
        if self._failed < self.failures:
            return False
        self._closed_from = now + self.cooldown
        return not was_open

    def leave(self) -> None:
        """The request was given up by its caller before that says anything of the server."""
        self._trying = False
