"""What live traffic teaches a tier's grader: answers whose end a coin chose, and what was thought of them.

    Routed -> Lesson -> (kept, with the score that comes later) -> Taught

A threshold sends hard prompts to one end and easy ones to the other, so what it
decided never shows the two on equal prompts. A fair coin does: over its
requests, both ends answered the same kind of prompts, whatever the grader
thinks of them.
"""

from dataclasses import dataclass, field
from typing import Final

from wissel.core.tier import Graded, Strength, Tier

MOST_KEPT: Final = 16_384
"""Characters of a prompt that the store keeps: more than any router reads."""


@dataclass(frozen=True, slots=True)
class Lesson:
    """A request that a tier may learn from."""

    tier: str
    ends: tuple[str, str]
    """The strong and the weak target, as they were called."""
    end: Strength
    win_rate: float
    """What the grader had thought."""
    prompt: str = field(default="", repr=False)
    """What was asked; empty where that is not kept. For the store alone: no log, trace, metric or page shows it."""


@dataclass(frozen=True, slots=True)
class Taught:
    """A lesson whose request is over."""

    request_id: str
    lesson: Lesson
    ok: bool
    """Whether there was an answer: no error and no refusal."""
    model: str
    """That served it; an end may be a split."""
    route: str = ""
    score: float | None = None
    """The caller's feedback, between 0 and 1; None where none was given yet."""
    at: float = 0.0
    """When it was written, in seconds since the epoch by Redis's clock; 0 before."""


def lesson_of(tier: Tier, graded: Graded, prompt: str) -> Lesson | None:
    """What this request may teach; None where the tier does not learn, or no coin chose the end."""
    if tier.learning is None or graded.reason != "explored" or graded.win_rate is None:
        return None
    kept = prompt[:MOST_KEPT] if tier.learning.prompts else ""
    return Lesson(tier.name, (tier.strong, tier.weak), graded.end, graded.win_rate, kept)
