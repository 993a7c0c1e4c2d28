import pytest

from rollout_factories import an_analysis, an_arm, sample, timed_arm
from wissel.core.rollouts.comparison import FEWEST_KEYS, Comparing, ComparisonMemory, compare, ladder
from wissel.core.rollouts.evidence import Arm, Sample
from wissel.core.rollouts.histogram import GAMMA, Histogram
from wissel.core.rollouts.metrics import Comparison

ERRORS = Comparison("error_rate")
LATENCY = Comparison("latency_p95", allowed=0.1, relative=True)


def looked(
    metric: Comparison, *looks: tuple[Arm, Arm], memory: ComparisonMemory | None = None, **spec: object
) -> Comparing:
    """After cumulative looks at one step."""
    found = compare(memory or ComparisonMemory(), metric, *looks[0], an_analysis(metric, **spec))
    for canary, stable in looks[1:]:
        found = compare(found.memory, metric, canary, stable, an_analysis(metric, **spec))
    return found


def test_a_canary_with_twice_the_errors_is_worse():
    assert looked(ERRORS, (an_arm(2000, 80), an_arm(18_000, 360))).is_worse


def test_a_canary_like_stable_is_not_worse():
    assert not looked(ERRORS, (an_arm(2000, 40), an_arm(18_000, 360))).is_worse


def test_more_errors_than_stable_but_fewer_than_allowed_are_not_worse():
    lenient = Comparison("error_rate", allowed=0.05)

    assert not looked(lenient, (an_arm(2000, 80), an_arm(18_000, 360))).is_worse


def test_an_allowed_increase_may_be_a_share_of_stables_rate():
    arms = (an_arm(4000, 160), an_arm(36_000, 720))

    assert looked(Comparison("error_rate", allowed=0.2, relative=True), arms).is_worse
    assert not looked(Comparison("error_rate", allowed=1.5, relative=True), arms).is_worse


def test_blocks_and_not_sums_are_compared():
    # The base rate rises from 1 % to 10 % while the canary goes from 1 % to 50 %: pooled, it looks bad.
    first = (an_arm(100, 1), an_arm(9900, 99))
    later = (an_arm(10_100, 1001), an_arm(19_900, 1099))

    assert not looked(ERRORS, first, later).is_worse


def test_a_look_without_an_arm_waits_for_it():
    alone = (an_arm(200, 60), an_arm(0, 0))
    both = (an_arm(400, 120), an_arm(3600, 72))

    assert looked(ERRORS, alone, both).is_worse


def test_looking_twice_at_the_same_evidence_is_looking_once():
    arms = (an_arm(1000, 30), an_arm(9000, 180))

    assert looked(ERRORS, arms, arms) == looked(ERRORS, arms)


def test_evidence_is_carried_into_the_next_step():
    one = looked(ERRORS, (an_arm(600, 24), an_arm(5400, 108)))
    alone = looked(ERRORS, (an_arm(600, 24), an_arm(5400, 108)))
    both = looked(ERRORS, (an_arm(600, 24), an_arm(5400, 108)), memory=one.memory.entering())

    assert (one.is_worse, alone.is_worse, both.is_worse) == (False, False, True)


def test_a_few_keys_that_fail_altogether_do_not_condemn_the_canary():
    counts, failed = (10,) * 64, (10,) * 3 + (0,) * 61
    canary = an_arm(640, 30, keys=64, samples={"error": Sample(counts, failed, 30)})
    stable = an_arm(5760, 115, keys=576, samples={"error": Sample((90,) * 64, (2,) * 51 + (1,) * 13, 115)})

    found = looked(ERRORS, (canary, stable))

    assert looked(ERRORS, (an_arm(640, 30), an_arm(5760, 115))).is_worse
    assert not found.is_worse
    assert found.design_effect > 5


def test_too_few_keys_are_no_verdict():
    found = looked(ERRORS, (an_arm(2000, 900, keys=FEWEST_KEYS - 1), an_arm(18_000, 360, keys=900)))

    assert (found.is_worse, found.unmeasurable) == (False, "only 19 keys in an arm, fewer than 20")


def test_below_min_requests_it_waits():
    found = looked(ERRORS, (an_arm(60, 50), an_arm(540, 10)))

    assert (found.is_worse, found.waiting) == (False, "40 more requests")


def test_equal_arms_are_proven_no_worse_by_the_margin():
    lenient = Comparison("error_rate", allowed=0.02)
    looks = [(an_arm(100 * i, 2 * i), an_arm(900 * i, 18 * i)) for i in range(1, 30)]

    assert looked(lenient, *looks, proof=True).is_proven
    assert not looked(ERRORS, *looks, proof=True).is_proven


