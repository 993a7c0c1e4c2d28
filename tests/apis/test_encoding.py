import gzip
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wissel.apis.encoding import MAX_INFLATED_BYTES, Inflater, asked_away


@pytest.mark.parametrize(
    ("accepted", "asked"),
    [
        ("gzip, deflate, br, zstd", "gzip"),
        ("br", "identity"),
        ("br;q=1.0, gzip;q=0.8", "gzip"),
        ("gzip;q=0, *;q=0", "identity"),
        ("GZIP", "gzip"),
        ("*", "gzip"),
        ("gzip;q=much", "identity"),
        ("", "identity"),
    ],
)
def test_only_what_can_be_read_is_asked_for(accepted, asked):
    assert asked_away(accepted, stream=False) == asked


def test_a_stream_is_asked_for_plain():
    assert asked_away("gzip", stream=True) == "identity"


def raw_deflate(data: bytes) -> bytes:
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return deflater.compress(data) + deflater.flush()


def inflate(data: bytes, size: int) -> bytes | None:
    inflater = Inflater()
    out = [inflater.feed(data[at : at + size]) for at in range(0, len(data), size)]
    return None if None in out else b"".join(part or b"" for part in out)


@given(
    st.binary(max_size=300),
    st.sampled_from([gzip.compress, zlib.compress, raw_deflate, lambda d: gzip.compress(d[:9]) + gzip.compress(d[9:])]),
    st.integers(1, 50),
)
def test_every_coding_is_undone_wherever_it_is_cut(data, compress, size):
    assert inflate(compress(data), size) == data


def test_zeros_after_the_end_are_nothing():
    assert inflate(gzip.compress(b"a") + b"\0\0\0", 5) == b"a"


def test_what_is_no_compression_cannot_be_read():
    assert inflate(b"\x1f\x8bnothing of the kind", 100) is None


def test_a_bomb_is_not_unpacked():
    assert Inflater().feed(gzip.compress(b"\0" * (MAX_INFLATED_BYTES + 1))) is None


def test_a_bomb_takes_no_memory():
    bomb = gzip.compress(b"\0" * (8 * MAX_INFLATED_BYTES), compresslevel=1)
    tracemalloc.start()
    try:
        Inflater().feed(bomb)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 3 * MAX_INFLATED_BYTES
