"""What is left of a long answer."""

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wissel.apis.skeleton import LONGEST, MOST, Skeleton


def walked(text: bytes, places: list[int] | None = None) -> tuple[Any, Skeleton]:
    skeleton = Skeleton()
    borders = [0, *sorted(place % (len(text) + 1) for place in places or []), len(text)]
    for start, end in pairwise(borders):
        skeleton.feed(text[start:end])
    left = skeleton.finish()
    return None if left is None else json.loads(left), skeleton


scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
values = st.recursive(
    scalars | st.sampled_from(['"usage": {', '\\"', "\\", "]}", "{["]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    max_leaves=12,
)
names = st.sampled_from(["usage", "response", "message", "choices", "delta", "error", "x", ""])
objects = st.dictionaries(names, values, max_size=6)


@given(objects, st.lists(st.integers(0, 2000), max_size=12), st.sampled_from([None, 1]), st.booleans())
def test_what_is_short_is_kept_as_it_is_wherever_it_is_cut(said, places, indent, ascii_only):
    text = json.dumps(said, indent=indent, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")

    assert walked(text, places)[0] == json.loads(text)


LONG = json.dumps({"a": "x\\" * LONGEST, "b": [[{"usage": 1}]] * 2000, "c": {"usage": [0.5] * 5000}}).encode()[1:-1]


@given(objects, st.lists(st.integers(0, 90_000), max_size=12))
def test_what_is_long_is_dropped_and_nothing_else(said, places):
    short = {"first": 1, **said}
    text = b"{%b, %b, %b}" % (LONG, json.dumps(short).encode()[1:-1], LONG)

    assert walked(text, places)[0] == short


@given(objects, st.lists(st.integers(0, 2000), max_size=6))
def test_a_text_that_is_cut_short_says_nothing(said, places):
    text = json.dumps(said).encode()

    assert walked(text[:-1], places)[0] is None


@pytest.mark.parametrize(
    "text", [b"", b"[]", b"7", b'{"a" 1}', b"{1:2}", b'{"a":}', b'{"usage":{"prompt_tokens":1}', b'{"a":,"b":1}']
)
def test_what_is_no_object_is_none(text):
    assert walked(text)[0] is None


def test_of_what_tells_how_an_answer_went_the_short_members_are_kept():
    choice = {"index": 0, "finish_reason": "stop"}
    answer = {"status": "completed", "usage": {"input_tokens": 1}}
    said = {
        "choices": [{**choice, "message": {"role": "assistant", "content": "x" * LONGEST}}],
        "response": {**answer, "output": ["x" * LONGEST]},
    }

    assert walked(json.dumps(said).encode())[0] == {
        "choices": [{**choice, "message": {"role": "assistant"}}],
        "response": answer,
    }


def test_usage_is_kept_whatever_came_before():
    many = {f"m{at}": "x" * 1000 for at in range(1000)}
    found, _ = walked(json.dumps({**many, "usage": {"prompt_tokens": 1}}).encode())

    assert found["usage"] == {"prompt_tokens": 1}
    assert len(json.dumps(found)) < MOST + LONGEST


def test_what_was_dropped_is_known_by_its_size():
    _, skeleton = walked(json.dumps({"a": "x" * 50_000, "b": 1}).encode(), [7, 20_000])

    assert skeleton.dropped == 50_002
