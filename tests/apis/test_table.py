"""No row lacks a part, and every part is the one of its row."""

import json
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from reading import read_body, understand
from wissel.apis.answers import Reader, reader_for
from wissel.apis.api import Api
from wissel.apis.paths import normalise_path
from wissel.apis.providers import PROVIDERS, usual_apis
from wissel.apis.simulated import Answer
from wissel.apis.table import APIS, PATHS, kept_at
from wissel.config.model import json_schema
from wissel.core.affinity import MadeId
from wissel.core.decision import Denied
from wissel.core.limits import Estimate, estimate
from wissel.core.outcome import Usage
from wissel.core.plan import inability
from wissel.core.snapshot import Model

ROOT = Path(__file__).parents[2]
SAID = "hello there"

REQUESTS: dict[str, dict[str, Any]] = {
    "chat": {"messages": [{"role": "system", "content": "be kind"}, {"role": "user", "content": SAID}]},
    "completions": {"prompt": SAID},
    "responses": {"instructions": "be kind", "input": [{"role": "user", "content": SAID}]},
    "messages": {"system": "be kind", "messages": [{"role": "user", "content": SAID}]},
    "embeddings": {"input": SAID},
}
OPERATIONS = {
    "chat": "chat",
    "completions": "text_completion",
    "responses": "chat",
    "messages": "chat",
    "embeddings": "embeddings",
}
LIMITS = {
    "chat": {"max_completion_tokens", "max_tokens"},
    "completions": {"max_tokens"},
    "responses": {"max_output_tokens"},
    "messages": {"max_tokens"},
    "embeddings": set(),
}
STREAMING = sorted(APIS.keys() - {"embeddings"})
TOLD_ON_ASK = {"chat", "completions"}

ASKS = {
    "chat": {("GET", ""), ("POST", ""), ("DELETE", ""), ("GET", "messages")},
    "responses": {("GET", ""), ("DELETE", ""), ("POST", "cancel"), ("GET", "input_items")},
}

every_kept = pytest.mark.parametrize("name", ASKS)
every_api = pytest.mark.parametrize("name", APIS)
every_stream = pytest.mark.parametrize("name", STREAMING)


def asked(name: str, **more: Any) -> bytes:
    return json.dumps({"model": "m", **REQUESTS[name], **more}).encode()


def simulated(name: str, body: bytes) -> Answer:
    said = json.loads(body)
    return Answer("qwen", 1, said, APIS[name].simulation.question(said), created=0)


def read(name: str, data: bytes, kind: str, *, strip: bool = False) -> tuple[Reader, bytes]:
    reader = reader_for(APIS[name], {"content-type": kind}, strip=strip)
    assert reader is not None
    on = reader.feed(data, now=1.0)
    return reader, on + reader.finish()


def streamed(name: str, body: bytes) -> bytes:
    events = APIS[name].simulation.events
    assert events is not None
    return b"".join(events(simulated(name, body)))


@pytest.mark.parametrize("part", [each.name for each in fields(Api)])
def test_a_row_that_lacks_a_part_cannot_be_made(part: str):
    parts = {each.name: getattr(APIS["chat"], each.name) for each in fields(Api)}
    del parts[part]

    with pytest.raises(TypeError, match=part):
        Api(**parts)


def test_every_row_is_tried_here():
    assert REQUESTS.keys() == OPERATIONS.keys() == LIMITS.keys() == APIS.keys()


@every_api
def test_a_row_is_found_by_its_name_and_by_each_of_its_paths(name: str):
    api = APIS[name]

    assert api.name == name
    assert api.paths
    paths = (*api.paths, *api.counting_paths)
    assert [PATHS[normalise_path(path)] for path in paths] == [api] * len(paths)


def test_no_path_belongs_to_two_rows():
    assert len(PATHS) == sum(len(api.paths) + len(api.counting_paths) for api in APIS.values())


@every_api
def test_its_request_is_read(name: str):
    request = understand(APIS[name], "/", {}, read_body(asked(name, stream=True)))

    assert (request.api, request.model, request.stream) == (name, "m", True)
    assert request.conversation.last_user == SAID
    assert request.conversation.system == ("be kind" if "be kind" in asked(name).decode() else "")


@every_api
def test_the_members_that_reserve_tokens_are_those_of_its_reference(name: str):
    members = sorted(set().union(*LIMITS.values()))
    bodies = {member: read_body(asked(name, **{member: 7})) for member in members}
    reserving = {
        member for member, body in bodies.items() if understand(APIS[name], "/", {}, body).max_output_tokens == 7
    }

    assert reserving == LIMITS[name]


@every_api
def test_its_operation_is_the_one_of_the_conventions(name: str):
    assert APIS[name].operation == OPERATIONS[name]


@every_api
def test_what_is_simulated_is_what_is_read_of_a_whole_answer(name: str):
    answer = simulated(name, asked(name))
    reader, _ = read(name, json.dumps(APIS[name].simulation.whole(answer)).encode(), "application/json")
    output = 0 if name == "embeddings" else answer.output_tokens

    assert answer.question == SAID
    assert (reader.found.model, reader.found.usage) == ("m", Usage(answer.input_tokens, output))
    assert (bool(reader.found.finish_reasons), reader.found.error, reader.found.unread) == (output > 0, "", "")


