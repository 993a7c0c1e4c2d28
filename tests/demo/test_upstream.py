import asyncio
import json
import random
import subprocess
import sys
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from wissel.apis.simulated import Answer, tokens
from wissel.apis.table import APIS
from wissel.demo.upstream import Behaviour, Upstream, running_upstream

if TYPE_CHECKING:
    from openai import AsyncOpenAI

HELLO: Any = [{"role": "user", "content": "hello there"}]
EXPECTED = 'This is m on qwen. You said: "hello there"'


@pytest.fixture
async def upstream() -> AsyncGenerator[Upstream]:
    async with running_upstream(Upstream("qwen")) as upstream:
        yield upstream


@pytest.fixture
async def client(upstream: Upstream) -> "AsyncGenerator[AsyncOpenAI]":
    async with client_of(upstream) as client:
        yield client


def client_of(upstream: Upstream) -> "AsyncOpenAI":
    from openai import AsyncOpenAI

    return AsyncOpenAI(base_url=f"http://{upstream.address}/v1", api_key="a key", max_retries=0)


async def post(upstream: Upstream, path: str, body: Any) -> tuple[int, str, str]:
    url = f"http://{upstream.address}{path}"
    async with aiohttp.ClientSession() as session, session.post(url, json=body) as answer:
        return answer.status, answer.headers["x-served-by"], await answer.text()


def events(text: str) -> list[dict[str, Any]]:
    return [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]


class TestWithTheOpenAIClient:
    async def test_chat(self, client: "AsyncOpenAI"):
        answer = await client.chat.completions.create(model="m", messages=HELLO)

        assert (answer.model, answer.choices[0].message.content) == ("m", EXPECTED)
        assert (answer.system_fingerprint, answer.model_extra) == ("fp_qwen", {"served_by": "qwen"})

    async def test_usage_counts_both_ways(self, client: "AsyncOpenAI"):
        answer = await client.chat.completions.create(model="m", messages=HELLO)

        assert answer.usage
        assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (2, len(EXPECTED.split()))

    async def test_streamed_chat_ends_with_usage_where_it_is_asked_for(self, client: "AsyncOpenAI"):
        stream = await client.chat.completions.create(
            model="m", messages=HELLO, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]

        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1])
        assert (text, chunks[-2].choices[0].finish_reason) == (EXPECTED, "stop")
        assert (chunks[-1].choices, [bool(chunk.usage) for chunk in chunks].count(True)) == ([], 1)

    async def test_streamed_chat_says_nothing_of_usage_otherwise(self, client: "AsyncOpenAI"):
        stream = await client.chat.completions.create(model="m", messages=HELLO, stream=True)

        assert [chunk.usage async for chunk in stream if "usage" in chunk.model_fields_set] == []

    async def test_completions(self, client: "AsyncOpenAI"):
        answer = await client.completions.create(model="m", prompt="hello there")

        assert answer.choices[0].text == EXPECTED

    async def test_streamed_completions(self, client: "AsyncOpenAI"):
        stream = await client.completions.create(model="m", prompt="hello there", stream=True)

        assert "".join([chunk.choices[0].text async for chunk in stream]) == EXPECTED

    async def test_responses(self, client: "AsyncOpenAI"):
        answer = await client.responses.create(model="m", input="hello there")

        assert (answer.output_text, answer.usage and answer.usage.input_tokens) == (EXPECTED, 2)

    async def test_streamed_responses_are_put_together_by_the_client(self, client: "AsyncOpenAI"):
        async with client.responses.stream(model="m", input=HELLO) as stream:
            pieces = [event.delta async for event in stream if event.type == "response.output_text.delta"]
            final = await stream.get_final_response()

        assert ("".join(pieces), final.output_text) == (EXPECTED, EXPECTED)

    async def test_embeddings_are_the_same_for_the_same_text(self, client: "AsyncOpenAI"):
        answer = await client.embeddings.create(model="m", input=["one", "two", "one"], dimensions=5)

        one, two, again = [each.embedding for each in answer.data]
        assert (one == again, one == two, len(one)) == (True, False, 5)

    async def test_models_are_listed(self):
        async with running_upstream(Upstream("qwen", models=["m", "n"])) as upstream, client_of(upstream) as client:
            listed = [model.id async for model in client.models.list()]

        assert listed == ["m", "n"]

    async def test_a_model_that_it_has_not_is_not_found(self):
        from openai import NotFoundError

        async with running_upstream(Upstream("qwen", models=["m"])) as upstream, client_of(upstream) as client:
            with pytest.raises(NotFoundError) as raised:
                await client.chat.completions.create(model="auto", messages=HELLO)

        assert (raised.value.code, raised.value.param) == ("model_not_found", "model")


