"""Every panel and rule speaks of metrics that exist, in expressions that a real Prometheus answers.

Dashboards are checked against what a whole installation counts while it
serves: an expression that returns nothing is a panel that stays empty.
"""

import asyncio
import json
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
import yaml

from real import need, needs_encoder, needs_envoy, needs_redis
from wissel.core.rollouts.measures import OBSERVATIONS
from wissel.demo.parts import free_port
from wissel.demo.stage import Stage, running_stage
from wissel.demo.story import ENGINEERING, NOBODY, SUPPORT
from wissel.errors import WorldError
from wissel.runtime.child import running

CONFIG = Path(__file__).parents[2] / "config"
DASHBOARDS = sorted((CONFIG / "grafana" / "dashboards").glob("*.json"))
RULES = CONFIG / "prometheus" / "alerts.yml"


def prometheus_binary() -> str:
    found = shutil.which("prometheus")
    if not found or not shutil.which("promtool"):
        raise WorldError("no prometheus")
    return found


needs_prometheus = need(prometheus_binary, "prometheus")


def panels(path: Path) -> Iterator[dict[str, Any]]:
    yield from json.loads(path.read_text())["panels"]


def panel_expressions() -> Iterator[tuple[str, str]]:
    """(where it stands, expression) of every target."""
    for path in DASHBOARDS:
        for panel in panels(path):
            for target in panel.get("targets", []):
                yield f"{path.stem}: {panel['title']} {target['refId']}", target["expr"]


def rules() -> Iterator[dict[str, Any]]:
    for group in yaml.safe_load(RULES.read_text())["groups"]:
        yield from group["rules"]


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


def test_every_alert_says_how_bad_it_is_and_what_it_means():
    alerts = [rule for rule in rules() if "alert" in rule]

    assert {rule["labels"]["severity"] for rule in alerts} == {"page", "ticket"}
    assert all(rule["annotations"]["summary"] for rule in alerts)


@needs_prometheus
def test_prometheus_takes_the_configuration_and_the_rules(tmp_path: Path):
    token = tmp_path / "token"
    token.write_text("secret")
    text = (CONFIG / "prometheus/prometheus.yml").read_text()
    assert "/run/secrets/wissel_admin_token" in text
    (tmp_path / "prometheus.yml").write_text(text.replace("/run/secrets/wissel_admin_token", str(token)))
    shutil.copy(RULES, tmp_path)
    checked = subprocess.run(
        ["promtool", "check", "config", str(tmp_path / "prometheus.yml")], capture_output=True, text=True, check=False
    )

    assert checked.returncode == 0, checked.stdout + checked.stderr


