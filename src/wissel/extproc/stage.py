"""One attempt's ext_proc streams: drives the request of an attempt, or its answer, as a session drives an exchange.

It fails closed as well: whatever goes wrong ends the stream with an error, and
Envoy then answers the caller in place of asking the model.
"""

from time import time
from typing import Protocol

import structlog

from wissel.core.names import ATTEMPT_STAGE, HELD_STAGE, REQUEST_STAGE, STAGE_KEY
from wissel.extproc import wire
from wissel.extproc.attempt import Attempt
from wissel.extproc.events import Event, Fail, Refuse, Reply, Step
from wissel.extproc.held import HeldAnswer
from wissel.grpc.server import Call, Status
from wissel.router import Router
from wissel.telemetry.counting import Telemetry

log = structlog.get_logger(__name__)


def attempt_stage(call: Call, router: Router, telemetry: Telemetry) -> "AttemptStage | None":
    """Where Envoy asks about an attempt's request or about its answer; None where about a request that is new."""
    asked = call.metadata.get(STAGE_KEY.encode())
    if asked == ATTEMPT_STAGE.encode():
        return AttemptStage(ATTEMPT_STAGE, Attempt(router.snapshot.models, time), call, telemetry)
    if asked == HELD_STAGE.encode():
        return AttemptStage(HELD_STAGE, HeldAnswer(router.snapshot.terms.failover), call, telemetry)
    return None


def walks_plans(call: Call) -> bool:
    """Whether the Envoy that asks about a request goes on to the next model where one fails."""
    return call.metadata.get(STAGE_KEY.encode()) == REQUEST_STAGE.encode()


class _Side(Protocol):
    """What is decided about one side of an attempt."""

    is_settled: bool
    """Whether it was; until then the stream must not end cleanly."""

    def receive(self, event: Event) -> list[Step]: ...


class AttemptStage:
    """The transport's receiver for one stream about an attempt; `name` is the stage's."""

    __slots__ = ("_call", "_name", "_over", "_side", "_telemetry")

    def __init__(self, name: str, side: _Side, call: Call, telemetry: Telemetry) -> None:
        self._name = name
        self._side = side
        self._call = call
        self._telemetry = telemetry
        self._over = False
        telemetry.stream_opened()

    def message(self, data: bytes | bytearray) -> None:
        """Envoy's next message."""
        if self._over:
            return
        try:
            event, _ = wire.decode(data)
            for step in self._side.receive(event):
                self._perform(step)
        except wire.MalformedMessageError as error:
            self._fail("malformed_message", str(error))
        except Exception:
            log.exception("attempt_failed")
            self._fail("exception", "see the traceback")

    def half_closed(self) -> None:
        """Envoy sends nothing more: it has what it wants, or the attempt was given up."""
        if self._over:
            return
        self._over = True
        # A clean end before the answer would let the attempt go on as the one before it was written.
        if self._side.is_settled:
            self._call.finish()
        else:
            self._call.finish(Status.CANCELLED, "the attempt was given up")

    def gone(self) -> None:
        """The stream is over."""
        self._over = True
        self._telemetry.stream_closed()

    def _perform(self, step: Step) -> None:
        match step:
            case Reply() | Refuse():
                self._call.send(*wire.encode(step))
            case Fail(why):
                self._fail("protocol", why)
            case _:
                raise AssertionError(step)

    def _fail(self, reason: str, why: str) -> None:
        self._over = True
        self._call.finish(Status.INTERNAL, "the processor failed")
        log.warning("stream_failed_closed", reason=reason, why=why, stage=self._name)
        self._telemetry.exchange_failed(reason)