def test_the_interval_holds_the_true_difference_and_agrees_with_the_verdict():
    looks = [(an_arm(200 * i, 16 * i), an_arm(1800 * i, 36 * i)) for i in range(1, 40)]
    found = looked(Comparison("error_rate", allowed=0.01), *looks)
    low, high = found.change

    assert low is not None
    assert high is not None
    assert 0.01 <= low < 0.06 < high
    assert found.is_worse


def test_the_interval_of_a_relative_change_is_relative():
    looks = [(an_arm(200 * i, 16 * i), an_arm(1800 * i, 36 * i)) for i in range(1, 40)]
    low, _ = looked(Comparison("error_rate", allowed=0.1, relative=True), *looks).change

    assert low == 0.5


@pytest.mark.parametrize("metric", [ERRORS, Comparison("feedback", "decrease", 0.05, relative=True), LATENCY])
def test_rungs_above_and_below_mirror_each_other(metric: Comparison):
    rungs = ladder(metric, proof=True, display=True)

    assert {r.side for r in rungs} == {"above", "below"}
    assert any(r.height < 0 for r in rungs)
    assert any(r.height > 0 for r in rungs)


def test_fewer_thumbs_up_are_worse():
    arms = [an_arm(n, 0, samples={"feedback": sample(n, up)}) for n, up in ((3000, 90), (27_000, 2160))]
    found = looked(Comparison("feedback", "decrease"), (arms[0], arms[1]))
    _, high = found.change

    assert found.is_worse
    assert high is not None
    assert -0.05 < high < 0


def spread(requests: int, shift: int = 0) -> Histogram:
    return Histogram({index + shift: requests // 100 for index in range(100)})


def test_stables_first_requests_set_the_edge_and_are_not_tested():
    found = looked(LATENCY, (timed_arm(spread(500, 20)), timed_arm(spread(2000))))

    assert (found.memory.edge, found.memory.spent, found.p_value) == (94, 500, 1.0)
    assert found.waiting == "100 more requests"


def test_a_slower_canary_is_worse():
    before = (timed_arm(Histogram()), timed_arm(spread(2000)))
    after = (timed_arm(spread(2000, 12)), timed_arm(spread(20_000)))
    found = looked(LATENCY, before, after)
    low, _ = found.change

    assert found.is_worse
    assert low is not None
    assert 0.1 < low < GAMMA**12 - 1


def test_a_canary_slower_by_less_than_allowed_is_not_worse():
    before = (timed_arm(Histogram()), timed_arm(spread(2000)))
    after = (timed_arm(spread(2000, 2)), timed_arm(spread(20_000)))

    assert not looked(LATENCY, before, after).is_worse


def test_a_margin_in_seconds_is_one_in_buckets_of_that_place():
    before = (timed_arm(Histogram()), timed_arm(spread(2000)))
    after = (timed_arm(spread(2000, 12)), timed_arm(spread(20_000)))

    # The edge lies at 44 ms; the canary's quantile at 71 ms.
    assert looked(Comparison("latency_p95", allowed=0.005), before, after).is_worse
    assert not looked(Comparison("latency_p95", allowed=0.1), before, after).is_worse


def test_the_next_step_takes_its_edge_from_the_step_before():
    found = looked(LATENCY, (timed_arm(spread(500)), timed_arm(spread(2000))))

    entered = looked(LATENCY, (timed_arm(spread(500)), timed_arm(spread(500, 9))), memory=found.memory.entering())

    assert (entered.memory.edge, entered.memory.spent) == (94, 0)


def tokens(requests: int, mean: float) -> Arm:
    return an_arm(requests, 0, samples={"tokens_out": sample(requests, requests * mean, requests * (mean**2 + 900))})


def test_a_mean_waits_for_five_hundred_requests():
    found = looked(Comparison("tokens_out"), (tokens(400, 150), tokens(3600, 100)))

    assert (found.is_worse, found.waiting) == (False, "100 more requests")


def test_a_model_that_talks_more_is_worse():
    assert looked(Comparison("tokens_out", allowed=0.1, relative=True), (tokens(600, 150), tokens(5400, 100))).is_worse


def test_means_are_compared_within_steps():
    # Both arms talk three times as much in the second step, where the canary has more traffic.
    one = looked(Comparison("tokens_out"), (tokens(600, 100), tokens(59_400, 100)))
    two = looked(Comparison("tokens_out"), (tokens(6000, 300), tokens(6000, 300)), memory=one.memory.entering())

    assert not two.is_worse
    assert len(two.memory.entering().strata) == 2
