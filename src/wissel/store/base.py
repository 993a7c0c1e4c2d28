"""What the store speaks of: the values that go in and come out.

The protocols that its consumers need live with them; the classes here are what
those protocols are written in.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from wissel.core.rollouts.evidence import Arm
from wissel.core.rollouts.rollout import Rollout


@dataclass(frozen=True, slots=True)
class Scope:
    """What is counted together: one step of one attempt at one revision of a split."""

    split: str
    """Or rollout."""
    revision: str
    attempt: int = 0
    step: int = 0
    """The step that set the weight: `Rollout.window`; a plain split has one."""


@dataclass(frozen=True, slots=True)
class Served:
    """Which arm served a request: what feedback on it is counted for."""

    scope: Scope
    arm: str
    bucket: int
    """The sub-bucket of its targeting key."""
    is_counted: bool
    """Whether it is evidence. Feedback is so exactly where its request was."""


@dataclass(frozen=True, slots=True)
class Answered:
    """A request that feedback is taken on, and what a score of it counts for."""

    served: Served | None = None
    """None where it was not dealt to an arm."""
    lesson: str = ""
    """The tier that keeps the request to learn from; empty if none does."""


@dataclass(frozen=True, slots=True)
class Tallied:
    """The sums over all replicas in one scope."""

    arms: Mapping[str, Arm] = field(default_factory=dict[str, Arm])
    mixed: int = 0
    """Requests left out because another arm served them than the one they were assigned to."""

    def arm(self, name: str) -> Arm:
        """An arm that nothing was seen of has nothing but zeros."""
        return self.arms.get(name, Arm())


@dataclass(frozen=True, slots=True)
class NotRead:
    """Nobody has answered yet what the record says."""


@dataclass(frozen=True, slots=True)
class Absent:
    """Redis answered, and has no record of this rollout."""

    version: int = 0
    """Of the record that was here, where Redis still tells that there was one: it was evicted, or half restored.

    With 0 nothing was ever begun, or Redis came back empty; whoever has read a record before knows which.
    """


@dataclass(frozen=True, slots=True)
class Record:
    """A rollout as it is kept; `version` grows with every change."""

    rollout: Rollout
    version: int


@dataclass(frozen=True, slots=True)
class Conflict:
    """Somebody else changed the record first: read it again."""


@dataclass(frozen=True, slots=True)
class Fenced:
    """The lease that this change was made under is another's by now: stop."""


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One line of the audit trail."""

    subject: str
    """What was changed: `rollout/NAME`, `key/ID`."""
    kind: str
    """What happened to it."""
    by: str
    reason: str
    detail: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """The evidence and whatever else tells the whole story, as JSON has it."""
    id: str = ""
    """Of the line in the stream; empty before it is written."""
    at: float = 0.0
    """When, in seconds since the epoch by Redis's clock; 0 before it is written."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """No request of this id is remembered."""


@dataclass(frozen=True, slots=True)
class AlreadyGiven:
    """There is feedback on this request; the first counts."""
