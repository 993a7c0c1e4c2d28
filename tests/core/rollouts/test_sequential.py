import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wissel.core.rollouts.sequential import (
    SAMPLE_RATIO_EVIDENCE,
    Block,
    Direction,
    EProcess,
    Hypothesis,
    MeanContrast,
    Stratum,
    alternatives,
    ln_mean,
    ln_sample_ratio,
    mean_margin,
    null_point,
)

HYPOTHESES = [
    Hypothesis(claim, direction, margin, relative)
    for claim in ("worse", "no_worse")
    for direction in ("increase", "decrease")
    for margin, relative in ((0.01, False), (0.2, True), (0.05, False))
]


def kl(p: float, q: float) -> float:
    return p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))


@pytest.mark.parametrize(("margin", "first", "then"), [(0.0, 3.103241, 3.713681), (0.01, 1.556962, 1.401695)])
def test_evidence_agrees_with_the_reference_vectors(margin: float, first: float, then: float):
    one = EProcess(Hypothesis(margin=margin)).after(Block(100, 8, 900, 18))
    two = one.after(Block(120, 6, 880, 20))

    assert [ln_mean(one.ln_e), ln_mean(two.ln_e)] == pytest.approx([first, then], abs=1e-6)


def test_a_healthy_block_is_evidence_for_health():
    process = EProcess(Hypothesis()).after(Block(100, 2, 900, 18))

    assert ln_mean(process.ln_e) == pytest.approx(-0.914089, abs=1e-6)


def test_the_null_point_agrees_with_the_reference():
    assert null_point(0.1, 0.02, 0.1, (1.0, 0.01)) == pytest.approx((0.0352078, 0.0252078), abs=1e-7)


def test_the_grid_has_the_reference_size():
    assert len(list(alternatives(Hypothesis()))) == 77


@pytest.mark.parametrize("hypothesis", HYPOTHESES)
def test_no_alternative_lies_within_the_hypothesis(hypothesis: Hypothesis):
    slope, offset = hypothesis.line
    beyond = [c - (slope * s + offset) for c, s in alternatives(hypothesis)]

    assert min(beyond) > 0 if hypothesis.claim == "worse" else max(beyond) < 0


@pytest.mark.parametrize("hypothesis", HYPOTHESES)
@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 0.97])
def test_the_null_point_explains_every_alternative_best(hypothesis: Hypothesis, share: float):
    slope, offset = hypothesis.line

    def misfit(canary: float, stable: float, at: float) -> float:
        return share * kl(canary, slope * at + offset) + (1 - share) * kl(stable, at)

    for canary, stable in alternatives(hypothesis):
        c, s = null_point(canary, stable, share, hypothesis.line)
        aside = 1e-4 * min(s, 1 - s, 1 - c)
        assert c == pytest.approx(slope * s + offset)
        assert misfit(canary, stable, s) <= min(misfit(canary, stable, s + aside), misfit(canary, stable, s - aside))


@pytest.mark.parametrize("hypothesis", [Hypothesis(), *HYPOTHESES])
@pytest.mark.parametrize("sizes", [(1, 9), (3, 3), (4, 1)])
@pytest.mark.parametrize("rate", [0.06, 0.1, 0.4])
def test_a_bet_cannot_win_on_average_where_the_hypothesis_is_true(
    hypothesis: Hypothesis, sizes: tuple[int, int], rate: float
):
    slope, offset = hypothesis.line
    stable = rate if hypothesis.direction == "increase" else 1 - rate
    canary = slope * stable + offset
    n_c, n_s = sizes
    mean = 0.0
    for bad_c in range(n_c + 1):
        for bad_s in range(n_s + 1):
            events = (bad_c, bad_s) if hypothesis.direction == "increase" else (n_c - bad_c, n_s - bad_s)
            chance_c = math.comb(n_c, bad_c) * canary**bad_c * (1 - canary) ** (n_c - bad_c)
            chance_s = math.comb(n_s, bad_s) * stable**bad_s * (1 - stable) ** (n_s - bad_s)
            process = EProcess(hypothesis).after(Block(n_c, events[0], n_s, events[1]))
            mean += chance_c * chance_s * math.exp(ln_mean(process.ln_e))

    assert mean <= 1 + 1e-9


def test_a_block_without_an_arm_says_nothing():
    process = EProcess(Hypothesis())

    assert process.after(Block(0, 0, 900, 18)) == process


def test_only_a_look_makes_evidence_count():
    process = EProcess(Hypothesis()).after(Block(100, 30, 900, 18))

    assert (process.rejects(0.01), process.judged().rejects(0.01)) == (False, True)


def test_evidence_once_seen_is_not_lost_again():
    bad = EProcess(Hypothesis()).after(Block(100, 30, 900, 18)).judged()

    assert bad.after(Block(10_000, 100, 90_000, 1800)).judged().peak == bad.peak


