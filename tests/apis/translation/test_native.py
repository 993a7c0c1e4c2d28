"""Translated answers against what a server says in that format by itself: llama.cpp's, with a real small model.

One question is put to one server in three formats, greedily, so its words are
the same each time. What it answers in one format is translated into another, and
must mean what it answered there.
"""

import json
from collections.abc import AsyncGenerator
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from real import optional
from translations import ASKED, gathered, meaning, said_in
from wissel.apis.translation.answering import StreamTranslation, translated_answer, translated_error
from wissel.apis.translation.dialects import DIALECTS
from wissel.apis.translation.form import WholeAnswer
from wissel.demo.real_model import running_model, weights

pytestmark = [
    pytest.mark.slow,
    pytest.mark.asyncio(loop_scope="module"),
    optional(lambda: str(weights()), "llama.cpp or its small model"),
]

PATHS = {"chat": "/v1/chat/completions", "messages": "/v1/messages", "responses": "/v1/responses"}
PAIRS = [(spoken, wanted) for spoken in DIALECTS for wanted in DIALECTS if spoken != wanted]
GREEDY = {"model": "smollm2", "temperature": 0, "seed": 1}
HUMAN = {"role": "user", "content": "Name a city."}
SYSTEM = "Answer briefly."
COLOUR = "Name a colour."

QUESTIONS: dict[str, dict[str, dict[str, Any]]] = {
    "text": {
        "chat": {"messages": [HUMAN], "max_tokens": 40},
        "messages": {"messages": [HUMAN], "max_tokens": 40},
        "responses": {"input": "Name a city.", "max_output_tokens": 40},
    },
    "system": {
        "chat": {"messages": [{"role": "system", "content": SYSTEM}, {**HUMAN, "content": COLOUR}], "max_tokens": 40},
        "messages": {"system": SYSTEM, "messages": [{**HUMAN, "content": COLOUR}], "max_tokens": 40},
        "responses": {"instructions": SYSTEM, "input": COLOUR, "max_output_tokens": 40},
    },
    "length": {
        "chat": {"messages": [HUMAN], "max_tokens": 3},
        "messages": {"messages": [HUMAN], "max_tokens": 3},
        "responses": {"input": "Name a city.", "max_output_tokens": 3},
    },
    "stop": {
        "chat": {"messages": [HUMAN], "max_tokens": 40, "stop": ["city"]},
        "messages": {"messages": [HUMAN], "max_tokens": 40, "stop_sequences": ["city"]},
    },
    "too long": {
        "chat": {"messages": [{**HUMAN, "content": "word " * 5000}]},
        "messages": {"messages": [{**HUMAN, "content": "word " * 5000}], "max_tokens": 9},
        "responses": {"input": "word " * 5000},
    },
}
NOT_TOLD = {("length", "responses")}
"""This server calls every response complete."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[str]:
    home: Path = tmp_path_factory.mktemp("model")
    async with running_model(home) as address:
        yield f"http://{address}"


ANSWERS: dict[tuple[str, str, bool], tuple[int, bytes]] = {}
"""What the server said, so that nothing is asked twice."""


async def asked(server: str, question: str, api: str, *, stream: bool) -> tuple[int, bytes]:
    key = question, api, stream
    if key not in ANSWERS:
        body: dict[str, Any] = {**GREEDY, **QUESTIONS[question][api], "stream": stream}
        if stream and api == "chat":
            body["stream_options"] = {"include_usage": True}
        # A connection for each: it closes them behind a stream.
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{server}{PATHS[api]}", json=body) as answer,
        ):
            ANSWERS[key] = answer.status, await answer.read()
    return ANSWERS[key]


def means(answer: WholeAnswer | None) -> dict[str, Any]:
    """Without what is another each time: its name, and how much of the prompt was still known."""
    assert answer
    assert answer.usage
    found = meaning(answer)
    return {
        "words": found["words"],
        "reason": found["reason"],
        "tokens": (answer.usage.input_tokens, answer.usage.output_tokens),
    }


def heard(name: str, stream: bytes) -> WholeAnswer:
    reader = DIALECTS[name].reader(ASKED)
    return gathered(
        [event for each in said_in(stream) for event in (reader.end() if each == "[DONE]" else reader.read(each))]
    )


def compared(question: str, spoken: str, wanted: str, one: dict[str, Any], other: dict[str, Any]) -> None:
    if {(question, spoken), (question, wanted)} & NOT_TOLD:
        one, other = {**one, "reason": ""}, {**other, "reason": ""}
    assert one == other


CASES = [
    pytest.param(question, spoken, wanted, id=f"{question}-{spoken}-{wanted}")
    for question, apis in QUESTIONS.items()
    for spoken, wanted in PAIRS
    if question != "too long" and spoken in apis and wanted in apis
]


@pytest.mark.parametrize(("question", "spoken", "wanted"), CASES)
async def test_a_translated_answer_is_the_native_one(server: str, question: str, spoken: str, wanted: str):
    _, body = await asked(server, question, spoken, stream=False)
    _, native = await asked(server, question, wanted, stream=False)
    status, told = translated_answer(body, ASKED, spoken=DIALECTS[spoken], wanted=DIALECTS[wanted])
    read = partial(DIALECTS[wanted].read_answer, occasion=ASKED)

    assert status == 200
    compared(question, spoken, wanted, means(read(json.loads(told))), means(read(json.loads(native))))


@pytest.mark.parametrize(("question", "spoken", "wanted"), CASES)
async def test_a_translated_stream_is_the_native_one(server: str, question: str, spoken: str, wanted: str):
    _, stream = await asked(server, question, spoken, stream=True)
    _, native = await asked(server, question, wanted, stream=True)
    translation = StreamTranslation(ASKED, spoken=DIALECTS[spoken], wanted=DIALECTS[wanted])
    told = translation.feed(stream) + translation.finish()

    compared(question, spoken, wanted, means(heard(wanted, told)), means(heard(wanted, native)))


@pytest.mark.parametrize("wanted", DIALECTS)
@pytest.mark.parametrize("spoken", DIALECTS)
async def test_a_native_error_is_told_in_the_callers_format(server: str, spoken: str, wanted: str):
    status, body = await asked(server, "too long", spoken, stream=False)
    told, text, _ = translated_error(status, body, {}, wanted=DIALECTS[wanted])
    error = json.loads(text)["error"]

    assert (status, told, error["type"], error["code"]) == (
        400, 400, "invalid_request_error", "exceed_context_size_error",
    )  # fmt: skip
    assert error["message"].startswith("request (5031 tokens) exceeds the available context size (4096 tokens)")
