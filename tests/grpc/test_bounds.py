from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wissel.grpc.bounds import Allowance, Limits, Memory


@dataclass(eq=False)
class Stream:
    """Holds what it is told to, and gives it up when asked."""

    memory: Memory
    owner: str = ""
    held: int = 0
    given_up: list["Stream"] = field(default_factory=list["Stream"])

    def hold(self, count: int) -> None:
        self.memory.hold(self, count)

    def give_up(self) -> None:
        self.given_up.append(self)
        self.memory.hold(self, -self.held)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(-200_000, 200_000)), max_size=60))
def test_what_is_held_never_stays_over_the_limit(changes: list[tuple[int, int]]):
    memory = Memory(500_000)
    streams = [Stream(memory) for _ in range(6)]
    for number, change in changes:
        streams[number].hold(max(change, -streams[number].held))

        assert memory.held == sum(stream.held for stream in streams) <= 500_000


def test_the_newest_large_stream_gives_up():
    memory = Memory(500_000)
    given_up: list[Stream] = []
    old, new, small = (Stream(memory, given_up=given_up) for _ in range(3))
    for stream, count in ((old, 100_000), (new, 300_000), (small, 10_000), (old, 150_000)):
        stream.hold(count)

    assert given_up == [new]
    assert memory.held == 260_000


def test_a_small_stream_gives_up_where_no_large_one_can():
    memory = Memory(100_000)
    given_up: list[Stream] = []
    streams = [Stream(memory, given_up=given_up) for _ in range(3)]
    for stream in streams:
        stream.hold(40_000)

    assert given_up == [streams[2]]


def test_who_holds_most_gives_up_and_not_who_came_last():
    memory = Memory(500_000)
    given_up: list[Stream] = []
    first, second, other = (Stream(memory, owner, given_up=given_up) for owner in ("many", "many", "one"))
    for stream, count in ((first, 200_000), (second, 200_000), (other, 250_000)):
        stream.hold(count)

    assert given_up == [second]
    assert (first.held, other.held) == (200_000, 250_000)


@pytest.mark.parametrize("body", [1024, 32 << 20, 256 << 20])
def test_bounds_leave_room_for_two_bodies_with_what_comes_along(body: int):
    limits = Limits.for_bodies(body)

    assert body + (1 << 20) < limits.message_bytes <= limits.queued_bytes <= limits.memory_bytes
    assert limits.memory_bytes >= 2 * (body + (1 << 20))


def test_bounds_of_the_default_configuration_are_the_defaults():
    assert Limits.for_bodies(32 << 20) == Limits()


def test_an_allowance_lasts_for_ten_seconds():
    allowance = Allowance(2)
    spent = [allowance.spend(now) for now in (100.0, 100.0, 109.9, 110.0, 110.1, 110.1, 110.1)]

    assert spent == [True, True, False, False, True, True, False]


def test_useful_work_earns_more():
    allowance = Allowance(1)
    allowance.earn(2)

    assert [allowance.spend(5.0) for _ in range(4)] == [True, True, True, False]
