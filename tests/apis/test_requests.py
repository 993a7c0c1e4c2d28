import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from wissel.apis.requests import is_plain, normalise_path, read_body, understand
from wissel.core.request import Request
from wissel.errors import UnreadableError


def read(api: str, **members) -> Request:
    body = json.dumps({"model": "auto", **members}).encode()
    return understand(api, f"/v1/{api}", {}, read_body(body))


def said(request: Request) -> list[tuple[str, str]]:
    return [(turn.role, turn.text) for turn in request.conversation.turns]


def test_only_the_bytes_of_the_model_are_exchanged():
    body = '{ "temperature":1.10, "model" : "auto" ,"x":{"model":"inner"},"n":1e400,"t":"é\\u00e9\\/","z":[ ]}\n'

    assert read_body(body.encode()).with_model("gpt") == body.replace('"auto"', '"gpt"').encode()


def test_a_model_that_is_spelled_with_escapes_is_the_model():
    body = read_body(rb'{"mod\u0065l": "\u0061uto"}')

    assert (body.model, body.with_model("m")) == ("auto", rb'{"mod\u0065l": "m"}')


def test_a_model_name_is_written_as_json():
    assert json.loads(read_body(b'{"model": "auto"}').with_model('a"\\é')) == {"model": 'a"\\é'}


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


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
    changed = read_body(body).with_model(model)

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


def test_chat_content_may_be_text_parts_or_nothing():
    asked = read(
        "chat",
        messages=[
            {"role": "developer", "content": "be brief"},
            {"role": "user", "content": [{"type": "text", "text": "what"}, {"type": "text", "text": "is this"}]},
            {"role": "assistant", "content": None, "tool_calls": [{"id": "t"}]},
            {"role": "tool", "tool_call_id": "t", "content": "42"},
        ],
    )

    assert said(asked) == [("system", "be brief"), ("user", "what\nis this"), ("assistant", ""), ("tool", "42")]


@pytest.mark.parametrize(
    ("api", "members", "needed"),
    [
        (
            "chat",
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "u"}}]}]},
            "image",
        ),
        ("chat", {"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}]}, "audio"),
        ("chat", {"messages": [{"role": "user", "content": [{"type": "file", "file": {}}]}]}, "file"),
        ("responses", {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "u"}]}]}, "image"),
        ("messages", {"messages": [{"role": "user", "content": [{"type": "image", "source": {}}]}]}, "image"),
        (
            "messages",
            {"messages": [{"role": "user", "content": [{"type": "tool_result", "content": [{"type": "image"}]}]}]},
            "image",
        ),
    ],
)
def test_what_a_request_carries_is_needed_of_the_model(api, members, needed):
    assert read(api, **members).needs == {"text", needed}


def test_responses_may_ask_with_a_string_or_items():
    asked = read(
        "responses",
        instructions="be kind",
        input=[
            {"role": "user", "content": "hi"},
            {"type": "function_call", "name": "f", "arguments": "{}"},
            {"type": "function_call_output", "output": "7"},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "ok"}]},
        ],
    )

    assert said(read("responses", input="hi")) == [("user", "hi")]
    assert said(asked) == [("system", "be kind"), ("user", "hi"), ("tool", "7"), ("assistant", "ok")]


def test_anthropic_messages_carry_system_beside_and_tool_results_inside():
    asked = read(
        "messages",
        system=[{"type": "text", "text": "be kind"}],
        max_tokens=10,
        messages=[
            {"role": "user", "content": "weather?"},
            {"role": "user", "content": [{"type": "tool_result", "content": "rain"}, {"type": "text", "text": "so?"}]},
            {"role": "user", "content": [{"type": "tool_result", "content": [{"type": "text", "text": "wind"}]}]},
        ],
    )

    assert said(asked) == [
        ("system", "be kind"),
        ("user", "weather?"),
        ("tool", "rain"),
        ("user", "so?"),
        ("tool", "wind"),
    ]
    assert asked.max_output_tokens == 10


def test_prompts_may_be_text_or_token_numbers():
    assert said(read("completions", prompt=["a", "b"])) == [("user", "a"), ("user", "b")]
    assert read("embeddings", input=[[1, 2, 3], [4]]).input_tokens == 4
    assert read("embeddings", input=[1, 2]).input_tokens == 2


@pytest.mark.parametrize(
    ("api", "members", "param"),
    [
        ("chat", {"messages": "hi"}, "messages"),
        ("chat", {"messages": ["hi"]}, "messages[0]"),
        ("responses", {"input": {"a": 1}}, "input"),
        ("completions", {"prompt": {"a": 1}}, "prompt"),
    ],
)
def test_what_two_readers_could_read_differently_is_refused(api, members, param):
    with pytest.raises(UnreadableError) as refused:
        read(api, **members)

    assert refused.value.param == param


def test_tokens_are_estimated_from_bytes():
    assert read("chat", messages=[{"role": "user", "content": "a" * 41}], max_completion_tokens=5).input_tokens == 11


@pytest.mark.parametrize(
    "path",
    [
        "/v1/chat/completions",
        "/v1/chat/completions/",
        "//v1//chat/completions",
        "/V1/Chat/Completions",
        "/v1/chat%2fcompletions",
        "/v1/x/../chat/./completions",
        "/v1/chat/completions?model=o1",
        "/v1\\chat\\completions",
        "/../../v1/chat/completions",
    ],
)
def test_every_spelling_of_a_path_is_one_path(path):
    assert normalise_path(path) == "/v1/chat/completions"


@pytest.mark.parametrize(
    ("path", "plain"),
    [
        ("/v1/files/a?x=//", True),
        ("/v1/files%2Fa", False),
        ("/v1/../files", False),
        ("//v1", False),
        ("/v1\\files", False),
    ],
)
def test_a_path_that_servers_read_differently_is_not_plain(path, plain):
    assert is_plain(path) is plain


@given(st.text())
def test_a_normal_path_stays_as_it_is(path):
    once = normalise_path("/" + path.replace("%", ""))

    assert (
        normalise_path(once.partition("?")[0].partition("#")[0]) == once.partition("?")[0].partition("#")[0]
        or "%" in once
    )


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

    assert body.with_model("m", *body.asking_for_usage()) == after.encode()


@pytest.mark.parametrize("options", ['{"include_usage": true}', '"yes"', "5", "[]", "false"])
def test_a_stream_that_tells_its_usage_already_or_never_will_is_left_alone(options):
    assert read_body(f'{{"model": "m", "stream_options": {options}}}'.encode()).asking_for_usage() == ()


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
    told = json.loads(body.with_model(name, *body.asking_for_usage()))

    assert told == {**said, "model": name, "stream_options": {**(options or {}), "include_usage": True}}


def test_an_absurd_output_limit_is_cut_to_what_any_model_answers():
    assert read("chat", messages=[], max_tokens=10**400).max_output_tokens == 10_000_000
    assert read("chat", messages=[], max_tokens=True).max_output_tokens == 0
