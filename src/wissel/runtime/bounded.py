"""A mapping that forgets: never more than so many entries, the one that was longest unused goes first.

Whatever comes from callers (texts, sessions, ids of requests) and is kept must
be kept in one of these. It belongs to one thread, or to one lock.
"""

from collections import OrderedDict
from itertools import islice
from typing import Generic, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


class Bounded(Generic[Key, Value]):
    """At most `size` entries; to `put` or `get` one is to use it."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._entries: OrderedDict[Key, Value] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def oldest(self, count: int) -> list[tuple[Key, Value]]:
        """So many entries at most, the one that was longest unused first."""
        return list(islice(self._entries.items(), count))

    def get(self, key: Key) -> Value | None:
        """The value, from now on the one that was used last; None where it is not kept."""
        if key in self._entries:
            self._entries.move_to_end(key)
        return self._entries.get(key)

    def peek(self, key: Key) -> Value | None:
        """The value, without using it."""
        return self._entries.get(key)

    def put(self, key: Key, value: Value) -> bool:
        """Keep it in place of what was kept under `key`; False where another had to go for it."""
        self._entries[key] = value
        self._entries.move_to_end(key)
        if len(self._entries) <= self._size:
            return True
        self._entries.popitem(last=False)
        return False

    def drop(self, key: Key) -> None:
        """Forget it, if it is kept."""
        self._entries.pop(key, None)
