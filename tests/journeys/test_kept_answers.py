"""Answers that are kept, by OpenAI's own client through a real Envoy: what is asked later goes where they were made."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from real import needs_envoy, needs_redis
from redis_server import RedisServer
from wissel.demo.stage import Stage, running_stage
from wissel.demo.upstream import Behaviour

if TYPE_CHECKING:
    from openai import AsyncOpenAI

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module"), needs_envoy, needs_redis]

DOCUMENT: dict[str, Any] = {
    "models": [
        {"name": "a", "cluster": "a", "upstream_model": "org/a", "apis": ["chat", "responses"]},
        {"name": "b", "cluster": "b", "upstream_model": "org/b", "apis": ["chat", "responses"]},
        {"name": "quiet", "cluster": "quiet", "apis": ["responses"]},
    ],
    "splits": [
        {"name": "either", "key": ["request"], "variants": [{"model": "a", "weight": 1}, {"model": "b", "weight": 1}]}
    ],
    "access": {
        "keys": [{"id": name, "sha256": sha256(name.encode()).hexdigest()} for name in ("ada", "bob", "eve")],
        "rules": [{"id": "all", "effect": "permit"}],
    },
}


@pytest.fixture(scope="module")
def redis_of_all(redis_binary: str) -> Iterator[RedisServer]:
    with RedisServer(redis_binary) as server:
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tmp_path_factory, redis_of_all: RedisServer) -> AsyncIterator[Stage]:
    async with running_stage({**DOCUMENT, "redis": redis_of_all.url}, tmp_path_factory.mktemp("kept")) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ada(stage: Stage) -> AsyncIterator["AsyncOpenAI"]:
    async with stage.client("ada") as client:
        yield client


@pytest.mark.parametrize("model", ["a", "b"])
async def test_a_response_is_asked_for_where_it_was_made(ada, model):
    made = await ada.responses.create(model=model, input="count the words")
    found = await ada.responses.with_raw_response.retrieve(made.id)
    items = await ada.responses.input_items.list(made.id)

    assert (found.parse().output_text, found.headers["x-served-by"]) == (made.output_text, model)
    assert found.headers["x-wissel-model"] == model
    assert items.data[0].content[0].text == "count the words"


async def test_what_is_deleted_is_gone_there_and_here(stage, ada):
    import openai

    made = await ada.responses.create(model="b", input="count the words")
    await ada.responses.delete(made.id)

    assert not stage.upstreams["b"].kept.has("responses", made.id)
    with pytest.raises(openai.NotFoundError, match="is kept here for you"):
        await ada.responses.retrieve(made.id)


async def test_a_response_in_the_background_is_polled_until_it_is_done(stage, ada):
    stage.upstreams["a"].behaviour = Behaviour(latency=0.5)
    made = await ada.responses.create(model="a", input="count the words", background=True)
    polled = [await ada.responses.retrieve(made.id)]
    while polled[-1].status != "completed":
        await asyncio.sleep(0.05)
        polled.append(await ada.responses.retrieve(made.id))
    stage.upstreams["a"].behaviour = Behaviour()

    assert (made.status, polled[0].status, polled[-1].output_text) == (
        "queued",
        "queued",
        'This is org/a on a. You said: "count the words"',
    )


async def test_a_response_in_the_background_is_cancelled(stage, ada):
    stage.upstreams["b"].behaviour = Behaviour(latency=30.0)
    made = await ada.responses.create(model="b", input="count the words", background=True)
    cancelled = await ada.responses.cancel(made.id)
    stage.upstreams["b"].behaviour = Behaviour()

    assert cancelled.status == "cancelled"


async def test_a_stream_goes_on_where_it_was_left(ada):
    stream = await ada.responses.create(model="b", input="count the words", background=True, stream=True)
    first = await anext(aiter(stream))
    await stream.close()
    rest = [each async for each in await ada.responses.retrieve(first.response.id, stream=True, starting_after=0)]

    assert first.type == "response.created"
    assert (rest[0].sequence_number, rest[-1].type) == (1, "response.completed")


async def test_a_call_goes_on_where_its_previous_answer_was_made(ada):
    made = [await ada.responses.with_raw_response.create(model="either", input=f"question {at}") for at in range(12)]
    went_on = [
        await ada.responses.with_raw_response.create(
            model="either", input="and then?", previous_response_id=each.parse().id
        )
        for each in made
    ]

    assert [each.headers["x-wissel-model"] for each in went_on] == [each.headers["x-wissel-model"] for each in made]
    assert {each.headers["x-wissel-model"] for each in made} == {"a", "b"}


async def test_a_call_goes_on_there_though_it_names_another_model(ada):
    made = await ada.responses.create(model="a", input="remember seven")
    went_on = await ada.responses.with_raw_response.create(model="b", input="now?", previous_response_id=made.id)

    assert went_on.headers["x-served-by"] == "a"


async def test_a_stored_completion_is_asked_for_changed_and_deleted_where_it_was_made(ada):
    asked: list[Any] = [{"role": "user", "content": "hello"}]
    made = await ada.chat.completions.create(model="b", messages=asked, store=True)
    found = await ada.chat.completions.with_raw_response.retrieve(made.id)
    messages = await ada.chat.completions.messages.list(made.id)
    changed = await ada.chat.completions.update(made.id, metadata={"topic": "greeting"})
    deleted = await ada.chat.completions.delete(made.id)

    assert (found.parse().id, found.headers["x-served-by"]) == (made.id, "b")
    assert messages.data[0].content == "hello"
    assert changed.metadata == {"topic": "greeting"}
    assert deleted.deleted


async def test_a_stored_completion_of_a_stream_is_known(ada):
    asked: list[Any] = [{"role": "user", "content": "hello"}]
    stream = await ada.chat.completions.create(model="b", messages=asked, store=True, stream=True)
    (made,) = {each.id async for each in stream}
    found = await ada.chat.completions.retrieve(made)

    assert found.id == made


async def test_a_caller_lists_its_own_stored_completions_wherever_they_are(stage):
    asked: list[Any] = [{"role": "user", "content": "hello"}]
    async with stage.client("bob") as bob, stage.client("eve") as eve:
        made = [await bob.chat.completions.create(model=name, messages=asked, store=True) for name in ("a", "b", "a")]
        await eve.chat.completions.create(model="a", messages=asked, store=True)
        await bob.chat.completions.delete(made[2].id)
        every = [each.id async for each in bob.chat.completions.list(limit=1)]
        of_b = [each.id async for each in bob.chat.completions.list(model="b")]

    assert sorted(every) == sorted([made[0].id, made[1].id])
    assert of_b == [made[1].id]


async def test_what_nobody_wanted_kept_is_not_known(ada):
    import openai

    unstored = await ada.responses.create(model="a", input="hello", store=False)
    completion = await ada.chat.completions.create(model="a", messages=[{"role": "user", "content": "hello"}])

    with pytest.raises(openai.NotFoundError, match="is kept here for you"):
        await ada.responses.retrieve(unstored.id)
    with pytest.raises(openai.NotFoundError, match="is kept here for you"):
        await ada.chat.completions.retrieve(completion.id)


async def test_another_callers_answer_is_as_unknown_as_none(stage, ada):
    import openai

    made = await ada.responses.create(model="quiet", input="a secret")
    async with stage.client("eve") as eve:
        with pytest.raises(openai.NotFoundError) as foreign:
            await eve.responses.retrieve(made.id)
        with pytest.raises(openai.NotFoundError) as unknown:
            await eve.responses.retrieve("resp_nobody")
        with pytest.raises(openai.NotFoundError) as going_on:
            await eve.responses.create(model="quiet", input="what was it?", previous_response_id=made.id)

    assert str(foreign.value).replace(made.id, "resp_nobody") == str(unknown.value)
    assert going_on.value.param == "previous_response_id"
    assert len(stage.upstreams["quiet"].requests) == 1


async def test_an_id_that_nobody_knows_is_left_to_the_route(ada):
    import openai

    with pytest.raises(openai.BadRequestError) as refused:
        await ada.responses.create(model="a", input="hello", previous_response_id="resp_nobody")

    assert refused.value.code == "previous_response_not_found"


async def test_with_redis_away_what_this_process_saw_is_found_and_for_the_rest_there_is_an_again(ada, redis_of_all):
    import openai

    made = await ada.responses.create(model="a", input="hello")
    redis_of_all.kill()
    found = await ada.responses.retrieve(made.id)
    went_on = await ada.responses.create(model="b", input="and?", previous_response_id=made.id)
    with pytest.raises(openai.InternalServerError) as unknown:
        await ada.responses.retrieve("resp_of_another_replica")
    with pytest.raises(openai.InternalServerError) as going_on:
        await ada.responses.create(model="a", input="and?", previous_response_id="resp_of_another_replica")
    redis_of_all.start()

    assert (found.id, went_on.model) == (made.id, "org/a")
    assert [each.value.code for each in (unknown, going_on)] == ["origin_unavailable"] * 2
    assert [each.value.response.headers["retry-after"] for each in (unknown, going_on)] == ["1"] * 2