PARTS: Any = [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]


class TestAnthropicsMessages:
    async def test_whole(self, upstream: Upstream):
        status, served_by, text = await post(
            upstream, "/v1/messages", {"model": "m", "max_tokens": 9, "messages": PARTS}
        )

        answer = json.loads(text)
        assert (status, served_by, answer["stop_reason"]) == (200, "qwen", "end_turn")
        assert answer["content"] == [{"type": "text", "text": 'This is m on qwen. You said: "hi"'}]

    async def test_as_events(self, upstream: Upstream):
        _, _, text = await post(upstream, "/v1/messages", {"model": "m", "messages": PARTS, "stream": True})

        told = events(text)
        words = "".join(event["delta"]["text"] for event in told if event["type"] == "content_block_delta")
        names = [line[7:] for line in text.splitlines() if line.startswith("event: ")]
        assert (words, told[-2]["usage"]) == ('This is m on qwen. You said: "hi"', {"output_tokens": 8})
        assert names == [event["type"] for event in told]
        assert (names[0], names[-1]) == ("message_start", "message_stop")


class TestBehaviour:
    async def test_it_keeps_each_request_byte_for_byte(self, upstream: Upstream, client: "AsyncOpenAI"):
        raw = b'{ "model":"m" , "messages":[{"role":"user","content":"\\u00e9"}] }'

        async with aiohttp.ClientSession() as session:
            await session.post(f"http://{upstream.address}/v1/chat/completions?x=1", data=raw, headers={"X-A": "b"})

        [request] = upstream.requests
        assert (request.method, request.path, request.body) == ("POST", "/v1/chat/completions?x=1", raw)
        assert request.headers["x-a"] == "b"

    async def test_the_share_of_errors_is_what_was_asked_for(self):
        faulty = Upstream("qwen", behaviour=Behaviour(error_rate=0.25), dice=random.Random(1))
        body = {"model": "m", "messages": HELLO}
        async with running_upstream(faulty):
            statuses = [(await post(faulty, "/v1/chat/completions", body))[0] for _ in range(100)]

        assert 15 <= statuses.count(500) <= 35
        assert set(statuses) == {200, 500}

    async def test_it_can_be_changed_while_it_serves(self, upstream: Upstream):
        async with aiohttp.ClientSession() as session:
            url = f"http://{upstream.address}/_behaviour"
            async with session.put(url, json={"error_rate": 1}) as changed:
                told = await changed.json()

        failed, _, _ = await post(upstream, "/v1/completions", {"model": "m", "prompt": "hi"})
        assert (told, failed) == ({"latency": 0.0, "event_gap": 0.0, "error_rate": 1.0, "error_status": 500}, 500)

    async def test_a_behaviour_that_it_does_not_know_is_refused(self, upstream: Upstream):
        url = f"http://{upstream.address}/_behaviour"
        async with aiohttp.ClientSession() as session, session.put(url, json={"speed": 1}) as refused:
            status = refused.status

        assert (status, upstream.behaviour) == (400, Behaviour())

    @pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"model":"m"}', b'{"model":"m","messages":[]}'])
    async def test_what_cannot_be_read_is_a_bad_request(self, upstream: Upstream, body: bytes):
        url = f"http://{upstream.address}/v1/chat/completions"
        async with aiohttp.ClientSession() as session, session.post(url, data=body) as answer:
            status = answer.status

        assert status == 400

    async def test_a_path_that_it_has_not_is_not_found_and_kept(self, upstream: Upstream):
        status, _, _ = await post(upstream, "/v1/files", {})

        assert (status, upstream.requests[0].path) == (404, "/v1/files")


