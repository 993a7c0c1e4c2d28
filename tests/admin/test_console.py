"""The console: its files as they are served, and the page as Chromium shows it."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from aiohttp.test_utils import TestClient, TestServer

from browser import Page, browsing, contrasts, needs_chromium
from factories import api_key, permit, snapshot
from real import needs_envoy, needs_redis
from redis_server import RedisServer, binaries
from wissel.admin.api import Readiness, application
from wissel.admin.console import PATHS
from wissel.admin.guard import Staff
from wissel.admin.listener import listening
from wissel.core.intent import Scores
from wissel.core.request import Conversation
from wissel.core.snapshot import Snapshot
from wissel.demo.stage import Stage, running_stage
from wissel.router import Advisers, Router, SharedParts
from wissel.telemetry.counting import Telemetry

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

FILES = {each.name for each in files("wissel.admin.console").iterdir() if not each.name.startswith("__")}
TOKEN = "t0ken"


class Certain:
    """A classifier that finds everything to be code."""

    def recall(self, conversation: Conversation) -> Scores | None:
        return None

    async def classify(self, conversation: Conversation) -> Scores:
        return Scores({"chat": 0.2, "code": 0.9}, threshold=0.5, classifier="certain")


class Process:
    def __init__(self, serving: Snapshot) -> None:
        self.telemetry = Telemetry()
        self.fleet = None
        self.router = Router(serving, Advisers(classifier=Certain()), SharedParts(telemetry=self.telemetry))
        self.problem: str | None = None
        self.ready = True

    def readiness(self) -> Readiness:
        return Readiness(self.ready, {"revision": "r1", "config_problem": self.problem})


@pytest.fixture
def process() -> Process:
    return Process(snapshot(rules=(permit(),), keys=(api_key("s-ada", id="ada"), api_key("s-bob", id="bob"))))


@pytest.fixture
async def guarded(process: Process) -> AsyncIterator[TestClient[Any, Any]]:
    async with TestClient(TestServer(application(process, lambda: Staff(token=TOKEN)))) as client:
        yield client


@pytest.mark.parametrize("path", sorted(PATHS))
async def test_the_page_comes_without_a_token_and_may_only_load_its_own_files(guarded, path):
    response = await guarded.get(path)
    policy = response.headers["content-security-policy"]

    assert response.status == 200
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'; ")
    assert "unsafe" not in policy


async def test_what_the_page_asks_for_needs_the_token(guarded):
    statuses = {path: (await guarded.get(path)).status for path in ("/v1/activity", "/v1/config", "/v1/rollouts")}

    assert set(statuses.values()) == {401}


async def test_answers_of_the_api_may_load_nothing(guarded):
    response = await guarded.get("/healthz")

    assert response.headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"


@pytest.mark.parametrize("path", ["/console/", "/console/../api.py", "/console/%2e%2e/api.py", "/console/__init__.py"])
async def test_nothing_else_of_the_package_is_served(guarded, path):
    assert (await guarded.get(path, headers={"authorization": f"Bearer {TOKEN}"})).status == 404


def test_every_file_is_served():
    assert {path.rpartition("/")[2] or "index.html" for path in PATHS} == FILES


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_file_names_only_what_is_served_next_to_it(name: str):
    text = files("wissel.admin.console").joinpath(name).read_text().replace("http://www.w3.org/2000/svg", "")
    named = re.findall(r'(?:href|src)="(/[^"]*)"', text) + [
        f"/console/{each}" for each in re.findall(r'from "\./([^"]+)"', text)
    ]

    assert set(named) <= PATHS
    assert "//" not in re.sub(r"^\s*//.*$", "", text, flags=re.MULTILINE)


@pytest.fixture
def browser(tmp_path: Path) -> "Iterator[Chrome]":
    with browsing(tmp_path) as driver:
        yield driver


@asynccontextmanager
async def served(process: Process, token: str | None = None) -> AsyncIterator[str]:
    async with listening(application(process, lambda: Staff(token=token)), "127.0.0.1:0") as listener:
        yield f"http://{listener.address}/"


@needs_chromium
@pytest.mark.slow
async def test_a_wrong_token_is_told_and_the_right_one_opens(browser, process):
    from selenium.webdriver.common.keys import Keys

    def visit(url: str) -> tuple[str, list[str], Any]:
        page = Page(browser, url)
        page.type("#token-input", "nope" + Keys.ENTER)
        refused = page.see("#token-problem", "refused").text
        page.type("#token-input", TOKEN + Keys.ENTER)
        page.see("#health", "ready")
        browser.refresh()
        page.see("#health", "ready")
        return refused, page.problems(), browser.get_cookies()

    async with served(process, TOKEN) as url:
        refused, problems, cookies = await asyncio.to_thread(visit, url)

    assert (refused, problems, cookies) == ("That token was refused.", [], [])


@needs_chromium
@pytest.mark.slow
async def test_the_explorer_shows_a_decision_and_the_keyboard_is_enough(browser, process):
    from selenium.webdriver.common.keys import Keys

    def visit(url: str) -> tuple[str, str, list[str]]:
        page = Page(browser, url)
        page.see("#ask-caller", "ada", "bob")
        page.type("#ask-text", "<b>fix</b> this" + Keys.CONTROL + Keys.ENTER)
        scores = page.see("#answer .scores", "code").text
        path = page.see("#answer .path").text
        return scores, path, page.problems()

    async with served(process) as url:
        scores, path, problems = await asyncio.to_thread(visit, url)

    assert scores.split() == ["code", "0.900", "chat", "0.200"]
    assert path.split() == ["caller", "ada", "route", "code", "target", "large", "model", "large"]
    assert problems == []


@needs_chromium
@pytest.mark.slow
async def test_a_pasted_request_is_asked_as_it_is(browser, process):
    body = {"model": "small", "messages": [{"role": "user", "content": "hello"}]}

    def visit(url: str) -> str:
        page = Page(browser, url)
        page.see("#ask-caller", "ada")
        browser.execute_script("document.getElementById('ask-model').value = ''")
        page.type("#ask-text", json.dumps(body))
        page.press("#ask button")
        return page.see("#answer .path").text

    async with served(process) as url:
        path = await asyncio.to_thread(visit, url)

    assert path.split() == ["caller", "ada", "target", "small", "model", "small"]


@needs_chromium
@pytest.mark.slow
async def test_an_idle_process_that_is_not_ready_says_so(browser, process):
    process.ready = False
    process.problem = "routes[2].target: no model is named “codr”"

    def visit(url: str) -> None:
        page = Page(browser, url)
        page.see("#health", "not ready")
        page.see("#notices", "Not ready", "codr")
        page.see("#rollout-cards", "no rollouts")
        page.see("#traffic-panel", "No request has been routed")
        page.see("#recent-panel", "No request so far")
        page.press("[data-shown=denied]")
        page.see("#recent-panel", "No request was refused")

    async with served(process) as url:
        await asyncio.to_thread(visit, url)


@needs_chromium
@pytest.mark.slow
async def test_a_process_that_went_away_is_told_and_what_was_known_stays(browser, process):
    page = None
    async with served(process) as url:
        page = await asyncio.to_thread(Page, browser, url)
        await asyncio.to_thread(page.see, "#config-panel", "r1")
    await asyncio.to_thread(page.see, "#notices", "wissel does not answer")

    assert page.see("#config-panel", "r1")


CANARIES = {"chat-good": "good", "chat-held": "held"}
DOCUMENT = {
    "models": [{"name": name, "cluster": name} for name in ("old", "good", "held")],
    "splits": [
        {
            "name": "either",
            "key": ["request"],
            "variants": [{"model": "old", "weight": 50}, {"model": "good", "weight": 50}],
        }
    ],
    "tiers": [{"name": "thrifty", "strong": "old", "weak": "good", "grader": {"type": "length"}, "strong_share": 0.3}],
    "access": {
        "keys": [{"id": "visitor", "sha256": sha256(TOKEN.encode()).hexdigest()}],
        "rules": [{"id": "all", "effect": "permit"}],
        "limits": [{"id": "per-model", "per": "model", "requests": "1000000/m"}],
    },
    "rollouts": [
        {
            "name": name,
            "stable": "old",
            "canary": canary,
            "key": ["request"],
            "steps": [
                {"set_weight": 20},
                {"pause": {"duration": "2s"} if canary == "good" else {}},
                {"set_weight": 50},
            ],
            "analysis": {
                "interval": "1s",
                "min_requests": 20,
                "metrics": [
                    {"name": "error_rate", "max": 0.25, "guard": True},
                    {"name": "error_rate", "allowed_increase": 0.05},
                    # Would wait for more requests than a test should send.
                    {"name": "latency_p95", "allowed_increase": "50%", "dry_run": True},
                ],
            },
        }
        for name, canary in CANARIES.items()
    ],
}


@asynccontextmanager
async def load(stage: Stage) -> AsyncIterator[None]:
    """Callers of everything while the block runs, and one who asks for what is not there."""
    async with aiohttp.ClientSession(headers={"authorization": f"Bearer {TOKEN}"}) as session:

        async def call(model: str) -> None:
            while True:
                body = {"model": model, "messages": [{"role": "user", "content": "hi"}]}
                async with session.post(f"{stage.envoy.url}/v1/chat/completions", json=body) as answer:
                    await answer.read()
                await asyncio.sleep(0.02)

        callers = [asyncio.create_task(call(model)) for model in (*CANARIES, "either", "thrifty", "nothing")]
        try:
            yield
        finally:
            for caller in callers:
                caller.cancel()
            await asyncio.wait(callers)


@needs_chromium
@needs_envoy
@needs_redis
@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_rollouts_move_live_an_abort_rolls_back_and_a_store_that_is_away_is_told(browser, tmp_path):
    def watch(page: Page) -> list[tuple[float, str]]:
        page.see("#traffic-panel", "good (canary)", "old (stable)")
        page.see("#recent-panel", "404")
        page.see(
            "[data-rollout=chat-held] .columns", "set 20 %", "Requests", "error rate · guard", "latency p95 · change"
        )
        page.see("[data-rollout=chat-good][data-phase=healthy]", "healthy")
        page.see("[data-experiment=either]", "good against old", "error rate", "50 %")
        page.see("#tiers-panel", "thrifty", "30 %")
        page.see("#limits-panel", "per-model", "1,000,000 requests a minute", "each replica counts its part")
        return contrasts(browser)

    def abort(page: Page) -> str:
        page.press("[data-rollout=chat-held] [data-verb=abort]")
        page.see("#confirm", "goes back to old")
        focused = browser.switch_to.active_element.text
        page.press("#confirm [value=cancel]")
        page.see("[data-rollout=chat-held][data-phase=paused]")
        page.press("[data-rollout=chat-held] [data-verb=abort]")
        page.press("#confirm [value=do]")
        page.see("[data-rollout=chat-held][data-phase=degraded]", "aborted by console", "set 0 %", "Retry")
        return focused

    with RedisServer(next(iter(binaries().values()))) as redis:
        async with running_stage({**DOCUMENT, "redis": redis.url}, tmp_path) as stage, load(stage):
            page = await asyncio.to_thread(Page, browser, f"{stage.admin}/")
            seen = await asyncio.to_thread(watch, page)
            focused = await asyncio.to_thread(abort, page)
            await asyncio.sleep(2)  # what a rollback may take to reach every replica
            served_before = stage.upstreams["held"].served
            await asyncio.sleep(1)
            served_after = stage.upstreams["held"].served
            redis.kill()
            await asyncio.to_thread(page.see, "#notices", "The store is away")
            await asyncio.to_thread(page.see, "[data-rollout=chat-held]", "not known")
            disabled = page.see("[data-rollout=chat-held] [data-verb=retry]").get_property("disabled")
            redis.start()
            await asyncio.to_thread(page.see, "[data-rollout=chat-held]", "degraded")

    assert focused == "Cancel"
    assert served_after == served_before
    assert disabled is True
    assert len(seen) > 100
    assert [each for each in seen if each[0] < 4.5] == []
    assert page.problems() == []
