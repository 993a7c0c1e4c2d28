"""The verdicts on one request, each with its whole reasoning.

A decision records also what was rejected, so `wissel explain` shows what
served traffic would have met and needs no second implementation.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from wissel.core.access import Principal
from wissel.core.affinity import Lead
from wissel.core.intent import Intent
from wissel.core.lesson import Lesson
from wissel.core.limits import Reservation
from wissel.core.outcome import Outcome
from wissel.core.pin import Pin
from wissel.core.plan import Plan, Unable
from wissel.core.snapshot import Model, Passthrough
from wissel.core.split import Reason, Split, TargetingKey
from wissel.core.tier import Graded


@dataclass(frozen=True, slots=True)
class Routed:
    """The request goes to a model."""

    model: Model
    target: str
    """What the route, alias or caller named: a model, split, rollout or tier."""
    variant: str
    reason: Reason
    principal: Principal
    revision: str
    route: str = ""
    """Empty where the caller named the target."""
    intent: Intent | None = None
    split: Split | None = None
    """What assigned the variant; None where there was nothing to split."""
    key: TargetingKey | None = None
    bucket: int | None = None
    rule_ids: tuple[str, ...] = ()
    shadow_ids: tuple[str, ...] = ()
    unable: tuple[Unable, ...] = ()
    reserved: Reservation | None = None
    """What it drew from limits, to be settled when it is over."""
    tier: Graded | None = None
    """Strong or weak, and why; None where the target is no tier."""
    lesson: Lesson | None = None
    """What a tier that learns may keep of it."""
    pin: Pin | None = None
    """The session that stays on this route; None where none does, as where the intent was not clear."""
    lead: Lead = ""
    """What became of the id of an earlier answer that it goes on from."""
    thread: str | None = None
    """The key of the conversation, where the caller has the answer kept; None where nothing is kept."""
    plan: Plan = field(default_factory=lambda: Plan(()))
    """Who serves where the model does not; empty for the model alone."""
    rested: str = ""
    """The model that was chosen and rests, so that `model` is asked in its place; empty where it is asked."""
    rests_as_failing: bool = False
    """Whether it rests because it failed: then it has failed this request as well."""
    at: float = 0.0
    """Unix time of the decision."""
    counted: int | None = None
    """The tokens that its caller asks for, estimated, where no model's server can count them; nothing then goes on."""

    @property
    def candidates(self) -> tuple[Model, ...]:
        """In the order in which they are asked."""
        return self.plan.models or (self.model,)

    def alone(self, why: str) -> "Routed":
        """The same where Envoy asks one model and no other, and why not."""
        if len(self.candidates) == 1:
            return self
        unasked = tuple(Unable(each.name, why) for each in self.candidates[1:])
        return replace(self, plan=Plan(self.candidates[:1], (*self.plan.left_out, *unasked)))

    @property
    def chosen(self) -> str:
        """The model that was dealt, whether it is asked or rests."""
        return self.rested or self.model.name

    def failed(self, outcome: Outcome) -> bool:
        """Whether the model that was dealt failed the request, whoever served it in the end."""
        if self.rested:
            return self.rests_as_failing and not outcome.hung_up
        return outcome.attempts > 1

    def has_failed_over(self, attempts: int) -> bool:
        """Whether who answers, where so many were asked, is not who was chosen."""
        return attempts > 1 or bool(self.rested)

    def served_after(self, attempts: int) -> Model:
        """The one that answered where so many were asked."""
        return self.candidates[min(attempts, len(self.candidates)) - 1]


@dataclass(frozen=True, slots=True)
class Passed:
    """The request is no LLM call and goes on as it is."""

    entry: Passthrough
    """What lets it on."""
    principal: Principal
    revision: str
    rule_ids: tuple[str, ...] = ()
    reserved: Reservation | None = None
    """As in `Routed`."""

    @property
    def cluster(self) -> str:
        """The Envoy cluster that serves it."""
        return self.entry.cluster


@dataclass(frozen=True, slots=True)
class Kept:
    """The request is about an answer that its model keeps, and goes there."""

    model: Model
    principal: Principal
    revision: str
    route: str = ""
    """That the answer was made on."""
    rule_ids: tuple[str, ...] = ()
    shadow_ids: tuple[str, ...] = ()
    reserved: Reservation | None = None
    """As in `Routed`."""

    @property
    def variant(self) -> str:
        """Nothing is assigned: the answer is where it is."""
        return self.model.name


@dataclass(frozen=True, slots=True)
class Listed:
    """The caller asked which models there are: the names it may use."""

    names: tuple[str, ...]
    principal: Principal
    revision: str


@dataclass(frozen=True, slots=True)
class ListedAnswer:
    """One that its model keeps for the caller."""

    id: str
    model: str
    created: int
    """Unix time."""


@dataclass(frozen=True, slots=True)
class ListedAnswers:
    """The caller asked which of its answers are kept: oldest first."""

    answers: tuple[ListedAnswer, ...]
    principal: Principal
    revision: str


@dataclass(frozen=True, slots=True)
class Denied:
    """The request is refused; the fields are those of an OpenAI error."""

    status: int
    message: str
    type: str
    code: str
    param: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    """To be sent along, such as `retry-after`."""
    principal: Principal | None = None
    route: str = ""
    intent: Intent | None = None
    rule_ids: tuple[str, ...] = ()
    limit_id: str = ""
    """The limit that is used up."""
    shadow_ids: tuple[str, ...] = ()
    unable: tuple[Unable, ...] = ()
    revision: str = ""


Decision = Routed | Passed | Kept | Listed | ListedAnswers | Denied
