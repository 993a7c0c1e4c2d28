"""One attempt's ext_proc stream: drives an attempt as a session drives an exchange.

It fails closed as well: whatever goes wrong ends the stream with an error, and
Envoy then answers the caller in place of asking the model.
"""

from time import time

import structlog

from wissel.core.names import ATTEMPT_STAGE, REQUEST_STAGE, STAGE_KEY
from wissel.extproc import wire
from wissel.extproc.attempt import Attempt
from wissel.extproc.events import Fail, Refuse, Reply, Step
from wissel.grpc.server import Call, Status
from wissel.router import Router
from wissel.telemetry.counting import Telemetry

log = structlog.get_logger(__name__)


def is_attempt(call: Call) -> bool:
    """Whether Envoy asks about an attempt, and not about a request that is new."""
    return call.metadata.get(STAGE_KEY.encode()) == ATTEMPT_STAGE.encode()


def walks_plans(call: Call) -> bool:
    """Whether the Envoy that asks about a request goes on to the next model where one fails."""
    return call.metadata.get(STAGE_KEY.encode()) == REQUEST_STAGE.encode()


class AttemptStage:
    """The transport's receiver for one attempt's stream."""

    __slots__ = ("_attempt", "_call", "_over", "_telemetry")

    def __init__(self, call: Call, router: Router, telemetry: Telemetry) -> None:
        self._call = call
        self._telemetry = telemetry
        self._attempt = Attempt(router.snapshot.models, time)
        self._over = False
        telemetry.stream_opened()

    def message(self, data: bytes | bytearray) -> None:
        """Envoy's next message."""
        if self._over:
            return
        try:
            event, _ = wire.decode(data)
            for step in self._attempt.receive(event):
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
        if self._attempt.is_settled:
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
        log.warning("stream_failed_closed", reason=reason, why=why, stage=ATTEMPT_STAGE)
        self._telemetry.exchange_failed(reason)
