"""Bodies that were packed: unpacked by what the same libraries and the standard one pack, or refused."""

import gzip
import tracemalloc
import zlib
from collections.abc import Callable
from time import thread_time

import brotli
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from wissel.apis.packing import coding_of, unpacked
from wissel.apis.windows import whole
from wissel.errors import TooLargeError, UnreadableError, UnsupportedCodingError

MOST = 1 << 20


def bare(data: bytes) -> bytes:
    packing = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packing.compress(data) + packing.flush()


PACKED: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gzip.compress),
    "two members of gzip": ("gzip", lambda data: gzip.compress(data[:1]) + gzip.compress(data[1:])),
    "zlib": ("deflate", zlib.compress),
    "bare deflate": ("deflate", bare),
    "br": ("br", lambda data: brotli.compress(data, quality=2)),
    "zstd": ("zstd", zstandard.compress),
    "two frames of zstd": ("zstd", lambda data: zstandard.compress(data[:1]) + zstandard.compress(data[1:])),
}


@pytest.mark.parametrize("how", PACKED)
@given(data=st.binary(min_size=1, max_size=5000))
def test_what_was_packed_is_unpacked(how: str, data: bytes):
    coding, pack = PACKED[how]

    assert whole(unpacked(pack(data), coding, MOST)) == data


@pytest.mark.parametrize("how", PACKED)
def test_what_is_cut_short_is_refused(how: str):
    coding, pack = PACKED[how]

    with pytest.raises(UnreadableError):
        whole(unpacked(pack(b"hello" * 999)[:-3], coding, MOST))


@pytest.mark.parametrize("how", PACKED)
def test_what_is_larger_unpacked_than_a_body_may_be_is_refused_early(how: str):
    coding, pack = PACKED[how]
    pauses: list[None] = []

    with pytest.raises(TooLargeError):
        pauses.extend(unpacked(pack(bytes(16 * MOST)), coding, MOST))

    assert len(pauses) < 100


@pytest.mark.parametrize("how", PACKED)
def test_what_unpacks_to_much_never_is_in_memory(how: str):
    coding, pack = PACKED[how]
    packed = pack(bytes(16 * MOST))
    tracemalloc.start()

    with pytest.raises(TooLargeError):
        whole(unpacked(packed, coding, MOST))

    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * MOST


@pytest.mark.parametrize("written", ["", "identity", "Identity", "identity, identity"])
def test_a_coding_that_says_nothing_is_none(written: str):
    assert coding_of(written) == ""


@pytest.mark.parametrize("written", ["compress", "gzip, br", "exi"])
def test_what_is_not_read_is_told_apart(written: str):
    with pytest.raises(UnsupportedCodingError, match="gzip, deflate, br, zstd"):
        coding_of(written)


def test_of_many_members_each_takes_no_longer_for_those_that_follow():
    def time_of(members: int) -> float:
        work = unpacked(gzip.compress(b"") * members, "gzip", MOST)
        began = thread_time()
        for _ in range(500):
            next(work)
        return thread_time() - began

    assert min(time_of(400_000) for _ in range(3)) < 8 * min(time_of(1_000) for _ in range(3))


@pytest.mark.parametrize("how", ["gzip", "zstd"])
def test_it_is_packed_in_ten_thousand_pieces_at_most(how: str):
    coding, pack = PACKED[how]

    assert whole(unpacked(pack(b"") * 9_999 + pack(b"{}"), coding, MOST)) == b"{}"
    with pytest.raises(UnreadableError, match="more than 10000 pieces"):
        whole(unpacked(pack(b"") * 10_001, coding, MOST))
