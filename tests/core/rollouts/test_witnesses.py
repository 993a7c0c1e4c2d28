"""From how many callers on a refusal is the operator's fault."""

import pytest

from wissel.core.rollouts.witnesses import Witnesses


@pytest.mark.parametrize(
    ("callers", "enough"),
    [
        ("abc", [False, False, True]),
        ("aaaa", [False] * 4),
        ("abab", [False] * 4),
        ("abcab", [False, False, True, True, True]),
    ],
)
def test_three_callers_are_enough(callers: str, enough: list[bool]):
    witnesses = Witnesses()

    assert [witnesses.are_enough("arm", caller) for caller in callers] == enough


def test_each_arm_has_its_own():
    witnesses = Witnesses()

    assert not any(witnesses.are_enough(arm, caller) for arm, caller in zip("xyz", "abc", strict=True))