def test_a_design_effect_divides_the_evidence():
    process = EProcess(Hypothesis()).after(Block(100, 12, 900, 18))

    assert process.judged(4.0).peak < process.judged().peak / 2


@given(st.integers(0, 100), st.integers(0, 900))
def test_the_p_value_and_the_rejection_agree(canary: int, stable: int):
    process = EProcess(Hypothesis()).after(Block(100, canary, 900, stable)).judged()

    assert process.rejects(0.01) == (process.p_value <= 0.01)


def test_fewer_good_events_are_found_by_the_test_of_a_decrease():
    rates = Block(2000, 10, 18_000, 900)

    assert EProcess(Hypothesis(direction="decrease")).after(rates).judged().rejects(0.01)


def test_a_decrease_of_what_may_decrease_is_no_harm():
    rates = Block(2000, 60, 18_000, 900)
    allowed = Hypothesis(direction="decrease", margin=0.5, relative=True)

    assert not EProcess(allowed).after(rates).judged().rejects(0.01)


@pytest.mark.parametrize("margin", [0.01, 0.02])
def test_equal_arms_are_proven_no_worse(margin: float):
    process = EProcess(Hypothesis("no_worse", margin=margin))
    for _ in range(100):
        process = process.after(Block(100, 2, 900, 18)).judged()

    assert process.rejects(0.05)


def test_an_arm_worse_by_the_margin_is_not_proven_no_worse():
    process = EProcess(Hypothesis("no_worse", margin=0.02))
    for _ in range(100):
        process = process.after(Block(100, 4, 900, 18)).judged()

    assert not process.rejects(0.05)


def test_the_margin_of_a_mean_is_that_of_the_paper():
    n_c, n_s, v_c, v_s, alpha = 700, 6300, 4.0, 3.0, 0.01
    n, share = n_c + n_s, n_c / (n_c + n_s)
    rho = math.sqrt((-2 * math.log(2 * alpha) + math.log(1 - 2 * math.log(2 * alpha))) / (500 / share))
    s2 = n * (v_c / n_c + v_s / n_s)
    paper = math.sqrt(
        s2 * 2 * (n * rho**2 + 1) / (n * rho) ** 2 * math.log(1 + math.sqrt(n * rho**2 + 1) / (2 * alpha))
    )

    assert mean_margin(v_c / n_c + v_s / n_s, n_c, alpha) == pytest.approx(paper, rel=1e-12)


def strata(difference: float, drift: tuple[float, ...] = (1.0,)) -> tuple[Stratum, ...]:
    return tuple(Stratum(1000, d * 100 * (1 + difference), 1.0, 9000, d * 100, 0.1) for d in drift)


@pytest.mark.parametrize(("allowed", "expected"), [(0.1, True), (0.2, False)])
def test_a_mean_is_worse_when_its_whole_interval_is(allowed: float, expected: bool):
    assert MeanContrast(strata(0.2)).worse_by_more_than(allowed, 0.01, relative=True) == expected


def test_a_mean_that_drifts_alike_in_both_arms_is_no_worse():
    contrast = MeanContrast(strata(0.0, (1.0, 3.0, 6.0)))

    assert contrast.worse_by_less_than(0.05, 0.05, relative=True)


def test_fewer_is_worse_where_a_decrease_is():
    assert MeanContrast(strata(-0.2), "decrease").worse_by_more_than(10, 0.01, relative=False)


@pytest.mark.parametrize("direction", ["increase", "decrease"])
@pytest.mark.parametrize("relative", [True, False])
@pytest.mark.parametrize("margin", [0.02, 0.05, 0.09, 0.13, 0.2])
def test_the_interval_of_a_mean_is_what_its_tests_do_not_reject(direction: Direction, relative: bool, margin: float):
    sign = 1 if direction == "increase" else -1
    contrast = MeanContrast(strata(sign * 0.1), direction)
    low, high = contrast.interval(0.01, relative=relative)
    size = margin if relative else 100 * margin

    assert contrast.worse_by_more_than(size, 0.01, relative=relative) == (size < low if sign > 0 else -size > high)


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5])
def test_shares_as_set_are_no_mismatch(share: float):
    assert ln_sample_ratio(round(10_000 * share), round(10_000 * (1 - share)), share) < 0


def test_a_share_far_off_is_a_mismatch():
    assert ln_sample_ratio(1500, 8500, 0.1) > math.log(SAMPLE_RATIO_EVIDENCE)


def test_evidence_of_a_mismatch_averages_to_one_over_all_splits():
    n, share = 200, 0.1
    mean = sum(
        math.comb(n, k) * share**k * (1 - share) ** (n - k) * math.exp(ln_sample_ratio(k, n - k, share))
        for k in range(n + 1)
    )

    assert mean == pytest.approx(1, rel=1e-9)
