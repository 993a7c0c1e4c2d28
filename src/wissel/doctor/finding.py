"""What was looked at, and what is to be said about it."""

from dataclasses import dataclass
from typing import Final, Literal

from wissel.envoy.plans import MEBIBYTE

Severity = Literal["ok", "warning", "problem"]

LONG_SECONDS: Final = 600.0
"""A clock that bounds a whole answer must not be shorter."""
QUIET_SECONDS: Final = 300.0
"""How long a model may think without a word; also Envoy's default for a silent stream."""
SLACK_SECONDS: Final = 1.0
"""Of Envoy's patience with one message, beside what the classifier may take: large bodies, busy moments."""
MANY_STREAMS: Final = 8192
"""Requests in flight that a cluster should take; an answer may stream for minutes."""
ENVOYS_BREAKER: Final = 1024
"""What Envoy takes where nothing is said."""
SMALL_BODY: Final = 4 * MEBIBYTE
"""Below it, an image in a request is soon too large."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    what: str
    """The setting, the counter or the part; the same word for the same check."""
    severity: Severity
    why: str
    change: str = ""
    """What to change; empty where nothing is to be."""


def checked(what: str, holds: bool, fine: str, trouble: str, change: str, *, severity: Severity = "problem") -> Finding:
    return Finding(what, "ok", fine) if holds else Finding(what, severity, trouble, change)


def is_long(duration: float) -> bool:
    """Whether a clock that bounds a whole answer is off, or leaves it time."""
    return duration == 0 or duration >= LONG_SECONDS
