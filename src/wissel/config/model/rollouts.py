"""Models that take over step by step, and what they are judged by."""

from typing import Annotated, Any, Literal, Self, cast

from pydantic import Discriminator, Field, Tag, model_validator

from wissel.config.model.forms import Amount, Duration, Form, HeaderName, KeySourceName, Name, Text
from wissel.config.model.section import HeaderCondition, Section
from wissel.core.rollouts.callers import SHARE


class Weight(Section):
    """A step that gives the canary a share of the keys."""

    set_weight: Annotated[int, Field(ge=0, le=100)]
    """Percent of the targeting keys."""


class PauseFor(Section):
    """How long to stand still."""

    duration: Duration | None = None
    """Such as 10m; without it the rollout waits until it is promoted by hand."""


class Pause(Section):
    """A step that stands still."""

    pause: PauseFor
    """{duration: 10m}, or {} to wait until promoted."""


class Inspection(Section):
    """What an analysis step asks for."""

    duration: Duration = 0.0
    """How long it takes at least."""
    proof: Literal["non_inferior"] | None = None
    """Ask for proof that the canary is no worse, not only for no sign that it is."""


class AnalysisStep(Section):
    """A step that waits until a look at the evidence finds nothing against the canary."""

    analysis: Inspection
    """{} for one good look; {duration: 5m}, {proof: non_inferior}."""


def _step_shape(value: Any) -> str:  # whatever stands in the file
    found = cast("dict[str, Any]", value if isinstance(value, dict) else getattr(value, "__dict__", {}))
    return next((f"<{name}>" for name in ("set_weight", "pause", "analysis") if name in found), "<set_weight>")


Step = Annotated[
    Annotated[Weight, Tag("<set_weight>")]
    | Annotated[Pause, Tag("<pause>")]
    | Annotated[AnalysisStep, Tag("<analysis>")],
    Discriminator(_step_shape),
]


class Metric(Section):
    """What a canary is judged by: a fixed limit, a guard, or a comparison with stable."""

    name: Name
    """A built-in metric, such as error_rate or latency_p95, or a name of yours for what `query` gives."""
    query: Text | None = None
    """A Prometheus query that gives one number; takes fixed limits only, and needs `analysis.prometheus`."""
    max: Amount | None = None
    """The canary's value may not be higher."""
    min: Amount | None = None
    """The canary's value may not be lower."""
    guard: bool = False
    """Act at once when `max` is passed, as soon as min_requests (50) are in."""
    allowed_increase: Amount | None = None
    """How much higher than stable's the canary's value may be: a number, or a share such as 10%."""
    allowed_decrease: Amount | None = None
    """How much lower than stable's it may be."""
    failure_limit: Annotated[int, Field(ge=0)] = 0
    """How many blocks of min_requests may miss a fixed limit before the rollout fails."""
    min_requests: Annotated[int, Field(gt=0)] | None = None
    """Canary requests that a guard needs (50), and in a block of a fixed limit (100)."""
    dry_run: bool = False
    """Measure and tell, and do nothing."""

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        comparisons = [each for each in (self.allowed_increase, self.allowed_decrease) if each is not None]
        limits = [each for each in (self.max, self.min) if each is not None]
        if (len(comparisons) == 1) == bool(limits):
            raise ValueError("should have either max or min, or one of allowed_increase and allowed_decrease")
        if self.guard and (self.max is None or self.min is not None):
            raise ValueError("a guard should have max alone")
        if self.guard and self.query:
            raise ValueError("a guard looks at requests; a query takes a fixed limit without guard")
        if comparisons and (self.failure_limit or self.min_requests or self.query):
            raise ValueError("a comparison takes neither failure_limit nor min_requests nor query")
        return self


class Analysis(Section):
    """How a rollout is judged."""

    interval: Duration = 30.0
    """Time between two looks."""
    min_requests: Annotated[int, Field(gt=0)] = 100
    """Canary requests before a comparison says anything, in every step."""
    alpha: Annotated[float, Field(gt=0, lt=0.5)] = 0.01
    """Chance that a canary as good as stable is ever judged worse, over all comparisons together."""
    metrics: Annotated[tuple[Metric, ...], Field(min_length=1)]
    """What is measured; none of them may fail. refused_rate and operator_fault_rate are measured besides."""
    caller_share: Annotated[float, Field(gt=0, le=1)] = SHARE
    """Of the evidence about an arm that may be one caller's, from five callers on; feedback alike."""
    on_no_data: Literal["hold", "rollback", "continue"] = "hold"
    """What to do when it cannot be measured, after consecutive_error_limit looks."""
    inconclusive_limit: Annotated[int, Field(ge=0)] = 0
    """Inconclusive looks that are put up with before the rollout pauses for a human."""
    consecutive_error_limit: Annotated[int, Field(ge=0)] = 4
    """Looks in a row that may fail to measure."""
    prometheus: (
        Annotated[str, Form(r"https?://\S+", "a URL that begins with http:// or https://", hidden=True)] | None
    ) = None
    """The Prometheus that answers `query`."""


class Target(Section):
    """Callers that get the canary whatever its weight; all conditions must hold."""

    headers: Annotated[dict[HeaderName, HeaderCondition], Field(min_length=1)] | None = None
    """Conditions on request headers."""
    claims: Annotated[dict[Text, HeaderCondition], Field(min_length=1)] | None = None
    """Conditions on claims of the caller's token."""

    @model_validator(mode="after")
    def _some(self) -> Self:
        if self.headers is None and self.claims is None:
            raise ValueError("should have headers or claims")
        return self


class Webhook(Section):
    """A URL that is told of a rollout, or asked."""

    type: Literal["event", "confirm_promotion"]
    """event: told of every move; confirm_promotion: asked before the last move, 2xx lets it happen."""
    url: Annotated[str, Form(r"https?://\S+", "a URL that begins with http:// or https://", hidden=True)]
    """Gets a POST with JSON."""


class Rollout(Section):
    """A new model that takes over step by step, or is taken back."""

    name: Name
    """What routes, aliases and callers name."""
    stable: Name
    """The model that serves today."""
    canary: Name
    """The model that is to take over."""
    key: Annotated[tuple[KeySourceName, ...], Field(min_length=1)] = ("header:x-session-id", "conversation")
    """Where the targeting key is looked for, as in a split; a request without one is served by stable."""
    match: Target | None = None
    """Callers that get the canary whatever its weight, while the rollout is under way."""
    baseline: bool = False
    """Compare the canary with an arm of its own size that stable's model serves, instead of with all of stable."""
    steps: Annotated[tuple[Step, ...], Field(min_length=1)]
    """In order: set_weight, pause, analysis; after the last one the canary is promoted to 100 %."""
    analysis: Analysis | None = None
    """How it is judged; without it only time and humans decide."""
    on_failure: Literal["rollback", "pause"] = "rollback"
    """What to do when the canary fails; a guard always rolls back."""
    webhooks: tuple[Webhook, ...] = ()
    """Who is told, and asked."""
