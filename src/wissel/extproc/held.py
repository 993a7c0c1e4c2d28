"""A model's answer, held back until it says something, as long as another model may follow.

Envoy asks about the answer to each attempt of a plan that is held. Its headers
are let go with the first word, and then it passes byte for byte. An error that
comes first inside a 200 is let go as a 503, so that Envoy asks the next model;
of a silence Envoy's own clock of attempts makes the same. The last model of a
plan is never held: what it says is the answer.
"""

from dataclasses import replace
from typing import Final

from wissel.apis.beginnings import BeginningReader
from wissel.apis.table import APIS
from wissel.core.snapshot import Failover
from wissel.extproc.events import Event, Fail, Reply, ResponseBody, ResponseHeaders, ResponseTrailers, Step
from wissel.extproc.itinerary import heard
from wissel.extproc.mutation import Mutation
from wissel.extproc.pieces import hand_back

FAILED: Final = Mutation({":status": "503"})
"""Which Envoy takes for a failure, whatever the model said."""


class HeldAnswer:
    """The state of one."""

    __slots__ = ("_failover", "_reader", "_waiting", "is_settled")

    def __init__(self, failover: Failover) -> None:
        self._failover = failover
        self._reader: BeginningReader | None = None
        self._waiting = bytearray()
        self.is_settled = False
        """Whether its headers were let go."""

    def receive(self, event: Event) -> list[Step]:
        """What to do about Envoy's next message."""
        match event:
            case ResponseHeaders():
                return self._on_headers(event)
            case ResponseBody(data, end_of_stream):
                return self._on_body(data, end_of_stream=end_of_stream)
            case ResponseTrailers():
                return [*self._on_end(), Reply("response_trailers")]
            case _:
                return [Fail("a request's message came on an answer's stream")]

    def _on_headers(self, event: ResponseHeaders) -> list[Step]:
        errand = heard(event.metadata)
        api = APIS.get(errand.api) if errand else None
        if errand is None or api is None:
            return [Fail("an answer came without its plan; forward the namespace wissel.attempts")]
        number = event.attributes.get("upstream.request_attempt_count", "")
        if not number.replace(".", "", 1).isdecimal():
            return [Fail("an answer came without the number of its attempt")]
        is_last = float(number) >= len(errand.models)
        if is_last or event.end_of_stream or not event.headers.get(":status", "").startswith("2"):
            self.is_settled = True
            return [Reply("response_headers")]
        self._reader = BeginningReader(api, event.headers)
        return []

    def _on_body(self, data: bytes, *, end_of_stream: bool) -> list[Step]:
        if self.is_settled:
            return hand_back(data, end_of_stream=end_of_stream, phase="response_body")
        if self._reader is None:
            return [Fail("an answer's body came before its headers")]
        self._waiting += data
        found = self._reader.feed(data, is_over=end_of_stream)
        if not found:
            return []
        self.is_settled = True
        has_failed = found == "error" or (found == "refusal" and self._failover.on_refusal)
        waiting, self._waiting = bytes(self._waiting), bytearray()
        return [
            Reply("response_headers", FAILED if has_failed else None),
            *hand_back(waiting, end_of_stream=end_of_stream, phase="response_body"),
        ]

    def _on_end(self) -> list[Step]:
        """Trailers came in place of a last piece."""
        if self.is_settled or self._reader is None:
            return []
        steps = self._on_body(b"", end_of_stream=True)
        return [replace(each, end_of_stream=False) if isinstance(each, Reply) else each for each in steps]
