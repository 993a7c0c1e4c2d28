"""The beginning of an answer's body, for whoever wants to know what a refusal says."""

from typing import Final


class Excerpt:
    """At least `most` bytes of a body, where it has as many, and never twice as many."""

    __slots__ = ("_most", "_read", "is_wanted")

    def __init__(self, most: int) -> None:
        self._most: Final = most
        self._read = b""
        self.is_wanted = False

    def feed(self, data: bytes) -> None:
        """Of the body, as it comes."""
        if self.is_wanted and len(self._read) < self._most:
            self._read += data[: self._most]

    def closed(self) -> bytes | None:
        """What the body begins with, once it is complete; None where nobody wants it, or has it already."""
        if not self.is_wanted:
            return None
        self.is_wanted = False
        return self._read
