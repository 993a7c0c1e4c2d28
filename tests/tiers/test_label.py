"""Labels for one's own pair, from a server that is simulated."""

import asyncio
import json
from collections.abc import AsyncIterator
from functools import partial

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from wissel.errors import ConfigError, UpstreamError
from wissel.tiers import label as labelling
from wissel.tiers.base import Prompts
from wissel.tiers.data import Source, read
from wissel.tiers.label import Endpoint, Pair, vote

label = partial(labelling.label, backoff_s=0.001)


class Upstream:
    """The strong model is right; the judge prefers what is right, and where nothing is, what stands first."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.keys: set[str] = set()
        self.failing = 0
        """So many calls are still answered with 503."""

    async def answer(self, request: web.Request) -> web.Response:
        body = await request.json()
        model, prompt = body["model"], body["messages"][0]["content"]
        self.asked.append(model)
        self.keys.add(request.headers.get("authorization", ""))
        if self.failing:
            self.failing -= 1
            return web.Response(status=503)
        if model == "judge":
            first = prompt.split("[Answer of assistant A]")[1].split("[Answer of assistant B]")[0]
            second = prompt.split("[Answer of assistant B]")[1]
            text = "[[B]]" if "right" in second and "right" not in first else "[[A]]"
        else:
            text = "right" if model == "strong" and "hard" in prompt else "something"
        usage = {"prompt_tokens": 1000, "completion_tokens": 500}
        return web.json_response({"choices": [{"message": {"content": text}}], "usage": usage})


@pytest.fixture
async def upstream() -> AsyncIterator[tuple[Upstream, Pair]]:
    served = Upstream()
    app = web.Application()
    app.router.add_post("/v1/chat/completions", served.answer)
    async with TestServer(app) as server:
        url = str(server.make_url("/v1"))
        yield served, Pair(*(Endpoint(name, url, price=(1.0, 2.0)) for name in ("strong", "weak", "judge")))


async def test_prompts_become_labels_that_training_reads(upstream, tmp_path):
    _, pair = upstream
    tally = await label(["a hard one", "an easy one"], tmp_path / "labels.jsonl", pair, rate=1000)
    found = read(Source(tmp_path / "labels.jsonl"), Prompts.without_vectors)

    assert dict(zip(found.prompts.texts, found.outcomes, strict=True)) == {"a hard one": 1.0, "an easy one": 0.5}
    assert (tally.labelled, tally.calls, round(tally.usd, 6)) == (2, 8, 8 * 0.002)


async def test_a_judge_that_favours_the_first_place_has_no_say(upstream, tmp_path):
    _, pair = upstream
    await label(["an easy one"], tmp_path / "labels.jsonl", pair, rate=1000)
    row = json.loads((tmp_path / "labels.jsonl").read_text())

    assert (row["votes"], row["strong"]) == (["first", "first"], 0.5)


async def test_a_run_goes_on_where_the_last_one_stopped(upstream, tmp_path):
    served, pair = upstream
    out = tmp_path / "labels.jsonl"
    await label(["one"], out, pair, rate=1000)
    out.write_text(out.read_text() + '{"prompt": "tw')
    tally = await label(["one", "two"], out, pair, rate=1000)

    assert (tally.skipped, tally.labelled, len(served.asked)) == (1, 1, 8)
    assert [json.loads(line)["prompt"] for line in out.read_text().splitlines()] == ["one", "two"]


async def test_a_failure_that_passes_is_tried_again(upstream, tmp_path):
    served, pair = upstream
    served.failing = 2

    assert (await label(["one"], tmp_path / "labels.jsonl", pair, rate=1000)).labelled == 1


async def test_a_prompt_that_fails_is_left_for_the_next_run(upstream, tmp_path):
    served, pair = upstream
    served.failing = 1000
    told: list[str] = []
    tally = await label(["one"], tmp_path / "labels.jsonl", pair, rate=1000, progress=told.append)

    assert (tally.labelled, tally.failed) == (0, 1)
    assert "status 503" in told[0]
    assert (tmp_path / "labels.jsonl").read_text() == ""


async def test_calls_keep_their_pace(upstream, tmp_path):
    _, pair = upstream
    began = asyncio.get_running_loop().time()
    await label(["one", "two"], tmp_path / "labels.jsonl", pair, rate=40)

    assert asyncio.get_running_loop().time() - began >= 7 / 40


async def test_no_key_is_needed_and_none_is_sent(upstream, tmp_path):
    served, pair = upstream
    await label(["one"], tmp_path / "labels.jsonl", pair, rate=1000)

    assert served.keys == {""}


@pytest.mark.parametrize(("said", "found"), [("[[A]]", "first"), ("B", "second"), ("My verdict: [[C]]", "tie")])
def test_a_verdict_is_read(said, found):
    assert vote(said) == found


def test_what_is_no_verdict_is_no_vote():
    with pytest.raises(UpstreamError, match=r"it should say \[\[A\]\]"):
        vote("Both are great")


def test_an_endpoint_is_a_model_and_a_url():
    assert Endpoint.parse("gpt-4o@https://api.openai.com/v1/").url == "https://api.openai.com/v1"


@pytest.mark.parametrize("written", ["gpt-4o", "@https://x/v1", "gpt-4o@x/v1"])
def test_an_endpoint_that_is_neither_is_refused(written):
    with pytest.raises(ConfigError, match="should be MODEL@URL"):
        Endpoint.parse(written)


async def test_a_file_of_something_else_is_not_appended_to(upstream, tmp_path):
    _, pair = upstream
    (tmp_path / "notes.txt").write_text("my notes\n")

    with pytest.raises(ConfigError, match="something other than labels"):
        await label(["one"], tmp_path / "notes.txt", pair)
