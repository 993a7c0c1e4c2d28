"""One gRPC stream, as a handler meets it: a `Call` to answer on, a `Receiver` that hears.

Everything here is synchronous. A message is handed over in the turn of the
event loop that read it, and what is sent during that turn leaves at its end in
one write; an answer that has to wait is sent later, from any task of the loop.
"""

from collections.abc import Callable, Mapping
from typing import Protocol

from wissel.grpc.frames import Message, Part, Status


class Call(Protocol):
    """The stream, as long as it lasts; afterwards its methods do nothing."""

    method: str
    """Its path, such as `/envoy.service.ext_proc.v3.ExternalProcessor/Process`."""
    owner: str
    """Whom it serves, once the handler knows; empty before. Where memory runs short, who holds most gives up."""

    @property
    def metadata(self) -> Mapping[bytes, bytes]:
        """What the peer sent along when it began, by lower-case name."""
        ...

    def send(self, *parts: Part) -> None:
        """Send a message, or queue it where the peer's windows are full; its parts are not to be changed any more."""
        ...

    def finish(self, status: Status = Status.OK, message: str = "") -> None:
        """End the stream once all that was sent before is out; only the first call counts."""
        ...


class Receiver(Protocol):
    """The handler of one stream, called in this order: `message` and `half_closed`, then `gone`.

    An exception ends the stream with INTERNAL and a neutral message: a peer
    never takes a bug for an answer, and never sees its text.
    """

    def message(self, data: Message) -> None: ...

    def half_closed(self) -> None:
        """The peer sends no more messages."""
        ...

    def gone(self) -> None:
        """The stream is over, however it ended: called exactly once, and last; accounting goes here."""
        ...


Method = Callable[[Call], Receiver]
"""What is called for a new stream."""