# What is wrong, as series of one sample a minute, and the alert that it should raise.
FIRING = {
    "WisselErrorBudgetBurnsFast": (
        ['wissel_response_duration_seconds_count{blame="variant",status="200"}', "0+90x120"],
        ['wissel_response_duration_seconds_count{blame="variant",status="503"}', "0+10x120"],
    ),
    "WisselErrorBudgetBurns": (
        ['wissel_response_duration_seconds_count{blame="variant",status="200"}', "0+96x120"],
        ['wissel_response_duration_seconds_count{blame="variant",status="503"}', "0+4x120"],
    ),
    "WisselDown": (['up{job="wissel",instance="a"}', "0x120"],),
    "WisselFailsRequests": (['wissel_exchange_failures_total{reason="exception"}', "0x116 1x4"],),
    "WisselFailsOpen": (['wissel_limit_draws_total{result="uncounted"}', "0x116 5x4"],),
    "WisselFallsBack": (
        ['wissel_decisions_total{kind="routed",reason="split"}', "0+90x120"],
        ['wissel_decisions_total{kind="routed",reason="error"}', "0+10x120"],
    ),
    "WisselConfigRefused": (['wissel_config_refused{instance="a"}', "0x60 1x60"],),
    "WisselReplicasDisagree": (
        ['wissel_config_info{instance="a",revision="r1"}', "1x120"],
        ['wissel_config_info{instance="b",revision="r2"}', "1x120"],
    ),
    "WisselStoreLag": (['wissel_store_lag_seconds{instance="a"}', "0+5x120"],),
    "WisselRolloutStuck": (
        ['wissel_rollout_phase{rollout="chat",phase="progressing"}', "1x300"],
        ['wissel_rollout_step{rollout="chat"}', "2x300"],
    ),
    "WisselRolloutCannotMeasure": (['wissel_rollout_verdict{rollout="chat",verdict="no_data"}', "1x120"],),
    "WisselRolloutWaitsForSomebody": (['wissel_rollout_phase{rollout="chat",phase="paused"}', "1x800"],),
    "WisselRolloutRecordLost": (['wissel_rollout_lost{rollout="chat"}', "0x60 1x60"],),
    "WisselRolledBack": (['wissel_rollout_phase{rollout="chat",phase="degraded"}', "1x120"],),
}
HEALTHY = (
    ['wissel_response_duration_seconds_count{blame="variant",status="200"}', "0+1000x120"],
    ['wissel_response_duration_seconds_count{blame="variant",status="503"}', "0+1x120"],
    ['up{job="wissel",instance="a"}', "1x120"],
    ['wissel_exchange_failures_total{reason="exception"}', "0x120"],
    ['wissel_limit_draws_total{result="uncounted"}', "0x120"],
    ["envoy_http_ext_proc_failure_mode_allowed", "0x120"],
    ['wissel_decisions_total{kind="routed",reason="split"}', "0+100x120"],
    ['wissel_decisions_total{kind="routed",reason="error"}', "0+1x120"],
    ['wissel_config_refused{instance="a"}', "0x120"],
    ['wissel_rollout_lost{rollout="chat"}', "0x120"],
    ['wissel_config_info{instance="a",revision="r1"}', "1x120"],
    ['wissel_store_lag_seconds{instance="a"}', "0.5x120"],
    ['wissel_rollout_phase{rollout="chat",phase="progressing"}', "1x120"],
    ['wissel_rollout_step{rollout="chat"}', "0x60 1x60"],
)


def firing(series: Iterable[Sequence[str]], alerts: Iterable[str], tmp_path: Path) -> subprocess.CompletedProcess[str]:
    """Whether exactly these alerts fire at the end of the series, by Prometheus' own tests of rules."""
    given = [{"series": name, "values": values} for name, values in series]
    minutes = max(sum(int(part.rpartition("x")[2]) for part in values.split()) for _, values in series)
    expected = [{"labels": f'{{alertname="{name}"}}', "value": 1} for name in alerts]
    query = {
        "expr": 'count by (alertname) (ALERTS{alertstate="firing"})',
        "eval_time": f"{minutes}m",
        "exp_samples": expected,
    }
    test = {"interval": "1m", "input_series": given, "promql_expr_test": [query]}
    shutil.copy(RULES, tmp_path)
    path = tmp_path / "test.yml"
    path.write_text(yaml.safe_dump({"rule_files": [RULES.name], "evaluation_interval": "1m", "tests": [test]}))
    return subprocess.run(["promtool", "test", "rules", str(path)], capture_output=True, text=True, check=False)


def test_every_alert_has_a_story_in_which_it_fires():
    assert set(FIRING) == {rule["alert"] for rule in rules() if "alert" in rule}


@needs_prometheus
@pytest.mark.slow
@pytest.mark.parametrize("alert", FIRING)
def test_an_alert_fires_when_it_should(alert: str, tmp_path: Path):
    both = ["WisselErrorBudgetBurns", "WisselErrorBudgetBurnsFast"]
    done = firing(FIRING[alert], both if alert == both[1] else [alert], tmp_path)

    assert done.returncode == 0, done.stdout + done.stderr


@needs_prometheus
def test_no_alert_fires_when_all_is_well(tmp_path: Path):
    done = firing(HEALTHY, [], tmp_path)

    assert done.returncode == 0, done.stdout + done.stderr


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
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
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

    async def test_no_alert_fires_while_all_is_well(self, scraped: Scraped):
        assert await scraped.query('ALERTS{alertstate="firing"}') == []
