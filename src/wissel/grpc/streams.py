"""The streams of one HTTP/2 connection, and who hears of them."""

from typing import Final, Protocol, TypeVar

from wissel.grpc.requests import RequestHead

STREAM_WINDOW: Final = 1 << 20
"""Bytes that we take of a stream before its window is renewed."""


class Stream:
    """What the protocol knows of an open stream."""

    __slots__ = ("granted", "id", "left", "peer_ended", "wanted", "window")

    def __init__(self, stream_id: int, window: int) -> None:
        self.id = stream_id
        self.window = window
        """Bytes that the peer takes of this stream right now."""
        self.granted = STREAM_WINDOW
        """Bytes that we take of it."""
        self.left: int | None = None
        """Bytes that its content-length has left to come."""
        self.wanted = True
        """Whether its window is renewed; the listener's to say."""
        self.peer_ended = False


Heard_contra = TypeVar("Heard_contra", bound=Stream, contravariant=True)


class Listener(Protocol[Heard_contra]):
    """Hears what a peer does."""

    def began(self) -> None:
        """The peer speaks HTTP/2."""
        ...

    def opened(self, stream_id: int, request: RequestHead) -> None:
        """To hear more of it, put it into `streams`."""
        ...

    def received(self, stream: Heard_contra, data: memoryview) -> None:
        """Some bytes of an open stream, at least one."""
        ...

    def ended(self, stream: Heard_contra) -> None:
        """The peer sends no more on this stream."""
        ...

    def was_reset(self, stream: Heard_contra) -> None:
        """The peer wants nothing more of this stream, or broke its rules."""
        ...

    def window_opened(self) -> None:
        """The peer may take more than before."""
        ...

    def ponged(self, data: bytes) -> None:
        """A ping of ours was answered."""
        ...

    def leaves(self) -> None:
        """The peer opens no more streams."""
        ...

    def nothing_new(self) -> None:
        """A frame came that has to be read, and brings nothing."""
        ...
