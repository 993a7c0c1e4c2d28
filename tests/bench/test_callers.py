import numpy as np
from tests.bench.callers import FLOOD, play

from wissel.core.rollouts.callers import SHARE


def test_a_flood_is_held_to_its_share_and_takes_no_canary_back_that_may_lose_more():
    played = play(share=SHARE, allowed=0.25, flood=FLOOD, rng=np.random.default_rng(1))

    assert not played.rolled_back
    assert played.part < SHARE + 0.03


def test_without_a_share_the_flood_decides():
    played = play(share=1.0, allowed=0.25, flood=FLOOD, rng=np.random.default_rng(1))

    assert played.rolled_back
    assert played.part > 0.8
