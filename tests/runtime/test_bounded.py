"""A mapping that forgets, against the plainest one that could be written: a list in the order of use."""

from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from wissel.runtime.bounded import Bounded

KEYS = st.integers(0, 5)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), KEYS, st.integers()),
        st.tuples(st.sampled_from(("get", "peek", "drop")), KEYS, st.none()),
    )
)
SIZES = st.integers(1, 4)


def after(size: int, steps: Iterable[tuple[str, int, int | None]]) -> Bounded[int, int]:
    bounded = Bounded(size)
    for name, key, value in steps:
        getattr(bounded, name)(*((key,) if value is None else (key, value)))
    return bounded


@given(SIZES, STEPS)
def test_it_keeps_what_was_used_last_in_the_order_of_use(size, steps):
    plain: list[tuple[int, int]] = []
    for name, key, value in steps:
        held = dict(plain).get(key, value)
        used = {"put": (key, value), "get": None if held is None else (key, held)}.get(name)
        if used or name == "drop":
            plain = [entry for entry in plain if entry[0] != key]
        if used:
            plain = [*plain, used][-size:]

    assert after(size, steps).oldest(size) == plain


@given(SIZES, STEPS)
def test_it_never_holds_more_than_its_size(size, steps):
    assert len(after(size, steps)) <= size


@given(SIZES, STEPS, KEYS, st.integers())
def test_what_was_put_last_is_there(size, steps, key, value):
    bounded = after(size, steps)
    bounded.put(key, value)

    assert bounded.peek(key) == bounded.get(key) == value


@given(SIZES, STEPS, KEYS, st.integers())
def test_put_says_whether_another_had_to_go(size, steps, key, value):
    bounded = after(size, steps)
    before = {kept for kept, _ in bounded.oldest(size)}
    found_room = bounded.put(key, value)
    lost = before - {kept for kept, _ in bounded.oldest(size)}

    assert found_room == (not lost)
    assert len(lost) <= 1


@given(SIZES, STEPS, KEYS)
def test_to_peek_changes_nothing(size, steps, key):
    bounded = after(size, steps)
    before = bounded.oldest(size)
    bounded.peek(key)

    assert bounded.oldest(size) == before


def test_the_oldest_are_told_first_and_no_more_than_asked_for():
    bounded = Bounded(3)
    for key in "abc":
        bounded.put(key, key.upper())
    bounded.get("a")

    assert bounded.oldest(2) == [("b", "B"), ("c", "C")]
