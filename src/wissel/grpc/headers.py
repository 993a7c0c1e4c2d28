"""Header blocks that were met before are not compressed or decompressed again.

Envoy opens every stream with the same headers, and every answer begins with the
same two. What a block means depends on HPACK's dynamic table and on nothing
else: while that table stays as it is, equal blocks are equal headers. A block
that changes the table, or its size, empties the memory.
"""

from collections.abc import Iterable
from typing import Any

from hpack import Decoder, Encoder, HeaderTuple, NeverIndexedHeaderTuple
from hpack.table import HeaderTable

_BLOCKS = 64
_BLOCK_BYTES = 1024
"""A longer block is not remembered: it is no peer's everyday one."""


class WatchedTable(HeaderTable):
    """HPACK's table, with how often it may have changed."""

    def __init__(self) -> None:
        super().__init__()
        self.changes = 0

    def add(self, name: bytes, value: bytes) -> None:
        self.changes += 1
        super().add(name, value)

    @property
    def maxsize(self) -> int:
        return self._maxsize

    @maxsize.setter
    def maxsize(self, newmax: int) -> None:
        self.changes += 1
        HeaderTable.maxsize.__set__(self, newmax)


class RememberingDecoder(Decoder):
    """Reads a known block at once; only raw headers are remembered."""

    def __init__(self, max_header_list_size: int) -> None:
        super().__init__(max_header_list_size)
        self.header_table: WatchedTable = WatchedTable()
        self._known: dict[bytes, list[HeaderTuple]] = {}

    def decode(self, data: bytes, raw: bool = False) -> list[HeaderTuple]:
        known = self._known.get(data) if raw else None
        if known is not None:
            return known
        changes = self.header_table.changes
        headers = list(super().decode(data, raw))
        if self.header_table.changes != changes or len(self._known) >= _BLOCKS:
            self._known.clear()
        elif raw and len(data) <= _BLOCK_BYTES:
            self._known[data] = headers
        return headers


class RememberingEncoder(Encoder):
    """Writes a known list of headers at once."""

    def __init__(self) -> None:
        super().__init__()
        self.header_table: WatchedTable = WatchedTable()
        self._known: dict[tuple[Any, ...], bytes] = {}
        self._known_at = 0
        """How often the table had changed when these blocks were written."""

    def encode(self, headers: Iterable[Any], huffman: bool = True) -> bytes:
        table = self.header_table
        if table.changes != self._known_at or len(self._known) >= _BLOCKS:
            self._known.clear()
            self._known_at = table.changes
        key = tuple(headers)
        # A sensitive header equals a plain one, and is written otherwise;
        # after a resize a block begins with news of it.
        fit = not table.resized and NeverIndexedHeaderTuple not in map(type, key)
        known = self._known.get(key) if fit else None
        if known is not None:
            return known
        block = super().encode(key, huffman)
        if fit and table.changes == self._known_at and len(block) <= _BLOCK_BYTES:
            self._known[key] = block
        return block
