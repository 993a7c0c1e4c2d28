"""One ext_proc stream: messages in, steps carried out, answers sent.

A message is answered in the event-loop turn that read it. Only a question that
the router cannot answer at once becomes a task, and whatever goes wrong before
the request is decided ends the stream with an error: Envoy then fails the
request, while a clean end would let it through.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field
from time import perf_counter
from typing import Final, Protocol

import structlog

from wissel.core.access import Principal
from wissel.core.decision import Decision, Denied, Kept, Passed, Routed
from wissel.core.feedback import Feedback, ScoreAnswer
from wissel.core.limits import Drawn
from wissel.core.names import SERVICE
from wissel.core.outcome import Ended
from wissel.core.refusals import overrun
from wissel.core.request import Head
from wissel.core.snapshot import Model
from wissel.extproc import wire
from wissel.extproc.desk import BodyReading, Desk
from wissel.extproc.events import Decide, Fail, Heed, Identify, Made, Read, Refuse, Reply, Score, Step, Unmade
from wissel.extproc.exchange import Exchange
from wissel.extproc.stage import attempt_stage, walks_plans
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

    async def score(self, feedback: Feedback, caller: str | None = None) -> ScoreAnswer:
        """Count a caller's feedback, once for each request."""
        ...


def methods(router: Callable[[], Router], telemetry: Telemetry, ledger: Ledger | None = None) -> Mapping[str, Method]:
    """The gRPC methods to serve; `router` is asked once for each stream."""

    peer = Peer()

    def process(call: Call) -> Receiver:
        current = router()
        stage = attempt_stage(call, current, telemetry)
        return Session(call, current, telemetry, peer, ledger) if stage is None else stage

    return {wire.METHOD: process}


@dataclass(slots=True)
class Peer:
    """What the streams of one process share."""

    override_works: bool = False
    """Whether it sends responses' bodies when asked."""
    desk: Desk = field(default_factory=Desk)
    """Where the bodies of its streams are read."""
    unasked: set[tuple[str, str]] = field(default_factory=set[tuple[str, str]])
    """Servers that refuse to be asked for the usage of a stream: clusters, and what each calls the model."""

    def may_ask(self, model: Model) -> bool:
        """Whether the model's server may be asked for the usage of a stream."""
        return (model.cluster, model.upstream_model) not in self.unasked


