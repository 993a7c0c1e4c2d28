import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import mmh3
import pytest
from hypothesis import given
from hypothesis import strategies as st

from factories import request, split
from wissel.core.access import ANONYMOUS, HeaderMatch, Principal
from wissel.core.conversation import ConversationIds
from wissel.core.split import (
    KeySource,
    Match,
    Split,
    TargetingKey,
    Variant,
    assign,
    bucket,
    dealt,
    is_of_another_arm,
    targeting_key,
    variant_at,
)

VECTORS = json.loads((Path(__file__).parent / "flagd_murmur3.json").read_text())
IDS = ConversationIds()
SESSION = KeySource("header", "x-session-id")


def key(value: str) -> TargetingKey:
    return TargetingKey(SESSION, value)


@pytest.mark.parametrize(("text", "hashed"), VECTORS["hashes"].items())
def test_boundary_keys_hash_as_flagd_says(text, hashed):
    assert mmh3.hash(text, signed=False) == int(hashed, 16)


@pytest.mark.parametrize(("text", "hashed"), VECTORS["hashes"].items())
@pytest.mark.parametrize("total", [1, 2, 100, 100_000])
def test_boundary_keys_land_where_flagd_puts_them(text, hashed, total):
    assert bucket("", text, total) == (int(hashed, 16) * total) >> 32


def test_the_lowest_hash_is_in_the_first_variant_and_the_highest_in_the_last():
    arms = (Variant("canary", "c", 1), Variant("stable", "s", 99_999))

    assert variant_at(arms, bucket("", "ejOoVL", 100_000)).name == "canary"
    assert variant_at(arms, bucket("", "ceQdGm", 100_000)).name == "stable"


@pytest.mark.parametrize("salt", ["", "a secret of sixteen"])
def test_each_variant_gets_its_weight_of_ten_thousand_keys(salt):
    parts = replace(split("coder", a=10, b=30, c=60), salt=salt)
    served = Counter(assign(parts, key(f"session-{n}"), able={"a", "b", "c"}).variant.name for n in range(10_000))

    assert all(abs(served[arm.name] / 100 - arm.weight) < 1 for arm in parts.variants)


@given(st.text(min_size=1), st.sets(st.sampled_from(["a", "b", "c"]), min_size=1), st.booleans())
def test_a_request_leaves_its_own_arm_only_where_it_is_no_evidence(text, able, targeted):
    parts = replace(split("coder", a=10, b=30, c=60), matched="b", match=Match((HeaderMatch("x-beta", "exact", "1"),)))
    found = assign(parts, key(text), able=able, headers={"x-beta": "1"} if targeted else {})

    assert found.reason != "split" or found.variant == dealt(parts, key(text))


@pytest.mark.parametrize(
    ("answered", "asked", "other", "is_other"),
    [
        ("gpt-4o-2024-08-06", "gpt-4o", "gpt-4o-mini", False),
        ("gpt-4o-mini-2024-07-18", "gpt-4o", "gpt-4o-mini", True),
        ("gpt-4o-2024-08-06", "gpt-4o-mini", "gpt-4o", True),
        ("some/alias", "gpt-4o-mini", "gpt-4o", False),
        ("llama", "llama", "llama", False),
        ("", "gpt-4o-mini", "gpt-4o", False),
    ],
)
def test_an_answer_tells_which_arm_gave_it(answered: str, asked: str, other: str, is_other: bool):
    assert is_of_another_arm(answered, asked, [asked, other]) == is_other


@pytest.mark.parametrize(("ours", "theirs"), [("", "b" * 16), ("a" * 16, "b" * 16)])
def test_another_salt_deals_out_anew(ours, theirs):
    arms = [[bucket("chat", f"session-{n}", 2, salt) for n in range(1000)] for salt in (ours, theirs)]
    agree = sum(mine == other for mine, other in zip(*arms, strict=True))

    assert 400 < agree < 600


def test_a_salt_is_not_shown():
    assert "b" * 16 not in repr(replace(split(a=1), salt="b" * 16))


def test_what_a_salt_deals_out_is_not_what_its_text_before_the_key_would():
    assert [bucket("s", str(n), 2**32, "b" * 16) for n in range(9)] != [
        bucket("b" * 16 + "s", str(n), 2**32) for n in range(9)
    ]


@given(st.text(min_size=1), st.integers(0, 100), st.integers(0, 100), st.sampled_from(["", "a" * 16]))
def test_raising_the_canary_never_moves_a_key_back(text, weight, more, salt):
    low, high = sorted((weight, more))
    narrow, wide = (replace(split("r", canary=share, stable=100 - share), salt=salt) for share in (low, high))
    before, after = (assign(each, key(text), able={"canary", "stable"}) for each in (narrow, wide))

    assert (before.variant.name, after.variant.name) != ("canary", "stable")


@given(st.text(min_size=1), st.lists(st.integers(0, 1000), min_size=1, max_size=5).filter(any))
def test_a_variant_of_weight_zero_serves_nobody(text, weights):
    parts = split("s", **{f"v{n}": weight for n, weight in enumerate(weights)})

    assert assign(parts, key(text), able={arm.model for arm in parts.variants}).variant.weight > 0


def test_without_a_key_the_default_variant_serves():
    found = assign(split("s", a=1, b=99), None, able={"a", "b"})

    assert (found.variant.name, found.reason, found.bucket) == ("a", "default", None)


def test_a_caller_who_loses_an_arm_leaves_the_experiment():
    found = assign(split("s", a=50, b=50), key("k"), able={"b"})

    assert (found.variant.name, found.reason) == ("b", "default")


def test_nobody_is_assigned_where_nothing_is_able():
    assert assign(split("s", a=50, b=50), key("k"), able=set()) is None


def test_a_rolled_back_canary_serves_nobody_even_where_stable_is_not_able():
    assert assign(split("s", canary=0, stable=100), key("k"), able={"canary"}) is None


def test_matched_callers_get_their_variant_whatever_the_weight():
    arms = (Variant("canary", "c", 0), Variant("stable", "s", 100))
    rollout = Split(
        "r", (SESSION,), arms, "stable", match=Match((HeaderMatch("x-beta", "exact", "yes"),)), matched="canary"
    )

    assert assign(rollout, key("k"), able={"c", "s"}, headers={"x-beta": "yes"}).reason == "targeting_match"
    assert assign(rollout, key("k"), able={"c", "s"}, headers={}).variant.name == "stable"


def test_the_first_source_that_is_present_is_the_key():
    sources = (SESSION, KeySource("claim", "sub"), KeySource("principal"))
    caller = Principal("ada", claims={"sub": "ada@example.com"})

    assert targeting_key(sources, request(headers={"x-session-id": "s1"}), caller, "id", IDS).value == "s1"
    assert targeting_key(sources, request(headers={"x-session-id": ""}), caller, "id", IDS).value == "ada@example.com"
    assert targeting_key(sources, request(), Principal("ada"), "id", IDS).value == "ada"
    assert targeting_key((KeySource("request"),), request(), ANONYMOUS, "id-7", IDS).value == "id-7"
    assert targeting_key((SESSION,), request(), ANONYMOUS, "id", IDS) is None


def test_without_a_key_and_a_default_that_is_able_the_first_that_is_able_serves():
    three = split("s", a=1, b=1, c=1)

    found = assign(three, None, able={"b", "c"})

    assert (found.variant.name, found.reason) == ("b", "default")
