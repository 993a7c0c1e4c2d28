"""Which ids a request names, and whether a refusal repeats one."""

import json
from time import thread_time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reading import read_body
from wissel.apis.body import Body
from wissel.apis.ids import HEAD_BYTES, TAIL_BYTES, ids_in, named_in


def body(members: dict[str, Any]) -> Body:
    return read_body(json.dumps({"model": "auto", **members}).encode())


@pytest.mark.parametrize(
    "members",
    [
        {"previous_response_id": "resp_68a1f"},
        {"conversation": {"id": "resp_68a1f"}},
        {"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_id": "resp_68a1f"}}]}]},
        {"tools": [{"type": "file_search", "vector_store_ids": ["other_1", "resp_68a1f"]}]},
    ],
)
def test_an_id_is_found_wherever_it_stands(members: dict[str, Any]):
    assert "resp_68a1f" in ids_in(body(members))


@pytest.mark.parametrize(
    "members",
    [
        {"model": "gpt-4o-mini"},
        {"messages": [{"role": "tool_user", "content": "fix my code"}]},
        {"input": [{"type": "input_text", "text": "hello there 1"}]},
        {"user": "ada"},
    ],
)
def test_words_and_the_model_are_no_ids(members: dict[str, Any]):
    assert ids_in(body(members)) == frozenset()


@pytest.mark.parametrize(
    ("text", "is_named"),
    [
        ("Previous response with id 'resp_68a1f' not found.", True),
        ("No such file: resp_68a1f.", True),
        ('{"error":{"param":"resp_68a1f"}}', True),
        ("Previous response with id 'resp_68a1f2' not found.", False),
        ("The model `org/small` does not exist", False),
        ("", False),
    ],
)
def test_a_refusal_names_an_id_as_a_whole(text: str, is_named: bool):
    assert named_in(text, frozenset({"resp_68a1f"})) == is_named


def test_of_a_long_body_the_beginning_and_the_end_are_looked_at():
    numbers = range(9_000)
    found = ids_in(body({"input": [{"id": f"item_{number:06}"} for number in numbers]}))

    assert {"item_000000", "item_008999"} <= found
    assert sum(map(len, found)) < HEAD_BYTES + TAIL_BYTES


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(st.characters(codec="utf-8")), st.lists))
def test_any_json_is_looked_at(value: Any):
    assert all(6 <= len(each) <= 256 for each in ids_in(body({"input": value})))


def test_a_refusal_of_one_long_word_is_read_in_no_time_that_grows_with_its_square():
    def time_of(size: int) -> float:
        began = thread_time()
        named_in("x" * size, frozenset({"resp_68a1f"}))
        return thread_time() - began

    assert min(time_of(16_000) for _ in range(3)) < 16 * min(time_of(2_000) for _ in range(3))
