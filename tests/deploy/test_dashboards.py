"""Every panel and rule speaks of metrics that exist, in expressions that a real Prometheus answers.

Dashboards are checked against what a whole installation counts while it
serves: an expression that returns nothing is a panel that stays empty.
"""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
import yaml

from deploy.prometheus import CONFIG, RULES, needs_prometheus, prometheus_binary, rules
from real import needs_encoder, needs_envoy, needs_redis
from wissel.core.rollouts.measures import OBSERVATIONS
from wissel.demo.parts import free_port
from wissel.demo.stage import Stage, running_stage
from wissel.demo.story import ENGINEERING, NOBODY, SUPPORT
from wissel.runtime.child import running

DASHBOARDS = sorted((CONFIG / "grafana" / "dashboards").glob("*.json"))


def panels(path: Path) -> Iterator[dict[str, Any]]:
    yield from json.loads(path.read_text())["panels"]


def panel_expressions() -> Iterator[tuple[str, str]]:
    """(where it stands, expression) of every target."""
    for path in DASHBOARDS:
        for panel in panels(path):
            for target in panel.get("targets", []):
                yield f"{path.stem}: {panel['title']} {target['refId']}", target["expr"]


def rule_expressions() -> Iterator[tuple[str, str]]:
    for rule in rules():
        yield rule.get("alert") or rule["record"], rule["expr"]


SEEN_ENOUGH = "count_over_time(up[1m]) > 3 and on () wissel_rollout_metric_change and on () wissel:error_ratio:rate6h"
"""Scraped often enough for rates and rules, and the rollout was looked at."""

EXPRESSIONS = [*panel_expressions(), *rule_expressions()]


def answerable(expression: str) -> str:
    """As Grafana would send it, and with the answer of an alert that does not fire: 0 instead of nothing."""
    filled = expression.replace("$__rate_interval", "30s").replace("$rollout", ".*")
    return re.sub(r" (==|>|<) (?=[0-9])", r" \1 bool ", filled)


def metric_names(expression: str) -> set[str]:
    return set(re.findall(r"\b(?:wissel|gen_ai)_\w+(?=[{\[) ,]|$)", re.sub(r"\b(by|on) \([^)]*\)", "", expression)))


def test_the_rollout_dashboard_writes_every_metric_in_its_unit():
    of_metrics = [
        panel for panel in panels(CONFIG / "grafana/dashboards/rollout.json") if "rollout_metric" in str(panel)
    ]
    legends = {target["legendFormat"].rpartition(", ")[2] for panel in of_metrics for target in panel["targets"]}
    units = {each.unit for each in OBSERVATIONS} - {"tokens"}
    matched = [{each["matcher"]["options"] for each in panel["fieldConfig"]["overrides"]} for panel in of_metrics]

    assert legends == {"{{unit}}"}
    assert matched == [{f"/, {unit}$/" for unit in units}] * 2


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_a_dashboard_has_what_grafana_provisions(path: Path):
    board = json.loads(path.read_text())
    ids = [panel["id"] for panel in board["panels"]]
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in board["panels"]]

    assert board["uid"].startswith("wissel-")
    assert len(ids) == len(set(ids))
    assert len(places) == len(set(places))
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in board["panels"])


def test_the_datasource_of_every_panel_is_provisioned():
    sources = yaml.safe_load((CONFIG / "grafana/provisioning/datasources/prometheus.yaml").read_text())["datasources"]
    used = {panel["datasource"]["uid"] for path in DASHBOARDS for panel in panels(path) if panel["type"] != "row"}

    assert used == {source["uid"] for source in sources}


# A whole installation, scraped.


def document() -> dict[str, Any]:
    """The demo's, with all that a dashboard shows: a price, a shadow rule, and a rollout that is looked at."""
    read: dict[str, Any] = yaml.safe_load(files("wissel.demo").joinpath("demo.yaml").read_text())
    priced = [{**model, "price": {"input": 1.0, "output": 2.0}} for model in read["models"]]
    rollout = {
        "name": "observed",
        "stable": "gpt-4o",
        "canary": "gpt-4o-mini",
        "steps": [{"set_weight": 50}, {"pause": {}}],
        "analysis": {
            "interval": "1s",
            "min_requests": 10,
            "metrics": [
                {"name": "error_rate", "max": 0.9, "guard": True},
                {"name": "error_rate", "allowed_increase": 0.5},
            ],
        },
    }
    shadow = {"id": "soon", "effect": "forbid", "models": ["gpt-4o"], "shadow": True}
    access = {**read["access"], "rules": [*read["access"]["rules"], shadow]}
    return {**read, "models": priced, "redis": "embedded", "rollouts": [rollout], "access": access}


