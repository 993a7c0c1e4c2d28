import pytest

from wissel.extproc.excerpt import Excerpt


@pytest.mark.parametrize(
    ("pieces", "kept"), [([b"ab", b"c"], b"abc"), ([b"abcdefgh"], b"abcd"), ([b"abc", b"defghi"], b"abcdefg")]
)
def test_the_beginning_of_a_body_is_kept_and_given_once(pieces: list[bytes], kept: bytes):
    excerpt = Excerpt(4)
    excerpt.is_wanted = True
    for piece in pieces:
        excerpt.feed(piece)

    assert (excerpt.closed(), excerpt.closed()) == (kept, None)


def test_what_nobody_wants_is_not_kept():
    excerpt = Excerpt(4)
    excerpt.feed(b"ab")

    assert excerpt.closed() is None
