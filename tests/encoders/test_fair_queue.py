"""Whose text is next."""

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from wissel.encoders.fair_queue import OVERHEAD, FairQueue


@dataclass(frozen=True)
class Job:
    text: str


def queue(*waiting: tuple[str, str]) -> FairQueue[Job]:
    found: FairQueue[Job] = FairQueue()
    for caller, text in waiting:
        found.put(Job(text), caller)
    return found


def order(found: FairQueue[Job]) -> list[str]:
    texts: list[str] = []
    while found:
        texts += [job.text for job in found.take(1, 10_000)]
    return texts


def test_callers_take_turns_and_each_ones_shortest_is_first():
    found = queue(("a", "aaaa"), ("a", "a"), ("a", "aa"), ("b", "bbb"), ("b", "bb"))

    assert order(found) == ["a", "bb", "aa", "bbb", "aaaa"]


def test_who_asks_for_much_waits_longer():
    found = queue(*(("much", f"{number}" * 10 * OVERHEAD) for number in range(3)))
    found.take(1, 1)
    for number in range(9):
        found.put(Job(f"little {number}"), "little")

    assert order(found)[:9] == [f"little {number}" for number in range(9)]


def test_nobody_saves_up_time():
    found = queue(*(("busy", f"{number:03}") for number in range(100)))
    found.take(50, 10_000)
    for number in range(50):
        found.put(Job(f"late {number:03}"), "late")

    callers = ["late" if text.startswith("late") else "busy" for text in order(found)[:20]]
    assert 8 <= callers.count("busy") <= 12


def test_a_text_that_is_taken_is_nobodys_any_more():
    found = queue(("a", "same"), ("b", "same"), ("b", "other text"))

    assert [job.text for job in found.take(1, 100)] == ["same"]
    assert (len(found), found.of("a"), found.of("b"), "same" in found) == (1, 0, 1, False)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.text(max_size=5))), st.integers(1, 4), st.integers(1, 12))
def test_every_text_is_taken_once_within_the_bounds(waiting: list[tuple[str, str]], most: int, size: int):
    found = queue(*waiting)
    taken: list[str] = []
    while found:
        batch = [job.text for job in found.take(most, size)]
        assert 1 <= len(batch) <= most
        assert len(batch) == 1 or sum(map(len, batch)) <= size
        taken += batch

    assert sorted(taken) == sorted({text for _, text in waiting})
