from itertools import pairwise
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wissel.grpc.frames import Deframer, FramingError, Status, frame, parse_timeout, percent_encode


def test_a_message_travels_behind_a_flag_and_its_length():
    assert frame(b"abc") == b"\0\0\0\0\x03abc"


@given(st.lists(st.binary(max_size=40)), st.lists(st.integers(0, 400)))
def test_the_borders_of_chunks_do_not_change_the_messages(messages: list[bytes], cuts: list[int]):
    stream = b"".join(map(frame, messages))
    borders = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    deframer = Deframer(1000)

    received = [m for a, b in pairwise(borders) for m in deframer.feed(stream[a:b])]

    assert (received, deframer.held) == (messages, 0)


@given(st.binary(min_size=1, max_size=40), st.data())
def test_what_is_held_is_what_is_not_yet_a_message(message: bytes, data: st.DataObject):
    stream = frame(message)
    cut = data.draw(st.integers(0, len(stream) - 1))
    deframer = Deframer(1000)

    assert list(deframer.feed(stream[:cut])) == []
    assert deframer.held == cut


def test_messages_before_a_refused_one_are_still_delivered():
    deframer = Deframer(10)
    received: list[bytes] = []

    with pytest.raises(FramingError) as refusal:
        received.extend(deframer.feed(frame(b"fine") + frame(b"x" * 11)))

    assert refusal.value.status is Status.RESOURCE_EXHAUSTED
    assert received == [b"fine"]


def test_a_message_too_large_is_refused_by_its_prefix_alone():
    deframer = Deframer(10)

    with pytest.raises(FramingError, match="larger than 10 bytes"):
        list(deframer.feed((11).to_bytes(5, "big")))
    assert deframer.held == 0


def test_a_compressed_message_is_refused():
    with pytest.raises(FramingError) as refusal:
        list(Deframer(10).feed(b"\1\0\0\0\1x"))

    assert refusal.value.status is Status.UNIMPLEMENTED


@given(st.text())
def test_a_status_message_can_be_read_back(message: str):
    encoded = percent_encode(message)

    assert all(0x20 <= byte <= 0x7E for byte in encoded)
    assert unquote(encoded.decode(), errors="strict") == message.encode("utf-8", "replace").decode()


def test_printable_text_is_sent_as_it_is():
    assert percent_encode('limit "a" of 10 / s, 100%') == b'limit "a" of 10 / s, 100%25'


@pytest.mark.parametrize(
    ("value", "seconds"),
    [(b"1H", 3600), (b"2M", 120), (b"3S", 3), (b"250m", 0.25), (b"5u", 5e-6), (b"99999999n", 0.099999999)],
)
def test_a_timeout_is_read_in_its_unit(value: bytes, seconds: float):
    assert parse_timeout(value) == pytest.approx(seconds)


@pytest.mark.parametrize("value", [b"", b"5", b"S", b"-1S", b"1.5S", b"123456789S", b"1s", b"1S\n", "١S".encode()])
def test_what_is_no_timeout_is_refused(value: bytes):
    with pytest.raises(ValueError, match="grpc-timeout"):
        parse_timeout(value)
