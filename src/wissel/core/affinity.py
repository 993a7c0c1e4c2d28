"""What is remembered of an answer that its model keeps: where it was made, and for whom.

Who asks for it later, or goes on from it, is led back by its id. An id is no
secret and no permission: who may follow it is decided by who made it, and by
the rules as they are then.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, Literal, Protocol

from wissel.core.access import Principal

LONGEST_ID: Final = 512
"""Characters of an id; what is longer is not followed."""

_ID: Final = re.compile(rf"(?=.*[0-9A-Za-z])[0-9A-Za-z_.:~@=+-]{{1,{LONGEST_ID}}}")

Lead = Literal["", "made", "unknown", "gone"]
"""What became of the id that a call goes on from: it names none; the model that made it serves; nobody knows it; what
made it is not configured any more."""


@dataclass(frozen=True, slots=True)
class MadeId:
    """Names what a model's server has made and keeps."""

    kind: str
    """The name of the API whose answer it is."""
    id: str
    """As the server wrote it."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where something was made."""

    model: str
    cluster: str
    route: str
    """Empty where the caller named the target."""
    owner: str
    """Whose it is, as `owner_of` says."""
    thread: str
    """The key of the conversation that it belongs to; empty where it has none."""
    at: float
    """Unix time at which it was made, or as good as."""
    until: float
    """Unix time until which it is remembered."""


@dataclass(frozen=True, slots=True)
class Unreachable:
    """It is not known here, and whoever may know it does not answer."""


def owner_of(caller: Principal) -> str:
    """A digest: it has one length, and tells nobody who reads the store who called."""
    return sha256(caller.id.encode("utf-8", "surrogatepass")).hexdigest()


def is_id(text: str) -> bool:
    """Whether an id can be followed: every server reads it the same way in a path."""
    return _ID.fullmatch(text) is not None


class OriginKeeper(Protocol):
    """Remembers where answers were made, over all replicas."""

    def recall(self, made: MadeId) -> Origin | None:
        """What this process knows itself."""
        ...

    async def find(self, made: MadeId) -> Origin | Unreachable | None:
        """What any replica knows; None where none does."""
        ...

    def keep(self, made: MadeId, origin: Origin) -> None:
        """Remember it."""
        ...

    def drop(self, made: MadeId, owner: str) -> None:
        """Forget it."""
        ...

    async def made_for(self, kind: str, owner: str) -> Mapping[MadeId, Origin] | Unreachable:
        """What is remembered of one caller's."""
        ...
