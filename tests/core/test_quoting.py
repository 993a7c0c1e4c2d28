from hypothesis import given
from hypothesis import strategies as st

from wissel.core.quoting import MOST_QUOTED, cut, quoted


def test_what_is_short_is_repeated_as_it_is():
    assert (quoted("gpt-4o"), quoted("x" * 201)) == ('"gpt-4o"', '"' + "x" * 199 + '…"')


@given(st.text(alphabet=st.characters(categories=["Cs", "L", "Cc"])))
def test_what_is_repeated_can_be_sent_even_if_it_is_half_a_character(written):
    assert isinstance(cut(written).encode(), bytes)


@given(st.text(alphabet=st.characters(categories=["L", "N"])))
def test_of_what_can_be_printed_at_most_the_beginning_is_kept(written):
    kept = cut(written)

    assert (len(kept) <= MOST_QUOTED, written.startswith(kept.removesuffix("…"))) == (True, True)
