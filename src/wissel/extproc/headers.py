"""Header blocks that were met before are not compressed or decompressed again.

Envoy opens every stream with the same headers, and every answer begins with the
same two. What a block means depends on HPACK's dynamic table and on nothing
else: while that table stays as it is, equal blocks are equal headers. A block
that changes the table, or its size, empties the memory.
"""

from collections.abc import Iterable
from typing import Any, cast

from hpack import Decoder, Encoder, HeaderTuple, NeverIndexedHeaderTuple
from hpack.table import HeaderTable

_BLOCKS = 64
_BLOCK_BYTES = 1024
"""A longer block is not remembered: it is no peer's everyday one."""


class CountingTable(HeaderTable):
    """HPACK's table, with how many entries were ever added."""

    def __init__(self) -> None:
        super().__init__()
        self.added = 0

    def add(self, name: bytes, value: bytes) -> None:
        self.added += 1
        super().add(name, value)


class RememberingDecoder(Decoder):
    """Reads a known block at once; only raw headers, as h2 asks for them, are remembered."""

    def __init__(self, max_header_list_size: int) -> None:
        super().__init__(max_header_list_size)
        self.header_table: CountingTable = CountingTable()
        self._known: dict[bytes, list[HeaderTuple]] = {}

    def decode(self, data: bytes, raw: bool = False) -> Iterable[HeaderTuple]:
        known = self._known.get(data) if raw else None
        if known is not None:
            return known
        added = self.header_table.added
        headers = list(super().decode(data, raw))
        resized = data[:1] and data[0] & 0xE0 == 0x20
        if self.header_table.added != added or resized or len(self._known) >= _BLOCKS:
            self._known.clear()
        elif raw and len(data) <= _BLOCK_BYTES:
            self._known[data] = headers
        return headers


class RememberingEncoder(Encoder):
    """Writes a known list of headers at once."""

    def __init__(self) -> None:
        super().__init__()
        self.header_table: CountingTable = CountingTable()
        self._known: dict[tuple[Any, ...], bytes] = {}

    def encode(self, headers: Iterable[Any], huffman: bool = True) -> bytes:
        key = tuple(headers)
        if isinstance(headers, dict) or NeverIndexedHeaderTuple in map(type, key):
            # A sensitive header equals a plain one, and is written otherwise.
            return super().encode(cast("Iterable[Any]", headers), huffman)
        resized = self.header_table.resized
        known = None if resized else self._known.get(key)
        if known is not None:
            return known
        added = self.header_table.added
        block = super().encode(key, huffman)
        if self.header_table.added != added or resized or len(self._known) >= _BLOCKS:
            self._known.clear()
        elif len(block) <= _BLOCK_BYTES:
            self._known[key] = block
        return block
