"""What limits say, as laws and examples of the meters that a process keeps by itself."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factories import model, request
from wissel.core.access import Principal
from wissel.core.limits import (
    LEASE_US,
    Bucket,
    Charge,
    Drawn,
    Estimate,
    Exceeded,
    MeterReading,
    Used,
    draw,
    entry_charges,
    estimate,
    is_spent,
    nano_usd,
    settle,
    spared,
    target_charges,
    token_charges,
)
from wissel.core.snapshot import Limit, Price, Rate

ada = Principal("ada", frozenset({"eng", "ops"}))
SECOND = 1_000_000
MINUTE = 60 * SECOND
NOON = 1_800_000_000 * SECOND
PRICED = model("m", price=Price(2.0, 10.0))


def charge(kind="requests", amount=100, period_us=MINUTE, cost=1, subject="ada") -> Charge:
    return Charge("l", kind, "principal", subject, amount, 0 if kind == "concurrent" else period_us, cost)


def accepted(meters, asked: Charge, times) -> int:
    found = (draw(meters, (asked,), id=str(at), now_us=at) for at in times)
    return sum(isinstance(each, Drawn) for each in found)


def test_a_rate_gives_all_at_once_and_then_one_at_a_time():
    meters = {}

    assert accepted(meters, charge(), range(NOON, NOON + 300)) == 100
    assert accepted(meters, charge(), [NOON + 599_999, NOON + 600_000, NOON + 600_001]) == 1


def test_a_refusal_says_when_the_charge_fits_and_is_right():
    meters = {}
    accepted(meters, charge(amount=7), [NOON] * 7)
    refused = draw(meters, (charge(amount=7),), id="x", now_us=NOON)
    assert isinstance(refused, Exceeded)
    retry = refused.worst[1].retry_us

    assert accepted(dict(meters), charge(amount=7), [NOON + retry - 1]) == 0
    assert accepted(meters, charge(amount=7), [NOON + retry]) == 1


@given(
    amount=st.integers(1, 50),
    seconds=st.sampled_from([1, 60, 3600, 86_400]),
    steps=st.lists(st.tuples(st.integers(0, 5 * SECOND), st.integers(1, 60)), min_size=1, max_size=60),
)
def test_in_any_stretch_of_time_no_more_is_given_than_the_definition_allows(amount, seconds, steps):
    meters, at, given_out = {}, NOON, []
    for wait, cost in steps:
        at += wait
        asked = charge(amount=amount, period_us=seconds * SECOND, cost=min(cost, amount))
        if isinstance(draw(meters, (asked,), id=str(at), now_us=at), Drawn):
            given_out.append((at, asked.cost))

    for index, (begin, _) in enumerate(given_out):
        for end, _ in given_out[index:]:
            total = sum(cost for when, cost in given_out if begin <= when <= end)
            assert total * seconds * SECOND <= amount * (seconds * SECOND + end - begin)


def test_all_charges_are_drawn_or_none():
    meters = {}
    wide, narrow = charge(amount=100), charge(kind="tokens", amount=1)
    draw(meters, (wide, narrow), id="a", now_us=NOON)
    before = dict(meters)

    assert isinstance(draw(meters, (wide, narrow), id="b", now_us=NOON), Exceeded)
    assert meters == before


def test_places_are_given_until_they_are_taken_and_come_back():
    meters, place = {}, charge("concurrent", amount=2)
    first = draw(meters, (place,), id="a", now_us=NOON)
    draw(meters, (place,), id="b", now_us=NOON)
    refused = draw(meters, (place,), id="c", now_us=NOON)
    settle(meters, first, Used(9, 9), now_us=NOON)

    assert isinstance(refused, Exceeded)
    assert isinstance(draw(meters, (place,), id="d", now_us=NOON), Drawn)
    assert isinstance(draw(meters, (place,), id="e", now_us=NOON), Exceeded)


def test_a_place_that_is_never_given_back_ends_by_itself():
    meters, place = {}, charge("concurrent", amount=1)
    draw(meters, (place,), id="a", now_us=NOON)

    assert isinstance(draw(meters, (place,), id="b", now_us=NOON + LEASE_US - 1), Exceeded)
    assert isinstance(draw(meters, (place,), id="c", now_us=NOON + LEASE_US), Drawn)


def test_money_is_there_again_when_the_period_begins():
    day = 86_400 * SECOND
    meters, midnight = {}, NOON // day * day
    spend = charge("usd", amount=10, period_us=day, cost=6)
    draw(meters, (spend,), id="a", now_us=midnight)
    refused = draw(meters, (spend,), id="b", now_us=midnight + day - 5)

    assert isinstance(refused, Exceeded)
    assert refused.worst[1].retry_us == 5
    assert isinstance(draw(meters, (spend,), id="c", now_us=midnight + day), Drawn)


@given(
    kind=st.sampled_from(["requests", "tokens", "usd"]),
    estimated=st.integers(0, 100),
    wait=st.integers(0, 10 * SECOND),
)
def test_a_request_that_never_went_on_leaves_no_trace_but_that_it_was_made(kind, estimated, wait):
    meters, asked = {}, charge(kind, cost=estimated)
    drawn = draw(meters, (asked,), id="a", now_us=NOON)
    settle(meters, drawn, None, now_us=NOON + wait)

    assert kind == "requests" or is_spent(meters[asked.key], asked, NOON + wait)


def test_a_request_counts_whatever_becomes_of_it():
    meters, asked = {}, charge("requests", cost=1)
    drawn = draw(meters, (asked,), id="a", now_us=NOON)
    settle(meters, drawn, None, now_us=NOON)

    assert meters[asked.key] == Bucket(MINUTE, NOON)


@given(estimated=st.integers(0, 100), used=st.integers(0, 300))
def test_tokens_settle_to_what_was_really_used(estimated, used):
    meters, asked = {}, charge("tokens", cost=estimated)
    drawn = draw(meters, (asked,), id="a", now_us=NOON)
    settle(meters, drawn, Used(used, 0), now_us=NOON)

    assert meters[asked.key] == Bucket(used * MINUTE, NOON)


def test_what_is_given_back_after_its_period_is_not_taken_from_the_next():
    day, meters = 86_400 * SECOND, {}
    spend = charge("usd", amount=10, period_us=day, cost=6)
    drawn = draw(meters, (spend,), id="a", now_us=NOON)
    draw(meters, (spend,), id="b", now_us=NOON + day)
    settle(meters, drawn, None, now_us=NOON + day)

    assert isinstance(draw(meters, (spend,), id="c", now_us=NOON + day), Exceeded)


def test_a_replicas_part_is_at_least_one():
    assert (spared(charge(amount=100), 3).amount, spared(charge(amount=2), 3).amount) == (33, 1)


def test_the_caller_is_charged_by_what_it_is():
    limits = (
        Limit("key", "principal", requests=Rate(600, 60), tokens=Rate(1000, 60), concurrent=8),
        Limit("team", "group", requests=Rate(10, 1), usd=Rate(5, 86_400)),
        Limit("tenant", "header", header="x-tenant", requests=Rate(10, 1)),
        Limit("big", "model", requests=Rate(10, 1)),
    )
    headers = {"x-tenant": "t"}
    charges = (*entry_charges(limits, ada, headers), *token_charges(limits, ada, headers, Estimate(30, 70)))

    assert [(each.limit, each.kind, each.subject, each.cost) for each in charges] == [
        ("key", "requests", "ada", 1),
        ("key", "concurrent", "ada", 1),
        ("team", "requests", "eng", 1),
        ("team", "requests", "ops", 1),
        ("tenant", "requests", "t", 1),
        ("key", "tokens", "ada", 100),
    ]


def test_what_serves_is_charged_once_it_is_known_and_so_is_money():
    limits = (
        Limit("key", "principal", requests=Rate(600, 60), usd=Rate(10**12, 86_400)),
        Limit("big", "model", tokens=Rate(1000, 60), usd=Rate(10**12, 3600)),
        Limit("code", "route", requests=Rate(10, 1)),
    )
    charges = target_charges(limits, ada, {}, Estimate(30, 7), model=PRICED, route="code")

    assert [(each.limit, each.kind, each.subject, each.cost) for each in charges] == [
        ("key", "usd", "ada", 130_000),
        ("big", "tokens", "m", 37),
        ("big", "usd", "m", 130_000),
        ("code", "requests", "code", 1),
    ]


@pytest.mark.parametrize("per", ["model", "route"])
def test_what_only_the_decision_tells_is_not_charged_before(per):
    assert token_charges((Limit("cap", per, tokens=Rate(10, 1)),), ada, {}, Estimate(3, 4)) == ()


@pytest.mark.parametrize(
    ("price", "kinds"),
    [
        (None, []),
        (Price(), []),
        (Price(0, 0, 0), []),
        (Price(1), ["usd"]),
        (Price(0, 1), ["usd"]),
        (Price(0, 0, 1), ["usd"]),
    ],
)
def test_a_model_that_costs_nothing_is_no_matter_of_a_budget(price: Price | None, kinds: list[str]):
    budget = Limit("b", "principal", usd=Rate(10, 60))
    charges = target_charges((budget,), ada, {}, Estimate(0, 0), model=replace(PRICED, price=price), route="")

    assert [each.kind for each in charges] == kinds


def test_a_request_that_names_its_model_is_on_no_route():
    assert (
        target_charges((Limit("code", "route", requests=Rate(1, 1)),), ada, {}, Estimate(), model=PRICED, route="")
        == ()
    )


def test_leaving_a_header_out_is_no_way_around_its_limit():
    limit = Limit("tenant", "header", header="x-tenant", requests=Rate(1, 60))
    (first,), (second,) = (entry_charges((limit,), who, {}) for who in (ada, Principal("bob")))

    assert first.key == second.key


def test_an_estimate_beyond_the_limit_is_cut_to_it():
    (only,) = token_charges((Limit("l", "principal", tokens=Rate(1000, 60)),), ada, {}, Estimate(10, 10**6))

    assert only.cost == 1000


@pytest.mark.parametrize(
    ("price", "tokens", "cost"),
    [(None, 5, 0), (Price(0.1, 0.3), 5, 500), (Price(0.0001, 0), 11, 2), (Price(2), 1, 2000)],
)
def test_a_price_becomes_whole_nano_dollars_and_is_rounded_up(price, tokens, cost):
    assert nano_usd(model("m", price=price), tokens, 0) == cost


def test_cached_tokens_cost_what_the_file_says_of_them():
    assert nano_usd(model("m", price=Price(2.0, 10.0, cached_input=0.2)), 1000, 1, 900) == 200_000 + 180_000 + 10_000


@pytest.mark.parametrize(
    ("asked", "reserved"),
    [
        ({}, 1024),
        ({"max_output_tokens": 7}, 7),
        ({"max_output_tokens": 7, "answers": 3}, 21),
        ({"answers": 3}, 3072),
        ({"answers": 0}, 0),
        ({"max_output_tokens": 10_000_000, "answers": 1000}, 10_000_000),
    ],
)
def test_of_every_answer_something_is_reserved(asked, reserved):
    assert estimate(request("m", input_tokens=5, **asked), 1024) == Estimate(5, reserved)


def test_a_meter_is_named_by_all_that_makes_it_another():
    assert charge(amount=7).key == ("l", "requests", "7/60000000", "ada")


def refused(meters, asked: Charge, now_us: int) -> MeterReading:
    found = draw(meters, (asked,), id="late", now_us=now_us)
    assert isinstance(found, Exceeded)
    return found.readings[0]


def test_a_rate_that_is_used_up_says_what_is_free_and_when():
    meters = {}
    draw(meters, (charge(amount=60, cost=58),), id="a", now_us=NOON)

    assert refused(meters, charge(amount=60, cost=5), NOON) == MeterReading(2, 58 * SECOND, 3 * SECOND)
    assert refused(meters, charge(amount=60, cost=5), NOON + SECOND) == MeterReading(3, 57 * SECOND, 2 * SECOND)


def test_a_budget_that_is_used_up_says_what_is_left_and_when_its_period_ends():
    meters = {}
    draw(meters, (charge("usd", amount=100, cost=60),), id="a", now_us=NOON)

    assert refused(meters, charge("usd", amount=100, cost=41), NOON + SECOND) == MeterReading(
        40, 59 * SECOND, 59 * SECOND
    )
    assert isinstance(draw(meters, (charge("usd", amount=100, cost=40),), id="b", now_us=NOON + SECOND), Drawn)


def test_a_spent_budget_takes_not_even_what_costs_nothing():
    meters = {}
    draw(meters, (charge("usd", amount=100, cost=100),), id="a", now_us=NOON)

    assert refused(meters, charge("usd", amount=100, cost=0), NOON).free == 0


def test_a_place_that_is_taken_is_asked_for_again_in_a_second():
    meters = {}
    draw(meters, (charge("concurrent", amount=1),), id="a", now_us=NOON)

    assert refused(meters, charge("concurrent", amount=1), NOON) == MeterReading(0, 0, SECOND)
    assert refused(meters, charge("concurrent", amount=1), NOON + 15 * MINUTE - 1).free == 0
    assert isinstance(draw(meters, (charge("concurrent", amount=1),), id="b", now_us=NOON + 15 * MINUTE), Drawn)


def test_of_several_charges_the_one_that_takes_longest_is_the_worst():
    slow, quick = charge(subject="slow"), charge(subject="quick")
    readings = (MeterReading(0, 9, 1), MeterReading(0, 1, 2), MeterReading(5, 20))

    assert Exceeded((quick, slow, quick), readings).worst == (slow, readings[1])


def test_a_replicas_part_of_a_charge_costs_no_more_than_it_holds():
    assert (spared(charge(amount=9, cost=5), 3).cost, spared(charge(amount=9, cost=2), 3).cost) == (3, 2)
    assert spared(charge(amount=9), 0).amount == 9
