import json

import pytest

from wissel.apis.translation.writing import LONGEST_ID, compact, in_json, made_id, named_event


@pytest.mark.parametrize("text", ["", 'a "b"\\\n', "é", "\ud83d", "🌤"])
def test_any_text_is_written_in_ascii_and_read_again(text: str):
    assert in_json(text).isascii()
    assert json.loads(in_json(text)) == text


def test_json_is_written_without_spaces():
    assert compact({"a": [1, None], "b": "é"}) == '{"a":[1,null],"b":"\\u00e9"}'


def test_an_event_is_named_as_its_type():
    assert named_event({"type": "ping", "n": 1}) == 'event: ping\ndata: {"type":"ping","n":1}\n\n'


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        ("chatcmpl-1_a", "call_chatcmpl-1_a_3"),
        ("a.b:c/é", "call_abc_3"),
        ("", "call__3"),
        ("x" * 10 + "y" * 28, f"call_{'y' * 28}_3"),
    ],
)
def test_a_made_id_has_letters_that_every_provider_takes(owner: str, name: str):
    assert made_id("call", owner, 3) == name


def test_a_made_id_is_as_long_as_the_strictest_provider_takes():
    assert len(made_id("toolu", "x" * 100, 9999)) <= LONGEST_ID == 40
