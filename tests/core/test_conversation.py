"""One key for a conversation, whatever its client adds on the way."""

import json
from collections import Counter
from dataclasses import replace
from time import thread_time
from typing import Any

import pytest

from factories import request, split
from harnesses import HARNESSES, Sent, without_ids
from reading import read_body, understand
from wissel.apis.table import APIS
from wissel.core.conversation import LONGEST, ConversationIds, conversation_key
from wissel.core.request import Conversation, Turn
from wissel.core.split import KeySource, TargetingKey, assign

IDS = ConversationIds()


def key(sent: Sent) -> str:
    name, headers, body = sent
    api = APIS[name]
    found = conversation_key(
        understand(api, api.paths[0], headers, read_body(json.dumps({"model": "auto", **body}).encode())), IDS
    )
    assert found is not None
    return found


@pytest.mark.parametrize("strip", [False, True], ids=["with its ids", "without ids"])
@pytest.mark.parametrize("harness", HARNESSES)
def test_each_of_ten_conversations_keeps_one_key(harness: str, strip: bool):  # a parameter of the test
    keys = [
        {key(without_ids(sent) if strip else sent) for sent in HARNESSES[harness](session)} for session in range(10)
    ]

    assert [len(each) for each in keys] == [1] * 10
    assert len(set.union(*keys)) == 10


@pytest.mark.parametrize("strip", [False, True], ids=["with its ids", "without ids"])
@pytest.mark.parametrize("harness", HARNESSES)
def test_sixty_sessions_of_one_project_are_dealt_to_both_arms(harness: str, strip: bool):
    parts = split("assistant", canary=50, stable=50)
    arms: Counter[str] = Counter()
    for session in range(60):
        sent = next(HARNESSES[harness](session))
        named = TargetingKey(KeySource("conversation"), key(without_ids(sent) if strip else sent))
        assigned = assign(parts, named, able={"canary", "stable"})
        assert assigned is not None
        arms[assigned.variant.name] += 1

    assert min(arms["canary"], arms["stable"]) >= 18


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ({"session_id": "s1"}, "s1"),
        ({"conversation": "conv_1"}, "conv_1"),
        ({"conversation.id": "conv_1"}, "conv_1"),
        ({"metadata.session_id": "s1", "session_id": "s0"}, "s0"),
        ({"metadata.user_id": "user_ab_account_cd_session_0b7e6a3c-1111-4222-8333-944445555666"},
         "0b7e6a3c-1111-4222-8333-944445555666"),
        ({"metadata.user_id": '{"device_id": "d", "session_id": "s7"}'}, "s7"),
        ({"prompt_cache_key": "0b7e6a3c-1111-4222-8333-944445555666"}, "0b7e6a3c-1111-4222-8333-944445555666"),
        ({"prompt_cache_key": "ses_64a1b2c3d4e5f6a7b8c9"}, "ses_64a1b2c3d4e5f6a7b8c9"),
        ({"previous_response_id": "resp_1"}, "resp_1"),
        ({"previous_response_id": "resp_1", "session_id": "s1"}, "s1"),
    ],
)  # fmt: skip
def test_an_id_in_the_body_names_the_conversation(labels: dict[str, str], expected: str):
    assert conversation_key(request(labels=labels), IDS) == expected


@pytest.mark.parametrize(
    "labels",
    [
        {"user": "ada"},
        {"metadata.user_id": "ada"},
        {"metadata.user_id": '{"device_id": "d"}'},
        {"metadata.user_id": "{"},
        {"metadata.user_id": '{"session_id": 7}'},
        {"prompt_cache_key": "support-bot-v3"},
        {"prompt_cache_key": "acme/assistant/2026-11"},
        {"session_id": " "},
    ],
)
def test_what_names_a_user_or_an_application_does_not(labels: dict[str, str]):
    assert conversation_key(request(labels=labels), IDS) == conversation_key(request(), IDS)


def test_a_header_and_the_body_that_name_one_session_agree():
    one = request(headers={"session-id": "0b7e6a3c-1111-4222-8333-944445555666"})
    other = request(labels={"prompt_cache_key": "0b7e6a3c-1111-4222-8333-944445555666"})

    assert conversation_key(one, IDS) == conversation_key(other, IDS)


def test_a_response_belongs_to_the_conversation_that_it_came_from_where_that_is_known():
    later = request(labels={"previous_response_id": "resp_2"}, thread="began")

    assert conversation_key(later, IDS) == "began"


