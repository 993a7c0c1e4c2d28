"""For whom the present task works, where those in between need not know.

A classifier asks an encoder, or a cascade of others, and only the queue at the
end of it deals out its time among callers.
"""

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

_CALLER: Final = ContextVar("caller", default="")


@contextmanager
def asking_for(caller: str) -> Generator[None]:
    """Until the end of the block, and in tasks that begin in it."""
    before = _CALLER.set(caller)
    try:
        yield
    finally:
        _CALLER.reset(before)


def asker() -> str:
    """The caller's id; empty where nobody was named."""
    return _CALLER.get()
