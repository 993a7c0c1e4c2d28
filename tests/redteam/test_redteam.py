"""A sample of the attacks, and that one of them does harm where its bound is off.

The bystander's latencies need a machine to itself; here the aims are those that hold on any.
"""

from pathlib import Path

import pytest

from real import needs_envoy
from redteam.attacks import ATTACKS
from redteam.field import MOST_MEMORY, Found, Span, running_field, tried

pytestmark = [pytest.mark.slow, needs_envoy]

SAMPLE = [each for each in ATTACKS if each.in_sample]


async def test_a_sample_of_attacks_leaves_the_bystander_served(tmp_path: Path):
    async with running_field(tmp_path, {}) as stage:
        found = [await tried(stage, each, seconds=1.0) for each in SAMPLE]

    assert found
    assert [(each.attack.name, each.during.wrong) for each in found] == [(each.name, 0) for each in SAMPLE]
    assert all(each.memory < MOST_MEMORY and each.answers for each in found)


def test_names_of_attacks_are_unique():
    assert len({each.name for each in ATTACKS}) == len(ATTACKS)


@pytest.mark.parametrize(
    ("worst", "wrong", "memory", "missed"),
    [(0.05, 0, 1, 0), (0.2, 0, 1, 1), (0.05, 1, 1, 1), (0.05, 0, MOST_MEMORY + 1, 1), (0.2, 2, MOST_MEMORY + 1, 3)],
)
def test_an_aim_that_is_missed_is_said(worst: float, wrong: int, memory: int, missed: int):
    calm, hurt = Span((0.01,) * 100, 0), Span((*[0.01] * 90, *[worst] * 10), wrong)
    found = Found(ATTACKS[0], calm, hurt, calm, memory, {"400": 3})

    assert len(found.missed) == missed
