from itertools import pairwise

from hypothesis import example, given
from hypothesis import strategies as st

from wissel.apis.sse import MAX_EVENT_BYTES, Piece, Splitter, data_of


def split(*chunks: bytes) -> tuple[list[bytes], bytes]:
    splitter = Splitter()
    found = [piece.raw for chunk in chunks for piece in splitter.feed(chunk)]
    return found, splitter.rest


def test_an_event_ends_with_its_blank_line():
    assert split(b"data: a\n\ndata: b\n\nda") == ([b"data: a\n\n", b"data: b\n\n"], b"da")


def test_line_ends_may_be_of_any_kind():
    assert split(b"data: a\r\n\r\ndata: b\r\rdata: c\n\r\nx") == (
        [b"data: a\r\n\r\n", b"data: b\r\r", b"data: c\n\r\n"],
        b"x",
    )


def test_a_line_end_is_not_torn_apart():
    assert split(b"data: a\r\n\r", b"\ndata: b\n\n") == ([b"data: a\r\n\r\n", b"data: b\n\n"], b"")


def test_crlf_alone_ends_a_line_and_no_event():
    assert split(b"data: a\r", b"\n", b"data: b\r\n") == ([], b"data: a\r\ndata: b\r\n")


def cuts(data: bytes, places: list[int]) -> list[bytes]:
    borders = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in pairwise(borders)]


pieces_of_events = st.sampled_from([b"\n", b"\r", b"\r\n", b"data: x", b":c", b"e", b"data:", b"\xef\xbb\xbf"])


@given(st.lists(pieces_of_events, max_size=20).map(b"".join), st.lists(st.integers(0, 1000), max_size=8))
@example(b"x\r\r\n", [3])
def test_where_chunks_are_cut_makes_no_difference(stream, places):
    chunked = split(*cuts(stream, places))

    assert chunked == split(stream)
    assert b"".join(chunked[0]) + chunked[1] == stream


def test_what_is_too_long_passes_in_parts_and_the_next_event_is_read():
    splitter = Splitter()
    long = b"data: " + b"x" * (3 * MAX_EVENT_BYTES) + b"\n\n"
    found = [piece for chunk in cuts(long, list(range(0, len(long), 70_000))) for piece in splitter.feed(chunk)]

    assert b"".join(piece.raw for piece in found) == long
    assert not any(piece.whole for piece in found)
    assert list(splitter.feed(b"data: b\n\n")) == [Piece(b"data: b\n\n", whole=True)]


def test_what_is_held_is_bounded():
    splitter = Splitter()
    for _ in range(100):
        list(splitter.feed(b"x" * 65_536))

    assert len(splitter.rest) <= MAX_EVENT_BYTES + 65_536


def test_data_may_come_with_a_space_or_without():
    assert (data_of(b"data: a\n\n"), data_of(b"data:a\n\n"), data_of(b"data:  a\n\n")) == (b"a", b"a", b" a")


def test_data_lines_are_joined_and_other_fields_left_out():
    assert data_of(b": hello\nevent: x\ndata: {\r\ndata\rdata:}\nid: 3\n\n") == b"{\n\n}"


def test_a_byte_order_mark_is_no_part_of_the_first_field():
    assert data_of(b"\xef\xbb\xbfdata: a\n\n") == b"a"


def test_a_comment_has_no_data():
    assert data_of(b": data: a\n\n") == b""


def test_a_line_that_begins_like_data_may_be_followed_by_others():
    assert data_of(b"data: a\nid: 7\n\n") == b"a"
    assert data_of(b"data: a\rdata: b\r\r") == b"a\nb"