@dataclass(frozen=True, slots=True)
class Scraped:
    stage: Stage
    prometheus: str

    async def query(self, expression: str) -> list[Any]:
        """What an instant query returns; an expression that Prometheus does not understand fails."""
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{self.prometheus}/api/v1/query", data={"query": expression}) as response,
        ):
            body = await response.json()
        assert body["status"] == "success", body
        return body["data"]["result"]


async def send_traffic(stage: Stage) -> None:
    """Something of everything."""
    await asyncio.gather(*(ask(stage, "observed", session=f"s-{number}") for number in range(60)))
    for _ in range(2):
        await ask(stage, "auto", prompt="Write a Go function that reverses a linked list")
        await ask(stage, "auto", prompt="Tell me a joke about cats", stream=True)
        await ask(stage, "gpt-4o")
        await ask(stage, "claude-sonnet", key=SUPPORT)
        await ask(stage, "gpt-4o", key=NOBODY)
    refusing = stage.upstreams[stage.cluster_of["gpt-4o"]]
    usual, refusing.behaviour = refusing.behaviour, replace(refusing.behaviour, error_rate=1.0, error_status=401)
    await ask(stage, "gpt-4o")
    refusing.behaviour = usual


async def ask(
    stage: Stage, model: str, *, key: str = ENGINEERING, prompt: str = "Hello", session: str = "s", stream: bool = False
) -> None:
    from openai import AuthenticationError, PermissionDeniedError

    messages: Any = [{"role": "user", "content": prompt}]
    async with stage.client(key) as client:
        try:
            answer: Any = await client.chat.completions.create(
                model=model, messages=messages, stream=stream, extra_headers={"x-session-id": session}
            )
        except (AuthenticationError, PermissionDeniedError):
            return
        if stream:
            async for _ in answer:
                pass


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scraped(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scraped]:
    home = tmp_path_factory.mktemp("scraped")
    async with running_stage(document(), home) as stage:
        address = f"127.0.0.1:{free_port()}"
        scrape = {
            "global": {"scrape_interval": "250ms", "evaluation_interval": "250ms"},
            "rule_files": [str(RULES)],
            "scrape_configs": [
                {"job_name": "wissel", "static_configs": [{"targets": [stage.config.listen.admin]}]},
                {
                    "job_name": "envoy",
                    "metrics_path": "/stats/prometheus",
                    "static_configs": [{"targets": [stage.envoy.plan.admin]}],
                },
            ],
        }
        (home / "prometheus.yml").write_text(yaml.safe_dump(scrape))
        command = [prometheus_binary(), f"--config.file={home}/prometheus.yml"]
        command += [f"--storage.tsdb.path={home}/tsdb", f"--web.listen-address={address}"]
        await send_traffic(stage)
        async with running(command, log=home / "prometheus.log", ready=lambda: is_ready(address)):
            found = Scraped(stage, f"http://{address}")
            async with asyncio.timeout(60):
                while not await found.query(SEEN_ENOUGH):
                    await send_traffic(stage)
            yield found


async def is_ready(address: str) -> bool:
    try:
        async with aiohttp.ClientSession() as session, session.get(f"http://{address}/-/ready") as response:
            return response.status == 200
    except aiohttp.ClientError:
        return False


@pytest.mark.slow
@needs_prometheus
@needs_envoy
@needs_encoder
@needs_redis
@pytest.mark.asyncio(loop_scope="module")
class TestScraped:
    @pytest.mark.parametrize(("where", "expression"), EXPRESSIONS, ids=[where for where, _ in EXPRESSIONS])
    async def test_an_expression_is_answered(self, scraped: Scraped, where: str, expression: str):
        assert await scraped.query(answerable(expression)), expression

    async def test_every_metric_is_on_the_page(self, scraped: Scraped):
        async with aiohttp.ClientSession() as session, session.get(f"{scraped.stage.admin}/metrics") as response:
            page = await response.text()
        on_page = set(re.findall(r"^([a-z]\w+)[{ ]", page, re.MULTILINE))
        named = set[str]().union(*(metric_names(expression) for _, expression in EXPRESSIONS))

        assert len(named) > 20
        assert named - on_page == set()

    async def test_what_is_asked_of_envoy_is_on_its_page(self, scraped: Scraped):
        url = f"http://{scraped.stage.envoy.plan.admin}/stats/prometheus"
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            page = await response.text()
        named = {name for _, expression in EXPRESSIONS for name in re.findall(r"\benvoy_\w+", expression)}

        assert "envoy_http_ext_proc_failure_mode_allowed" in named
        assert named - set(re.findall(r"^(envoy_\w+)[{ ]", page, re.MULTILINE)) == set()

    async def test_no_alert_fires_while_all_is_well(self, scraped: Scraped):
        assert await scraped.query('ALERTS{alertstate="firing"}') == []
