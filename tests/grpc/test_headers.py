from collections.abc import Callable, Iterable

from hpack import Decoder, Encoder, HeaderTuple, NeverIndexedHeaderTuple
from hpack.exceptions import HPACKError, OversizedHeaderListError
from hypothesis import given
from hypothesis import strategies as st

from wissel.grpc.headers import RememberingDecoder, RememberingEncoder

names, values = st.sampled_from([b":path", b"te", b"x-a", b"x-b"]), st.sampled_from([b"", b"1", b"a long value" * 20])
headers = st.builds(
    lambda kind, *header: kind(*header), st.sampled_from([HeaderTuple, NeverIndexedHeaderTuple]), names, values
)
blocks = st.lists(st.one_of(st.lists(headers, max_size=4), st.sampled_from([0, 60, 300, 4096])), max_size=30)
"""Lists of headers, and new sizes of the table between them."""


@given(blocks)
def test_remembered_blocks_are_what_hpack_would_have_written(blocks: list[list[HeaderTuple] | int]):
    plain, remembering = Encoder(), RememberingEncoder()
    for block in blocks:
        if isinstance(block, int):
            plain.header_table_size = remembering.header_table_size = block
        else:
            assert remembering.encode(block) == plain.encode(block)


@given(blocks)
def test_remembered_headers_are_what_hpack_would_have_read(blocks: list[list[HeaderTuple] | int]):
    encoder, plain, remembering = Encoder(), Decoder(), RememberingDecoder(1 << 16)
    for block in blocks:
        if isinstance(block, int):
            if block != encoder.header_table_size:  # set twice, hpack forgets to announce it
                encoder.header_table_size = block
        else:
            data = encoder.encode(block)
            assert list(remembering.fields(data)) == list(plain.decode(data, raw=True))


@given(st.lists(st.one_of(st.integers(0x80, 0xFF).map(lambda byte: bytes([byte])), st.binary(max_size=6)), max_size=12))
def test_bytes_are_read_or_refused_as_hpack_does(parts: list[bytes]):
    """A small limit, so that it is met too."""
    data = b"".join(parts)

    assert outcome(lambda: RememberingDecoder(300).fields(data)) == outcome(lambda: Decoder(300).decode(data, raw=True))


def outcome(read: Callable[[], Iterable[tuple[bytes, bytes]]]) -> list[tuple[bytes, bytes]] | str:
    """What was read, or that it was refused, for its size or at all."""
    try:
        return list(read())
    except OversizedHeaderListError:
        return "oversized"
    except HPACKError:
        return "refused"


def test_a_known_block_is_not_decoded_again():
    encoder, decoder = Encoder(), RememberingDecoder(1 << 16)
    blocks = [encoder.encode([(b"te", b"trailers")]) for _ in range(3)]
    first, second, third = (decoder.fields(block) for block in blocks)

    assert list(first) == list(second) == [(b"te", b"trailers")]
    assert third is second


def test_what_is_remembered_is_bounded():
    encoder, decoder = Encoder(), RememberingDecoder(1 << 16)
    for number in range(1000):
        decoder.fields(encoder.encode([NeverIndexedHeaderTuple(b"x-id", b"%d" % number)]))

    assert len(decoder._known) <= 64
