"""The response to one routed request, from its headers to its end, or to wherever it stopped.

Headers, chunks of the body and the end of the stream go in; what goes on to the
caller comes out, and at the end the `Outcome`. Whether the body is read is
decided by the headers: it is where Envoy sends it anyway, and else it is asked
for where a model answered well, in a format that is understood.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Final, Literal

from wissel.apis.answers import GuessingReader, Reader, StreamReader, reader_for
from wissel.apis.api import Api
from wissel.apis.findings import Findings
from wissel.core.affinity import MadeId
from wissel.core.decision import Routed
from wissel.core.outcome import Outcome, cost
from wissel.core.snapshot import Model
from wissel.extproc.inquiry import Inquiry
from wissel.extproc.mutation import Metadata
from wissel.extproc.objection import Objection

_BUSY: Final = frozenset({429, 503, 529})
"""Statuses of a server that may say when to come back."""


def seconds_to_wait(headers: Mapping[str, str]) -> float | None:
    """What `retry-after` says, in seconds, or as a date by the clock of its server; None where it says nothing."""
    said = headers.get("retry-after", "").strip()
    try:
        if said[:1].isdecimal():
            return float(said)
        wait = parsedate_to_datetime(said) - parsedate_to_datetime(headers.get("date", ""))
        return max(0.0, wait.total_seconds())
    except (ValueError, TypeError):
        return None


def attempts_of(decision: Routed, attributes: Mapping[str, str]) -> int:
    """How many models Envoy asked until this answer; a second try at one model is none."""
    candidates = len(decision.candidates)
    told = attributes.get("upstream.request_attempt_count", "") if candidates > 1 else ""
    try:
        return min(max(1, int(float(told))), candidates)
    except ValueError:
        return 1


@dataclass(frozen=True, slots=True)
class Opening:
    """What to answer to the response's headers."""

    read_body: bool
    """Ask Envoy for the body, in chunks."""
    may_shrink: bool
    """The body may lose its chunk of usage, so its length is not what the headers say."""


