"""What wissel tells about itself."""

from typing import Annotated

from pydantic import Field

from wissel.config.model.forms import Duration, OtlpUrl
from wissel.config.model.section import Section


class Traces(Section):
    """Which requests are traced."""

    sample: Annotated[float, Field(ge=0, le=1)] = 0.01
    """The share of those whose caller, in `traceparent`, does not say."""


class Exports(Section):
    """What wissel tells about itself."""

    prometheus: bool = True
    """Serve /metrics on the admin listener."""
    otlp: OtlpUrl | None = None
    """The OTLP/HTTP endpoint that metrics and traces are sent to, such as http://localhost:4318; a token that it wants
    stands in the environment variable OTEL_EXPORTER_OTLP_HEADERS. Read at the start only."""
    interval: Duration = 15.0
    """How often metrics are sent there."""
    traces: Traces = Field(default_factory=Traces)
    """Which requests are traced."""
