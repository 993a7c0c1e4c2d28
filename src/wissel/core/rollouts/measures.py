"""What a request is measured by: one row each, and everything else follows from the row.

    Outcome -> what was observed -> counters in Redis -> an arm's sums -> a measure, by its name in the config

A new row is counted, compared, simulated, read in experiments and written in
its unit by the terminal, the console and the dashboard, with no other line.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from wissel.core.outcome import Outcome
from wissel.core.rollouts.sequential import Direction

Kind = Literal["rate", "duration", "amount"]
"""What is asked of it. A rate is an event or a score in [0, 1], and the exact test of rates holds; a duration has
quantiles; an amount has a mean."""

Unit = Literal["share", "s", "tokens", "USD"]
"""How it is written: a rate is a share of one, a duration is in seconds."""

Observed = str
"""The name of a row: what samples go by, in memory and in Redis."""


@dataclass(frozen=True, slots=True)
class Observation:
    """One thing that a request is observed for."""

    name: Observed
    kind: Kind
    unit: Unit
    worse: Direction
    """Which way is worse."""
    measures: Mapping[str, float | None]
    """The metrics of the config that it gives, each with its quantile; None for the rate or the mean."""
    typical: float
    """What `simulate` takes where nothing is said: the rate, or the median."""
    read: Callable[[Outcome], float | None] | None
    """Where it stands in an outcome, which may not know it; None for what is said of the request later."""


REFUSED: Final = Observation(
    "refused", "rate", "share", "increase", {"refused_rate": None}, 0.02, lambda it: float(it.is_refused)
)
"""An upstream's 4xx, whoever is to blame: callers who ask for what cannot be had ask it of all arms alike."""
OPERATOR_FAULT: Final = Observation(
    "operator_fault",
    "rate",
    "share",
    "increase",
    {"operator_fault_rate": None},
    0.0001,
    lambda it: float(it.fault == "operator"),
)
ERROR: Final = Observation(
    "error", "rate", "share", "increase", {"error_rate": None}, 0.02, lambda it: float(it.is_error)
)
FEEDBACK: Final = Observation("feedback", "rate", "share", "decrease", {"feedback": None}, 0.02, None)
"""A rate, as thumbs up are rare: where an arm has seen none the confidence sequence of a mean errs in up to 87 % of
healthy rollouts."""
LATENCY: Final = Observation(
    "latency",
    "duration",
    "s",
    "increase",
    {"latency_p50": 0.50, "latency_p95": 0.95, "latency_p99": 0.99},
    1.0,
    lambda it: it.duration if it.complete else it.headers_after,
)

OBSERVATIONS: Final = (
    ERROR,
    REFUSED,
    OPERATOR_FAULT,
    Observation(
        "refusal",
        "rate",
        "share",
        "increase",
        {"refusal": None},
        0.02,
        lambda it: float(it.is_refusal) if it.finish_reasons else None,
    ),
    FEEDBACK,
    LATENCY,
    Observation("ttft", "duration", "s", "increase", {"ttft_p95": 0.95}, 0.3, lambda it: it.ttft),
    Observation(
        "tokens_out",
        "amount",
        "tokens",
        "increase",
        {"tokens_out": None},
        200.0,
        lambda it: it.usage.output_tokens if it.usage else None,
    ),
    Observation("cost_usd", "amount", "USD", "increase", {"cost_usd": None}, 0.001, lambda it: it.cost_usd),
)

DURATIONS: Final = frozenset(each.name for each in OBSERVATIONS if each.kind == "duration")


@dataclass(frozen=True, slots=True)
class Measure:
    """A number that an arm's requests have."""

    of: Observation
    quantile: float | None = None
    """Of durations; None for a rate or a mean."""

    @property
    def observed(self) -> Observed:
        return self.of.name

    @property
    def is_rate(self) -> bool:
        """Whether every observation lies in [0, 1], so that the exact test of rates holds."""
        return self.of.kind == "rate"


MEASURES: Final[Mapping[str, Measure]] = {
    name: Measure(each, quantile) for each in OBSERVATIONS for name, quantile in each.measures.items()
}
"""The built-in metrics by name; any other name is that of a Prometheus query, which takes fixed limits only."""


def observe(outcome: Outcome) -> dict[Observed, float]:
    """All that an outcome says."""
    seen = ((each.name, each.read(outcome)) for each in OBSERVATIONS if each.read is not None)
    return {name: value for name, value in seen if value is not None}


def unit_of(measure: str) -> Unit | Literal[""]:
    """The unit of a metric's values; empty for a query, of which nobody knows."""
    return MEASURES[measure].of.unit if measure in MEASURES else ""
