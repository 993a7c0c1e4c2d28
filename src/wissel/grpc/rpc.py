"""One gRPC call, as its connection knows it."""

from asyncio import TimerHandle
from collections.abc import Mapping
from typing import Protocol

from wissel.grpc.answers import PlainAnswer
from wissel.grpc.call import Receiver
from wissel.grpc.frames import Deframer, Part, Status
from wissel.grpc.outbox import Queue


class Carrier(Protocol):
    """Carries out what is said on a call."""

    def send(self, stream: "CallStream", parts: tuple[Part, ...]) -> None: ...
    def finish(self, stream: "CallStream", status: Status, message: str) -> None: ...
    def give_up(self, stream: "CallStream") -> None: ...


class CallStream(Queue):
    """A `Call`, with what its connection knows of it."""

    __slots__ = (
        "answered",
        "connection",
        "deadline",
        "deframer",
        "heard",
        "held",
        "inbound",
        "metadata",
        "method",
        "over",
        "owner",
        "plain",
        "receiver",
        "silent",
        "status",
        "unanswered",
    )

    def __init__(
        self,
        connection: Carrier,
        stream_id: int,
        window: int,
        method: str,
        metadata: Mapping[bytes, bytes],
        message_limit: int,
    ) -> None:
        super().__init__(stream_id, window)
        self.connection = connection
        self.method = method
        self.owner = ""
        self.metadata = metadata
        self.deframer = Deframer(message_limit)
        self.receiver: Receiver | None = None
        self.deadline: TimerHandle | None = None
        self.status: tuple[Status, str] | None = None
        """Set when the stream is finished, by the handler or for it."""
        self.plain: PlainAnswer | None = None
        """The answer to a request that is not gRPC, given at its end."""
        self.answered = False
        self.heard = False
        """Whether a message came."""
        self.silent = False
        """Whether nothing has come since its connection last looked."""
        self.unanswered = 0
        """Bytes of the messages since the last answer: the handler may still have them."""
        self.inbound = 0
        """Bytes of what is half read or unanswered, as they are counted."""
        self.held = 0
        """Bytes in all, as they are counted."""
        self.over = False

    @property
    def owes(self) -> bool:
        """Whether the peer has to say more before anything can come of it."""
        return not self.peer_ended and (not self.heard or self.deframer.held > 0)

    def give_up(self) -> None:
        self.connection.give_up(self)

    def send(self, *parts: Part) -> None:
        if self.status is None:
            self.connection.send(self, parts)

    def finish(self, status: Status = Status.OK, message: str = "") -> None:
        if self.status is None:
            self.connection.finish(self, status, message)