@every_stream
def test_what_is_simulated_is_what_is_read_of_a_stream(name: str):
    body = asked(name, stream=True, stream_options={"include_usage": True})
    answer = simulated(name, body)
    reader, on = read(name, stream := streamed(name, body), "text/event-stream")
    found = reader.found

    assert on == stream
    assert (found.model, found.usage) == ("m", Usage(answer.input_tokens, answer.output_tokens))
    assert (found.chunks, found.ended, len(found.finish_reasons)) == (len(answer.pieces), True, 1)
    assert (found.error, found.unread) == ("", "")


@every_stream
def test_a_caller_who_asked_for_no_usage_gets_the_stream_that_it_would_have_had(name: str):
    on_ask = APIS[name].usage_on_ask
    before = read_body(asked(name, stream=True))
    after = before.with_model("m", *(on_ask.ask(before) if on_ask else ()))
    reader, on = read(name, streamed(name, after), "text/event-stream", strip=True)

    assert (on_ask is not None) == (name in TOLD_ON_ASK)
    silent, plain = (each.replace(b', "usage": null', b"") for each in (on, streamed(name, asked(name, stream=True))))
    assert silent == plain
    assert reader.found.usage is not None


@every_kept
def test_an_answer_that_is_kept_is_found_by_what_it_tells_of_itself(name: str):
    answer = simulated(name, asked(name, store=True))
    whole = APIS[name].simulation.whole(answer)
    read_whole, _ = read(name, json.dumps(whole).encode(), "application/json")
    read_stream, _ = read(name, streamed(name, asked(name, store=True, stream=True)), "text/event-stream")
    path = f"{APIS[name].paths[0]}/{whole['id']}"

    assert [read_whole.found.id, read_stream.found.id] == [whole["id"]] * 2
    assert kept_at("GET", path) == (APIS[name], MadeId(name, whole["id"]))


@every_api
def test_what_may_be_asked_of_its_answers_is_what_its_reference_has(name: str):
    words = ("", "cancel", "input_items", "messages", "compact")
    base = APIS[name].paths[0]
    asks = {(method, word) for method in ("GET", "POST", "PUT", "DELETE", "HEAD") for word in words
            if kept_at(method, f"{base}/id_1/{word}".rstrip("/"))}  # fmt: skip

    assert asks == ASKS.get(name, set())


@pytest.mark.parametrize(
    ("name", "store", "keeps"),
    [("responses", None, True), ("responses", False, False), ("chat", None, False), ("chat", True, True),
     ("completions", True, False), ("messages", True, False)],
)  # fmt: skip
def test_an_answer_is_kept_where_its_caller_says_so_or_its_servers_do_anyway(
    name: str, store: bool | None, keeps: bool
):
    more = {} if store is None else {"store": store}

    assert understand(APIS[name], "/", {}, read_body(asked(name, **more))).keeps == keeps


@every_api
def test_a_refusal_is_an_error_that_its_own_reader_knows(name: str):
    body = APIS[name].error(Denied(429, 'slow "down"', "rate_limit_error", "rate_limited", "model"))
    reader, _ = read(name, body, "application/json")
    told = json.loads(body)["error"]

    assert (told["message"], told["type"], told["code"]) == ('slow "down"', "rate_limit_error", "rate_limited")
    assert reader.found.error == "rate_limit_error"


@every_api
def test_a_call_that_only_counts_reserves_nothing_and_fits_every_context(name: str):
    api = APIS[name]
    counted = [understand(api, path, {}, read_body(asked(name))) for path in api.counting_paths]
    small = Model("m", "c", "m", frozenset({name}), frozenset({"text"}), context=1)

    assert [(each.only_counts, estimate(each), inability(small, each)) for each in counted] == [
        (True, Estimate(), None)
    ] * len(api.counting_paths)
    assert not understand(api, api.paths[0], {}, read_body(asked(name))).only_counts


def test_tokens_are_counted_where_a_provider_counts_them():
    assert [path for api in APIS.values() for path in api.counting_paths] == [
        "/v1/responses/input_tokens",
        "/v1/messages/count_tokens",
    ]


def test_the_schema_names_the_rows():
    committed = json.loads((ROOT / "config/wissel.schema.json").read_text())
    named = [each["$defs"]["Model"]["properties"]["apis"]["items"]["enum"] for each in (committed, json_schema())]

    assert named == [list(APIS), list(APIS)]


def written() -> list[tuple[str, str]]:
    """Every name in a list of APIs that a file of the repository shows."""
    folders = ("config", "docs", ".github", "envoy", "src/wissel/demo")
    files = [ROOT / "README.md", *(file for folder in folders for file in (ROOT / folder).rglob("*.[ym][ad]*"))]
    return [
        (str(file.relative_to(ROOT)), name.strip())
        for file in files
        for names in re.findall(r"\bapis: \[([^\]]*)\]", file.read_text())
        for name in names.split(",")
    ]


def test_no_example_names_an_api_that_is_no_row():
    default = {(f"provider: {provider}", name) for provider in (None, *PROVIDERS) for name in usual_apis(provider)}
    lists = {*written(), *default}

    assert len(lists) > len(default)
    assert [each for each in lists if each[1] not in APIS] == []