def test_the_operator_says_where_sessions_are_named():
    named = request(headers={"x-session-id": "s1", "x-chat": "c1"}, labels={"session_id": "s2"})

    assert conversation_key(named, ConversationIds(("x-chat",), ())) == "c1"
    assert conversation_key(named, ConversationIds((), ("session_id",))) == "s2"
    assert conversation_key(named, ConversationIds((), ())) == conversation_key(request(), IDS)


def test_a_long_id_is_known_by_its_hash():
    found = [conversation_key(request(headers={"session-id": "s" * LONGEST + end}), IDS) or "" for end in "ab"]

    assert [len(each) for each in found] == [32, 32]
    assert found[0] != found[1]


def talk(*turns: tuple[Any, str]) -> str | None:
    return conversation_key(request(conversation=Conversation(tuple(Turn(*turn) for turn in turns))), IDS)


def test_later_turns_of_a_conversation_share_its_key():
    assert talk(("user", "hello")) == talk(("user", "hello"), ("assistant", "hi!"), ("user", "and now?")) is not None


@pytest.mark.parametrize(
    "more",
    [
        [("system", "be brief\nThe time is 10:32"), ("user", "hello")],
        [("system", "be brief"), ("user", "hello"), ("system", "added later")],
        [("system", "be brief"), ("system", "<rules>none</rules>"), ("user", "hello")],
        [("system", "Today is Friday, Nov 27 2026.\nbe brief"), ("user", "hello")],
        [("system", "Request id: 7f\nbe brief\nmemory: 7"), ("user", "hello")],
        [("system", "be brief"), ("user", "<environment_context>x</environment_context>"), ("user", "hello")],
        [("system", "be brief"), ("user", "Current time: 10:32\nhello")],
        [("system", "be brief"), ("user", "hello\n<system-reminder>x</system-reminder>")],
    ],
)
def test_what_comes_and_goes_is_no_part_of_it(more: list[tuple[str, str]]):
    assert talk(*more) == talk(("system", "be brief"), ("user", "hello"))


@pytest.mark.parametrize(
    "line",
    [
        "built 2026-11-27", "it is 27.11.2026 here", "on 11/27/26", "at 9:05", "stamp 1764230400", "since Nov. 3",
        "the 3rd November", "a Tuesday", "x-billing: none", "trace-id next", "message number", "see 7f3a9b2c",
        "key 7f3a9b2c7f3a9b2c", "Retrieved: a note", "Search results follow: none", "memories of you: none",
    ],
)  # fmt: skip
def test_a_line_that_is_another_in_each_request_is_no_part_of_it(line: str):
    assert talk(("system", f"{line}\nbe brief"), ("user", "hello")) == talk(("system", "be brief"), ("user", "hello"))


@pytest.mark.parametrize("line", ["version 3.5 of 12", "march on", "Monet", "1,000 words", "context matters"])
def test_a_line_that_only_looks_so_is_part_of_it(line: str):
    assert talk(("system", f"{line}\nbe brief"), ("user", "hello")) != talk(("system", "be brief"), ("user", "hello"))


def test_another_system_prompt_is_another_conversation():
    assert talk(("system", "be brief"), ("user", "hello")) != talk(("user", "hello"))


@pytest.mark.parametrize("texts", [("meet me 2026-11-27", "meet me 2026-11-28"), ("time: 10:30", "time: 10:31")])
def test_a_person_who_speaks_of_time_is_understood(texts: tuple[str, str]):
    first, second = (talk(("user", text)) for text in texts)

    assert first != second


def test_where_nobody_has_spoken_the_harness_has():
    assert talk(("user", "<context>a</context>")) != talk(("user", "<context>b</context>"))


def test_a_request_without_a_user_turn_has_no_conversation_key():
    assert talk() is None


def test_a_key_takes_no_time_that_grows_with_the_conversation_or_with_the_square_of_a_label():
    def seconds(turns: int, label: int) -> float:
        of_a_clock = Turn("system", f"{'Monday ' * 200}\n")
        of_a_harness = Turn("user", f"<context>{'x' * 2000}</context>")
        said = Conversation((of_a_clock,) * turns + (of_a_harness,) * turns)
        asked = replace(request(), conversation=said, labels={"prompt_cache_key": "123" + "a" * label + "!"})
        began = thread_time()
        assert conversation_key(asked, IDS)
        return thread_time() - began

    for few, many in [((100, 1), (10_000, 1)), ((1, 200), (1, 2000))]:
        assert min(seconds(*many) for _ in range(3)) < 30 * max(0.001, min(seconds(*few) for _ in range(3)))
