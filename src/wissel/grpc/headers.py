"""Header blocks that were met before are not compressed or decompressed again.

Envoy opens every stream with the same headers, and every answer begins with the
same two. What a block means depends on HPACK's dynamic table and on nothing
else: while that table stays as it is, equal blocks are equal headers, and the
same request. A block that changes the table, or its size, empties the memory.
"""

from collections.abc import Iterable
from typing import Any, cast

from hpack import Decoder, Encoder, NeverIndexedHeaderTuple
from hpack.exceptions import HPACKDecodingError, OversizedHeaderListError
from hpack.table import HeaderTable

from wissel.grpc.requests import RequestHead, read_request

_BLOCKS = 64
_BLOCK_BYTES = 1024
"""A longer block is not remembered: it is no peer's everyday one."""
_INDEXED, _LONGER_INDEX, _RESIZE = 0x80, 0xFF, 0x20
"""First bytes in HPACK: of a field in the table (plus its index), of one whose index goes on, of a new table size."""
_FIELD_BYTES = 32
"""That HPACK counts for a field beside its name and value."""


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


class HeaderBlock(list[tuple[bytes, bytes]]):
    """The headers of one block, in order."""

    __slots__ = ("_request",)

    @property
    def request(self) -> RequestHead:
        """What they ask for; raises MalformedError."""
        try:
            return self._request
        except AttributeError:
            self._request = read_request(self)
            return self._request


class RememberingDecoder(Decoder):
    """Reads a known block at once."""

    def __init__(self, max_header_list_size: int) -> None:
        super().__init__(max_header_list_size)
        self.header_table: WatchedTable = WatchedTable()
        self._known: dict[bytes, HeaderBlock] = {}

    def fields(self, data: bytes) -> HeaderBlock:
        """What a block says; raises HPACKError."""
        known = self._known.get(data)
        if known is not None:
            return known
        changes = self.header_table.changes
        fields = self._read(data)
        if self.header_table.changes != changes or len(self._known) >= _BLOCKS:
            self._known.clear()
        elif len(data) <= _BLOCK_BYTES:
            self._known[data] = fields
        return fields

    def _read(self, data: bytes) -> HeaderBlock:
        """Most blocks begin with fields that stand in the table, one byte for each, and need no more than a look."""
        fields, limit, size = HeaderBlock(), self.max_header_list_size, 0
        for byte in data:
            if not _INDEXED < byte < _LONGER_INDEX:
                break
            name, value = field = self.header_table.get_by_index(byte & 0x7F)
            size += len(name) + len(value) + _FIELD_BYTES
            if size > limit:
                raise OversizedHeaderListError("the headers are too large")
            fields.append(field)
        rest = data[len(fields) :]
        if not rest:
            return fields
        if fields and rest[0] & 0xE0 == _RESIZE:
            raise HPACKDecodingError("the table's size changes within a block")
        self.max_header_list_size = limit - size
        try:
            fields += cast("Iterable[tuple[bytes, bytes]]", self.decode(rest, raw=True))
        finally:
            self.max_header_list_size = limit
        return fields


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
