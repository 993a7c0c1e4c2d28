"""One ext_proc stream: messages in, steps carried out, answers sent.

A message is answered in the event-loop turn that read it. Only a question that
the router cannot answer at once becomes a task, and whatever goes wrong before
the request is decided ends the stream with an error: Envoy then fails the
request, while a clean end would let it through.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from time import perf_counter
from typing import Final, Protocol

import structlog

from wissel.core.decision import Decision, Denied, Passed, Routed
from wissel.core.feedback import Feedback, ScoreAnswer
from wissel.core.names import SERVICE
from wissel.core.outcome import Ended
from wissel.extproc import wire
from wissel.extproc.events import Decide, Fail, Identify, Refuse, Reply, Score, Step
from wissel.extproc.exchange import Exchange
from wissel.grpc.server import Call, Method, Receiver, Status
from wissel.router import Router
from wissel.telemetry.counting import Telemetry
from wissel.telemetry.tracing import Trace

log = structlog.get_logger(__name__)


class Ledger(Protocol):
    """Who keeps what becomes of requests."""

    def began(self, decision: Routed, request_id: str) -> Ended | None:
        """A request goes to its model; what to call at its end, if its end matters."""
        ...

    async def score(self, feedback: Feedback) -> ScoreAnswer:
        """Count a caller's feedback, once for each request."""
        ...


def methods(router: Callable[[], Router], telemetry: Telemetry, ledger: Ledger | None = None) -> Mapping[str, Method]:
    """The gRPC methods to serve; `router` is asked once for each stream."""

    peer = Peer()

    def process(call: Call) -> Receiver:
        return Session(call, router(), telemetry, peer, ledger)

    return {wire.METHOD: process}


@dataclass(slots=True)
class Peer:
    """What streams have shown of Envoy's configuration."""

    override_works: bool = False
    """Whether it sends responses' bodies when asked."""