class Response:
    """The state of one response; `began` is when its request's first message came."""

    __slots__ = (
        "_api",
        "_arrived",
        "_attempts",
        "_began",
        "_body",
        "_details",
        "_headers_at",
        "_inquiry",
        "_is_named",
        "_objection",
        "_reader",
        "_retry_after",
        "_status",
        "_strip",
        "dropped",
        "model",
        "outcome",
    )

    def __init__(
        self,
        api: Api,
        inquiry: Inquiry,
        objection: Objection,
        *,
        began: float,
        body: Literal["comes", "on request", "never"],
        strip_usage: bool,
        dropped: Mapping[str, str],
    ) -> None:
        self.dropped = dropped
        """By model, what of the body it does not get."""
        self._api = api
        self._inquiry = inquiry
        self._objection = objection
        self._began = began
        self._body = body
        self._strip = strip_usage
        self._attempts = 1
        self.model: Model | None = None
        """The one that answers, once it does."""
        self._status = 0
        self._retry_after: float | None = None
        self._details = ""
        self._headers_at: float | None = None
        self._arrived = False
        self._is_named = False
        self._reader: Reader | None = None
        self.outcome: Outcome | None = None

    def answers(self, model: Model, attempts: int) -> None:
        """An answer begins: who gives it, as the last of so many that were asked."""
        self.model, self._attempts = model, attempts

    def begin(self, headers: Mapping[str, str], details: str, *, end_of_stream: bool, now: float) -> Opening:
        """The headers came."""
        status = headers.get(":status", "")
        self._status = int(status) if status.isdecimal() else 0
        self._retry_after = seconds_to_wait(headers) if self._status in _BUSY else None
        self._details = details
        self._headers_at = now
        coding = headers.get("content-encoding", "").strip().lower()
        is_asked_about = self._inquiry.opened(self._status, coding, end_of_stream=end_of_stream)
        is_asked_about |= self._objection.opened(self._status, coding)
        if end_of_stream:
            self._end(now, complete=True)
            return Opening(read_body=False, may_shrink=False)
        well = 200 <= self._status < 300
        reader = reader_for(self._api, headers, strip=self._strip)
        ask = self._body == "on request" and ((well and reader is not None) or is_asked_about)
        if self._body != "comes" and not ask:
            self._end(now, unread="format" if well and self._body == "on request" else "")
            return Opening(read_body=False, may_shrink=False)
        self._reader = reader
        return Opening(read_body=ask, may_shrink=self._strip and isinstance(reader, StreamReader | GuessingReader))

    def feed(self, data: bytes, *, end_of_stream: bool, now: float) -> bytes:
        """A chunk of the body came; the bytes that go on in its place."""
        self._arrived = True
        self._inquiry.feed(data)
        self._objection.feed(data)
        if self._reader is not None:
            data = self._reader.feed(data, now=now)
            if end_of_stream:
                data += self._reader.finish()
        if end_of_stream:
            self._end(now, complete=True)
        return data

    def end_with_trailers(self, *, now: float) -> None:
        """The trailers came, so the body is over."""
        if self._reader is not None:
            self._reader.finish()
        self._end(now, complete=True)

    def name(self) -> MadeId | None:
        """What the answer is called, told once, as soon as it is known."""
        found = self._reader.found.id if self._reader is not None and 200 <= self._status < 300 else ""
        if not found or self._is_named:
            return None
        self._is_named = True
        return MadeId(self._api.name, found)

    @property
    def got_what_it_asked_for(self) -> bool:
        """Whether Envoy sent a body because it was asked to."""
        return self._body == "on request" and self._arrived

    def close(self, *, now: float, override_works: bool) -> None:
        """Nothing more will come; `override_works` is whether this Envoy is known to send bodies when asked."""
        asked_in_vain = self._body == "on request" and not self._arrived
        if self._headers_at is not None and asked_in_vain and not override_works:
            # Either Envoy does not allow the override, or the caller left right now: nobody can tell yet.
            self._end(self._headers_at, unread="not_sent")
        elif self._reader is not None and self._reader.found.ended:
            self._end(now, complete=True)
        else:
            self._end(now, hung_up=True)

    @property
    def objects_to_us(self) -> bool:
        """Whether the server refused the request for what wissel put in; known once the answer is complete."""
        return self._objection.is_raised

    def metadata(self) -> Metadata | None:
        """What access logs read of the outcome; None as long as there is nothing to tell."""
        outcome = self.outcome
        if outcome is None:
            return None
        told: dict[str, float] = {}
        if outcome.usage is not None:
            told["input_tokens"] = outcome.usage.input_tokens
            told["output_tokens"] = outcome.usage.output_tokens
        if outcome.cost_usd is not None:
            told["cost_usd"] = outcome.cost_usd
        if outcome.ttft is not None:
            told["ttft_ms"] = round(outcome.ttft * 1000, 3)
        return told or None

    def _end(self, now: float, *, complete: bool = False, hung_up: bool = False, unread: str = "") -> None:
        if self.outcome is not None:
            return
        if complete:
            self._inquiry.closed()
            self._objection.closed()
        found = self._reader.found if self._reader is not None else Findings()
        usage, price = found.usage, self.model.price if self.model else None
        first, last = found.first_at, found.last_at
        pace = last - first if first is not None and found.chunks > 1 else None
        more_tokens = usage.output_tokens - 1 if usage is not None else 0
        self.outcome = Outcome(
            status=self._status,
            duration=now - self._began,
            code_details=self._details,
            api=self._api.name,
            headers_after=None if self._headers_at is None else self._headers_at - self._began,
            complete=complete,
            hung_up=hung_up,
            usage=usage,
            cost_usd=cost(usage, price) if usage is not None and price is not None else None,
            finish_reasons=found.finish_reasons,
            response_model=found.model,
            error=found.error,
            ttft=None if first is None else first - self._began,
            time_per_output_chunk=None if pace is None else pace / (found.chunks - 1),
            time_per_output_token=None if pace is None or more_tokens < 1 else pace / more_tokens,
            chunks=found.chunks,
            seen_tokens=found.seen_tokens,
            unread=unread or found.unread,
            fault=self._inquiry.fault,
            attempts=self._attempts,
            retry_after=self._retry_after,
        )