@pytest.mark.slow
def test_it_runs_as_a_program_and_says_where():
    command = [sys.executable, "-m", "wissel.demo.upstream", "--name", "llama", "--model", "m"]

    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout
        line = program.stdout.readline()
        program.terminate()

    assert line.startswith("llama on http://127.0.0.1:")
    assert program.returncode == 0


def test_a_long_question_is_quoted_in_part():
    answer = Answer("qwen", 1, {"model": "m"}, "x" * 5000, created=0)

    assert len(answer.text) < 300


def test_the_count_of_tokens_is_never_none():
    assert tokens("") == 1


@pytest.mark.parametrize("path", [path for api in APIS.values() for path in api.counting_paths])
async def test_it_counts_tokens_and_generates_nothing(upstream: Upstream, path: str):
    asked = {"model": "m", "input": "hello there", "messages": [{"role": "user", "content": "hello there"}]}
    status, _, text = await post(upstream, path, asked)

    assert (status, json.loads(text)) == (200, {"input_tokens": 2})


class TestWhatACallerWantsSimulated:
    async def test_an_error_in_the_apis_own_format(self, upstream: Upstream):
        asked = [{"role": "user", "content": "simulate: status 429"}]
        status, _, text = await post(upstream, "/v1/messages", {"model": "m", "max_tokens": 9, "messages": asked})

        assert (status, json.loads(text)["error"]["type"]) == (429, "rate_limit_error")

    async def test_an_error_tells_when_to_come_again_and_its_own_name(self, upstream: Upstream):
        url = f"http://{upstream.address}/v1/responses"
        body = {"model": "m", "input": "simulate: status 503"}
        async with aiohttp.ClientSession() as session, session.post(url, json=body) as answer:
            told = answer.headers["retry-after"], answer.headers["x-request-id"], answer.content_type

        assert told == ("1", "req_qwen_1", "application/json")

    async def test_a_stream_that_breaks_off(self, upstream: Upstream):
        asked = [{"role": "user", "content": "simulate: text, cut"}]

        with pytest.raises(aiohttp.ClientPayloadError):
            await post(upstream, "/v1/chat/completions", {"model": "m", "messages": asked, "stream": True})

    async def test_calls_of_the_callers_tools(self, client: "AsyncOpenAI"):
        tools: Any = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]
        asked: Any = [{"role": "user", "content": "simulate: thought, call, call"}]
        answer = await client.chat.completions.create(model="m", messages=asked, tools=tools)

        calls: Any = answer.choices[0].message.tool_calls
        assert (answer.choices[0].finish_reason, [call.function.name for call in calls]) == ("tool_calls", ["look"] * 2)


class TestAServerThatIsKilled:
    async def test_breaks_off_what_it_was_asked_and_refuses_what_comes(self, upstream: Upstream):
        upstream.behaviour.latency = 30.0
        asked = asyncio.create_task(post(upstream, "/v1/chat/completions", {"model": "m", "messages": HELLO}))
        for _ in range(500):
            if upstream.served:
                break
            await asyncio.sleep(0.01)
        await upstream.go_down()

        with pytest.raises(aiohttp.ServerDisconnectedError):
            await asked
        with pytest.raises(aiohttp.ClientConnectorError):
            await post(upstream, "/v1/chat/completions", {"model": "m", "messages": HELLO})

    async def test_comes_back_where_it_was(self, upstream: Upstream):
        address = upstream.address
        await upstream.go_down()
        await upstream.come_back()

        assert (await post(upstream, "/v1/chat/completions", {"model": "m", "messages": HELLO}))[:2] == (200, "qwen")
        assert upstream.address == address
