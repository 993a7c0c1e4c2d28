"""Live traffic teaches a grader, on real parts: Envoy, Redis, callers' scores, the export, training, serving again."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from typer.testing import CliRunner

from real import needs_encoder, needs_envoy, needs_redis
from tiers.world import rows, write
from wissel.cli import app
from wissel.demo.stage import Stage, running_stage

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module"), needs_envoy, needs_encoder, needs_redis]

REQUESTS = 240
LEARN = {"explore": 0.5, "prompts": True, "keep": "1h"}
ENDS = {"strong": "large", "weak": "small", "grader": {"type": "length"}, "threshold": 0.2}
DOCUMENT: dict[str, Any] = {
    "redis": "embedded",
    "models": [{"name": "large", "cluster": "a"}, {"name": "small", "cluster": "b"}],
    "tiers": [{"name": "thrifty", **ENDS, "learn": LEARN}, {"name": "silent", **ENDS, "learn": {"explore": 0.5}}],
}


@dataclass
class Spoken:
    """A request that was served, and what its caller thought of the answer."""

    prompt: str
    served: str
    score: int
    request_id: str


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tmp_path_factory) -> AsyncIterator[Stage]:
    async with running_stage(DOCUMENT, tmp_path_factory.mktemp("stage")) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def spoken(stage: Stage, tmp_path_factory) -> list[Spoken]:
    """What was asked of the tier `thrifty` through Envoy; each answer was rated, and every score is written."""
    async with aiohttp.ClientSession(stage.envoy.url) as session:
        found = [await ask(session, row, "thrifty") for row in rows(REQUESTS, seed=11)]
        for each in found:
            await rate(session, each)
    await all_exported(stage, "thrifty", tmp_path_factory.mktemp("spoken") / "live.jsonl")
    return found


async def ask(session: aiohttp.ClientSession, row: dict[str, Any], tier: str) -> Spoken:
    body = {"model": tier, "messages": [{"role": "user", "content": row["prompt"]}]}
    async with session.post("/v1/chat/completions", json=body) as response:
        assert response.status == 200
        await response.read()
        served = response.headers["x-wissel-model"]
        score = row["strong" if served == "large" else "weak"]
        return Spoken(row["prompt"], served, score, response.headers["x-wissel-request-id"])


async def rate(session: aiohttp.ClientSession, spoken: Spoken) -> None:
    """Until the request is remembered, which is a matter of a second."""
    told = {"request_id": spoken.request_id, "score": spoken.score}
    for _ in range(100):
        async with session.post("/v1/feedback", json=told) as response:
            if response.status != 404:
                assert response.status == 200, await response.text()
                return
        await asyncio.sleep(0.05)
    raise AssertionError("the request was not remembered")


async def wissel(stage: Stage, *words: str) -> tuple[int, Any]:
    """A command as an operator gives it: its exit code, and the JSON that it printed."""
    done = await asyncio.to_thread(CliRunner().invoke, app, [*words, "--json"])
    assert done.exit_code != 2, done.stderr
    return done.exit_code, json.loads(done.stdout)


async def export(stage: Stage, tier: str, out: Path, *more: str) -> tuple[int, dict[str, Any]]:
    place = ["--config", str(stage.path), "--data", str(stage.path.parent / "redis")]
    return await wissel(stage, "tier", "export", tier, *place, "--out", str(out), *more)


async def all_exported(stage: Stage, tier: str, out: Path, *more: str) -> tuple[int, dict[str, Any]]:
    """Once every score is written, which is a matter of a second."""
    found, before = await export(stage, tier, out, *more), None
    while found != before:
        await asyncio.sleep(1.5)
        found, before = await export(stage, tier, out, *more), found
    return found


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


async def test_what_a_coin_decided_is_exported_with_prompt_and_score(stage, spoken, tmp_path):
    code, found = await export(stage, "thrifty", tmp_path / "live.jsonl")
    by_id = {each.request_id: each for each in spoken}
    exported = lines(tmp_path / "live.jsonl")

    assert code == 0
    assert found["rows"] == found["with_prompts"] == len(exported)
    # A fair coin for half of the requests: within five standard deviations.
    assert len(exported) == pytest.approx(REQUESTS / 2, abs=5 * (REQUESTS / 4) ** 0.5)
    assert {row["served"] for row in exported} == {"strong", "weak"}
    for row in exported:
        said = by_id[row["request_id"]]
        assert row["prompt"] == said.prompt
        assert (row["model"], row[row["served"]]) == (said.served, said.score)


async def test_only_the_owner_may_read_what_was_exported(stage, spoken, tmp_path):
    (tmp_path / "live.jsonl").write_text("older")
    await export(stage, "thrifty", tmp_path / "live.jsonl")

    assert (tmp_path / "live.jsonl").stat().st_mode & 0o777 == 0o600


async def test_a_grader_is_trained_from_it_and_knows_hard_prompts(stage, spoken, tmp_path):
    await all_exported(stage, "thrifty", tmp_path / "live.jsonl")
    write(tmp_path / "unseen.jsonl", rows(300, seed=12))
    trained, _ = await wissel(
        stage, "tier", "train", "--data", str(tmp_path / "live.jsonl"), "--out", str(tmp_path / "grader")
    )
    measured, found = await wissel(
        stage, "tier", "eval", "--router", str(tmp_path / "grader"), "--data", str(tmp_path / "unseen.jsonl")
    )

    assert (trained, measured) == (0, 0)
    assert found["apgr"] > 0.6 > found["baselines"]["length"]["apgr"]


async def test_the_audit_trail_says_that_prompts_were_taken_away(stage, spoken, tmp_path):
    _, found = await export(stage, "thrifty", tmp_path / "live.jsonl")
    place = ["--config", str(stage.path), "--data", str(stage.path.parent / "redis")]
    _, entry = await wissel(stage, "audit", "-n", "1", *place)

    assert (entry["subject"], entry["kind"], entry["detail"]["with_prompts"]) == (
        "tier/thrifty",
        "exported",
        found["rows"],
    )


async def test_without_leave_no_prompt_is_kept_anywhere(stage, tmp_path):
    secret = "the launch code is 7-3-1"
    async with aiohttp.ClientSession(stage.envoy.url) as session:
        told = [await ask(session, {"prompt": secret, "strong": 1, "weak": 0}, "silent") for _ in range(40)]
        for each in told:
            await rate(session, each)
    code, found = await all_exported(stage, "silent", tmp_path / "live.jsonl")

    assert (code, found["with_prompts"]) == (0, 0)
    assert found["rows"] > 0
    everything = [path for path in stage.path.parent.rglob("*") if path.is_file()]
    assert any(path.suffix == ".aof" or "appendonly" in str(path) for path in everything)
    assert [path for path in everything if secret.encode() in path.read_bytes()] == []


async def test_no_log_metric_or_page_shows_a_prompt(stage, spoken):
    async with aiohttp.ClientSession(stage.admin) as session:
        pages = [await (await session.get(path)).text() for path in ("/metrics", "/v1/activity", "/v1/config")]

    assert 'reason="explored"' in pages[0]
    shown = "\n".join([*pages, stage.log.read_text()])
    assert [each.prompt for each in spoken if each.prompt in shown] == []


async def test_a_decision_that_is_only_asked_for_is_left_to_no_coin(stage):
    body = {"model": "thrifty", "messages": [{"role": "user", "content": "short"}]}
    async with aiohttp.ClientSession(stage.admin) as session:
        found = [await (await session.post("/v1/route", json=body)).json() for _ in range(3)]

    assert {each["tier"]["reason"] for each in found} == {"threshold"}


async def test_the_outcome_is_a_label_of_every_answer(stage, tmp_path):
    """With half of the weak end's answers failing, its mean is about one half."""
    weak = stage.upstreams["b"]
    weak.behaviour = replace(weak.behaviour, error_rate=0.5)
    began = datetime.now(UTC)
    async with aiohttp.ClientSession(stage.envoy.url) as session:
        for row in rows(200, seed=13):
            body = {"model": "silent", "messages": [{"role": "user", "content": row["prompt"]}]}
            await (await session.post("/v1/chat/completions", json=body)).read()
    weak.behaviour = replace(weak.behaviour, error_rate=0.0)
    since = began.strftime("%Y-%m-%dT%H:%M:%S")
    code, found = await all_exported(stage, "silent", tmp_path / "live.jsonl", "--by", "outcome", "--since", since)
    summary = found["summary"]

    assert code == 0
    assert summary["strong"]["labelled"] == summary["strong"]["explored"]
    assert summary["strong"]["mean"] == 1.0
    assert summary["weak"]["mean"] == pytest.approx(0.5, abs=0.3)


async def test_nothing_learned_yet_is_a_negative_result_that_says_so(stage, tmp_path):
    code, found = await export(stage, "thrifty", tmp_path / "live.jsonl", "--since", "2099-01-01")

    assert (code, found["rows"], found["out"]) == (1, 0, None)
    assert not (tmp_path / "live.jsonl").exists()
