"""Whose fault an error is.

    WisselError
    ├── ConfigError      the operator's: the configuration cannot be used as it is
    ├── UnreadableError  the caller's: the request cannot be understood
    │   ├── UnsupportedCodingError  its body is packed in a way that is not read here
    │   └── TooLargeError           its body is larger than it may be
    └── WorldError       the world's: something outside did not do its part
        ├── StoreError       Redis is away or answered nonsense
        ├── ModelError       model weights are missing, damaged or do not load
        └── UpstreamError    another server did not answer as its protocol says

A refused request is not an error but a value, `core.decision.Denied`. A bug is
any exception that is not in this tree.
"""

import errno


class WisselError(Exception):
    """The root: everything below says whose fault it is."""


class ConfigError(WisselError):
    """The configuration cannot be used; `problems` names each place and what would be right."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class UnreadableError(WisselError):
    """The request cannot be understood; the message is meant for the caller.

    `param` is the path of the offending member, as OpenAI's errors name it.
    """

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class UnsupportedCodingError(UnreadableError):
    """The body is packed in a way that is not read here."""


class TooLargeError(UnreadableError):
    """The body is larger, unpacked, than a body may be."""

    def __init__(self) -> None:
        super().__init__("the body is too large")


class WorldError(WisselError):
    """Something outside the process failed."""


class StoreError(WorldError):
    """Redis is away, or what it holds cannot be read."""


class ModelError(WorldError):
    """Model weights are missing, damaged or do not load."""


class UpstreamError(WorldError):
    """Another server did not answer as its protocol says."""


def why_not_bound(error: OSError | ValueError) -> str:
    """Why an address cannot be listened on, and what to do."""
    match getattr(error, "errno", None):
        case errno.EADDRINUSE:
            return "another program listens there, perhaps a wissel that still runs; stop it, or take another address"
        case errno.EADDRNOTAVAIL:
            return "this machine has no such address"
        case errno.EACCES:
            return "this user may not; take a port from 1024 on, or a folder that is yours"
        case _:
            return str(getattr(error, "strerror", None) or error)
