"""What a visitor of the demo sees move after its story was told."""

import asyncio
from importlib.resources import files

import aiohttp
import pytest
import yaml

from real import needs_encoder, needs_envoy, needs_redis
from wissel.cli.serve import has_screen
from wissel.demo.delivery import EXPECTED, standings
from wissel.demo.live import Question, go_on
from wissel.demo.stage import running_stage
from wissel.demo.story import ENGINEERING
from wissel.runtime.background import beside


@pytest.mark.slow
@pytest.mark.timeout(240)
@needs_envoy
@needs_encoder
@needs_redis
async def test_both_rollouts_begin_again_and_other_callers_go_on(tmp_path):
    document = yaml.safe_load(files("wissel.demo").joinpath("demo.yaml").read_text())
    questions = [Question("gpt-4o", "Hello", ENGINEERING), Question("gpt-4o", "Hello", "wsl-demo-nobody")]
    async with running_stage({**document, "redis": "embedded"}, tmp_path) as stage, aiohttp.ClientSession() as session:
        async with beside(go_on(stage, questions, key=ENGINEERING, between=0.05, rest=0.1)):
            for _ in range(360):
                attempts = {each["name"]: each["attempt"] for each in await standings(stage, session)}
                if min(attempts.values()) >= 2:
                    break
                await asyncio.sleep(0.5)
        statuses = {line["status"] for line in stage.envoy.accesses() if line["wissel"]["target"] not in EXPECTED}

    assert set(attempts) == set(EXPECTED)
    assert min(attempts.values()) >= 2
    assert {200, 401} <= statuses


@pytest.mark.parametrize(
    ("platform", "environment", "seen"),
    [
        ("darwin", {}, True),
        ("linux", {"DISPLAY": ":0"}, True),
        ("linux", {"WAYLAND_DISPLAY": "wayland-0"}, True),
        ("linux", {"DISPLAY": ""}, False),
        ("linux", {}, False),
    ],
)
def test_a_browser_is_opened_only_where_it_has_a_window(monkeypatch, platform, environment, seen):
    monkeypatch.setattr("sys.platform", platform)
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    assert has_screen() is seen
