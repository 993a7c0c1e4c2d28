import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from json_values import json_values
from reading import read_body
from wissel.apis.choices import USAGE_ON_ASK
from wissel.apis.windows import WINDOW
from wissel.errors import UnreadableError

USAGE = '"stream_options": {"include_usage": true}'


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('{"model": "m", "n":1.0}', f'{{"model": "m", {USAGE}, "n":1.0}}'),
        ('{"stream_options" : null,"model":"m"}', '{"stream_options" : {"include_usage": true},"model":"m"}'),
        ('{"model":"m","stream_options":{ }}', '{"model":"m","stream_options":{"include_usage": true }}'),
        (
            '{"stream_options":{"x":1e9},"model":"m"}',
            '{"stream_options":{"include_usage": true, "x":1e9},"model":"m"}',
        ),
        (
            '{"model":"m","stream_options":{"x":[{}], "include_usage" : false }}',
            '{"model":"m","stream_options":{"x":[{}], "include_usage" : true }}',
        ),
        (
            '{"model":"m","stream_options":{"include\\u005fusage":true,"x":"}","include_usage":false}}',
            '{"model":"m","stream_options":{"include\\u005fusage":true,"x":"}","include_usage":true}}',
        ),
    ],
)
def test_a_stream_is_asked_for_its_usage_and_no_other_byte_changes(before, after):
    body = read_body(before.encode())

    assert body.with_model("m", *USAGE_ON_ASK.ask(body)) == after.encode()


@pytest.mark.parametrize("options", ['{"include_usage": true}', '"yes"', "5", "[]", "false"])
def test_a_stream_that_tells_its_usage_already_or_never_will_is_left_alone(options):
    assert USAGE_ON_ASK.ask(read_body(f'{{"model": "m", "stream_options": {options}}}'.encode())) == ()


def test_options_of_a_stream_that_cannot_be_walked_at_once_are_refused():
    body = read_body(f'{{"model": "m", "stream_options": {{"x": "{"x" * WINDOW}"}}}}'.encode())

    with pytest.raises(UnreadableError, match='"stream_options" is longer than 32768 bytes'):
        USAGE_ON_ASK.ask(body)


@given(
    st.dictionaries(
        st.text(max_size=5).filter(lambda name: name not in {"model", "stream_options"}), json_values, max_size=4
    ),
    st.one_of(st.none(), st.dictionaries(st.sampled_from(["include_usage", "x", "é\\"]), json_values, max_size=3)),
    st.text(min_size=1),
)
def test_model_and_usage_are_all_that_changes(members, options, name):
    said = {**members, "stream_options": options, "model": "auto"}
    body = read_body(json.dumps(said).encode())
    told = json.loads(body.with_model(name, *USAGE_ON_ASK.ask(body)))

    assert told == {**said, "model": name, "stream_options": {**(options or {}), "include_usage": True}}


SAID = [
    "answer",
    "content",
    "data",
    "delta",
    "error",
    "generated_text",
    "message",
    "output",
    "output_text",
    "reasoning",
    "reasoning_content",
    "refusal",
    "response",
    "text",
    "token",
]


@pytest.mark.parametrize("member", SAID)
def test_a_chunk_that_says_anything_beside_its_usage_is_no_chunk_of_usage(member: str):
    usage = {"choices": [], "usage": {"prompt_tokens": 1}}

    assert USAGE_ON_ASK.is_chunk(usage)
    assert not USAGE_ON_ASK.is_chunk({**usage, member: "words"})