class Session:
    """Drives one exchange; the transport's receiver for one stream."""

    __slots__ = (
        "_asked_at",
        "_call",
        "_clock",
        "_ended",
        "_exchange",
        "_failed",
        "_half_closed",
        "_ledger",
        "_over",
        "_peer",
        "_request_id",
        "_router",
        "_task",
        "_telemetry",
        "_trace",
        "_untold",
    )

    def __init__(
        self, call: Call, router: Router, telemetry: Telemetry, peer: Peer, ledger: Ledger | None = None
    ) -> None:
        self._call = call
        self._router = router
        self._telemetry = telemetry
        self._peer = peer
        self._ledger = ledger
        self._ended: Ended | None = None
        self._request_id = new_request_id()
        self._exchange = Exchange(self._request_id, now=perf_counter(), terms=router.snapshot.terms)
        self._task: asyncio.Task[None] | None = None
        self._clock: asyncio.TimerHandle | None = None
        self._asked_at = 0.0
        self._over = False
        self._failed = False
        self._trace: Trace | None = None
        self._half_closed = False
        self._untold: float | None = None
        """Seconds that a decision took which is answered already, and still to be told."""
        telemetry.stream_opened()

    def message(self, data: bytes) -> None:
        """Envoy's next message."""
        if self._over:
            return
        try:
            event, protocol = wire.decode(data)
            self._perform(self._exchange.receive(event, now=perf_counter(), protocol=protocol))
        except wire.MalformedMessageError as error:
            self._fail("malformed_message", str(error))
        except Exception:
            # A bug must never let a request through: the stream ends with an error, and Envoy refuses.
            log.exception("exchange_failed", request_id=self._request_id)
            self._fail("exception", "see the traceback")

    def half_closed(self) -> None:
        """Envoy sends nothing more; only a settled exchange may end cleanly."""
        if self._over:
            return
        self._half_closed = True
        if self._exchange.is_settled:
            self._over = True
            self._call.finish()
        elif not self._exchange.is_deciding:
            self._fail("half_closed", "the request was not decided yet")

    def gone(self) -> None:
        """The stream is over, however it ended."""
        self._over = True
        if self._task is not None:
            self._task.cancel()
        if self._clock is not None:
            self._clock.cancel()
        self._telemetry.stream_closed()
        # What was drawn goes back and what was counted is told, each whatever becomes of the others.
        with ExitStack() as ends:
            if not self._failed:
                self._peer.override_works = self._peer.override_works or self._exchange.override_worked
                self._exchange.closed(now=perf_counter(), override_works=self._peer.override_works)
            decision, outcome = self._exchange.decision, self._exchange.outcome
            if self._trace is not None:
                ends.callback(self._trace.ended, outcome)
            if isinstance(decision, Routed) and outcome is not None:
                ends.callback(self._telemetry.ended, decision, outcome)
            if self._ended is not None:
                ends.callback(self._ended, outcome)
            ends.callback(self._router.settle, decision, outcome)
            ends.callback(self._tell)  # the last one given comes first

    def _perform(self, steps: list[Step]) -> None:
        for step in steps:
            match step:
                case Reply():
                    self._call.send(wire.encode(step))
                case Refuse():
                    self._call.send(wire.encode(step))
                    self._tell_decision(perf_counter() - self._asked_at if self._asked_at else 0.0)
                case Identify(head):
                    self._trace = self._router.shared.tracing.begin(head, self._request_id)
                    self._perform(self._exchange.identified(self._router.identify(head)))
                    if self._exchange.is_reading:
                        self._clock = asyncio.get_running_loop().call_later(BODY_SECONDS, self._late)
                case Decide():
                    self._asked_at = perf_counter()
                    if self._trace is None:
                        self._decide(step)
                    else:
                        with self._trace.active():
                            self._decide(step)
                case Score(feedback):
                    self._task = asyncio.get_running_loop().create_task(self._score(feedback))
                case Fail(why):
                    self._fail("protocol", why)

    def _late(self) -> None:
        if self._over:
            return
        try:
            self._perform(self._exchange.late())
        except Exception:
            log.exception("exchange_failed", request_id=self._request_id)
            self._fail("exception", "see the traceback")

    async def _score(self, feedback: Feedback) -> None:
        try:
            answer = await self._ledger.score(feedback) if self._ledger is not None else "feedback_not_kept"
            self._perform(self._exchange.scored(feedback, answer))
            if self._half_closed:
                self.half_closed()
        except Exception:
            log.exception("feedback_failed", request_id=self._request_id)
            self._fail("exception", "see the traceback")
        finally:
            self._task = None

    def _decide(self, step: Decide) -> None:
        answer = self._router.decide(step.subject, step.caller, self._request_id)
        if isinstance(answer, Decision):
            self._decided(answer)
        else:
            self._task = asyncio.get_running_loop().create_task(self._wait_for(answer))

    async def _wait_for(self, answer: Awaitable[Decision]) -> None:
        try:
            self._decided(await answer)
        except Exception:
            log.exception("decision_failed", request_id=self._request_id)
            self._fail("exception", "see the traceback")
        finally:
            self._task = None

    def _decided(self, decision: Decision) -> None:
        steps = self._exchange.decided(decision)
        if isinstance(decision, Routed) and self._ledger is not None:
            self._ended = self._ledger.began(decision, self._request_id)
        if isinstance(decision, Routed | Passed):
            self._router.served(decision)
            # Envoy waits for the answer, and nobody for the numbers: they are told once it is written.
            self._untold = perf_counter() - self._asked_at
            asyncio.get_running_loop().call_soon(self._tell)
        self._perform(steps)
        if self._half_closed:
            self.half_closed()

    def _tell(self) -> None:
        if self._untold is not None:
            seconds, self._untold = self._untold, None
            self._tell_decision(seconds)

    def _tell_decision(self, seconds: float) -> None:
        decision = self._exchange.decision
        if decision is not None:
            self._telemetry.decided(decision, seconds)
            if self._trace is not None:
                self._trace.decided(decision)
        if isinstance(decision, Denied):
            self._router.refused(decision, self._request_id)

    def _fail(self, reason: str, why: str) -> None:
        if self._over:
            return
        self._over = True
        self._failed = True
        # First of all: whatever goes wrong below, Envoy must not go on.
        self._call.finish(Status.INTERNAL, "the processor failed")
        log.warning("stream_failed_closed", reason=reason, why=why, request_id=self._request_id)
        self._telemetry.exchange_failed(reason)
        self._tell()
        if self._trace is not None:
            self._trace.failed(reason)


def new_request_id() -> str:
    """Names one request for feedback and support: 96 random bits."""
    return f"wr-{secrets.token_hex(12)}"


BODY_SECONDS: Final = 120.0
"""For a call's whole body: Envoy has no clock of its own for one that is FULL_DUPLEX_STREAMED."""

PROCESSOR: Final = SERVICE
"""The name under which health checks ask for the processor."""
