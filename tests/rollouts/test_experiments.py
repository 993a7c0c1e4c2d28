"""Plain splits read as experiments, on a real Redis and counted as a replica counts."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace

import pytest
import pytest_asyncio

from wissel.core.rollouts.analysis import Analysis
from wissel.core.rollouts.comparison import ComparisonMemory
from wissel.core.split import KeySource, Split, Variant
from wissel.rollouts.experiments import Experiment, Experiments, UnknownExperimentError, difference
from wissel.store.base import Scope
from wissel.store.connection import RedisConnection
from wissel.store.counters import Counters
from wissel.store.feedback import FeedbackStore
from wissel.store.keys import Keys
from wissel.store.looks import Looks
from wissel.store.recorder import Recorder

SPLIT = Split(
    "ab",
    (KeySource("request"),),
    (Variant("old", "old", 50), Variant("new", "new", 50)),
    default="old",
    revision="r1",
)


@dataclass
class World:
    connection: RedisConnection
    keys: Keys = field(default_factory=lambda: Keys("test"))
    now: float = 1000.0
    recorder: Recorder = field(init=False)
    served: int = 0

    def __post_init__(self) -> None:
        requests = FeedbackStore(self.connection, self.keys)
        self.recorder = Recorder(self.counters, requests, "r.1", clock=lambda: self.now)

    @property
    def counters(self) -> Counters:
        return Counters(self.connection, self.keys)

    def experiments(self, split: Split = SPLIT) -> Experiments:
        found = Experiments(self.counters, Looks(self.connection, self.keys))
        found.use((split,))
        return found

    async def serve(self, arm: str, requests: int, *, errors: int = 0, latency: float = 0.1) -> None:
        for number in range(requests):
            self.served += 1
            ticket = self.recorder.began(Scope("ab", "r1"), arm, f"key-{self.served}")
            ticket.observed.update(error=float(number < errors), latency=latency * (1 + number % 10))
            ticket.ended()
        self.now += 1.0
        await self.recorder.flush()


@pytest_asyncio.fixture
async def world(redis: RedisConnection) -> AsyncIterator[World]:
    return World(redis)


def shown(experiment: Experiment, metric: str) -> str:
    (contrast,) = experiment.contrasts
    return next(difference(each) for each in contrast.readings if each.metric.startswith(metric))


async def test_a_variant_that_fails_more_often_is_shown_to(world: World):
    await world.serve("old", 500, errors=10)
    await world.serve("new", 500, errors=100)
    experiment = await world.experiments().experiment("ab")

    assert shown(experiment, "error_rate") == "higher"
    assert (experiment.base, experiment.arms["new"].failed) == ("old", 100)


async def test_a_variant_that_fails_less_often_is_shown_to(world: World):
    await world.serve("old", 500, errors=100)
    await world.serve("new", 500, errors=10)

    assert shown(await world.experiments().experiment("ab"), "error_rate") == "lower"


async def test_equal_variants_show_no_difference(world: World):
    await world.serve("old", 500, errors=10)
    await world.serve("new", 500, errors=10)

    assert shown(await world.experiments().experiment("ab"), "error_rate") == "not shown"


async def test_what_few_requests_show_is_not_told(world: World):
    await world.serve("old", 50, errors=0)
    await world.serve("new", 50, errors=5)

    assert shown(await world.experiments().experiment("ab"), "error_rate") == "too few requests"


async def test_a_slower_variant_is_shown_once_the_edge_was_fixed_by_earlier_traffic(world: World):
    experiments = world.experiments()
    for _ in range(3):
        await world.serve("old", 600)
        await world.serve("new", 600, latency=0.3)
        await experiments.tick(SPLIT)

    assert shown(await world.experiments().experiment("ab"), "latency_p50") == "higher"


async def test_another_replica_goes_on_from_what_was_seen(world: World):
    await world.serve("old", 500, errors=10)
    await world.serve("new", 500, errors=100)
    await world.experiments().tick(SPLIT)
    await world.serve("old", 500, errors=90)
    seen = await world.experiments().experiment("ab")

    assert shown(seen, "error_rate") == "higher"


async def test_a_changed_split_starts_over(world: World):
    await world.serve("old", 500, errors=10)
    await world.serve("new", 500, errors=100)
    await world.experiments().tick(SPLIT)
    changed = await world.experiments(replace(SPLIT, revision="r2")).experiment("ab")

    assert (dict(changed.arms), shown(changed, "error_rate")) == ({}, "too few requests")


async def test_shares_that_are_not_those_that_were_set_are_told(world: World):
    await world.serve("old", 700)
    await world.serve("new", 400)
    (contrast,) = (await world.experiments().experiment("ab")).contrasts

    assert contrast.ln_sample_ratio > 6.9


async def test_an_unknown_split_is_told(world: World):
    with pytest.raises(UnknownExperimentError):
        await world.experiments().experiment("ba")


async def test_what_was_seen_is_kept_by_metric_when_a_new_one_is_looked_at(world: World):
    seen = Analysis(metrics=(ComparisonMemory(spent=1.0), ComparisonMemory(spent=2.0)), step=0)
    looks = Looks(world.connection, world.keys)
    await looks.put("ab", "r1", {"new": seen}, ("error_rate", "refusal"))
    recalled = await looks.get("ab", "r1", ("refusal", "feedback"))

    assert recalled["new"] == replace(seen, metrics=(ComparisonMemory(spent=2.0), ComparisonMemory()))
