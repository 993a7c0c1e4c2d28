"""A strong and a weak target behind one name, shared by difficulty."""

from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from wissel.config.model.forms import Duration, Name, Text, quote
from wissel.config.model.section import Section, one_of

UNTRAINED = frozenset({"random", "length", "always_strong", "always_weak"})
"""Graders of tiers that learn nothing, and so have no folder."""


class Grader(Section):
    """What predicts how often the strong model answers better."""

    type: Literal[
        "similarity",
        "factorization",
        "neighbours",
        "intent",
        "encoder",
        "causal",
        "random",
        "length",
        "always_strong",
        "always_weak",
    ]
    """Which kind of grader; the last four learn nothing."""
    path: Text | None = None
    """The folder that `wissel tier train` wrote, relative to the working directory."""

    @model_validator(mode="after")
    def _trained(self) -> Self:
        if (self.path is None) != (self.type in UNTRAINED):
            wrong = "no path: it learns nothing" if self.path else "path: the folder that `wissel tier train` wrote"
            raise ValueError(f"the grader {quote(self.type)} should have {wrong}")
        return self


class Learn(Section):
    """What a tier keeps of live traffic, for `wissel tier export`."""

    explore: Annotated[float, Field(gt=0, le=0.5)]
    """The share of the requests whose end a fair coin chooses: only those say how the two ends compare."""
    prompts: bool = False
    """Whether the prompts of those requests are kept in redis; without them no grader can be trained."""
    keep: Annotated[Duration, Field(ge=60)] = 30 * 86_400.0
    """How long a request is kept."""
    max_requests: Annotated[int, Field(ge=1, le=10_000_000)] = 100_000
    """How many are kept, about; the oldest go first."""


class Tier(Section):
    """A strong and a weak target, between which each request's predicted difficulty decides."""

    model_config = ConfigDict(json_schema_extra=one_of("strong_share", "threshold"))

    name: Name
    """What routes, aliases and callers name."""
    strong: Name
    """The model, split or rollout for hard requests."""
    weak: Name
    """The model, split or rollout for the others."""
    grader: Grader
    """What predicts the win rate of the strong end."""
    strong_share: Annotated[float, Field(gt=0, lt=1)] | None = None
    """The part of the requests that the strong end may have; the threshold moves to hold it."""
    threshold: Annotated[float, Field(ge=0, le=1)] | None = None
    """A fixed win rate at or above which the strong end is asked."""
    threshold_min: Annotated[float, Field(ge=0, le=1)] = 0.0
    """The lowest that a moving threshold may get, whatever the share is then."""
    threshold_max: Annotated[float, Field(ge=0, le=1)] = 1.0
    """The highest."""
    fallback: Literal["strong", "weak"] = "strong"
    """The end for requests without text, and for a grader that is late or fails."""
    deadline_ms: Annotated[int, Field(gt=0, le=60_000)] = 150
    """Milliseconds that a request waits for the grader; after them it takes the fallback."""
    learn: Learn | None = None
    """Learn from live traffic; without it nothing is kept and nothing left to chance. Needs `redis`."""

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.strong_share is None) == (self.threshold is None):
            raise ValueError("should have either strong_share or threshold")
        if self.threshold_min > self.threshold_max:
            raise ValueError("threshold_min should be at most threshold_max")
        if self.strong_share is not None and self.learn is not None:
            half = self.learn.explore / 2
            if not half < self.strong_share < 1 - half:
                raise ValueError(
                    f"strong_share should lie between {half:g} and {1 - half:g}: "
                    f"learn.explore sends {half:g} of the requests to each end"
                )
        return self
