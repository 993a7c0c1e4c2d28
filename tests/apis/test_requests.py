import json

import pytest

from reading import read_body, understand
from wissel.apis.table import APIS
from wissel.core.request import Request
from wissel.errors import UnreadableError


def read(api: str, **members) -> Request:
    body = json.dumps({"model": "auto", **members}).encode()
    return understand(APIS[api], f"/v1/{api}", {}, read_body(body))


def said(request: Request) -> list[tuple[str, str]]:
    return [(turn.role, turn.text) for turn in request.conversation.turns]


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
    ("api", "members", "param", "kind"),
    [
        ("chat", {"messages": "hi"}, "messages", "an array"),
        ("chat", {"messages": [{}, "hi"]}, "messages[1]", "an object"),
        ("responses", {"input": {"a": 1}}, "input", "an array"),
        ("completions", {"prompt": {"a": 1}}, "prompt", "a string or an array"),
    ],
)
def test_what_two_readers_could_read_differently_is_refused(api, members, param, kind):
    with pytest.raises(UnreadableError) as refused:
        read(api, **members)

    assert (refused.value.param, str(refused.value)) == (param, f'"{param}" must be {kind}')


def test_tokens_are_estimated_from_bytes():
    assert read("chat", messages=[{"role": "user", "content": "a" * 41}], max_completion_tokens=5).input_tokens == 11


def test_an_absurd_output_limit_is_cut_to_what_any_model_answers():
    assert read("chat", messages=[], max_tokens=10**400).max_output_tokens == 10_000_000
    assert read("chat", messages=[], max_tokens=True).max_output_tokens == 0
    assert read("chat", messages=[], max_tokens=" " * 99 + "5").max_output_tokens == 5


def test_what_is_taken_apart_at_once_has_few_members_and_a_structure_within_may_have_many():
    many = {f"m{number}": 1 for number in range(1001)}

    for content in (many, [{"type": "text", "text": "x", **many}], [{"type": "tool_result", "content": "x", **many}]):
        with pytest.raises(UnreadableError, match="more than 1000 members"):
            read("chat", messages=[{"role": "user", "content": content}])
    with pytest.raises(UnreadableError, match="more than 1000 members"):
        read("chat", messages=[many])
    assert (
        read("chat", messages=[{"role": "user", "content": [{"type": "tool_use", "input": many}]}]).input_tokens > 1000
    )


def test_pictures_of_an_answer_are_parts():
    with pytest.raises(UnreadableError, match="more than 20000 content parts"):
        read("chat", messages=[{"role": "assistant", "images": [{}] * 20_001}])


def test_of_very_many_parts_a_turn_has_the_first_and_the_last():
    parts = [{"type": "text", "text": f"{number:-<1000}"} for number in range(300)]

    asked = read("chat", messages=[{"role": "user", "content": parts}])
    ((_, text),) = said(asked)

    assert text.startswith("0---")
    assert "\n299-" in text
    assert (len(text) < 140_000, asked.input_tokens) == (True, 75_000)