class Session:
    """Drives one exchange; the transport's receiver for one stream."""

    __slots__ = (
        "_asked_at",
        "_call",
        "_clock",
        "_drawn",
        "_ended",
        "_exchange",
        "_failed",
        "_half_closed",
        "_ledger",
        "_over",
        "_peer",
        "_reading",
        "_request_id",
        "_router",
        "_task",
        "_telemetry",
        "_trace",
        "_untold",
        "_uploader",
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
        self._exchange = Exchange(
            self._request_id,
            now=perf_counter(),
            terms=router.snapshot.terms,
            may_ask=peer.may_ask,
            walks_plans=walks_plans(call),
        )
        self._task: asyncio.Task[None] | None = None
        self._clock: asyncio.TimerHandle | None = None
        self._asked_at = 0.0
        self._over = False
        self._failed = False
        self._trace: Trace | None = None
        self._half_closed = False
        self._drawn: tuple[Drawn, ...] = ()
        """From limits, before the body was read."""
        self._reading: BodyReading | None = None
        self._uploader = ""
        """Whose body is on its way; empty where none is."""
        self._untold: float | None = None
        """Seconds that a decision took which is answered already, and still to be told."""
        telemetry.stream_opened()

    def message(self, data: bytes | bytearray) -> None:
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
        elif self._exchange.is_reading_body:
            # The caller left before its body was here: nobody's fault, and nothing that goes on.
            self._over = True
            self._call.finish(Status.CANCELLED, "the caller left")
        elif not self._exchange.is_deciding:
            self._fail("half_closed", "the request was not decided yet")

    def gone(self) -> None:
        """The stream is over, however it ended."""
        self._over = True
        if self._task is not None:
            self._task.cancel()
        if self._clock is not None:
            self._clock.cancel()
        if self._reading is not None:
            self._reading.cancel()
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
            ends.callback(self._router.settle, decision, outcome, self._drawn)
            ends.callback(self._body_ended)
            ends.callback(self._tell)  # the last one given comes first

    def _perform(self, steps: list[Step]) -> None:
        for step in steps:
            match step:
                case Reply():
                    self._call.send(*wire.encode(step))
                case Refuse():
                    self._refuse(step)
                case Identify(head):
                    self._trace = self._router.shared.tracing.begin(head, self._request_id)
                    with self._active():
                        self._identify(head)
                case Read():
                    self._read(step)
                case Decide():
                    self._asked_at = perf_counter()
                    with self._active():
                        self._decide(step)
                case Score(feedback, caller):
                    self._task = asyncio.get_running_loop().create_task(self._score(feedback, caller))
                case Heed(model):
                    self._heed(model)
                case Made(made, fallback):
                    self._router.made(made, self._exchange.decision, fallback)
                case Unmade(made):
                    self._router.unmade(made, self._exchange.decision)
                case Fail(why):
                    self._fail("protocol", why)

    def _refuse(self, step: Refuse) -> None:
        self._call.send(*wire.encode(step))
        # A passthrough that ends so was told already, or will be.
        if not isinstance(self._exchange.decision, Passed | Kept):
            self._tell_decision(perf_counter() - self._asked_at if self._asked_at else 0.0)

    def _heed(self, model: Model) -> None:
        if self._peer.may_ask(model):
            self._peer.unasked.add((model.cluster, model.upstream_model))
            self._telemetry.usage_refused(model.name)
            log.warning(
                "stream_usage_refused",
                model=model.name,
                cluster=model.cluster,
                request_id=self._request_id,
                why="its server refused stream_options; until the next start its streams are not asked for their usage",
                change=f"set stream_usage: never for the model {model.name}",
            )

    def _active(self) -> AbstractContextManager[None]:
        return nullcontext() if self._trace is None else self._trace.active()

    def _identify(self, head: Head) -> None:
        caller = self._router.identify(head)
        if isinstance(caller, Denied):
            self._perform(self._exchange.identified(caller))
            return
        self._call.owner = caller.id
        if head.carries:
            if not self._peer.desk.begins(caller.id, self._router.snapshot.terms.bounds.uploads):
                self._perform(self._exchange.identified(overrun(caller)))
                return
            self._uploader = caller.id
        answer = self._router.enter(head, caller)
        if isinstance(answer, tuple | Denied):
            self._entered(caller, answer)
        else:
            self._task = asyncio.get_running_loop().create_task(self._enter(caller, answer))

    async def _enter(self, caller: Principal, answer: Awaitable[tuple[Drawn, ...] | Denied]) -> None:
        try:
            self._entered(caller, await answer)
            if self._half_closed:
                self.half_closed()
        except Exception:
            log.exception("limits_failed", request_id=self._request_id)
            self._fail("exception", "see the traceback")

    def _entered(self, caller: Principal, answer: tuple[Drawn, ...] | Denied) -> None:
        self._task = None
        if isinstance(answer, Denied):
            self._perform(self._exchange.identified(answer))
            return
        self._drawn = answer
        self._perform(self._exchange.identified(caller))
        if self._exchange.is_reading_body:
            self._clock = asyncio.get_running_loop().call_later(BODY_SECONDS, self._late)

    def _body_ended(self) -> None:
        if self._uploader:
            self._peer.desk.ends(self._uploader)
            self._uploader = ""

    def _read(self, read: Read) -> None:
        self._body_ended()
        desk = self._peer.desk
        if not desk.has_room(read):
            self._perform(self._exchange.crowded(desk.held(read.caller.id)))
            return
        self._reading = desk.take(read, self._read_on, self._read_failed)

    def _read_on(self, steps: list[Step]) -> None:
        self._reading = None
        try:
            self._perform(steps)
            if self._half_closed:
                self.half_closed()
        except Exception as error:  # noqa: BLE001  as in `message`
            self._read_failed(error)

    def _read_failed(self, error: Exception) -> None:
        log.error("exchange_failed", request_id=self._request_id, exc_info=error)
        self._fail("exception", "see the traceback")

    def _late(self) -> None:
        if self._over:
            return
        try:
            self._perform(self._exchange.late())
        except Exception:
            log.exception("exchange_failed", request_id=self._request_id)
            self._fail("exception", "see the traceback")

    async def _score(self, feedback: Feedback, caller: Principal) -> None:
        try:
            answer: ScoreAnswer = "feedback_not_kept"
            if self._ledger is not None:
                answer = await self._ledger.score(feedback, caller.id)
            self._perform(self._exchange.scored(feedback, answer))
            if self._half_closed:
                self.half_closed()
        except Exception:
            log.exception("feedback_failed", request_id=self._request_id)
            self._fail("exception", "see the traceback")
        finally:
            self._task = None

    def _decide(self, step: Decide) -> None:
        answer = self._router.decide(step.subject, step.caller, self._request_id, self._drawn)
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
        if isinstance(decision, Routed | Passed | Kept):
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
