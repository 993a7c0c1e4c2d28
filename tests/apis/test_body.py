import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from json_values import json_values
from reading import read_body, rewritten
from wissel.errors import UnreadableError


def test_only_the_bytes_of_the_model_are_exchanged():
    body = '{ "temperature":1.10, "model" : "auto" ,"x":{"model":"inner"},"n":1e400,"t":"é\\u00e9\\/","z":[ ]}\n'

    assert rewritten(read_body(body.encode()), "gpt") == body.replace('"auto"', '"gpt"').encode()


def test_a_model_that_is_spelled_with_escapes_is_the_model():
    body = read_body(rb'{"mod\u0065l": "\u0061uto"}')

    assert (body.model, rewritten(body, "m")) == ("auto", rb'{"mod\u0065l": "m"}')


def test_a_model_name_is_written_as_json():
    assert json.loads(rewritten(read_body(b'{"model": "auto"}'), 'a"\\é')) == {"model": 'a"\\é'}


@given(
    st.dictionaries(st.text().filter(lambda name: name != "model"), json_values),
    st.text(min_size=1),
    st.booleans(),
    st.integers(0, 3),
)
def test_whatever_else_a_body_holds_survives(members, model, ascii_only, indent):
    try:
        body = json.dumps({**members, "model": "auto"}, ensure_ascii=ascii_only, indent=indent).encode()
    except UnicodeEncodeError:
        return
    changed = rewritten(read_body(body), model)

    assert json.loads(changed) == {**members, "model": model}
    assert changed == body[: body.rindex(b'"auto"')] + json.dumps(model).encode() + body[body.rindex(b'"auto"') + 6 :]


@given(st.binary())
@example(b'{"model": "a"')
@example(b'{"model"')
@example(b'{"model": "a",}')
@example(b'{"model": "a"} x')
@example(b"\xef\xbb\xbf{}")
def test_any_bytes_are_read_or_refused(data):
    try:
        body = read_body(data)
    except UnreadableError:
        return
    assert json.loads(data)["model"] == body.model


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "the body is empty"),
        (b"[]", "the body is not a JSON object"),
        (b'"model"', "the body is not a JSON object"),
        (b"{", "the body is not JSON"),
        (b"not json", "the body is not JSON: expecting value at line 1, column 1"),
        (b'{"model": "a", "model": "b"}', 'the body names "model" twice'),
        (rb'{"model": "a", "mod\u0065l": "b"}', 'the body names "model" twice'),
        (b'{"messages": [], "messages": [], "model": "a"}', 'the body names "messages" twice'),
        (b'{"model": "a", "Model": "b"}', 'the body names the model as "Model"'),
        (b"{}", "must name a model"),
        (b'{"model": ""}', "must name a model"),
        (b'{"model": null}', "must name a model"),
        (b'{"model": ["a"]}', "must name a model"),
        (b'{"model": "\xff"}', "the body is not UTF-8: byte 11"),
        (b'{"model": "a", "n": NaN}', '"NaN" is no JSON number'),
        (b'{"model": "a", "n": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deeply"),
        (b'{"model": "a", "n": ' + b"9" * 5000 + b"}", "not usable JSON"),
    ],
)
def test_an_unreadable_body_says_what_is_wrong(data, message):
    with pytest.raises(UnreadableError) as refused:
        read_body(data)

    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("data", "message", "param"),
    [
        (b"", "the body is empty; send a JSON object", None),
        (b'{"model": "a", "Model": "b"}', 'the body names the model as "Model"; write "model"', "Model"),
        (b"{}", "the body must name a model: a non-empty string", "model"),
        (b"[]", "the body is not a JSON object", None),
        (b'{"model": "a', "the body is not JSON: unterminated string starting at line 1, column 11", None),
    ],
)
def test_what_is_wrong_is_told_whole_and_names_the_member(data: bytes, message: str, param: str | None):
    with pytest.raises(UnreadableError) as refused:
        read_body(data)

    assert (str(refused.value), refused.value.param) == (message, param)


@pytest.mark.parametrize(
    ("written", "left"),
    [
        (b'{"model": "a", "models": ["b"], "n": 1}', b'{"model": "x", "n": 1}'),
        (b'{"models": ["b", "c"] , "model": "a"}', b'{ "model": "x"}'),
        (b'{"model": "a" ,\n "models" : [ ] }', b'{"model": "x"  }'),
        (b'{"model": "a", "m\\u006fdels": ["b"]}', b'{"model": "x"}'),
    ],
)
def test_a_member_is_left_out_with_the_comma_that_parts_it(written: bytes, left: bytes):
    body = read_body(written)
    splice = body.leaving_out("models")

    assert body.with_model("x", splice) == left
    assert left[slice(*body.model_in("x", splice))] == b'"x"'
